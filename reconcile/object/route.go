package object

import (
	"net/netip"
	"strconv"
	"strings"

	"netd/reconcile"
)

// RouteType is what becomes of a packet that matches, as rtnetlink numbers it.
type RouteType uint8

const (
	Unicast   RouteType = 1 // RTN_UNICAST
	Blackhole RouteType = 6 // RTN_BLACKHOLE
)

// routeTypes are the kernel's, as ip route calls them (include/uapi/linux/rtnetlink.h, RTN_…). One that netd does not make may stand
// where it would.
var routeTypes = []string{Unicast: "unicast", 2: "local", "broadcast", "anycast", "multicast", Blackhole: "blackhole", "unreachable", "prohibit", "throw", "nat"}

func (t RouteType) String() string {
	if int(t) < len(routeTypes) && routeTypes[t] != "" {
		return routeTypes[t]
	}
	return "type " + strconv.Itoa(int(t))
}

// MainTable is RT_TABLE_MAIN.
const MainTable = 254

// Route is a route of protocol 142. The zero Table is never used: routes in the main table say MainTable.
type Route struct {
	In      Place
	Dst     netip.Prefix // masked; 0.0.0.0/0 is the default route
	Table   uint32
	Metric  uint32
	Type    RouteType
	Via     netip.Addr // next hop; invalid where the destination is on the link
	Dev     string     // output link; empty for blackholes and for routes by a next hop object
	Onlink  bool
	Src     netip.Addr // preferred source; invalid where the kernel chooses
	Scope   Scope
	Nexthop uint32 // id of a next hop object, 0 none; then Via, Dev and Onlink are the object's and unset here
	Hops    string // several ways (RTA_MULTIPATH), as HopList of IPv4 and Hops of IPv6; empty where there is one. Then Via, Dev and Onlink are unset
}

// RouteKey is the key of a route. The kernel keys IPv4 routes on prefix, table, metric and TOS; netd uses TOS 0 only.
func RouteKey(in Place, dst netip.Prefix, table, metric uint32) reconcile.Key {
	name := dst.String()
	if dst.Bits() == 0 {
		name = "default"
		if dst.Addr().Is6() {
			name = "default6"
		}
	}
	if table != MainTable {
		name += " table " + strconv.FormatUint(uint64(table), 10)
	}
	if metric != 0 {
		name += " metric " + strconv.FormatUint(uint64(metric), 10)
	}
	return reconcile.Key{Kind: KindRoute, Name: in.In(name)}
}

func (r Route) Key() reconcile.Key { return RouteKey(r.In, r.Dst, r.Table, r.Metric) }

// LeansOn: with an address go the routes that prefer it as source (net/ipv4/fib_semantics.c, fib_sync_down_addr), or their
// preference (net/ipv6/route.c, rt6_remove_prefsrc).
func (r Route) LeansOn() (what reconcile.Key, falls, ok bool) {
	return source(r.In, r.Src), r.Src.Is4(), r.Src.IsValid()
}

func (r Route) Requires() []reconcile.Key {
	if r.Nexthop == 0 && r.Hops == "" && r.Dev != "" && r.In == "" { // most routes
		return requireLink(r.In, r.Dev)
	}
	var on []reconcile.Key
	if r.Nexthop != 0 {
		on = append(on, NexthopKey(r.Nexthop))
	}
	if r.Dev != "" {
		on = append(on, requireLink(r.In, r.Dev)...)
	}
	for dev := range hopLinks(r.Hops) {
		on = append(on, requireLink(r.In, dev)...)
	}
	if r.In != "" && r.Via.IsValid() { // the container's default route stands on the route to its gateway
		on = append(on, RouteKey(r.In, netip.PrefixFrom(r.Via, r.Via.BitLen()), MainTable, 0))
	}
	return on
}

func (r Route) Fields() []reconcile.Field {
	fields := []reconcile.Field{
		field("type", r.Type.String()), field("via", addrText(r.Via)), field("dev", r.Dev), field("onlink", onOff(r.Onlink)),
		field("src", addrText(r.Src)), field("scope", r.Scope.String()), field("nexthop", strconv.FormatUint(uint64(r.Nexthop), 10)),
	}
	if r.Hops != "" { // few have them
		fields = append(fields, field("hops", r.Hops))
	}
	return fields
}

// Summary is the route as iproute2 prints it.
func (r Route) Summary() string {
	var b strings.Builder
	word := func(name, value string) {
		if b.Len() > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(name)
		if value != "" {
			b.WriteByte(' ')
			b.WriteString(value)
		}
	}
	if r.Type != Unicast {
		word(r.Type.String(), "")
	}
	if r.Via.IsValid() {
		word("via", r.Via.String())
	}
	if r.Dev != "" {
		word("dev", r.Dev)
	}
	if r.Hops != "" {
		word(r.Hops, "")
	}
	if r.Nexthop != 0 {
		word("nhid", strconv.FormatUint(uint64(r.Nexthop), 10))
	}
	if r.Scope != ScopeGlobal {
		word("scope", r.Scope.String())
	}
	if r.Src.IsValid() {
		word("src", r.Src.String())
	}
	if r.Onlink {
		word("onlink", "")
	}
	return b.String()
}

// Nexthop is a next hop object (RTM_NEWNEXTHOP): many routes share it, and the kernel finds it without a search.
type Nexthop struct {
	ID     uint32
	Via    netip.Addr
	Dev    string
	Onlink bool
}

func NexthopKey(id uint32) reconcile.Key {
	return reconcile.Key{Kind: KindNexthop, Name: "id " + strconv.FormatUint(uint64(id), 10)}
}

func (n Nexthop) Key() reconcile.Key        { return NexthopKey(n.ID) }
func (n Nexthop) Requires() []reconcile.Key { return []reconcile.Key{LinkKey("", n.Dev)} }
func (n Nexthop) Fields() []reconcile.Field {
	return []reconcile.Field{field("via", addrText(n.Via)), field("dev", n.Dev), field("onlink", onOff(n.Onlink))}
}
