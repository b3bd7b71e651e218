package kernel

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"netd/reconcile/object"
)

// Ways finds how the host reaches addresses that are on none of its links: for each the most specific unicast route of the
// main table that is not netd's, with the lowest metric. An address without one is left out.
func (k *Kernel) Ways(_ context.Context, to []netip.Addr) ([]object.Way, error) {
	if len(to) == 0 {
		return nil, nil
	}
	h, err := k.host()
	if err != nil {
		return nil, err
	}
	var out []object.Way
	var left []netip.Addr // where a route of netd's is in front
	for _, a := range to {
		r, ok, err := routeTo(h.c, a)
		switch {
		case err != nil:
			return nil, err
		case !ok:
		case r.table == unix.RT_TABLE_MAIN && r.protocol != object.Protocol && r.typ == unix.RTN_UNICAST && r.nexthop == 0:
			if w, ok := r.way(a, h.links); ok {
				out = append(out, w)
			}
		default:
			left = append(left, a)
		}
	}
	behind, err := waysBehind(h, left)
	return append(out, behind...), err
}

// routeTo asks the kernel which route an address takes.
func routeTo(c *conn, a netip.Addr) (heldRoute, bool, error) {
	return askRoute(c, a, unix.RTM_F_FIB_MATCH|unix.RTM_F_LOOKUP_TABLE)
}

// askRoute asks the kernel for the way of a packet to an address; ok is false where it has none. Without flags the answer is
// the packet's own: its link and its source, whatever the route says of them.
func askRoute(c *conn, a netip.Addr, flags uint32) (r heldRoute, ok bool, err error) {
	var req encoder
	head := make([]byte, unix.SizeofRtMsg)
	head[0], head[1] = unix.AF_INET, uint8(a.BitLen())
	if a.Is6() {
		head[0] = unix.AF_INET6
	}
	native.PutUint32(head[8:], flags)
	req.raw(head...)
	req.addr(unix.RTA_DST, a)
	err = c.get(unix.RTM_GETROUTE, 0, req.b, func(body []byte) error {
		r, ok = decodeRoute(body)
		return nil
	})
	switch {
	case errors.Is(err, unix.ENETUNREACH), errors.Is(err, unix.EINVAL), errors.Is(err, unix.EACCES), errors.Is(err, unix.EHOSTUNREACH),
		errors.Is(err, unix.EAFNOSUPPORT):
		return r, false, nil
	case err != nil:
		return r, false, fmt.Errorf("looking up the route to %s: %w", a, err)
	}
	return r, ok, nil
}

// waysBehind reads the whole table for addresses that a route of netd's leads to now.
func waysBehind(h place, to []netip.Addr) ([]object.Way, error) {
	best := map[netip.Addr]heldRoute{}
	for _, f := range ipFamilies {
		if len(to) == 0 {
			break
		}
		err := dumpRoutes(h.c, f, func() {
			for a := range best {
				if a.Is6() == (f == unix.AF_INET6) {
					delete(best, a)
				}
			}
		}, func(body []byte) error {
			r, ok := decodeRoute(body)
			if !ok || r.table != unix.RT_TABLE_MAIN || r.protocol == object.Protocol || r.typ != unix.RTN_UNICAST || r.cloned || r.nexthop != 0 {
				return nil
			}
			for _, a := range to {
				if b, there := best[a]; r.dst.Contains(a) && (!there || r.dst.Bits() > b.dst.Bits() || r.dst == b.dst && r.metric < b.metric) {
					best[a] = r
				}
			}
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("reading routes: %w", err)
		}
	}
	var out []object.Way
	for _, a := range to {
		if r, ok := best[a]; ok {
			if w, ok := r.way(a, h.links); ok {
				out = append(out, w)
			}
		}
	}
	return out, nil
}

// way is the route as a way to an address. One that says that the address is on its link leads there itself; one by a link
// of netd's is none.
func (h heldRoute) way(to netip.Addr, names linkTable) (object.Way, bool) {
	var hops []object.Hop
	for _, x := range h.ways() {
		l := names.at(x.oif)
		if l.name == "" || l.isNetd() {
			continue
		}
		hop := object.Hop{Via: x.via, Dev: l.name, Onlink: x.onlink}
		if !hop.Via.IsValid() {
			hop.Via = to
		}
		hops = append(hops, hop)
	}
	return object.Way{To: to, Prefix: h.dst, Hops: object.Hops(hops)}, len(hops) > 0
}
