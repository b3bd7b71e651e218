package kernel

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"netd/reconcile"
	"netd/reconcile/object"
)

// Reading single places, for narrow passes: what the kernel can be asked for one by one is, and where that leaves
// something open the namespace in question is read whole, and no other.

// singly is how many places are asked for one by one. Beyond it a dump costs less.
const singly = 256

// at calls f in the namespace of each key, with the keys that are in it. What was in a namespace that is gone is gone.
func (k *Kernel) at(keys []reconcile.Key, f func(place, []reconcile.Key) error) error {
	byPlace := map[object.Place][]reconcile.Key{}
	for _, key := range keys {
		in, _, ok := object.SplitPlace(key.Name, func(id string) bool { _, ok := k.endpoints[object.Place(id)]; return ok })
		if ok {
			byPlace[in] = append(byPlace[in], key)
		}
	}
	for in, keys := range byPlace {
		if in == "" {
			h := k.hostNow()
			if err := errors.Join(f(h, keys), h.links.trouble()); err != nil {
				return err
			}
			continue
		}
		if _, err := k.inside(in, func(p place) error { return f(p, keys) }); err != nil {
			return fmt.Errorf("in %s: %w", in, err)
		}
	}
	return nil
}

// Get reads single routes by asking the kernel where it would send their first address, many in one send.
func (s routes) Get(_ context.Context, keys []reconcile.Key, want []reconcile.Resource) (own []reconcile.Resource, foreign []reconcile.Holder, err error) {
	asked := make(map[reconcile.Key]reconcile.Resource, len(want))
	for _, r := range want {
		if route, ok := r.(object.Route); ok {
			asked[route.Key()] = r
		}
	}
	err = s.k.at(keys, func(p place, keys []reconcile.Key) error {
		rest := keys
		if p.in == "" {
			rest = nil
			ways := make([]object.Route, 0, len(keys))
			for _, k := range keys {
				w, ok := asked[k].(object.Route)
				if !ok {
					w, ok = unwanted(k)
				}
				if !ok || !byAddress(w) && len(keys) > singly {
					rest = append(rest, k)
				} else {
					ways = append(ways, w)
				}
			}
			err := findRoutes(p.c, ways, func(w object.Route, found heldRoute, there, clear bool) {
				switch {
				case !clear:
					rest = append(rest, w.Key())
				case there && found.protocol == object.Protocol:
					own = append(own, found.value(p.in, p.links))
				case there:
					if _, ok := asked[w.Key()]; ok {
						foreign = append(foreign, found.holder(p))
					}
				}
			})
			if err != nil {
				return err
			}
		}
		if len(rest) == 0 {
			return nil
		}
		routes := make([]reconcile.Resource, 0, len(rest))
		for _, k := range rest {
			if w, ok := asked[k]; ok {
				routes = append(routes, w)
			}
		}
		if p.in == "" {
			h, err := s.k.host()
			if err != nil {
				return err
			}
			p = h
		}
		f := foundRoutes{routeIndex: newRouteIndex(s.k, routes), same: make([]bool, len(routes)), twice: map[int]bool{}}
		if err := f.read(p); err != nil {
			return err
		}
		for i, is := range f.same {
			if is {
				own = append(own, routes[i])
			}
		}
		own, foreign = append(own, only(f.own, rest)...), append(foreign, f.foreign...)
		return nil
	})
	return own, foreign, err
}

// unwanted is a route to ask by at a key where none is wanted: one of the main table and no metric.
func unwanted(k reconcile.Key) (object.Route, bool) {
	dst, err := netip.ParsePrefix(k.Name)
	return object.Route{Dst: dst, Table: object.MainTable, Type: object.Unicast}, err == nil
}

// byAddress reports whether the kernel can be asked for a route by an address in it. IPv6 routes of one prefix and metric are
// several in the kernel, and it answers for any of them.
func byAddress(w object.Route) bool {
	return w.Table == object.MainTable && w.Dst.Addr().Is4() && w.Type == object.Unicast
}

// findRoutes finds the routes of the keys of ws. An answer that is less specific than the route asked for proves that the route is
// not there; clear is false where the answer leaves open whether it is.
func findRoutes(c *conn, ws []object.Route, each func(w object.Route, found heldRoute, there, clear bool)) error {
	b := batch{asks: true}
	found := make([]heldRoute, min(len(ws), batchMost))
	few := len(ws) <= singly
	for part := range slices.Chunk(ws, batchMost) {
		b.b, b.starts = b.b[:0], b.starts[:0]
		clear(found) // one with so many ways that it is not read leaves it open
		for _, w := range part {
			if byAddress(w) {
				b.lookup(w.Dst.Addr())
			}
		}
		errs := c.run(&b, func(i int, body []byte) { found[i], _ = decodeRoute(body) })
		i := 0
		for _, w := range part {
			var h heldRoute
			var there, clear bool
			var err error
			switch {
			case byAddress(w):
				h, there, clear, err = tells(c, w, found[i], errs[i], few)
				i++
			case w.Dst.Addr().Is4() && w.Table == object.MainTable: // the kernel answers such a route by an error, which does not say which it is
				h, there, clear, err = ofType(c, w, uint8(w.Type))
			}
			if err != nil {
				return err
			}
			each(w, h, there, clear)
		}
	}
	return nil
}

// lookup asks for the route that packets to an address take.
func (b *batch) lookup(a netip.Addr) {
	b.begin(unix.RTM_GETROUTE, 0)
	var head [unix.SizeofRtMsg]byte
	head[0], head[1] = unix.AF_INET, 32
	native.PutUint32(head[8:], unix.RTM_F_FIB_MATCH|unix.RTM_F_LOOKUP_TABLE)
	b.raw(head[:]...)
	b.addr(unix.RTA_DST, a)
	b.end()
}

// tells says what the kernel's answer to lookup tells of the route of w's key. few says that more may be asked about it.
func tells(c *conn, w object.Route, found heldRoute, err error, few bool) (_ heldRoute, there, clear bool, _ error) {
	switch {
	case errors.Is(err, unix.ENETUNREACH):
		return found, false, true, nil
	case errors.Is(err, unix.EINVAL) && !few:
		return found, false, false, nil
	case errors.Is(err, unix.EINVAL): // a blackhole's own error: a container's address in its node's block
		found, there, _, err = ofType(c, w, unix.RTN_BLACKHOLE)
		return found, there, err == nil && (there || w.Dst.IsSingleIP()), err
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EHOSTUNREACH): // a prohibit or unreachable route
		return found, false, false, nil
	case errors.Is(err, unix.EMSGSIZE): // one of more next hops than go into an answer, some 240
		return found, false, false, nil
	case err != nil:
		return found, false, false, fmt.Errorf("looking up %s: %w", w.Dst, err)
	case found.table != unix.RT_TABLE_MAIN || found.tos != 0:
		return found, false, false, nil
	case found.dst == w.Dst && found.metric == w.Metric:
		return found, true, true, nil
	case found.dst.Bits() < w.Dst.Bits():
		return found, false, true, nil
	}
	return found, false, false, nil
}

// ofType looks for the route of w's key among those of one type, which are few where it is not unicast. That none is
// found does not say that there is none of another type.
func ofType(c *conn, w object.Route, typ uint8) (found heldRoute, there, clear bool, err error) {
	req := make([]byte, unix.SizeofRtMsg)
	req[0], req[4], req[7] = unix.AF_INET, unix.RT_TABLE_MAIN, typ
	err = dumpTable(c, req, func() { there = false }, func(body []byte) error {
		if r, ok := decodeRoute(body); ok && r.typ == typ && r.table == unix.RT_TABLE_MAIN && r.tos == 0 && r.dst == w.Dst && r.metric == w.Metric {
			found, there = r, true
		}
		return nil
	})
	if err != nil {
		return found, false, false, fmt.Errorf("reading routes: %w", err)
	}
	return found, there, there, nil
}

// Get asks for single entries by address and link (RTM_GETNEIGH without a dump, Linux 5.0), which their keys tell.
func (s neighs) Get(ctx context.Context, keys []reconcile.Key, want []reconcile.Resource) ([]reconcile.Resource, []reconcile.Holder, error) {
	if len(keys) > singly {
		all, _, err := s.List(ctx, want)
		return only(all, keys), nil, err
	}
	h := s.k.hostNow()
	var own []reconcile.Resource
	for _, k := range keys {
		dst, on, _ := strings.Cut(k.Name, " dev ")
		ip, err := netip.ParseAddr(dst)
		if err != nil {
			continue
		}
		l, _ := h.links.named(on)
		if !l.isNetd() {
			continue
		}
		n, there, err := getNeigh(h.c, family(ip), l, func(e *encoder) { e.addr(unix.NDA_DST, ip) })
		if err != nil {
			return nil, nil, err
		}
		if there {
			own = append(own, object.Neigh{Link: l.name, IP: n.dst, MAC: n.mac})
		}
	}
	return own, nil, h.links.trouble()
}

// Get asks for single entries by MAC and device, which their keys tell. One address with several endpoints is read by a dump.
func (s fdbs) Get(ctx context.Context, keys []reconcile.Key, want []reconcile.Resource) ([]reconcile.Resource, []reconcile.Holder, error) {
	several := slices.ContainsFunc(keys, func(k reconcile.Key) bool { return strings.Contains(k.Name, " dst ") })
	if several || len(keys) > singly {
		all, _, err := s.List(ctx, want)
		return only(all, keys), nil, err
	}
	h := s.k.hostNow()
	var own []reconcile.Resource
	for _, k := range keys {
		to, on, _ := strings.Cut(k.Name, " dev ")
		mac, err := object.ParseMAC(to)
		if err != nil {
			continue
		}
		l, _ := h.links.named(on)
		if !l.isNetdVXLAN() { // any other device may refuse the question
			continue
		}
		n, there, err := getNeigh(h.c, unix.AF_BRIDGE, l, func(e *encoder) { e.attr(unix.NDA_LLADDR, mac[:]) })
		if err != nil {
			return nil, nil, err
		}
		if there {
			own = append(own, object.FDB{Link: l.name, MAC: n.mac, Dst: n.dst})
		}
	}
	return own, nil, h.links.trouble()
}

// getNeigh asks for one permanent entry on a link.
func getNeigh(c *conn, of uint8, l link, by func(*encoder)) (found heldNeigh, there bool, err error) {
	var req encoder
	var head [sizeofNdmsg]byte
	head[0] = of
	if of == unix.AF_BRIDGE {
		head[10] = unix.NTF_SELF // the device's own table, not its bridge's
	}
	native.PutUint32(head[4:], uint32(l.index))
	req.raw(head[:]...)
	by(&req)
	err = c.get(unix.RTM_GETNEIGH, 0, req.b, func(body []byte) error {
		found, there = decodeNeigh(body)
		return nil
	})
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENODEV):
		return found, false, nil
	case err != nil:
		return found, false, fmt.Errorf("reading a neighbour entry of %s: %w", l.name, err)
	}
	return found, there && found.state&unix.NUD_PERMANENT != 0, nil
}

// Get asks for single objects by their ids.
func (s nexthops) Get(ctx context.Context, keys []reconcile.Key, want []reconcile.Resource) (own []reconcile.Resource, foreign []reconcile.Holder, err error) {
	if len(keys) > singly {
		all, foreign, err := s.List(ctx, want)
		return only(all, keys), foreign, err
	}
	asked := wanted(want)
	h := s.k.hostNow()
	for _, k := range keys {
		id, err := strconv.ParseUint(strings.TrimPrefix(k.Name, "id "), 10, 32)
		if err != nil {
			continue
		}
		var req encoder
		req.raw(make([]byte, sizeofNhmsg)...)
		req.u32(unix.NHA_ID, uint32(id))
		var found []byte
		err = h.c.get(unix.RTM_GETNEXTHOP, 0, req.b, func(body []byte) error { found = slices.Clone(body); return nil })
		if err != nil && !errors.Is(err, unix.ENOENT) {
			if err = nexthopTrouble(err, asked[k]); err != nil {
				return nil, nil, err
			}
			continue
		}
		switch n, protocol, ok := decodeNexthop(found, h.links); {
		case !ok:
		case protocol == object.Protocol:
			own = append(own, n)
		case asked[k]:
			foreign = append(foreign, nexthopHolder(n, protocol))
		}
	}
	return own, foreign, h.links.trouble()
}
