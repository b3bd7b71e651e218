package kernel

import (
	"context"
	"errors"
	"net/netip"

	"golang.org/x/sys/unix"

	"netd/reconcile"
	"netd/reconcile/object"
)

// routes is the kind of routes of protocol 142 in the main table.
type routes struct{ k *Kernel }

func (routes) Name() string { return object.KindRoute }

// heldRoute is a route as RTM_NEWROUTE tells of it.
type heldRoute struct {
	dst      netip.Prefix
	via, src netip.Addr
	table    uint32
	metric   uint32
	oif      int
	nexthop  uint32
	protocol uint8
	typ      uint8
	scope    uint8
	tos      uint8
	onlink   bool
	hops     []heldHop // of a multipath route
	cloned   bool
}

const (
	rtaTable = unix.RTA_TABLE
	rtaNHID  = 30 // RTA_NH_ID
)

func decodeRoute(body []byte) (h heldRoute, ok bool) {
	if len(body) < unix.SizeofRtMsg {
		return h, false
	}
	bits := int(body[1])
	h.tos, h.protocol, h.scope, h.typ = body[3], body[5], body[6], body[7]
	h.table = uint32(body[4])
	flags := native.Uint32(body[8:])
	h.onlink, h.cloned = flags&unix.RTNH_F_ONLINK != 0, flags&unix.RTM_F_CLONED != 0
	dst := netip.IPv4Unspecified()
	if body[0] == unix.AF_INET6 {
		dst = netip.IPv6Unspecified()
	}
	for b := body[unix.SizeofRtMsg:]; len(b) >= 4; {
		n := int(native.Uint16(b))
		if n < 4 || n > len(b) {
			break
		}
		a := attribute{native.Uint16(b[2:]) & typeMask, b[4:n]}
		switch a.typ {
		case unix.RTA_DST:
			dst = a.addr()
		case unix.RTA_GATEWAY:
			h.via = a.addr()
		case unix.RTA_PREFSRC:
			h.src = a.addr()
		case unix.RTA_OIF:
			h.oif = int(a.u32())
		case unix.RTA_PRIORITY:
			h.metric = a.u32()
		case rtaTable:
			h.table = a.u32()
		case rtaNHID:
			h.nexthop = a.u32()
		case unix.RTA_MULTIPATH:
			h.hops = decodeHops(a.data)
		}
		b = b[min(align(n), len(b)):]
	}
	h.dst = netip.PrefixFrom(dst, bits)
	if dst.Is6() {
		// What the kernel fills in (net/ipv6/route.c, ip6_route_info_create): the metric of a route that asked for none, and
		// the loopback as the link of one that leads nowhere.
		if h.metric == ip6Metric {
			h.metric = 0
		}
		if h.typ != unix.RTN_UNICAST {
			h.oif = 0
		}
	}
	return h, true
}

const ip6Metric = 1024 // IP6_RT_PRIO_USER

// ipFamilies are those that have routes.
var ipFamilies = []uint8{unix.AF_INET, unix.AF_INET6}

// dumpRoutes reads the routes of one family in the main table.
func dumpRoutes(c *conn, family uint8, again func(), each func(body []byte) error) error {
	req := make([]byte, unix.SizeofRtMsg)
	req[0], req[4] = family, unix.RT_TABLE_MAIN
	return dumpTable(c, req, again, func(body []byte) error {
		if len(body) < unix.SizeofRtMsg || body[0] != family { // a kernel without IPv6 answers with everything
			return nil
		}
		return each(body)
	})
}

// dumpTable asks for routes of one table. It is made with its first route (inet_dump_fib in net/ipv4/fib_frontend.c): in a
// namespace where no link was ever up there is none, and so no route.
func dumpTable(c *conn, req []byte, again func(), each func(body []byte) error) error {
	if err := c.dump(unix.RTM_GETROUTE, req, again, each); !errors.Is(err, unix.ENOENT) {
		return err
	}
	return nil
}

// value is the route as a resource; names resolves links.
func (h heldRoute) value(in object.Place, names linkTable) object.Route {
	r := object.Route{In: in, Dst: h.dst, Table: h.table, Metric: h.metric, Type: object.RouteType(h.typ), Via: h.via, Src: h.src,
		Onlink: h.onlink, Scope: object.Scope(h.scope), Nexthop: h.nexthop}
	switch {
	case h.nexthop != 0: // the kernel also spells out what the object says
		r.Via, r.Onlink = netip.Addr{}, false
	case len(h.hops) > 0:
		r.Via, r.Onlink = netip.Addr{}, false
		ways := make([]object.Hop, len(h.hops))
		for i, x := range h.hops {
			ways[i] = object.Hop{Via: x.via, Dev: names.at(x.oif).name, Onlink: x.onlink, Weight: x.weight}
		}
		if r.Dst.Addr().Is6() {
			r.Hops = object.Hops(ways)
		} else {
			r.Hops = object.HopList(ways)
		}
	case h.oif != 0:
		r.Dev = names.at(h.oif).name
	}
	return r
}

func (s routes) List(ctx context.Context, want []reconcile.Resource) (own []reconcile.Resource, foreign []reconcile.Holder, err error) {
	same, own, foreign, err := s.Index(want).Compare(ctx)
	for i, is := range same {
		if is {
			own = append(own, want[i])
		}
	}
	return own, foreign, err
}

func (h heldRoute) holder(p place) reconcile.Holder {
	r := h.value(p.in, p.links)
	return reconcile.Holder{Key: r.Key(), What: "route " + r.Key().Name + " " + r.Summary(), Who: protocolName(h.protocol)}
}

func (s routes) Create(ctx context.Context, want reconcile.Resource) error {
	return s.Batch(ctx, []reconcile.Change{{Op: reconcile.Create, Want: want}})[0]
}

func (s routes) Update(ctx context.Context, have, want reconcile.Resource) error {
	return s.Batch(ctx, []reconcile.Change{{Op: reconcile.Update, Have: have, Want: want}})[0]
}

func (s routes) Delete(ctx context.Context, have reconcile.Resource) error {
	return s.Batch(ctx, []reconcile.Change{{Op: reconcile.Delete, Have: have}})[0]
}
