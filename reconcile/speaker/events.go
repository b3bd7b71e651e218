package speaker

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	api "github.com/osrg/gobgp/v3/api"
)

// watch follows gobgp's events until ctx ends, in order: the paths of a neighbour before its End-of-RIB. Nobody may make a request
// of gobgp before it returns.
func (s *sessions) watch(ctx context.Context) error {
	err := s.bgp.WatchEvent(ctx, &api.WatchEventRequest{
		Peer: &api.WatchEventRequest_Peer{},
		Table: &api.WatchEventRequest_Table{Filters: []*api.WatchEventRequest_Table_Filter{
			{Type: api.WatchEventRequest_Table_Filter_BEST},
			{Type: api.WatchEventRequest_Table_Filter_EOR},
		}},
	}, func(r *api.WatchEventResponse) {
		if p := r.GetPeer().GetPeer(); p != nil {
			if addr, err := netip.ParseAddr(p.GetState().GetNeighborAddress()); err == nil {
				s.moved(s.zoned(addr), p.GetState().GetSessionState(), p.GetState().GetAdminState())
			}
		}
		for _, p := range r.GetTable().GetPaths() { // of End-of-RIBs
			if addr, err := netip.ParseAddr(p.GetNeighborIp()); err == nil {
				s.endOfRIB(addr, p.GetFamily())
			}
		}
	})
	if err != nil {
		return fmt.Errorf("watching gobgp: %w", err)
	}
	return overhear(s.bgp, s.filters())
}

// filters are asked for gobgp's events, by kind, in its one goroutine.
func (s *sessions) filters() map[string]func(event any) bool {
	after := func(any) bool {
		s.deliver()
		return true
	}
	return map[string]func(any) bool{"bestpath": s.heard, "peerstate": after, "eor": after}
}

// heard takes the paths of one event: of each prefix in it, all the ways that are best now, or a withdrawal. It is called in gobgp's one
// goroutine, and is false, since nobody else is to be told.
func (s *sessions) heard(event any) bool {
	first := len(s.pending)
	var err error
	s.pending, err = s.best.read(event, s.pending, s.unreadable)
	if err != nil {
		select {
		case s.fatal <- err:
		default: // it ends already
		}
	}
	for i := first; i < len(s.pending); i++ {
		s.pending[i].hop.peer = s.zoned(s.pending[i].hop.peer)
	}
	if len(s.pending) >= pendingMost {
		s.deliver()
	}
	return false
}

func (s *sessions) unreadable(err error) {
	s.log("warn", "a path that cannot be read", map[string]any{"error": err.Error()})
}

// pendingMost is how many ways are kept back until gobgp has done what there was to do: more than an UPDATE has.
const pendingMost = 4096

// deliver has the rib what was heard. It is called in gobgp's one goroutine.
func (s *sessions) deliver() {
	if len(s.pending) == 0 {
		return
	}
	s.stirred += s.rib.set(s.pending)
	s.pending = s.pending[:0]
	if n := s.stirred; n >= slackMuch {
		s.stirred = 0
		s.start(func() { s.rib.slack.Changed(n) }) // it may wait for a collection
	}
}

// endOfRIB notes that a neighbour has told all of one family. Its table is known with the last of those that both ends
// speak. Events name a link-local neighbour without its zone.
func (s *sessions) endOfRIB(addr netip.Addr, family *api.Family) {
	addr = s.zoned(addr)
	s.mu.Lock()
	x := s.peers[addr]
	if x == nil {
		s.mu.Unlock()
		return
	}
	if x.told == nil {
		x.told = map[string]bool{}
	}
	x.told[familyText([]*api.Family{family})] = true
	var open []string
	for _, f := range x.conf.GetAfiSafis() {
		if name := familyText([]*api.Family{f.GetConfig().GetFamily()}); !x.told[name] {
			open = append(open, name)
		}
	}
	s.mu.Unlock()
	if len(open) > 0 {
		spoken := map[string]bool{}
		for _, c := range s.look(addr).GetState().GetRemoteCap() {
			var mp api.MultiProtocolCapability
			if c.MessageIs(&mp) && c.UnmarshalTo(&mp) == nil {
				spoken[familyText([]*api.Family{mp.GetFamily()})] = true
			}
		}
		if slices.ContainsFunc(open, func(f string) bool { return spoken[f] }) {
			return
		}
	}
	s.synced(addr)
}

// zoned is the neighbour that an event means.
func (s *sessions) zoned(addr netip.Addr) netip.Addr {
	if !addr.IsLinkLocalUnicast() || addr.Zone() != "" {
		return addr
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for a := range s.peers {
		if a.WithZone("") == addr {
			return a
		}
	}
	return addr
}

// readPath reads of an answer of gobgp's API what best.readPath reads of its events.
func readPath(p *api.Path) (netip.Prefix, hop, error) {
	var n api.IPAddressPrefix
	if err := p.GetNlri().UnmarshalTo(&n); err != nil {
		return netip.Prefix{}, hop{}, fmt.Errorf("reading a prefix: %w", err)
	}
	addr, err := netip.ParseAddr(n.GetPrefix())
	if err != nil {
		return netip.Prefix{}, hop{}, fmt.Errorf("reading a prefix: %w", err)
	}
	prefix := netip.PrefixFrom(addr, int(n.GetPrefixLen())).Masked()
	if !prefix.IsValid() {
		return netip.Prefix{}, hop{}, fmt.Errorf("reading a prefix: %s/%d", addr, n.GetPrefixLen())
	}
	h := hop{}
	if peer, err := netip.ParseAddr(p.GetNeighborIp()); err == nil { // "<nil>" for a path of this host's own
		h.peer = peer
	}
	if p.GetIsWithdraw() {
		return prefix, h, nil
	}
	for _, a := range p.GetPattrs() {
		text := ""
		switch {
		case a.MessageIs((*api.NextHopAttribute)(nil)):
			var nh api.NextHopAttribute
			if err := a.UnmarshalTo(&nh); err != nil {
				return prefix, h, fmt.Errorf("reading the next hop of %s: %w", prefix, err)
			}
			text = nh.GetNextHop()
		case a.MessageIs((*api.MpReachNLRIAttribute)(nil)):
			var mp api.MpReachNLRIAttribute
			if err := a.UnmarshalTo(&mp); err != nil {
				return prefix, h, fmt.Errorf("reading the next hop of %s: %w", prefix, err)
			}
			if len(mp.GetNextHops()) > 0 {
				text = mp.GetNextHops()[0]
			}
		case a.MessageIs((*api.AsPathAttribute)(nil)):
			var path api.AsPathAttribute
			if err := a.UnmarshalTo(&path); err != nil {
				return prefix, h, fmt.Errorf("reading the AS_PATH of %s: %w", prefix, err)
			}
			if s := path.GetSegments(); len(s) > 0 && s[0].GetType() == api.AsSegment_AS_SEQUENCE && len(s[0].GetNumbers()) > 0 {
				h.firstAS = s[0].GetNumbers()[0]
			}
			continue
		default:
			continue
		}
		if h.nextHop, err = netip.ParseAddr(text); err != nil {
			return prefix, h, fmt.Errorf("reading the next hop of %s: %w", prefix, err)
		}
	}
	if !h.nextHop.IsValid() {
		return prefix, h, fmt.Errorf("%s has no next hop", prefix)
	}
	h.nextHop = soleNextHop(h)
	return prefix, h, nil
}

// soleNextHop is a path's next hop. Of a global and a link-local one (RFC 2545 §3) gobgp keeps the global one. Where that is "::", the
// neighbour has none, and the link-local one is its own.
func soleNextHop(h hop) netip.Addr {
	if h.nextHop == netip.IPv6Unspecified() && h.peer.IsLinkLocalUnicast() {
		return h.peer.WithZone("")
	}
	return h.nextHop
}
