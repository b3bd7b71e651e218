package speaker

import (
	"net/netip"
	"sync"

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
// gobgp tells of each UPDATE in its log alone, at the level "debug" and in the goroutine that takes it. Its limits are reached as expect's
// fields are. TestMaxPrefixes and TestCount fail where a version of gobgp has neither.

// limits are those of the neighbours.
type limits struct {
	mu sync.Mutex
	of map[string]*limit // by address as gobgp writes it
}

// limit is of one neighbour, the arrays of its IPv4 and its IPv6 prefixes.
type limit struct {
	most  [2]uint32 // 0: none
	told  [2]uint64 // at least as many as there are
	since uint64    // announced since it was counted
	armed bool      // gobgp has it
}

// at is the place of a family in a limit's arrays.
func at(f *api.Family) int {
	if f.GetAfi() == api.Family_AFI_IP6 {
		return 1
	}
	return 0
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

// lift takes the limits of a neighbour that gobgp has just been given out of gobgp. fresh says that the neighbour has told nothing. One
// that another client of gobgp's API wants warned of stays. s.list is held.
func (s *sessions) lift(p *api.Peer, fresh bool) {
	address := p.GetConf().GetNeighborAddress()
	l := &limit{armed: true}
	warns := false
	for _, f := range p.GetAfiSafis() {
		l.most[at(f.GetConfig().GetFamily())] = f.GetPrefixLimits().GetMaxPrefixes()
		warns = warns || f.GetPrefixLimits().GetShutdownThresholdPct() != 0
	}
	if warns {
		l.most = [2]uint32{}
	}
	s.limits.mu.Lock()
	s.limits.of[address] = l
	if fresh && l.most != [2]uint32{} {
		s.arm(address, l, false)
	}
	s.limits.mu.Unlock()
	if !fresh && l.most != [2]uint32{} {
		s.count(address, l)
	}
}

// count has gobgp count what a neighbour told, and go on without the limit where that is far. s.list is held.
func (s *sessions) count(address string, l *limit) {
	addr, err := netip.ParseAddr(address)
	if err != nil {
		return
	}
	s.limits.mu.Lock()
	before := l.told
	l.since = 0
	s.limits.mu.Unlock()
	p := s.look(addr) // waits for the goroutine that announced runs in, so that it must not hold s.limits
	if p == nil {
		return
	}
	s.limits.mu.Lock()
	defer s.limits.mu.Unlock()
	if s.limits.of[address] != l {
		return
	}
	for _, f := range p.GetAfiSafis() {
		i := at(f.GetConfig().GetFamily())
		l.told[i] = f.GetState().GetReceived() + l.told[i] - before[i]
	}
	if l.far() {
		s.arm(address, l, false)
	}
}

// arm gives gobgp the limits of a neighbour, or takes them. s.limits is held.
func (s *sessions) arm(address string, l *limit, armed bool) {
	err := withNeighbour(s.bgp, address, func(conf *oc.Neighbor) {
		for i := range conf.AfiSafis {
			most := uint32(0)
			if armed {
				family := ipv4
				if conf.AfiSafis[i].Config.AfiSafiName == oc.AFI_SAFI_TYPE_IPV6_UNICAST {
					family = ipv6
				}
				most = l.most[at(family)]
			}
			conf.AfiSafis[i].PrefixLimit.Config.MaxPrefixes = most
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
	address, _ := f["Key"].(string)
	s.limits.mu.Lock()
	defer s.limits.mu.Unlock()
	l := s.limits.of[address]
	if l == nil || l.most == [2]uint32{} {
		return
	}
	var n [2]uint64
	if nlri, ok := f["nlri"].([]*bgp.IPAddrPrefix); ok {
		n[0] = uint64(len(nlri))
	}
	attrs, _ := f["attributes"].([]bgp.PathAttributeInterface)
	for _, a := range attrs {
		if mp, ok := a.(*bgp.PathAttributeMpReachNLRI); ok {
			n[at(&api.Family{Afi: api.Family_Afi(mp.AFI)})] += uint64(len(mp.Value))
		}
	}
	l.told[0], l.told[1], l.since = l.told[0]+n[0], l.told[1]+n[1], l.since+n[0]+n[1]
	switch {
	case !l.armed && l.passed():
		s.arm(address, l, true)
	case !l.armed || l.since <= uint64(max(l.most[0], l.most[1])/8): // near the limit gobgp counts each UPDATE
		return
	}
	l.since = 0
	s.start(func() {
		s.api.RLock()
		defer s.api.RUnlock()
		s.list.Lock()
		defer s.list.Unlock()
		s.count(address, l)
	})
}

// telling says in gobgp's answers which limits its neighbours have, whether gobgp has them now or not.
type telling struct {
	grpc.ServerStream
	s *sessions
}

func (t telling) SendMsg(m any) error {
	if r, ok := m.(*api.ListPeerResponse); ok {
		t.s.limits.tell(r.GetPeer())
	}
	return t.ServerStream.SendMsg(m)
}

func (x *limits) tell(p *api.Peer) {
	x.mu.Lock()
	defer x.mu.Unlock()
	l := x.of[p.GetConf().GetNeighborAddress()]
	if l == nil {
		return
	}
	for _, f := range p.GetAfiSafis() {
		family := f.GetConfig().GetFamily()
		if most := l.most[at(family)]; most != 0 {
			f.PrefixLimits = &api.PrefixLimit{Family: family, MaxPrefixes: most}
		}
	}
}
