package desired

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"

	"netd/config"
	"netd/reconcile/object"
)

// What may be learned, from whom, and why not. It is decided here once, in two forms: as the lists that the speaker filters
// by (object.Peer), and as refuse, which each path meets again before it becomes a route, since a hostile neighbour may own
// the speaker. A test holds the two against each other.
//
//	from a node    its own blocks in networks of mode bgp, by way of its own address
//	a reflector    those of every node, each by way of that node's address
//	from a router  what its import list has, and of that nothing which is this node's own, comes from the file (ipip, vxlan),
//	               or takes packets away from others: default routes, what covers a pool, more specifics of a node's block,
//	               special-purpose addresses, this node's own subnet. Some of these can be had by listing them
type admission struct {
	b       *builder
	owner   map[netip.Prefix]*config.Node // blocks of all nodes, of all networks
	here    map[netip.Addr]bool           // addresses of this host
	nodes   map[netip.Addr]*config.Node   // addresses of the nodes
	from    map[netip.Addr]*inbound       // by neighbour
	pools   []netip.Prefix
	subnets []netip.Prefix // this node's own
	each    bool           // each workload is announced, besides the blocks or instead of them
}

// inbound is what may be learned from one neighbour.
type inbound struct {
	neighbour
	ibgp   bool
	ranges []object.PrefixRange // import
}

// special are addresses that no router of a site announces (RFC 6890, RFC 7454 §6.1.1). Private ones are what sites are
// made of and not among them.
var special = prefixesOf("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "192.0.0.0/24", "192.0.2.0/24", "198.18.0.0/15", "198.51.100.0/24",
	"203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
	"::/8", "100::/64", "2001:2::/48", "2001:10::/28", "2001:db8::/32", "fe80::/10", "fec0::/10", "ff00::/8")

func prefixesOf(list ...string) []netip.Prefix {
	out := make([]netip.Prefix, len(list))
	for i, s := range list {
		out[i] = netip.MustParsePrefix(s)
	}
	return out
}

func newAdmission(b *builder) *admission {
	a := &admission{b: b, owner: map[netip.Prefix]*config.Node{}, here: map[netip.Addr]bool{}, nodes: map[netip.Addr]*config.Node{},
		from: map[netip.Addr]*inbound{}, each: slices.Contains(b.c.BGP.Advertise, "workloads")}
	for i := range b.c.Nodes {
		n := &b.c.Nodes[i]
		for _, block := range n.Blocks {
			a.owner[block] = n
		}
		for _, f := range families {
			if x := f.address(*n); x.IsValid() {
				a.nodes[x.Addr()] = n
				if n.Name == b.self.Name {
					a.here[x.Addr()] = true
				}
			}
		}
	}
	for _, l := range b.facts.Host.Links {
		for _, p := range l.Addrs {
			a.here[p.Addr()] = true
		}
	}
	for _, n := range b.c.Networks {
		a.pools = append(a.pools, n.Pools...)
	}
	for _, f := range families {
		if p := f.address(b.self); p.IsValid() {
			a.subnets = append(a.subnets, p.Masked())
		}
	}
	for _, n := range b.neighbours {
		in := &inbound{neighbour: n, ibgp: n.asn == b.self.ASN}
		if n.peer != nil {
			in.ranges = a.imports(n.peer, in.ibgp)
		}
		a.from[n.addr] = in
	}
	return a
}

// firstAS is the AS that a path begins with which comes from another AS: the neighbour's own (RFC 4271 §6.3).
func (in *inbound) firstAS() uint32 {
	if in.ibgp {
		return 0
	}
	return in.asn
}

// localPref is the preference that what it tells is given: the file's where that is not negative, within an AS the one that it has,
// and the usual one of what comes from another AS. That may have none of its own (RFC 4271 §5.1.5), and gobgp goes by it.
func (in *inbound) localPref(file int) string {
	switch {
	case file >= 0:
		return strconv.Itoa(file)
	case in.ibgp:
		return ""
	}
	return "100"
}

// imports is what a router's import list means: nothing where it is not written (RFC 8212), within one AS the blocks of the
// networks that are routed by BGP.
func (a *admission) imports(p *config.Peer, ibgp bool) []object.PrefixRange {
	var out []object.PrefixRange
	for _, r := range p.Import {
		out = append(out, object.PrefixRange(r))
	}
	if !p.ImportSet && ibgp {
		for i := range a.b.c.Nodes {
			if n := &a.b.c.Nodes[i]; n.Name != a.b.self.Name {
				out = append(out, a.told(n)...)
			}
		}
	}
	if p.DefaultRoute {
		out = append(out, object.Exactly(netip.PrefixFrom(netip.IPv4Unspecified(), 0)), object.Exactly(netip.PrefixFrom(netip.IPv6Unspecified(), 0)))
	}
	return out
}

// tells is what a node may tell: what is its own, and where it reflects what is the others' too, but for this node's.
func (a *admission) tells(n *config.Node) []object.PrefixRange {
	if !n.RouteReflector.IsValid() {
		return a.told(n)
	}
	var out []object.PrefixRange
	for i := range a.b.c.Nodes {
		if x := &a.b.c.Nodes[i]; x.Name != a.b.self.Name {
			out = append(out, a.told(x)...)
		}
	}
	return out
}

// told is what a node tells of its own: blocks, each workload's address, or both, in networks that use bgp.
func (a *admission) told(n *config.Node) []object.PrefixRange {
	var out []object.PrefixRange
	for _, block := range a.b.bgpBlocks(*n) {
		if a.blocks() {
			out = append(out, object.Exactly(block))
		}
		if a.each {
			out = append(out, object.PrefixRange{Prefix: block, Min: block.Addr().BitLen(), Max: block.Addr().BitLen()})
		}
	}
	return out
}

func (a *admission) blocks() bool { return slices.Contains(a.b.c.BGP.Advertise, "blocks") }

// named reports whether a router's import list names a prefix itself.
func (in *inbound) named(p netip.Prefix) bool { return slices.Contains(in.ranges, object.Exactly(p)) }

// within reports whether some entry of a router's import list is about a part of a prefix: whoever wrote it meant that.
func (in *inbound) within(p netip.Prefix) bool {
	return slices.ContainsFunc(in.ranges, func(r object.PrefixRange) bool { return p.Bits() <= r.Prefix.Bits() && p.Contains(r.Prefix.Addr()) })
}

// except lists what is refused of a router's import list although an entry has it.
func (a *admission) except(in *inbound) []object.PrefixRange {
	var out []object.PrefixRange
	add := func(r object.PrefixRange) {
		if r.Min <= r.Max && slices.ContainsFunc(in.ranges, r.Meets) {
			out = append(out, r)
		}
	}
	covering := func(p netip.Prefix) {
		for bits := 0; bits <= p.Bits(); bits++ {
			cover := netip.PrefixFrom(p.Addr(), bits).Masked()
			if !in.named(cover) && a.owner[cover] == nil {
				add(object.Exactly(cover))
			}
		}
	}
	covering(netip.PrefixFrom(netip.IPv4Unspecified(), 0))
	covering(netip.PrefixFrom(netip.IPv6Unspecified(), 0))
	for _, n := range a.b.c.Networks {
		for _, pool := range n.Pools {
			covering(pool)
			if !n.Uses(config.ModeBGP) {
				add(object.Within(pool))
			}
		}
	}
	for block, n := range a.owner {
		if n.Name == a.b.self.Name {
			add(object.Within(block))
			continue
		}
		inside := object.Within(block)
		inside.Min++
		if a.each {
			inside.Max-- // single addresses are announced each
		}
		add(inside)
	}
	for _, p := range slices.Concat(a.subnets, special) {
		if !in.within(p) {
			add(object.Within(p))
		}
	}
	return out
}

// refuse says why a path is not taken. Empty: it is taken. whose is the node whose block it is about, if any.
func (a *admission) refuse(p object.BestPath) (why string, whose *config.Node) {
	in := a.from[p.Peer]
	if in == nil {
		return "it comes from no neighbour of the file", nil
	}
	if why, whose = a.refusePrefix(in, p.Prefix); why == "" {
		why = a.refuseHop(in, p.Prefix, p.NextHop, whose)
	}
	if first := in.firstAS(); why == "" && first != 0 && p.FirstAS != first {
		why = fmt.Sprintf("its path does not begin with AS %d, the neighbour's own (RFC 4271 §6.3)", first)
	}
	return why, whose
}

// ownerOf finds the node in whose block a prefix lies.
func (a *admission) ownerOf(p netip.Prefix) (*config.Node, netip.Prefix) {
	for bits := p.Bits(); bits >= 0; bits-- {
		block := netip.PrefixFrom(p.Addr(), bits).Masked()
		if n := a.owner[block]; n != nil {
			return n, block
		}
	}
	return nil, netip.Prefix{}
}

func (a *admission) refusePrefix(in *inbound, prefix netip.Prefix) (why string, whose *config.Node) {
	net, pooled := a.b.c.NetworkOf(prefix)
	var block netip.Prefix
	if pooled {
		whose, block = a.ownerOf(prefix)
	}
	switch {
	case in.peer != nil && !object.MatchAny(in.ranges, prefix):
		if prefix.Bits() == 0 {
			return "a default route, and default_route is off", nil
		}
		if len(in.ranges) == 0 {
			return "it may tell nothing: import is not written", nil
		}
		if !in.peer.ImportSet && in.ibgp {
			return "import is not written, and it is no block of a node in a network of mode bgp", nil
		}
		return "its import list does not have it", nil
	case pooled && !net.Uses(config.ModeBGP):
		return fmt.Sprintf("it lies in network %s of mode %s, whose routes come from the file", net.Name, net.Mode), nil
	case whose != nil && whose.Name == a.b.self.Name:
		return fmt.Sprintf("it lies in %s, a block of this node", block), nil
	case whose != nil && block != prefix && !(a.each && prefix.IsSingleIP()):
		return fmt.Sprintf("it is more specific than %s, a block of node %s", block, whose.Name), nil
	case in.node != nil && whose == nil:
		return "it is no block of that node", nil
	case in.node != nil && whose.Name != in.node.Name && !in.node.RouteReflector.IsValid():
		return fmt.Sprintf("it is of node %s, and node %s is no reflector", whose.Name, in.node.Name), nil
	case in.node != nil && block == prefix && !a.blocks() && !prefix.IsSingleIP():
		return "blocks are not announced", nil
	case in.node != nil, whose != nil:
		return "", whose
	}
	if prefix.Bits() == 0 && !in.named(prefix) {
		return "a default route, and default_route is off", nil
	}
	for _, pool := range a.pools {
		if prefix.Bits() <= pool.Bits() && prefix.Contains(pool.Addr()) && !in.named(prefix) {
			return fmt.Sprintf("it covers the pool %s, and the import list does not name it itself", pool), nil
		}
	}
	for _, p := range a.subnets {
		if p.Bits() <= prefix.Bits() && p.Contains(prefix.Addr()) && !in.within(p) {
			return fmt.Sprintf("it lies in %s, the subnet of this node", p), nil
		}
	}
	for _, p := range special {
		if p.Bits() <= prefix.Bits() && p.Contains(prefix.Addr()) && !in.within(p) {
			return fmt.Sprintf("it lies in %s, which is special (RFC 6890)", p), nil
		}
	}
	return "", nil
}

// refuseHop says why a next hop is not taken for a prefix, which lies in a block of whose, if that is a node.
//
// An UPDATE may well give an IPv4 prefix an IPv6 next hop (RFC 8950) or, mapped, the other way round, on a session of either
// family. Routes here have gateways of their own family, and the kernel would refuse such a one at every pass.
func (a *admission) refuseHop(in *inbound, prefix netip.Prefix, hop netip.Addr, whose *config.Node) string {
	third := a.nodes[hop]
	switch {
	case !hop.IsValid() || hop.IsUnspecified() || hop.IsLoopback() || hop.IsMulticast() || hop.Is4In6():
		return fmt.Sprintf("its next hop %s is no host", hop)
	case hop.Is6() != prefix.Addr().Is6():
		return fmt.Sprintf("its next hop %s is of another family", hop)
	case a.here[hop]:
		return fmt.Sprintf("its next hop %s is this host", hop)
	case hop.IsLinkLocalUnicast() && hop.Is6():
		if in.addr.WithZone("") != hop {
			return fmt.Sprintf("its next hop %s is another host on the link", hop)
		}
	case third != nil && whose != nil && third.Name == whose.Name: // its own node, whoever tells it
	case in.node != nil && whose != nil:
		return fmt.Sprintf("its next hop %s is not node %s", hop, whose.Name)
	case in.node != nil:
		return fmt.Sprintf("its next hop %s is not node %s", hop, in.node.Name)
	case third != nil:
		return fmt.Sprintf("its next hop %s is node %s, which it does not lead to", hop, third.Name)
	case !in.ibgp && hop.Is6() == in.addr.Is6() && !in.addr.IsLinkLocalUnicast() && hop != in.addr:
		return fmt.Sprintf("its next hop %s is another host (RFC 7454 §10)", hop)
	case in.ibgp && whose != nil && hop != in.addr && hop.Is6() == in.addr.Is6():
		return fmt.Sprintf("its next hop %s is neither node %s nor the peer", hop, whose.Name)
	}
	return ""
}

// nextHops are the next hops that the speaker takes from a neighbour. Where several nodes may be meant it leaves them to
// refuse, which knows whose each prefix is.
func (a *admission) nextHops(in *inbound) []netip.Addr {
	switch {
	case in.node != nil:
		var out []netip.Addr
		for _, n := range a.b.c.Nodes {
			if n.Name != in.node.Name && (!in.node.RouteReflector.IsValid() || n.Name == a.b.self.Name) {
				continue
			}
			for _, f := range families {
				if x := f.address(n); x.IsValid() && f.v6 == in.addr.Is6() {
					out = append(out, x.Addr())
				}
			}
		}
		return out
	case in.ibgp, in.addr.IsLinkLocalUnicast():
		return nil
	}
	for block, n := range a.owner {
		if n.Name != a.b.self.Name && slices.ContainsFunc(in.ranges, object.Exactly(block).Meets) {
			return nil
		}
	}
	return []netip.Addr{in.addr}
}

// Verdict is why a path is refused.
type Verdict struct {
	Why      string // in words; "": it is taken
	Unlisted bool   // a router's import list does not have it, which is what such lists are for
}

// Judge returns the judge of what neighbours tell a node.
func Judge(c *config.Config, self config.Node, facts Facts) func(object.BestPath) Verdict {
	b := newBuilder(c, self, facts)
	_ = b.findUnderlays() // without them a link-local neighbour is not told from another, and nothing else is lost
	b.neighbours = b.findNeighbours()
	a := newAdmission(b)
	return func(p object.BestPath) Verdict {
		why, _ := a.refuse(p)
		if why == "" {
			return Verdict{}
		}
		in := a.from[p.Peer]
		return Verdict{why, in != nil && in.peer != nil && !object.MatchAny(in.ranges, p.Prefix)}
	}
}
