package kernel

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"netd/reconcile"
	"netd/reconcile/object"
)

// routeKey is what the kernel keys a route of the main table on.
type routeKey struct {
	dst    netip.Prefix
	metric uint32
}

// compare orders routes as the kernel tells of those of IPv4 (net/ipv4/fib_trie.c): by address, of one address the longest
// prefix first.
func (a routeKey) compare(b routeKey) int {
	if c := a.dst.Addr().Compare(b.dst.Addr()); c != 0 {
		return c
	}
	return cmp.Or(cmp.Compare(b.dst.Bits(), a.dst.Bits()), cmp.Compare(a.metric, b.metric))
}

// routeIndex is the wanted routes in the order in which the kernel tells of them, so that the next one that is read is
// mostly the next one here.
type routeIndex struct {
	k     *Kernel
	want  []reconcile.Resource
	sorts map[object.Place][]wantedRoute
}

type wantedRoute struct {
	routeKey
	at int // in want
}

// Index is for hosts with the table of a backbone: see reconcile.Indexer.
func (s routes) Index(want []reconcile.Resource) reconcile.Index { return newRouteIndex(s.k, want) }

func newRouteIndex(k *Kernel, want []reconcile.Resource) *routeIndex {
	x := &routeIndex{k: k, want: want, sorts: map[object.Place][]wantedRoute{}}
	host := make([]wantedRoute, 0, len(want)) // most are the host's own
	for i, r := range want {
		switch r, ok := r.(object.Route); {
		case !ok:
		case r.In == "":
			host = append(host, wantedRoute{routeKey{r.Dst, r.Metric}, i})
		default:
			x.sorts[r.In] = append(x.sorts[r.In], wantedRoute{routeKey{r.Dst, r.Metric}, i})
		}
	}
	x.sorts[""] = host
	for _, rs := range x.sorts {
		slices.SortFunc(rs, func(a, b wantedRoute) int { return a.compare(b.routeKey) })
	}
	return x
}

// Compare reads the routes of all namespaces.
func (x *routeIndex) Compare(context.Context) (same []bool, own []reconcile.Resource, foreign []reconcile.Holder, err error) {
	f := foundRoutes{routeIndex: x, same: make([]bool, len(x.want)), twice: map[int]bool{}}
	err = x.k.everywhere(f.read)
	return f.same, f.own, f.foreign, err
}

// foundRoutes is what a dump finds of the wanted routes, and besides them.
type foundRoutes struct {
	*routeIndex
	same    []bool
	twice   map[int]bool // wanted ones that another of netd's own routes is beside, or in the place of
	own     []reconcile.Resource
	foreign []reconcile.Holder
}

// read reads the routes of a place.
func (f *foundRoutes) read(p place) error {
	wanted := f.sorts[p.in]
	next := 0
	find := func(k routeKey) (at int, ok bool) {
		if next == len(wanted) || wanted[next].routeKey != k {
			next, ok = slices.BinarySearchFunc(wanted, k, func(w wantedRoute, k routeKey) int { return w.compare(k) })
			if !ok {
				return 0, false
			}
		}
		next++
		return wanted[next-1].at, true
	}
	each := func(body []byte) error {
		h, ok := decodeRoute(body)
		if !ok || h.table != unix.RT_TABLE_MAIN || h.cloned || h.tos != 0 {
			return nil
		}
		at, asked := find(routeKey{h.dst, h.metric})
		switch {
		case h.protocol == object.Protocol && p.has(p.links.at(h.oif).name):
			r := h.value(p.in, p.links)
			switch {
			case !asked || f.want[at].(object.Route) != r:
				if asked { // a second one beside the wanted one is to be seen, whichever comes first
					f.same[at], f.twice[at] = false, true
				}
				f.own = append(f.own, r)
			case !f.twice[at]:
				f.same[at] = true
			}
		case asked && p.handed && f.want[at].(object.Route) == h.value(p.in, p.links):
			f.same[at] = true
		case asked:
			f.foreign = append(f.foreign, h.holder(p))
		}
		return nil
	}
	for _, family := range ipFamilies {
		o, n := len(f.own), len(f.foreign)
		again := func() {
			f.own, f.foreign, next = f.own[:o], f.foreign[:n], 0
			for _, w := range wanted {
				if w.dst.Addr().Is4() == (family == unix.AF_INET) {
					f.same[w.at] = false
					delete(f.twice, w.at)
				}
			}
		}
		if err := dumpRoutes(p.c, family, again, each); err != nil {
			return fmt.Errorf("reading routes: %w", err)
		}
	}
	return nil
}
