package desired

import (
	"fmt"
	"net/netip"
	"slices"

	"netd/config"
	"netd/reconcile"
	"netd/reconcile/object"
)

// The firewall. Neither IPIP nor VXLAN authenticates anyone, and masquerade makes a container's packet look like its
// node's, so the guards are at both ends:
//
//	spoof          what comes in by a container's veth has the container's source; what has a source in a pool comes in by a
//	               veth, a tunnel, or bare from a block whose mode sends bare packets, or sends them to the node itself
//	tunnel         what leaves a tunnel is for this node's blocks, from a pool or a node
//	vxlan-wire     encapsulated packets come from nodes, looked at when they are whole again, since a fragment can hide
//	               the VNI; other tunnels' far ends are let through           (ipip-wire likewise)
//	vxlan-forward  containers send none, and nothing that is forwarded sends any to a node   (ipip-forward, bgp-forward)
//	vxlan-output   no socket of this host sends any by hand: what the device encapsulates has a bit of the mark set,
//	               vxlan-mark, since the kernel leaves the inner packet's socket on the outer one
//	bgp-input      only neighbours reach the BGP port
//	bgp-output     and of this host only who may use a port below 1024, as the speaker does (a neighbour cannot tell its
//	               users from its speaker)
//	forward        links that netd switched to forwarding do not make this host a router between its other links
//	mss            TCP through a tunnel fits into it
//	nat            what leaves the pools for the world is masqueraded
//	publish        what comes for a published port of this host goes to the container that it is published for; what this
//	               host's own sockets send there too (publish-output, publish-source), for whose loopback the container's
//	               link lets answers in, and publish-guard nothing else. What the container sends there itself comes back
//	               to it with an address of the host's (publish-source too): its own is no other's to it
//
// Each mode's guards are chains of their own, so that they stand before the devices that they guard and fall after them.
// No rule's cost grows with the number of nodes or containers: there are only sets.
var (
	inetTable = object.NftTable{Family: "inet", Name: "netd"}
	arpTable  = object.NftTable{Family: "arp", Name: "netd"}
)

// MarkBit is the bit of the packet mark that netd reserves: it is set on what leaves by a VXLAN device.
const MarkBit = 0x00010000

// Priorities of chains, as nft names them.
const (
	prioRaw    = -300
	prioMangle = -150
	prioDstNAT = -100
	prioFilter = 0
	prioSrcNAT = 100
)

type rules []string

func (r *rules) add(format string, args ...any) { *r = append(*r, fmt.Sprintf(format, args...)) }

type firewallBuilder struct {
	*builder
	why reconcile.Cause
}

func firewall(b *builder) {
	f := firewallBuilder{b, reconcile.Cause{Text: "guards"}}
	f.put(inetTable, f.why)

	inner := []string{"lo"}
	var tunnels []string
	vxlan := false
	for _, n := range f.c.Networks {
		for _, m := range tunnelModes {
			dev := tunnelName(n, m)
			if _, there := f.want.State[linkKey(dev)]; n.Uses(m) && there && !slices.Contains(tunnels, dev) {
				tunnels = append(tunnels, dev)
				vxlan = vxlan || m == config.ModeVXLAN
			}
		}
	}
	inner = append(inner, tunnels...)
	f.put(vethSet, f.why)
	f.put(innerSet, f.why)
	f.elems(innerSet, quoted(inner))
	for _, family := range families {
		f.addresses(family)
	}

	f.spoof()
	f.router()
	if len(tunnels) > 0 {
		f.tunnels(tunnels)
	}
	if vxlan {
		f.vxlanGuards()
	}
	if slices.Contains(tunnels, tunl0) {
		var wire rules
		if others := f.otherTunnels(); len(others) > 0 {
			f.elems(f.set(inetTable, "ipip-others", ipv4.addr, false), others)
			wire.add("ip protocol 4 ip saddr @ipip-others return")
		}
		wire.add("ip protocol 4 ip saddr != @nodes counter drop")
		f.chain(inetTable, "ipip-wire", "filter", "input", prioFilter, wire)
		f.chain(inetTable, "ipip-forward", "filter", "forward", prioFilter, rules{
			"iifname @veths ip protocol 4 counter drop",
			"ip daddr @nodes ip protocol 4 counter drop",
		})
	}
	if len(f.neighbours) > 0 {
		f.bgpGuards()
	}
	f.nat(vxlan)
	if f.publishes() {
		f.publish()
		f.overheard()
	}
	f.arp()
	f.accepts(tunnels)
	for _, e := range f.facts.Endpoints {
		f.endpoint(e)
	}
}

// The sets that have elements for each container, besides those of its addresses.
var (
	innerSet     = object.NftSet{Table: inetTable, Name: "inner", Type: "ifname"}
	vethSet      = object.NftSet{Table: inetTable, Name: "veths", Type: "ifname"}
	arpVethSet   = object.NftSet{Table: arpTable, Name: "veths", Type: "ifname"}
	arpSourceSet = object.NftSet{Table: arpTable, Name: "endpoints", Type: "ifname . ipv4_addr"}
	hairpinSet   = object.NftSet{Table: inetTable, Name: "hairpin", Type: "ifname . ifname"}
)

// sources is the set of what each veth may send from.
func (f family) sources() object.NftSet {
	return object.NftSet{Table: inetTable, Name: "endpoints" + f.six, Type: "ifname . " + f.addr}
}

// endpointElems are a container's elements of these sets.
func endpointElems(e object.Endpoint) []object.NftElem {
	name := quote(object.VethName(string(e.ID)))
	out := []object.NftElem{{Set: innerSet, Elem: name}, {Set: vethSet, Elem: name}, {Set: arpVethSet, Elem: name}}
	if len(e.Ports) > 0 {
		out = append(out, object.NftElem{Set: hairpinSet, Elem: name + " . " + name})
	}
	for _, f := range families {
		a := f.endpoint(e)
		switch {
		case !a.IsValid():
		case f.v6: // neighbour discovery is from its link-local address too
			out = append(out, object.NftElem{Set: f.sources(), Elem: name + " . " + a.String()},
				object.NftElem{Set: f.sources(), Elem: name + " . " + object.LinkLocal(e.MAC).String()})
		default:
			out = append(out, object.NftElem{Set: f.sources(), Elem: name + " . " + a.String()},
				object.NftElem{Set: arpSourceSet, Elem: name + " . " + a.String()})
		}
		if !a.IsValid() {
			continue
		}
		for _, p := range e.Ports {
			from, to := fmt.Sprintf("%s . %d", p.Proto, p.On), fmt.Sprintf("%s . %d", a, p.Port)
			switch {
			case p.At.IsValid() && p.At.Is6() != f.v6:
			case p.Wild():
				out = append(out, object.NftElem{Set: f.published(), Elem: from + " : " + to})
			default:
				out = append(out, object.NftElem{Set: f.publishedAt(), Elem: p.At.String() + " . " + from + " : " + to})
			}
		}
	}
	return out
}

// endpoint lets a container's packets in.
func (f firewallBuilder) endpoint(e object.Endpoint) {
	for _, elem := range endpointElems(e) {
		without := false // the file took the pools of that family away, and with them its sets
		for _, family := range families {
			switch elem.Set {
			case family.sources(), family.published(), family.publishedAt():
				without = len(f.pools(family)) == 0
			}
		}
		if !without {
			f.put(elem, f.workloadCause(e))
		}
	}
}

// otherTunnels are the far ends of ipip tunnels that are not netd's.
func (f firewallBuilder) otherTunnels() []string {
	var out []string
	for _, t := range f.facts.Host.Tunnels {
		if a := t.Remote.String(); t.Remote.IsValid() && !slices.Contains(out, a) {
			out = append(out, a)
		}
	}
	return out
}

// pools are the pools of a family: where there are none, containers have no address of it.
func (f firewallBuilder) pools(family family) []netip.Prefix {
	var out []netip.Prefix
	for _, n := range f.c.Networks {
		out = append(out, family.of(n.Pools)...)
	}
	return out
}

// hasNodes reports whether nodes have addresses of a family, so that there is a set of them.
func (f firewallBuilder) hasNodes(family family) bool {
	return slices.ContainsFunc(f.c.Nodes, func(n config.Node) bool { return family.address(n).IsValid() })
}

// addresses are the sets of addresses of a family that the rules look up.
func (f firewallBuilder) addresses(family family) {
	if f.hasNodes(family) {
		nodes := f.set(inetTable, "nodes"+family.six, family.addr, false)
		for _, n := range f.c.Nodes {
			if a := family.address(n); a.IsValid() && n.Name != f.self.Name {
				f.put(object.NftElem{Set: nodes, Elem: a.Addr().String()}, f.nodeCause(n))
			}
		}
	}
	pools := f.pools(family)
	if len(pools) == 0 {
		return
	}
	f.elems(f.set(inetTable, "pools"+family.six, family.addr, true), prefixes(Merge(pools)))
	f.put(family.sources(), f.why)
}

// spoof lets in from a container only its own addresses, so that forged neighbour solicitations cannot fill the neighbour
// table either, and from elsewhere none of a pool but by a tunnel or bare where the mode says so. A container is no router:
// its advertisements and redirects are nobody's business.
func (f firewallBuilder) spoof() {
	var r rules
	for _, family := range families {
		if pools := f.pools(family); len(pools) == 0 {
			r.add("iifname @veths meta nfproto %s counter drop", family.nfproto)
			continue
		}
		if family.v6 {
			r.add("iifname @veths icmpv6 type nd-router-advert counter drop")
			r.add("iifname @veths icmpv6 type nd-redirect counter drop")
		}
		r.add("iifname @veths iifname . %s saddr != @endpoints%s counter drop", family.ip, family.six)
		if link := f.underlay(family).Name; link != "" {
			// A pool may contain the nodes' own subnet, which the file's check only warns of.
			r.add("iifname %s %s saddr @nodes%s return", quote(link), family.ip, family.six)
			if bare := append(f.bareBlocks(family), f.learnedBare[family]...); len(bare) > 0 {
				f.elems(f.set(inetTable, "bare"+family.six, family.addr, true), prefixes(Merge(bare)))
				for _, link := range append([]string{link}, f.neighbourLinks(family)...) {
					r.add("iifname %s %s saddr @bare%s return", quote(link), family.ip, family.six)
				}
			}
			if to := f.bareToNode(family); len(to) > 0 {
				f.elems(f.set(inetTable, "own"+family.six, family.addr, false), []string{family.address(f.self).Addr().String()})
				f.elems(f.set(inetTable, "bare-to-own"+family.six, family.addr, true), prefixes(Merge(to)))
				r.add("iifname %s %s saddr @bare-to-own%s %s daddr @own%s return", quote(link), family.ip, family.six, family.ip, family.six)
			}
		}
		r.add("%s saddr @pools%s iifname != @inner counter drop", family.ip, family.six)
	}
	f.chain(inetTable, "spoof", "filter", "prerouting", prioRaw, r)
}

// tunnels takes out of a tunnel only what is for this node's blocks and from a pool or a node, and makes TCP fit into it.
func (f firewallBuilder) tunnels(devices []string) {
	f.elems(f.set(inetTable, "tunnels", "ifname", false), quoted(devices))
	var r rules
	for _, family := range families {
		pools := f.pools(family)
		if len(pools) == 0 {
			r.add("iifname @tunnels meta nfproto %s counter drop", family.nfproto)
			continue
		}
		inside := slices.Clone(pools)
		for _, n := range f.c.Nodes {
			if a := family.address(n); a.IsValid() {
				inside = append(inside, host(a.Addr()))
			}
		}
		f.elems(f.set(inetTable, "inside"+family.six, family.addr, true), prefixes(Merge(inside)))
		f.elems(f.set(inetTable, "local"+family.six, family.addr, true), prefixes(Merge(family.of(f.self.Blocks))))
		r.add("iifname @tunnels %s daddr != @local%s counter drop", family.ip, family.six)
		r.add("iifname @tunnels %s saddr != @inside%s counter drop", family.ip, family.six)
	}
	f.chain(inetTable, "tunnel", "filter", "prerouting", prioRaw, r)
	f.chain(inetTable, "mss", "filter", "forward", prioMangle, rules{
		"oifname @tunnels tcp flags & (syn | rst) == syn tcp option maxseg size set rt mtu",
	})
}

// router keeps the links that netd switched to forwarding from making the host a router: while the host is none without
// netd, what comes in by one of them leaves by a link of netd or not at all. IPv6's switch is for all links and stays netd's
// whoever wants it too, so that only the ways between the links that lead out of the host are closed.
func (f firewallBuilder) router() {
	var r rules
	var switched, outside []string
	for _, l := range f.facts.Host.Links {
		if f.wants(object.LinkSysctl("ipv4", "conf", l.Name, "forwarding")) && !l.Forwarding && !f.facts.Host.IPForward {
			switched = append(switched, l.Name)
		}
		if l.Name == f.underlay(ipv6).Name || slices.Contains(f.facts.Host.DefaultLinks6, l.Name) {
			outside = append(outside, l.Name)
		}
	}
	if len(switched) > 0 {
		f.elems(f.set(inetTable, "switched", "ifname", false), quoted(switched))
		r.add("meta nfproto ipv4 iifname @switched oifname != @inner counter drop")
	}
	if len(outside) > 0 && f.wants(object.IPv6Forwarding) && !f.facts.Host.IPv6Forward {
		f.elems(f.set(inetTable, "outside", "ifname", false), quoted(outside))
		r.add("meta nfproto ipv6 iifname @outside oifname @outside counter drop")
	}
	if len(r) > 0 {
		f.chain(inetTable, "forward", "filter", "forward", prioFilter, r)
	}
}

// wants reports whether a setting is part of the desired state.
func (f firewallBuilder) wants(sysctl string) bool {
	_, ok := f.want.State[object.Sysctl{Name: sysctl}.Key()]
	return ok
}

func (f firewallBuilder) vxlanGuards() {
	var wire, forward, output, mark rules
	for _, n := range f.c.Networks {
		if !n.Uses(config.ModeVXLAN) {
			continue
		}
		outer := familyOf(n.Family6)
		wire.add("udp dport %d @th,96,24 %d %s saddr != @nodes%s counter drop", n.Port, n.VNI, outer.ip, outer.six)
		if outer.v6 {
			// IPv6 puts fragments together behind this hook, and the first need not reach to the VNI. VTEPs send none (RFC 7348).
			wire.add("udp dport %d exthdr frag exists ip6 saddr != @nodes6 counter drop", n.Port)
		}
		forward.add("iifname @veths udp dport %d counter drop", n.Port)
		forward.add("%s daddr @nodes%s udp dport %d counter drop", outer.ip, outer.six, n.Port)
		output.add("udp dport %d @th,96,24 %d %s daddr @nodes%s meta skuid != 4294967295 meta mark & 0x%08x == 0 counter drop", n.Port, n.VNI, outer.ip, outer.six, MarkBit)
		mark.add("oifname %s meta mark set meta mark | 0x%08x", quote(VXLANName(n)), MarkBit)
	}
	f.chain(inetTable, "vxlan-wire", "filter", "input", prioFilter, wire)
	f.chain(inetTable, "vxlan-forward", "filter", "forward", prioFilter, forward)
	f.chain(inetTable, "vxlan-output", "filter", "output", prioFilter, output)
	f.chain(inetTable, "vxlan-mark", "filter", "postrouting", prioFilter, mark)
}

func (f firewallBuilder) bgpGuards() {
	port := f.c.BGP.ListenPort
	var input, forward, output rules
	for _, family := range families {
		if !f.hasNodes(family) {
			input.add("meta nfproto %s tcp dport %d counter drop", family.nfproto, port)
			continue
		}
		peers := f.set(inetTable, "bgp-peers"+family.six, family.addr, false)
		for _, n := range f.neighbours {
			if n.addr.Is6() == family.v6 {
				f.put(object.NftElem{Set: peers, Elem: n.addr.WithZone("").String()}, n.why)
			}
		}
		input.add("tcp dport %d %s saddr != @bgp-peers%s counter drop", port, family.ip, family.six)
		forward.add("%s daddr @nodes%s tcp dport %d counter drop", family.ip, family.six, port)
		output.add("tcp dport %d tcp sport >= 1024 %s daddr @bgp-peers%s counter drop", port, family.ip, family.six)
	}
	f.chain(inetTable, "bgp-input", "filter", "input", prioFilter, input)
	f.chain(inetTable, "bgp-forward", "filter", "forward", prioFilter, forward)
	f.chain(inetTable, "bgp-output", "filter", "output", prioFilter, output)
}

// nat masquerades what leaves a pool for an address in no pool. Ports are random, since the sequential choice of the
// kernel lets one outside guess them. Where VXLAN is in use no UDP flow gets its port as source: the far end's guard and
// its device would take the answers.
func (f firewallBuilder) nat(vxlan bool) {
	var r rules
	for _, n := range f.c.Networks {
		for _, family := range families {
			mine := family.of(n.Pools)
			if len(mine) == 0 || !family.v6 && !n.NATOutgoing || family.v6 && !n.NATOutgoing6 {
				continue
			}
			f.elems(f.set(inetTable, "nat"+family.six+"-"+n.Name, family.addr, true), prefixes(Merge(mine)))
			f.elems(f.set(inetTable, "exempt"+family.six+"-"+n.Name, family.addr, true), prefixes(Merge(append(family.of(n.NATExempt), f.pools(family)...))))
			match := fmt.Sprintf("%s saddr @nat%s-%s %s daddr != @exempt%s-%s oifname != @inner", family.ip, family.six, n.Name, family.ip, family.six, n.Name)
			if vxlan {
				low, high := f.portsBesideVXLAN()
				r.add("%s meta l4proto udp masquerade to :%d-%d fully-random", match, low, high)
			}
			r.add("%s masquerade fully-random", match)
		}
	}
	if len(r) > 0 {
		f.chain(inetTable, "nat", "nat", "postrouting", prioSrcNAT, r)
	}
}

// portsBesideVXLAN is the larger range of ports above 1023 without any VXLAN port in it.
func (f firewallBuilder) portsBesideVXLAN() (low, high uint16) {
	ports := []int{1023, 65536}
	for _, n := range f.c.Networks {
		if n.Uses(config.ModeVXLAN) && n.Port > 1023 {
			ports = append(ports, int(n.Port))
		}
	}
	slices.Sort(ports)
	best := 0
	for i := range len(ports) - 1 {
		if size := ports[i+1] - ports[i] - 1; size > best {
			best, low, high = size, uint16(ports[i]+1), uint16(ports[i+1]-1)
		}
	}
	return low, high
}

// arp lets in on a container's veth only the container's own address, so that forged requests cannot fill the neighbour
// table, which all namespaces of a machine share.
func (f firewallBuilder) arp() {
	f.put(arpTable, f.why)
	f.put(arpVethSet, f.why)
	f.put(arpSourceSet, f.why)
	f.chain(arpTable, "spoof", "filter", "input", prioFilter, rules{"iifname @veths iifname . arp saddr ip != @endpoints counter drop"})
}
