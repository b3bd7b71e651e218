package desired

import (
	"net/netip"
	"slices"

	"netd/reconcile"
	"netd/reconcile/object"
)

// Learning tells how a compiled state differs once the paths of some prefixes are others. It says what Compile would say, at the
// cost of those prefixes: a test holds the two against each other. Where more than the routes of those prefixes might differ,
// it leaves the answer to Compile:
//
//   - a prefix of a pool, on which rules and tunnels depend too
//   - a next hop on no link, to which another learned prefix may lead
//   - a path that is refused or was, of which a note tells
//   - the first route by a link and the last, the first with several next hops and the last
//
// It belongs to one result of Compile and to what was amended of it since.
type Learning struct {
	b       *builder
	near    map[way]nearHop
	sets    map[[mostMemo]way]*hopSet
	uses    map[use]int           // routes
	denied  map[netip.Prefix]bool // of which a path was refused
	several int                   // routes with several next hops
	whole   bool                  // only Compile can tell
}

// use is one link that routes of a family leave by.
type use struct {
	family
	link string
}

// learning is nil where nothing can be learned.
func (b *builder) learning() *Learning {
	if b.learned == nil {
		return nil
	}
	x := &Learning{near: b.learned.near, sets: b.learned.sets, uses: b.learned.uses, denied: b.learned.denied, several: b.learned.several, whole: b.learned.far > 0}
	l := *b
	l.learned, l.want, l.notes, l.facts.Speaker.Paths, l.facts.Host.LearnedRoutes = nil, reconcile.Want{}, nil, nil, nil
	x.b = &l
	return x
}

// Amend says what is wanted at prefixes whose paths changed, given all paths that there are to them now, those of a prefix together,
// in the order of changed, and the state that is wanted so far. ok is false where it cannot tell; it is of no more use then.
func (x *Learning) Amend(state reconcile.State, changed []netip.Prefix, paths []object.BestPath) (a reconcile.Amendment, ok bool) {
	if x == nil || x.whole {
		return a, false
	}
	x.whole = true // unless all goes well
	a.Places = make([]reconcile.Amended, len(changed))
	b := *x.b
	b.facts.Speaker.Paths = paths
	admission := *b.admission
	admission.b = &b
	l := newLearner(&admission, x.near, x.sets)
	unknown := l.unknown()
	for i, prefix := range changed {
		if _, pooled := b.c.NetworkOf(prefix); pooled || x.denied[prefix] {
			return a, false
		}
		p := &a.Places[i]
		p.Key = object.RouteKey("", prefix, object.MainTable, 0)
		if p.Was = state[p.Key]; p.Was == nil {
			continue
		}
		route, _ := p.Was.(object.Route)
		hops, learned := hopsOf(route)
		if !learned { // of a container outside of all pools
			return a, false
		}
		if len(unknown) == 0 {
			continue
		}
		for _, h := range hops { // the kernel has what was wanted
			b.facts.Host.LearnedRoutes = append(b.facts.Host.LearnedRoutes, object.Learned{Prefix: prefix, NextHop: h.Via, Link: h.Dev})
		}
	}
	l.paths()
	if l.far > 0 || len(l.refused) > 0 {
		return a, false
	}
	l.held(unknown)
	for _, part := range [][]learned{l.routes, l.kept} { // both in the order of changed
		i := 0
		for j := range part {
			r := &part[j]
			for i < len(changed) && changed[i] != r.prefix {
				i++
			}
			if i == len(changed) {
				return a, false
			}
			a.Places[i].Want, a.Places[i].Why = l.route(r), r.why // on no link of netd's, so that it stands on no address of netd's
		}
	}
	for _, gone := range []bool{false, true} { // what comes first, so that a link is not without routes in between
		for i := range a.Places {
			p := &a.Places[i]
			if (p.Want == nil) != gone || p.Was == p.Want {
				continue
			}
			if p.Was != nil && !x.count(p.Was.(object.Route), -1) || !gone && !x.count(p.Want.(object.Route), +1) {
				return a, false
			}
		}
	}
	x.whole = false
	return a, true
}

// count counts a route that comes (1) or goes (-1). It is false where more depends on that than the route.
func (x *Learning) count(r object.Route, n int) bool {
	if r.Hops != "" {
		if x.several += n; x.several == max(n, 0) {
			return false
		}
	}
	return countUses(x.uses, r, n)
}

// countUses counts the links that a learned route leaves by. It is false where one is used for the first or the last time.
func countUses(uses map[use]int, r object.Route, n int) bool {
	if r.Hops == "" {
		u := use{familyOf(r.Dst.Addr().Is6()), r.Dev}
		now := uses[u] + n
		uses[u] = now
		return now != max(n, 0)
	}
	same := true
	hops, _ := hopsOf(r)
	for i, h := range hops {
		if slices.ContainsFunc(hops[:i], func(o object.Hop) bool { return o.Dev == h.Dev }) {
			continue
		}
		u := use{familyOf(r.Dst.Addr().Is6()), h.Dev}
		uses[u] += n
		same = same && uses[u] != max(n, 0)
	}
	return same
}

// hopsOf are the next hops of a route that was learned. ok is false of any other.
func hopsOf(r object.Route) (hops []object.Hop, ok bool) {
	switch {
	case r.Type != object.Unicast || r.Nexthop != 0 || r.In != "":
		return nil, false
	case r.Hops != "":
		hops, err := object.ParseHops(r.Hops)
		return hops, err == nil
	}
	return []object.Hop{{Via: r.Via, Dev: r.Dev}}, r.Via.IsValid()
}
