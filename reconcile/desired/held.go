package desired

import (
	"net/netip"

	"netd/config"
	"netd/reconcile/object"
)

// unknown are the neighbours whose table is not known.
func (l *learner) unknown() (out []*inbound) {
	b := l.a.b
	synced := map[netip.Addr]bool{}
	for _, p := range b.facts.Speaker.Peers {
		synced[p.Addr] = p.Synced
	}
	for _, n := range b.neighbours {
		if !b.facts.Speaker.Known || !synced[n.addr] {
			out = append(out, l.a.from[n.addr])
		}
	}
	return out
}

// held keeps the routes that neighbours whose table is not known may have given.
func (l *learner) held(unknown []*inbound) {
	if len(unknown) == 0 {
		return
	}
	b := l.a.b
	at := map[netip.Prefix]int{} // in l.kept
	for _, h := range b.facts.Host.LearnedRoutes {
		for _, in := range unknown {
			why, whose := l.a.refusePrefix(in, h.Prefix)
			if why != "" || !l.gave(in, h.NextHop, whose) {
				continue
			}
			r := l.find(h.Prefix)
			if r == nil {
				i, there := at[h.Prefix]
				if !there {
					i = len(l.kept)
					at[h.Prefix] = i
					l.kept = append(l.kept, learned{prefix: h.Prefix, whose: whose})
				}
				r = &l.kept[i]
			}
			set := r.hopSet.clone()
			before := len(set.hops)
			set.add([]object.Hop{{Via: h.NextHop, Dev: h.Link}}, []*inbound{in})
			r.hopSet = set.done()
			l.holds += len(set.hops) - before
			break
		}
	}
}

// gave reports whether a route's gateway may be what a neighbour's path led to. That of a next hop on no link is a router's.
func (l *learner) gave(in *inbound, gateway netip.Addr, whose *config.Node) bool {
	if in.link == "" || in.peer != nil && in.ibgp {
		return true
	}
	if in.addr.WithZone("") == gateway || in.addr.Is6() != gateway.Is6() {
		return true
	}
	return whose != nil && l.a.nodes[gateway] == whose
}
