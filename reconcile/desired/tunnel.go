package desired

import (
	"net/netip"
	"slices"

	"netd/config"
	"netd/reconcile"
	"netd/reconcile/object"
)

// tunnel is a device of netd between nodes, as routes see it.
type tunnel struct {
	dev     string
	gateway func(family, config.Node) netip.Addr // a remote node's end
}

// tunnelModes are those that wrap packets.
var tunnelModes = []config.Mode{config.ModeIPIP, config.ModeVXLAN}

// tunnel puts what a network's packets in a mode of tunnelModes are received by, and returns the way that they are sent by.
// ok is false where the network does not use the mode, or nobody has blocks of it.
func (b *builder) tunnel(n config.Network, m config.Mode) (t tunnel, ok bool) {
	if !n.Uses(m) {
		return tunnel{}, false
	}
	remotes := b.remotes(n.Name)
	if len(remotes) == 0 && len(b.c.BlocksIn(b.self, n.Name)) == 0 {
		return tunnel{}, false
	}
	if m == config.ModeIPIP {
		t = b.ipip(n)
	} else {
		t = b.vxlan(n, remotes)
	}
	b.tunnelDevice(n, t.dev)
	if n.Uses(config.ModeBGP) || len(b.bareToNode(ipv4)) > 0 {
		// The two ends may be a step apart, or what is sent to the node itself comes bare: it is answered through the tunnel.
		b.looseUnderlay(netCause(n))
	}
	return t, true
}

// untilLearned leaves the blocks of a network of mode bgp that still receives a tunnel's packets to that tunnel as long as
// no session gives a route to them: the step from the tunnel to bgp loses nothing, whichever node takes it first.
func (b *builder) untilLearned(n config.Network) {
	if n.Mode != config.ModeBGP {
		return
	}
	for _, m := range tunnelModes {
		t, ok := b.tunnel(n, m)
		if !ok {
			continue
		}
		gone := slices.Contains(b.left, left{n.Name, m})
		var rest []remote
		for _, r := range b.remotes(n.Name) {
			r.blocks = slices.DeleteFunc(slices.Clone(r.blocks), func(p netip.Prefix) bool {
				_, there := b.want.State[object.RouteKey("", p, object.MainTable, 0)]
				return there || gone && !b.stays[through{p, t.dev}]
			})
			if len(r.blocks) > 0 {
				rest = append(rest, r)
			}
		}
		b.tunnelRoutes(n, t, rest)
		if gone && len(rest) > 0 {
			b.leaves = append(b.leaves, t.dev)
			b.note("network %s: %s still by %s, until BGP gives %s", n.Name, count(len(rest), "node"), t.dev, map[bool]string{true: "its route", false: "their routes"}[len(rest) == 1])
		}
	}
}

// FromNodes is how many remote nodes a network has when its routes go by next hop objects. The kernel finds a route's next
// hop in a hash that leaves the gateway out (net/ipv4/fib_semantics.c, fib_info_hashfn), so that 10,000 gateways on one
// link cost it seconds; by objects they cost a fifth. Below this number plain routes cost nothing and read better. IPv6
// routes are not shared in such a hash.
const FromNodes = 1000

// tunnelRoutes puts a route for each remote block: by way of the tunnel, or with cross-subnet to the node itself where it
// is on the link.
func (b *builder) tunnelRoutes(n config.Network, t tunnel, remotes []remote) {
	for _, r := range remotes {
		for _, f := range families {
			blocks := f.of(r.blocks)
			if len(blocks) == 0 {
				continue
			}
			why := b.nodeCause(*r.node)
			way := object.Route{Table: object.MainTable, Type: object.Unicast}
			var stands []reconcile.Key
			if !b.crosses(n, f, *r.node) {
				way.Via, _ = b.onLink(f, *r.node)
				way.Dev = b.underlay(f).Name
			} else {
				way.Via, way.Dev, way.Onlink = t.gateway(f, *r.node), t.dev, true
				stands = b.farEnd(n, f, *r.node, &way, len(remotes) >= FromNodes)
				if own := f.address(b.self); own.IsValid() && b.blockless(n, f) {
					way.Src = own.Addr() // the tunnel has no address, and the kernel would take any link's
				}
			}
			for _, block := range blocks {
				way.Dst = block
				b.put(way, why, stands...)
			}
		}
	}
}

// farEnd puts what a route into a tunnel stands on: where there are many, a next hop object that it goes by instead; of
// IPv6, a route to the gateway alone. The kernel refuses an IPv6 gateway, onlink or not, that some other route leads to by
// another device (net/ipv6/route.c, ip6_route_check_nh_onlink), and one does, while the block is routed another way.
func (b *builder) farEnd(n config.Network, f family, node config.Node, way *object.Route, objects bool) (stands []reconcile.Key) {
	why := b.nodeCause(node)
	switch address, ok := b.c.Tunnel(node, n.Name, f.v6); {
	case f.v6:
		gateway := object.Route{Dst: host(way.Via), Table: object.MainTable, Type: object.Unicast, Dev: way.Dev}
		b.put(gateway, why)
		return []reconcile.Key{gateway.Key()}
	case objects && ok:
		a := address.As4()
		id := uint32(a[0])<<24 | uint32(a[1])<<16 | uint32(a[2])<<8 | uint32(a[3])
		b.put(object.Nexthop{ID: id, Via: way.Via, Dev: way.Dev, Onlink: true}, why)
		way.Via, way.Dev, way.Onlink, way.Nexthop = netip.Addr{}, "", false, id
	}
	return nil
}

// tunnelDevice puts what every tunnel device of netd has besides itself: the node's tunnel addresses, from which the host
// speaks to containers, and its sysctls.
func (b *builder) tunnelDevice(n config.Network, dev string) {
	why := netCause(n)
	for _, f := range families {
		if address, ok := b.c.Tunnel(b.self, n.Name, f.v6); ok {
			b.put(object.Addr{Link: dev, Prefix: host(address), Scope: object.ScopeGlobal}, why)
		}
	}
	b.put(object.Sysctl{Name: object.LinkSysctl("ipv4", "conf", dev, "forwarding"), Value: "1"}, why)
	// Replies from a node's underlay address come back through the tunnel: strict reverse path filtering loses them all.
	b.put(object.Sysctl{Name: object.LinkSysctl("ipv4", "conf", dev, "rp_filter"), Value: "2"}, why)
	b.ipv6Link(dev, b.mtu(n), len(ipv6.of(n.Pools)) > 0, why)
}

// ipv6Link is a link of netd's manner of speaking IPv6. Where it does not, the kernel is kept from giving it a link-local
// address and speaking from it. Where it does, all its addresses are netd's own, of use at once, and nobody's router
// advertisements change anything. A link too small for IPv6 has none of these settings.
func (b *builder) ipv6Link(dev string, mtu int, speaks bool, why reconcile.Cause) {
	if !b.facts.Host.IPv6 || mtu < minMTU6 {
		return
	}
	settings := [][2]string{{"disable_ipv6", "1"}}
	if speaks {
		settings = [][2]string{{"disable_ipv6", "0"}, {"addr_gen_mode", "1"}, {"accept_dad", "0"}, {"accept_ra", "0"}}
	}
	for _, s := range settings {
		b.put(object.Sysctl{Name: object.LinkSysctl("ipv6", "conf", dev, s[0]), Value: s[1]}, why)
	}
}

// tunnelName is the device of a network's packets in a mode of tunnelModes.
func tunnelName(n config.Network, m config.Mode) string {
	if m == config.ModeIPIP {
		return tunl0
	}
	return VXLANName(n)
}

// VXLANName is the name of a network's VXLAN device.
func VXLANName(n config.Network) string {
	if n.SecondPort {
		return object.VXLANPortName(n.VNI, n.Port)
	}
	return object.VXLANName(n.VNI)
}
