package desired

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"netd/config"
	"netd/reconcile"
	"netd/reconcile/object"
)

// The firewall. Neither IPIP nor VXLAN authenticates anyone, and masquerade makes a container's packet look like its
// node's, so the guards are at both ends:
//
//	spoof          what comes in by a container's veth has the container's source; what has a source in a pool comes in by a
//	               veth, a tunnel, or bare from a block whose mode sends bare packets
//	tunnel         what leaves a tunnel is for this node's blocks, from a pool or a node
//	vxlan-wire     encapsulated packets come from nodes                       (ipip-wire likewise)
//	vxlan-forward  containers send none, and nothing that is forwarded sends any to a node   (ipip-forward, bgp-forward)
//	vxlan-output   no socket of this host sends any by hand: what the device encapsulates has a bit of the mark set,
//	               vxlan-mark, since the kernel leaves the inner packet's socket on the outer one
//	bgp-input      only neighbours reach the BGP port
//	forward        a link that netd switched to forwarding does not make this host a router between its other links
//	mss            TCP through a tunnel fits into it
//	nat            what leaves the pools for the world is masqueraded
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

	var modes = map[config.Mode]bool{}
	var pools, bare []netip.Prefix
	inner := []string{"lo"}
	var tunnels, vxlans []string
	for _, n := range f.c.Networks {
		modes[n.Mode] = true
		pools = append(pools, ipv4(n.Pools)...)
		switch n.Mode {
		case config.ModeBGP:
			for _, r := range f.remotes(n.Name) {
				bare = append(bare, r.blocks...)
			}
		default:
			dev := f.tunnelName(n)
			if _, there := f.want.State[linkKey(dev)]; there && !slices.Contains(tunnels, dev) {
				tunnels = append(tunnels, dev)
				if n.Mode == config.ModeVXLAN {
					vxlans = append(vxlans, dev)
				}
			}
		}
	}
	inner = append(inner, tunnels...)

	veths := f.set(inetTable, "veths", "ifname", false)
	endpoints := f.set(inetTable, "endpoints", "ifname . ipv4_addr", false)
	for _, e := range f.facts.Endpoints {
		name := object.VethName(string(e.ID))
		why := f.workloadCause(e)
		f.put(object.NftElem{Set: veths, Elem: quote(name)}, why)
		f.put(object.NftElem{Set: endpoints, Elem: quote(name) + " . " + e.IPv4.String()}, why)
		inner = append(inner, name)
	}
	f.elems(f.set(inetTable, "inner", "ifname", false), quoted(inner))
	f.elems(f.set(inetTable, "pools", "ipv4_addr", true), prefixes(merge(pools)))
	nodes := f.set(inetTable, "nodes", "ipv4_addr", false)
	var inside []netip.Prefix
	for _, n := range f.c.Nodes {
		if n.Address.IsValid() {
			inside = append(inside, netip.PrefixFrom(n.Address.Addr(), 32))
			if n.Name != f.self.Name {
				f.put(object.NftElem{Set: nodes, Elem: n.Address.Addr().String()}, f.nodeCause(n))
			}
		}
	}

	f.spoof(bare)
	f.router()
	if len(tunnels) > 0 {
		f.elems(f.set(inetTable, "tunnels", "ifname", false), quoted(tunnels))
		f.elems(f.set(inetTable, "inside", "ipv4_addr", true), prefixes(merge(append(inside, pools...))))
		f.elems(f.set(inetTable, "local", "ipv4_addr", true), prefixes(merge(ipv4(f.self.Blocks))))
		f.chain(inetTable, "tunnel", "filter", "prerouting", prioRaw, rules{
			"iifname @tunnels meta nfproto ipv6 counter drop",
			"iifname @tunnels ip daddr != @local counter drop",
			"iifname @tunnels ip saddr != @inside counter drop",
		})
		f.chain(inetTable, "mss", "filter", "forward", prioMangle, rules{
			"oifname @tunnels tcp flags & (syn | rst) == syn tcp option maxseg size set rt mtu",
		})
	}
	if len(vxlans) > 0 {
		f.vxlanGuards()
	}
	if slices.Contains(tunnels, tunl0) {
		f.chain(inetTable, "ipip-wire", "filter", "prerouting", prioRaw, rules{"ip protocol 4 ip saddr != @nodes counter drop"})
		f.chain(inetTable, "ipip-forward", "filter", "forward", prioFilter, rules{
			"iifname @veths ip protocol 4 counter drop",
			"ip daddr @nodes ip protocol 4 counter drop",
		})
	}
	if modes[config.ModeBGP] {
		f.bgpGuards()
	}
	f.nat(pools, vxlans)
	f.arp()
}

func (f firewallBuilder) spoof(bare []netip.Prefix) {
	r := rules{
		"iifname @veths meta nfproto ipv6 counter drop",
		"iifname @veths iifname . ip saddr != @endpoints counter drop",
		// A pool may contain the nodes' own subnet, which the file's check only warns of.
		fmt.Sprintf("iifname %s ip saddr @nodes return", quote(f.underlay.Name)),
	}
	if len(bare) > 0 {
		f.elems(f.set(inetTable, "bare", "ipv4_addr", true), prefixes(merge(bare)))
		r.add("iifname %s ip saddr @bare return", quote(f.underlay.Name))
	}
	r.add("ip saddr @pools iifname != @inner counter drop")
	f.chain(inetTable, "spoof", "filter", "prerouting", prioRaw, r)
}

// router keeps the links that netd switched to forwarding from making the host a router: while ip_forward is 0, what comes
// in by one of them leaves by a link of netd or not at all.
func (f firewallBuilder) router() {
	if f.facts.Host.IPForward {
		return
	}
	var switched []string
	for _, l := range f.facts.Host.Links {
		key := object.Sysctl{Name: object.LinkSysctl("ipv4", "conf", l.Name, "forwarding")}.Key()
		if _, wanted := f.want.State[key]; wanted && !l.Forwarding {
			switched = append(switched, l.Name)
		}
	}
	if len(switched) == 0 {
		return
	}
	f.elems(f.set(inetTable, "switched", "ifname", false), quoted(switched))
	f.chain(inetTable, "forward", "filter", "forward", prioFilter, rules{"iifname @switched oifname != @inner counter drop"})
}

func (f firewallBuilder) vxlanGuards() {
	var wire, forward, output, mark rules
	for _, n := range f.c.Networks {
		if n.Mode != config.ModeVXLAN {
			continue
		}
		wire.add("udp dport %d @th,96,24 %d ip saddr != @nodes counter drop", n.Port, n.VNI)
		forward.add("iifname @veths udp dport %d counter drop", n.Port)
		forward.add("ip daddr @nodes udp dport %d counter drop", n.Port)
		output.add("udp dport %d @th,96,24 %d ip daddr @nodes meta skuid >= 0 meta mark & 0x%08x == 0 counter drop", n.Port, n.VNI, MarkBit)
		mark.add("oifname %s meta mark set meta mark | 0x%08x", quote(object.VXLANName(n.VNI)), MarkBit)
	}
	f.chain(inetTable, "vxlan-wire", "filter", "prerouting", prioRaw, wire)
	f.chain(inetTable, "vxlan-forward", "filter", "forward", prioFilter, forward)
	f.chain(inetTable, "vxlan-output", "filter", "output", prioFilter, output)
	f.chain(inetTable, "vxlan-mark", "filter", "postrouting", prioFilter, mark)
}

func (f firewallBuilder) bgpGuards() {
	peers := f.set(inetTable, "bgp-peers", "ipv4_addr", false)
	for _, n := range f.c.Nodes {
		if n.Name != f.self.Name && n.Address.IsValid() && f.c.BGP.Mesh {
			f.put(object.NftElem{Set: peers, Elem: n.Address.Addr().String()}, f.nodeCause(n))
		}
	}
	port := f.c.BGP.ListenPort
	f.chain(inetTable, "bgp-input", "filter", "input", prioFilter, rules{
		fmt.Sprintf("meta nfproto ipv6 tcp dport %d counter drop", port),
		fmt.Sprintf("tcp dport %d ip saddr != @bgp-peers counter drop", port),
	})
	f.chain(inetTable, "bgp-forward", "filter", "forward", prioFilter, rules{
		fmt.Sprintf("ip daddr @nodes tcp dport %d counter drop", port),
	})
}

// nat masquerades what leaves a pool for an address in no pool. Ports are random, since the sequential choice of the
// kernel lets one outside guess them. Where VXLAN is in use no UDP flow gets its port as source: the far end's guard and
// its device would take the answers.
func (f firewallBuilder) nat(pools []netip.Prefix, vxlans []string) {
	var r rules
	for _, n := range f.c.Networks {
		if !n.NATOutgoing || len(ipv4(n.Pools)) == 0 {
			continue
		}
		f.elems(f.set(inetTable, "nat-"+n.Name, "ipv4_addr", true), prefixes(merge(ipv4(n.Pools))))
		f.elems(f.set(inetTable, "exempt-"+n.Name, "ipv4_addr", true), prefixes(merge(append(ipv4(n.NATExempt), pools...))))
		match := fmt.Sprintf("ip saddr @nat-%s ip daddr != @exempt-%s oifname != @inner", n.Name, n.Name)
		if len(vxlans) > 0 {
			low, high := f.portsBesideVXLAN()
			r.add("%s meta l4proto udp masquerade to :%d-%d fully-random", match, low, high)
		}
		r.add("%s masquerade fully-random", match)
	}
	if len(r) > 0 {
		f.chain(inetTable, "nat", "nat", "postrouting", prioSrcNAT, r)
	}
}

// portsBesideVXLAN is the larger range of ports above 1023 without any VXLAN port in it.
func (f firewallBuilder) portsBesideVXLAN() (low, high uint16) {
	ports := []int{1023, 65536}
	for _, n := range f.c.Networks {
		if n.Mode == config.ModeVXLAN && n.Port > 1023 {
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
	veths := f.set(arpTable, "veths", "ifname", false)
	endpoints := f.set(arpTable, "endpoints", "ifname . ipv4_addr", false)
	for _, e := range f.facts.Endpoints {
		name := object.VethName(string(e.ID))
		f.put(object.NftElem{Set: veths, Elem: quote(name)}, f.workloadCause(e))
		f.put(object.NftElem{Set: endpoints, Elem: quote(name) + " . " + e.IPv4.String()}, f.workloadCause(e))
	}
	f.chain(arpTable, "spoof", "filter", "input", prioFilter, rules{"iifname @veths iifname . arp saddr ip != @endpoints counter drop"})
}

func (f firewallBuilder) chain(t object.NftTable, name, typ, hook string, priority int, r rules) {
	f.put(object.NftChain{Table: t, Name: name, Type: typ, Hook: hook, Priority: priority, Rules: strings.Join(r, "\n")}, f.why)
}

func (f firewallBuilder) set(t object.NftTable, name, typ string, interval bool) object.NftSet {
	s := object.NftSet{Table: t, Name: name, Type: typ, Interval: interval}
	f.put(s, f.why)
	return s
}

func (f firewallBuilder) elems(s object.NftSet, elems []string) {
	for _, e := range elems {
		f.put(object.NftElem{Set: s, Elem: e}, f.why)
	}
}

func quote(name string) string { return `"` + name + `"` }

func quoted(names []string) []string {
	out := make([]string, len(names))
	for i, n := range names {
		out[i] = quote(n)
	}
	return out
}

// prefixes spells prefixes as nft does: a single address without its length.
func prefixes(ps []netip.Prefix) []string {
	out := make([]string, len(ps))
	for i, p := range ps {
		out[i] = p.String()
		if p.IsSingleIP() {
			out[i] = p.Addr().String()
		}
	}
	return out
}

func ipv4(ps []netip.Prefix) []netip.Prefix {
	var out []netip.Prefix
	for _, p := range ps {
		if p.Addr().Is4() {
			out = append(out, p)
		}
	}
	return out
}

// merge returns the fewest prefixes that cover the same addresses, in order: an interval set takes no overlaps.
func merge(ps []netip.Prefix) []netip.Prefix {
	sorted := slices.Clone(ps)
	slices.SortFunc(sorted, func(a, b netip.Prefix) int {
		if c := a.Addr().Compare(b.Addr()); c != 0 {
			return c
		}
		return a.Bits() - b.Bits()
	})
	var out []netip.Prefix
	for _, p := range sorted {
		if n := len(out); n > 0 && out[n-1].Bits() <= p.Bits() && out[n-1].Contains(p.Addr()) {
			continue
		}
		out = append(out, p)
		for len(out) > 1 { // two halves of one prefix are that prefix
			a, b := out[len(out)-2], out[len(out)-1]
			if a.Bits() != b.Bits() || a.Bits() == 0 {
				break
			}
			whole := netip.PrefixFrom(a.Addr(), a.Bits()-1).Masked()
			if whole.Addr() != a.Addr() || !whole.Contains(b.Addr()) {
				break
			}
			out = append(out[:len(out)-2], whole)
		}
	}
	return out
}
