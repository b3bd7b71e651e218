package speaker

import (
	"net/netip"
	"sync"

	api "github.com/osrg/gobgp/v3/api"
	gobgplog "github.com/osrg/gobgp/v3/pkg/log"
	"github.com/osrg/gobgp/v3/pkg/packet/bgp"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
)

// gobgp holds a limit of prefixes by walking over all that a neighbour told, after each UPDATE: a table that is told a few
// prefixes at a time costs the square of its size. So it has no limit to hold until one is passed.
//
//	UPDATE ─▶ gobgp's debug line ─▶ tally: told since the last count > limit?
//	                                   │ yes
//	                                   ▼
//	                   gobgp counts, once ─▶ more than the limit? ─▶ gobgp is given the limit, and closes the session
//
// The tally is never too low: what is told twice counts twice, and nothing is taken off it but by a count. Requests of
// gobgp's API do not notice: what they say of limits is kept here, and is in the answers.
type tallies struct {
	mu   sync.Mutex
	of   map[netip.Addr]*tally
	due  map[netip.Addr]bool
	wake chan struct{} // room for one
}

// tally is what a neighbour told since it was counted, and what it had then.
type tally struct {
	most     int // prefixes of one family; 0: no limit
	v4, v6   int
	counting bool
}

func newTallies() *tallies {
	return &tallies{of: map[netip.Addr]*tally{}, due: map[netip.Addr]bool{}, wake: make(chan struct{}, 1)}
}

// limit sets the limit of a neighbour. What it told already is counted.
func (t *tallies) limit(addr netip.Addr, conf *api.Peer) {
	t.mu.Lock()
	defer t.mu.Unlock()
	x := t.of[addr]
	if x == nil {
		x = &tally{}
		t.of[addr] = x
	}
	x.most = limitOf(conf)
	t.ask(addr, x)
}

func (t *tallies) forget(addr netip.Addr) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.of, addr)
}

// told takes an UPDATE that gobgp received, as it logs it. gobgp waits for it.
func (t *tallies) told(f gobgplog.Fields) {
	key, _ := f["Key"].(string)
	addr, err := netip.ParseAddr(key)
	if err != nil {
		return
	}
	nlri, _ := f["nlri"].([]*bgp.IPAddrPrefix)
	v4, v6 := len(nlri), 0
	attrs, _ := f["attributes"].([]bgp.PathAttributeInterface)
	for _, a := range attrs {
		if mp, ok := a.(*bgp.PathAttributeMpReachNLRI); ok {
			if mp.AFI == bgp.AFI_IP6 {
				v6 += len(mp.Value)
			} else {
				v4 += len(mp.Value)
			}
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if x := t.of[addr]; x != nil {
		t.tell(addr, x, v4, v6)
		return
	}
	for a, x := range t.of { // gobgp may leave the zone of a link-local neighbour out
		if a.Zone() != "" && a.WithZone("") == addr {
			t.tell(a, x, v4, v6)
		}
	}
}

// tell adds to what a neighbour told. t.mu is held.
func (t *tallies) tell(addr netip.Addr, x *tally, v4, v6 int) {
	x.v4, x.v6 = x.v4+v4, x.v6+v6
	if v4+v6 > 0 && x.most > 0 && max(x.v4, x.v6) > x.most {
		t.ask(addr, x)
	}
}

// ask has a neighbour counted. t.mu is held.
func (t *tallies) ask(addr netip.Addr, x *tally) {
	if x.counting {
		return
	}
	x.counting = true
	t.due[addr] = true
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

// begin takes whom to count: from now on what they tell comes on top of the count.
func (t *tallies) begin() []netip.Addr {
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []netip.Addr
	for addr := range t.due {
		if x := t.of[addr]; x != nil {
			x.v4, x.v6, x.counting = 0, 0, false
			out = append(out, addr)
		}
	}
	clear(t.due)
	return out
}

// add ends a count.
func (t *tallies) add(addr netip.Addr, v4, v6 int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if x := t.of[addr]; x != nil {
		x.v4, x.v6 = x.v4+v4, x.v6+v6
	}
}

// count counts those that may have told too much.
func (s *sessions) count() {
	for _, addr := range s.tallies.begin() {
		s.countOne(addr)
	}
}

func (s *sessions) countOne(addr netip.Addr) {
	s.api.Lock()
	defer s.api.Unlock()
	s.mu.Lock()
	x := s.peers[addr]
	if x == nil {
		s.mu.Unlock()
		return
	}
	conf := proto.Clone(x.conf).(*api.Peer)
	s.mu.Unlock()
	p := s.look(addr)
	v4, v6 := 0, 0
	for _, f := range p.GetAfiSafis() {
		n := int(f.GetState().GetReceived())
		if f.GetConfig().GetFamily().GetAfi() == api.Family_AFI_IP6 {
			v6 += n
		} else {
			v4 += n
		}
	}
	s.tallies.add(addr, v4, v6)
	most := limitOf(conf)
	if most == 0 || max(v4, v6) <= most || limitOf(p) == most {
		return
	}
	// gobgp closes the session when it learns of a limit that is passed. What it has of everything else stays as it is.
	conf.Conf.AdminDown = p.GetConf().GetAdminDown()
	if _, err := s.bgp.UpdatePeer(s.ctx, &api.UpdatePeerRequest{Peer: conf}); err != nil {
		s.log("error", "closing a session for max_prefixes", map[string]any{"peer": addr.String(), "error": err.Error()})
	}
}

// limitOf is the limit of a neighbour, the lowest if its families differ; 0: none.
func limitOf(p *api.Peer) int {
	most := 0
	for _, f := range p.GetAfiSafis() {
		if n := int(f.GetPrefixLimits().GetMaxPrefixes()); n > 0 && (most == 0 || n < most) {
			most = n
		}
	}
	return most
}

// unlimited is a neighbour as gobgp is given it.
func unlimited(p *api.Peer) *api.Peer {
	out := proto.Clone(p).(*api.Peer)
	for _, f := range out.GetAfiSafis() {
		f.PrefixLimits = nil
	}
	return out
}

// withLimits is the stream of an answer that tells of neighbours, with their limits in it.
type withLimits struct {
	grpc.ServerStream
	s *sessions
}

func (w withLimits) SendMsg(m any) error {
	if r, ok := m.(*api.ListPeerResponse); ok {
		w.s.limit(r.GetPeer())
	}
	return w.ServerStream.SendMsg(m)
}

// limit writes the limits of a neighbour into what gobgp says of it.
func (s *sessions) limit(p *api.Peer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	x := s.peers[mustAddr(p.GetConf().GetNeighborAddress())]
	if x == nil {
		return
	}
	for _, f := range p.GetAfiSafis() {
		f.PrefixLimits = nil
		for _, g := range x.conf.GetAfiSafis() {
			if proto.Equal(f.GetConfig().GetFamily(), g.GetConfig().GetFamily()) && g.GetPrefixLimits() != nil {
				f.PrefixLimits = proto.Clone(g.GetPrefixLimits()).(*api.PrefixLimit)
			}
		}
	}
}
