package desired

import (
	"maps"
	"net/netip"
	"slices"
	"strings"

	"netd/config"
	"netd/reconcile"
	"netd/reconcile/object"
)

// A packet from 10.10.40.129 on baihl-master to 10.10.194.134 on baihl-node in mode bgp:
//
//	container   10.10.40.129 > 10.10.194.134, default via 169.254.1.1 dev eth0
//	veth        arrives on the host, which forwards
//	route       10.10.194.128/26 via 192.168.170.138 dev ens33, learned over BGP
//	wire        the packet itself
//	far route   10.10.194.134 dev netd… scope link
//
// A route is wanted only while a session gives it, and only where the file itself admits it (admit.go). Several equal paths
// are one route with several next hops (spread.go). A next hop on no connected subnet is resolved by the most specific route to it: one
// of the host's own, or one learned whose next hop is on the link; it follows that when it changes.
//
// Unknown is not empty: as long as the table of a neighbour is not known, the routes that it may have given stay.
func (b *builder) learn() {
	if len(b.neighbours) == 0 {
		return
	}
	a := newAdmission(b)
	b.admission = a
	byPrefix := func(a, b object.BestPath) int { return a.Prefix.Compare(b.Prefix) }
	if paths := b.facts.Speaker.Paths; !slices.IsSortedFunc(paths, byPrefix) {
		paths = slices.Clone(paths)
		slices.SortStableFunc(paths, byPrefix)
		b.facts.Speaker.Paths = paths
	}
	b.learned = newLearner(a, map[way]nearHop{}, map[[mostMemo]way]*hopSet{})
	b.learned.paths()
	b.learned.held(b.learned.unknown())
	b.learned.put()
}

func newLearner(a *admission, near map[way]nearHop, sets map[[mostMemo]way]*hopSet) *learner {
	l := &learner{a: a, near: near, sets: sets, denied: map[netip.Prefix]bool{}, refused: map[string]*refusals{}, uses: map[use]int{}}
	l.spread = newSpreader(l)
	return l
}

// learner goes through up to 100,000 paths in every pass: what a path needs is looked up once for each next hop, and ways
// and routes lie in two slices.
type learner struct {
	a        *admission
	ways     []way                // admitted
	routes   []learned            // in the order of the speaker's paths
	byPrefix map[netip.Prefix]int // of routes; nil: none was looked for
	kept     []learned            // held, of prefixes that no path is known of
	near     map[way]nearHop
	sets     map[[mostMemo]way]*hopSet
	denied   map[netip.Prefix]bool // prefixes of which a path was refused
	refused  map[string]*refusals  // by neighbour: what the speaker let through
	holds    int                   // next hops that are held
	far      int                   // ways whose next hop is on no link
	uses     map[use]int           // routes by the links that they leave by
	several  int                   // routes with several next hops
	spread   *spreader
}

// learned is what is known of the ways to a prefix.
type learned struct {
	prefix   netip.Prefix
	from, to int  // of learner.ways
	far      bool // no next hop is on a link
	*hopSet       // nil: no next hop at all
	whose    *config.Node
}

// hopSet is next hops with those that gave them. Many routes share one: it is not written to once it is in use.
type hopSet struct {
	hops []object.Hop
	by   []*inbound
	text string          // object.Hops
	why  reconcile.Cause // because(by)
}

// mostMemo is the largest set of ways that is kept to be shared.
const mostMemo = 4

// way is a path that was admitted.
type way struct {
	nextHop netip.Addr
	from    *inbound
}

// nearHop is a next hop on a link, as a route of its own has it.
type nearHop struct {
	ok   bool
	hops []object.Hop
	by   []*inbound
}

type refusals struct {
	count   int
	example string
}

// paths takes what the speaker has, those of a prefix together, as far as it is admitted.
func (l *learner) paths() {
	paths := l.a.b.facts.Speaker.Paths
	l.ways, l.routes = make([]way, 0, len(paths)), make([]learned, 0, len(paths))
	for _, p := range paths {
		why, whose := l.a.refuse(p)
		if why != "" {
			l.refuse(p, why)
			continue
		}
		l.ways = append(l.ways, way{p.NextHop, l.a.from[p.Peer]})
		if n := len(l.routes); n > 0 && l.routes[n-1].prefix == p.Prefix {
			l.routes[n-1].to++
		} else {
			l.routes = append(l.routes, learned{prefix: p.Prefix, from: len(l.ways) - 1, to: len(l.ways), whose: whose})
		}
	}
	// Next hops on a link first: what they give may lead to the others.
	for i := range l.routes {
		r := &l.routes[i]
		ways := l.ways[r.from:r.to]
		for _, w := range ways {
			if !l.nearHop(w).ok {
				l.far++
			}
		}
		r.hopSet = l.nearSet(ways)
		r.far = r.hopSet == nil
	}
	if l.far == 0 {
		return
	}
	for i := range l.routes {
		r := &l.routes[i]
		var all *hopSet
		for _, w := range l.ways[r.from:r.to] {
			if n := l.nearHop(w); !n.ok {
				if all == nil {
					all = r.hopSet.clone()
				}
				all.add(l.resolve(w.nextHop, r.prefix), n.by)
			}
		}
		if all != nil && len(all.hops) > 0 {
			r.hopSet = all.done()
		}
	}
}

// nearSet is the next hops of ways that are on a link, nil where none is.
func (l *learner) nearSet(ways []way) *hopSet {
	var key [mostMemo]way
	memo := len(ways) <= mostMemo
	if memo {
		copy(key[:], ways)
		if set, ok := l.sets[key]; ok {
			return set
		}
	}
	set := (*hopSet)(nil).clone()
	for _, w := range ways {
		if n := l.nearHop(w); n.ok {
			set.add(n.hops, n.by)
		}
	}
	if len(set.hops) == 0 {
		set = nil
	} else {
		set.done()
	}
	if memo {
		l.sets[key] = set
	}
	return set
}

func (l *learner) refuse(p object.BestPath, why string) {
	who := p.Peer.String()
	if in := l.a.from[p.Peer]; in != nil {
		who = in.name()
	}
	r := l.refused[who]
	if r == nil {
		r = &refusals{example: p.Prefix.String() + ": " + why}
		l.refused[who] = r
	}
	r.count++
	l.denied[p.Prefix] = true
}

func (l *learner) nearHop(w way) nearHop {
	n, ok := l.near[w]
	if !ok {
		var h object.Hop
		if h, n.ok = l.a.b.hopOnLink(w.nextHop, w.from); n.ok {
			n.hops = []object.Hop{h}
		}
		n.by = []*inbound{w.from}
		l.near[w] = n
	}
	return n
}

// clone is a set to add to; that of nil is empty.
func (s *hopSet) clone() *hopSet {
	if s == nil {
		return &hopSet{}
	}
	return &hopSet{hops: slices.Clone(s.hops), by: slices.Clone(s.by)}
}

func (s *hopSet) add(hops []object.Hop, by []*inbound) {
	if len(hops) == 0 {
		return
	}
	for _, h := range hops {
		if !slices.Contains(s.hops, h) {
			s.hops = append(s.hops, h)
		}
	}
	for _, in := range by {
		if !slices.Contains(s.by, in) {
			s.by = append(s.by, in)
		}
	}
}

// done is the set once nothing more is added.
func (s *hopSet) done() *hopSet {
	s.text, s.why = object.Hops(s.hops), because(s.by)
	return s
}

// find is the route of a prefix that paths are known of.
func (l *learner) find(p netip.Prefix) *learned {
	if l.byPrefix == nil {
		l.byPrefix = make(map[netip.Prefix]int, len(l.routes))
		for i := range l.routes {
			l.byPrefix[l.routes[i].prefix] = i
		}
	}
	i, ok := l.byPrefix[p]
	if !ok {
		return nil
	}
	return &l.routes[i]
}

// hopOnLink is a next hop that is on a link of this host.
func (b *builder) hopOnLink(a netip.Addr, from *inbound) (object.Hop, bool) {
	if a.IsLinkLocalUnicast() && a.Is6() {
		return object.Hop{Via: a.WithZone(""), Dev: from.link}, from.link != ""
	}
	if own := familyOf(a.Is6()); own.address(b.self).IsValid() && own.address(b.self).Contains(a) {
		return object.Hop{Via: a, Dev: b.underlay(own).Name}, true
	}
	_, link, ok := b.connected(a)
	return object.Hop{Via: a, Dev: link}, ok
}

// resolve finds the way to a next hop that is on no link, for one prefix: the most specific of the host's own routes and of
// those learned with a next hop on a link. A prefix does not lead to its own next hop.
func (l *learner) resolve(a netip.Addr, of netip.Prefix) []object.Hop {
	bits := -1
	var hops []object.Hop
	for _, w := range l.a.b.facts.Host.Ways {
		if w.To == a {
			if list, err := object.ParseHops(w.Hops); err == nil {
				bits, hops = w.Prefix.Bits(), list
			}
		}
	}
	for n := a.BitLen(); n > bits; n-- {
		p := netip.PrefixFrom(a, n).Masked()
		if r := l.find(p); r != nil && p != of && !r.far {
			return r.hops
		}
	}
	return hops
}

// put wants a route for each prefix that has a next hop, and says of the others why they have none.
func (l *learner) put() {
	b := l.a.b
	var lost []string
	ahead := slices.ContainsFunc(b.c.Networks, func(n config.Network) bool { return n.Mode != config.ModeBGP && n.Uses(config.ModeBGP) })
	for r := range l.all {
		if ahead { // of a network that receives bare packets and does not send them: the file gives the routes
			if n, ok := b.c.NetworkOf(r.prefix); ok && n.Mode != config.ModeBGP {
				continue
			}
		}
		if r.hopSet == nil {
			lost = append(lost, r.prefix.String()+" via "+l.ways[r.from].nextHop.String())
			continue
		}
		route := l.route(r)
		if _, taken := b.want.State[route.Key()]; taken { // admit.go leaves no such case; the file's own routes win
			continue
		}
		l.leavesBy(r, route)
		b.put(route, r.why)
	}
	l.hashing(l.several > 0)
	if l.holds > 0 {
		b.note("%s held, since no BGP session says yet whether they still hold", count(l.holds, "learned route"))
	}
	if len(lost) > 0 {
		b.note("%s without a way to the next hop: %s", count(len(lost), "learned route"), firstOf(lost))
	}
	for _, who := range slices.Sorted(maps.Keys(l.refused)) {
		b.note("%s: %s refused that the speaker took (%s)", who, count(l.refused[who].count, "path"), l.refused[who].example)
	}
}

// all yields what is known of each prefix.
func (l *learner) all(yield func(*learned) bool) {
	for _, part := range [][]learned{l.routes, l.kept} {
		for i := range part {
			if !yield(&part[i]) {
				return
			}
		}
	}
}

// route is the route of a prefix that has a next hop.
func (l *learner) route(r *learned) object.Route {
	route := object.Route{Dst: r.prefix, Table: object.MainTable, Type: object.Unicast}
	if len(r.hops) == 1 || !l.a.b.c.BGP.Multipath {
		route.Via, route.Dev = r.hops[0].Via, r.hops[0].Dev
	} else {
		route.Hops = l.spread.hops(r.prefix, r.hopSet)
	}
	return route
}

// hashing spreads flows, not pairs of hosts, over several next hops: by ports too. It is set where this node has more than
// one router that may give a way, so that it does not come and go with the routes, or where there are such routes.
func (l *learner) hashing(several bool) {
	b := l.a.b
	if !b.c.BGP.Multipath {
		return
	}
	routers := 0
	why := b.nodeCause(b.self)
	for _, n := range b.neighbours {
		if n.peer != nil {
			routers++
			why = n.why
		}
	}
	if routers < 2 && !several {
		return
	}
	b.put(object.Sysctl{Name: "net.ipv4.fib_multipath_hash_policy", Value: "1"}, why)
	if b.facts.Host.IPv6 {
		b.put(object.Sysctl{Name: "net.ipv6.fib_multipath_hash_policy", Value: "1"}, why)
	}
}

// leavesBy notes the links that packets to and from a learned prefix travel on, and a prefix of a pool that is no node's
// block.
func (l *learner) leavesBy(r *learned, route object.Route) {
	b := l.a.b
	f := familyOf(r.prefix.Addr().Is6())
	countUses(l.uses, route, +1)
	if route.Hops != "" {
		l.several++
	}
	hops, _ := hopsOf(route)
	for _, h := range hops {
		if !slices.Contains(b.learnedLinks[f], h.Dev) {
			b.learnedLinks[f] = append(b.learnedLinks[f], h.Dev)
		}
	}
	if r.whose == nil {
		if _, pooled := b.c.NetworkOf(r.prefix); pooled {
			b.learnedBare[f] = append(b.learnedBare[f], r.prefix)
		}
	}
}

// because names those that a route was learned from.
func because(by []*inbound) reconcile.Cause {
	if len(by) == 1 {
		return by[0].why
	}
	out := by[0].why
	var words []string
	for _, in := range by {
		words = append(words, in.name())
	}
	slices.Sort(words)
	out.Text = strings.Join(words, ", ")
	return out
}

func firstOf(list []string) string {
	if len(list) > 5 {
		return strings.Join(list[:5], ", ") + ", …"
	}
	return strings.Join(list, ", ")
}
