package speaker

import (
	"slices"
	"sync"
	"sync/atomic"

	api "github.com/osrg/gobgp/v3/api"
	"github.com/osrg/gobgp/v3/pkg/config/oc"
	gobgplog "github.com/osrg/gobgp/v3/pkg/log"
	"github.com/osrg/gobgp/v3/pkg/packet/bgp"
	"google.golang.org/grpc"
)

// Where a neighbour has a limit (max_prefixes), gobgp counts all that it told at each UPDATE, by a walk over the table
// (doPrefixLimit in its pkg/server/peer.go): of 100,000 prefixes that was more than half of the work of the one goroutine that takes
// UPDATEs. So gobgp has the limit only while it may matter. What a neighbour announces is added up, each time anew, to what it
// had when it was last counted: there are never more prefixes than that. The UPDATE by which the sum passes the limit gives gobgp the
// limit before that UPDATE is looked at, so that not one prefix more is taken than gobgp itself would take; then the
// neighbour is counted, and where it is far from its limit it goes on without.
//
// gobgp tells of each UPDATE in its log alone, at the level "debug" and in the goroutine that takes it, before it does anything else with it.
// At that level it tells of each prefix as well, which was a sixth of what it allocates: so once it has told of the UPDATE, the level is another
// until it has done with it (Observe). TestMaxPrefixes and TestCount fail where a version of gobgp tells of none, or has its limits elsewhere.

// limits are those of the neighbours of which gobgp need not have one all the time.
type limits struct {
	mu   sync.Mutex
	of   map[string]*limit // by address as gobgp writes it
	some atomic.Bool       // there is one: only then gobgp tells of UPDATEs, which costs it something
	told atomic.Bool       // it has, of the one that it takes
}

// listen reports whether gobgp is to tell of an UPDATE.
func (x *limits) listen() bool { return x.some.Load() && !x.told.Load() }

// set keeps the limit of a neighbour, or none where l is nil. x.mu is held.
func (x *limits) set(address string, l *limit) {
	if l == nil {
		delete(x.of, address)
	} else {
		x.of[address] = l
	}
	x.some.Store(len(x.of) > 0)
}

// limit is of one neighbour, the arrays of its IPv4 and its IPv6 prefixes.
type limit struct {
	most     [2]uint32 // 0: none
	told     [2]uint64 // at least as many as there are
	since    uint64    // announced since it was counted
	armed    bool      // gobgp has it
	counting bool      // it will be counted
}

// place is that of a family in a limit's arrays. The limits of other families are left to gobgp.
func place(f bgp.RouteFamily) (i int, ok bool) {
	switch f {
	case bgp.RF_IPv4_UC:
		return 0, true
	case bgp.RF_IPv6_UC:
		return 1, true
	}
	return 0, false
}

func placeOf(f *api.AfiSafi) (i int, ok bool) {
	family := f.GetConfig().GetFamily()
	return place(bgp.AfiSafiToRouteFamily(uint16(family.GetAfi()), uint8(family.GetSafi())))
}

// far reports whether the neighbour has an eighth of its limit to go.
func (l *limit) far() bool {
	for i, most := range l.most {
		if most != 0 && l.told[i] > uint64(most-most/8) {
			return false
		}
	}
	return true
}

func (l *limit) passed() bool {
	for i, most := range l.most {
		if most != 0 && l.told[i] > uint64(most) {
			return true
		}
	}
	return false
}

// lift takes the limits that gobgp has just been given of a neighbour out of gobgp, where it has told little. Limits that another
// client of gobgp's API wants warned of, or of other families, stay. s.list is held.
func (s *sessions) lift(address string) {
	l, stays := &limit{armed: true}, false
	err := withNeighbour(s.bgp, address, func(conf *oc.Neighbor) { // its group may have given it others than the request
		for _, f := range conf.AfiSafis {
			c := f.PrefixLimit.Config
			if i, ok := place(f.State.Family); ok {
				l.most[i] = c.MaxPrefixes
			} else if c.MaxPrefixes != 0 {
				stays = true
			}
			stays = stays || c.ShutdownThresholdPct != 0
		}
	})
	if err != nil {
		s.log("warn", err.Error(), nil)
	}
	if err != nil || stays || l.most == [2]uint32{} {
		l = nil
	}
	s.limits.mu.Lock()
	s.limits.set(address, l)
	s.limits.mu.Unlock()
	if l != nil { // from now on all is added up that is not counted
		s.count(address, l)
	}
}

// lay gives gobgp the limits of a neighbour back, for a request that may change them. It takes what it has for what it was
// given, and says what is changed. s.list is held until lift.
func (s *sessions) lay(address string) {
	s.limits.mu.Lock()
	defer s.limits.mu.Unlock()
	if l := s.limits.of[address]; l != nil && !l.armed {
		s.arm(address, l, true)
	}
}

// count has gobgp count what a neighbour told, and go on without the limit where that is far. s.list is held.
func (s *sessions) count(address string, l *limit) {
	s.limits.mu.Lock()
	before := l.told
	l.since, l.counting = 0, false
	s.limits.mu.Unlock()
	p := s.look(mustAddr(address)) // waits for the goroutine that announced runs in, so that it must not hold s.limits
	if p == nil {
		return
	}
	s.limits.mu.Lock()
	defer s.limits.mu.Unlock()
	if s.limits.of[address] != l {
		return
	}
	for _, f := range p.GetAfiSafis() {
		if i, ok := placeOf(f); ok {
			l.told[i] = f.GetState().GetReceived() + l.told[i] - before[i]
		}
	}
	if l.far() {
		s.arm(address, l, false)
	}
}

// arm gives gobgp the limits of a neighbour, or takes them. s.limits is held.
func (s *sessions) arm(address string, l *limit, armed bool) {
	err := withNeighbour(s.bgp, address, func(conf *oc.Neighbor) {
		conf.AfiSafis = slices.Clone(conf.AfiSafis) // gobgp takes the slice under its lock, and reads it without
		for i := range conf.AfiSafis {
			if at, ok := place(conf.AfiSafis[i].State.Family); ok {
				most := uint32(0)
				if armed {
					most = l.most[at]
				}
				conf.AfiSafis[i].PrefixLimit.Config.MaxPrefixes = most
			}
		}
	})
	if err != nil {
		s.log("warn", err.Error(), nil)
		return
	}
	l.armed = armed
}

// announced hears of an UPDATE that gobgp is about to take, in the goroutine that takes it, where gobgp holds no lock.
func (s *sessions) announced(f gobgplog.Fields) {
	s.limits.told.Store(true)
	address, _ := f["Key"].(string)
	s.limits.mu.Lock()
	defer s.limits.mu.Unlock()
	l := s.limits.of[address]
	if l == nil {
		return
	}
	var n [2]uint64
	if nlri, ok := f["nlri"].([]*bgp.IPAddrPrefix); ok {
		n[0] = uint64(len(nlri))
	}
	attrs, _ := f["attributes"].([]bgp.PathAttributeInterface)
	for _, a := range attrs {
		if mp, ok := a.(*bgp.PathAttributeMpReachNLRI); ok {
			i := 0
			if mp.AFI == bgp.AFI_IP6 {
				i = 1
			}
			n[i] += uint64(len(mp.Value))
		}
	}
	l.told[0], l.told[1], l.since = l.told[0]+n[0], l.told[1]+n[1], l.since+n[0]+n[1]
	switch {
	case !l.armed && l.passed():
		s.arm(address, l, true)
	case !l.armed || l.since <= uint64(max(l.most[0], l.most[1])/8): // near the limit gobgp counts each UPDATE
		return
	}
	if l.counting { // whoever has the list of neighbours may have it for seconds
		return
	}
	l.counting = true
	s.start(func() {
		s.api.RLock()
		defer s.api.RUnlock()
		s.list.Lock()
		defer s.list.Unlock()
		s.count(address, l)
	})
}

// telling says in gobgp's answers which limits its neighbours have, whether gobgp has them now or not. It keeps them until tell.
type telling struct {
	grpc.ServerStream
	s       *sessions
	answers []any
}

func (t *telling) SendMsg(m any) error {
	if r, ok := m.(*api.ListPeerResponse); ok {
		t.s.limits.tell(r.GetPeer())
	}
	t.answers = append(t.answers, m)
	return nil
}

func (t *telling) tell() error {
	for _, m := range t.answers {
		if err := t.ServerStream.SendMsg(m); err != nil {
			return err
		}
	}
	return nil
}

func (x *limits) tell(p *api.Peer) {
	x.mu.Lock()
	defer x.mu.Unlock()
	l := x.of[p.GetConf().GetNeighborAddress()]
	if l == nil {
		return
	}
	for _, f := range p.GetAfiSafis() {
		if i, ok := placeOf(f); ok && l.most[i] != 0 {
			f.PrefixLimits = &api.PrefixLimit{Family: f.GetConfig().GetFamily(), MaxPrefixes: l.most[i]}
		}
	}
}
