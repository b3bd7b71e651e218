package desired

import (
	"net/netip"
	"slices"

	"netd/reconcile/object"
)

// spreader shares the flows of routes with several next hops so that those of the others stay where they are when one goes.
// For that a route knows those routers too that might give its prefix and do not: this node's with that prefix in their
// import list, equal in what the file says of their rank. It is of the file alone, so that nobody has to remember who was
// there before.
type spreader struct {
	a       *admission
	routers []rankedRouter
	texts   map[spreadKey]string
}

// rankedRouter is a router that is its own next hop on a link.
type rankedRouter struct {
	*inbound
	hop object.Hop
}

type spreadKey struct {
	hops string
	away uint64 // of routers
}

// newSpreader is nil where this node has fewer than three such routers: of two that become one nobody's flows move.
func newSpreader(l *learner) *spreader {
	s := &spreader{a: l.a, texts: map[spreadKey]string{}}
	for _, n := range l.a.b.neighbours {
		if n.peer == nil || n.addr.Is6() || len(s.routers) == 64 {
			continue
		}
		in := l.a.from[n.addr]
		if near := l.nearHop(way{n.addr, in}); near.ok && !slices.ContainsFunc(s.routers, func(r rankedRouter) bool { return r.hop == near.hops[0] }) {
			s.routers = append(s.routers, rankedRouter{in, near.hops[0]})
		}
	}
	if len(s.routers) < 3 {
		return nil
	}
	return s
}

// hops is Route.Hops of a prefix. IPv6 takes no next hop twice; beside next hops that are no routers of this node's, which others
// may come is not known.
func (s *spreader) hops(prefix netip.Prefix, set *hopSet) string {
	if s == nil || prefix.Addr().Is6() {
		return set.text
	}
	var rank *inbound
	giving, known := uint64(0), 0
	for i, r := range s.routers {
		if slices.Contains(set.hops, r.hop) {
			giving |= 1 << i
			known++
			rank = r.inbound
		}
	}
	if known < len(set.hops) {
		return set.text
	}
	key := spreadKey{hops: set.text}
	for i, r := range s.routers {
		if giving&(1<<i) != 0 || r.ibgp != rank.ibgp || r.peer.LocalPref != rank.peer.LocalPref || !object.MatchAny(r.ranges, prefix) {
			continue
		}
		if why, _ := s.a.refusePrefix(r.inbound, prefix); why == "" {
			key.away |= 1 << i
		}
	}
	if key.away == 0 {
		return set.text
	}
	text, ok := s.texts[key]
	if !ok {
		all := slices.Clone(set.hops)
		for i, r := range s.routers {
			if key.away&(1<<i) != 0 {
				all = append(all, r.hop)
			}
		}
		text = object.HopList(object.Spread(all, set.hops))
		s.texts[key] = text
	}
	return text
}
