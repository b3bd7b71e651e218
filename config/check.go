package config

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
)

// check finds what is wrong between blocks, all of it, and fills in what follows from the whole file.
func (p *parser) check() {
	c := &p.config
	c.index()
	if len(c.Networks) == 0 && !p.unsure {
		p.report.errorf(p.start(), "no network", "The file declares no network: add a network block, whose pools and mode say which addresses containers have and how packets travel.")
	}
	if len(c.Nodes) == 0 && !p.unsure {
		p.report.warnf(p.start(), "no node", "The file declares no node: no host will find itself in it.")
	}
	p.checkNames()
	p.checkPools()
	p.checkNodes()
	p.checkBlocks()
	if !p.unsure { // they compare what is given with what is not
		p.checkModes()
		p.checkBGP()
		p.checkPeers()
	}
	p.checkWorkloads()
}

func (p *parser) start() hcl.Range { return lineRange(p.source.Files[0].Name, 1) }

// index makes looking up nodes by name and networks by address cheap.
func (c *Config) index() {
	c.nodes = make(map[string]int, len(c.Nodes))
	for i, n := range c.Nodes {
		if _, twice := c.nodes[n.Name]; !twice {
			c.nodes[n.Name] = i
		}
	}
	for i, n := range c.Networks {
		for _, pool := range n.Pools {
			c.pools = append(c.pools, poolOf{pool, i})
		}
	}
	slices.SortFunc(c.pools, func(a, b poolOf) int { return comparePrefix(a.prefix, b.prefix) })
}

type poolOf struct {
	prefix  netip.Prefix
	network int
}

// where spells a position for a message about another one.
func where(r hcl.Range) string { return fmt.Sprintf("%s:%d", r.Filename, r.Start.Line) }

func (p *parser) checkNames() {
	unique := func(kind string) func(name string, rng hcl.Range) {
		first := map[string]hcl.Range{}
		return func(name string, rng hcl.Range) {
			if r, twice := first[name]; twice {
				p.report.errorf(rng, fmt.Sprintf("%s %q: declared twice", kind, name), "%s has it already; give one of them another name.", where(r))
				return
			}
			first[name] = rng
		}
	}
	network, node, peer, workload := unique("network"), unique("node"), unique("peer"), unique("workload")
	for _, n := range p.config.Networks {
		network(n.Name, n.rng)
	}
	for _, n := range p.config.Nodes {
		node(n.Name, n.rng)
	}
	for _, x := range p.config.Peers {
		peer(x.Name, x.rng)
	}
	for _, w := range p.config.Workloads {
		workload(w.Name, w.rng)
	}
}

func (p *parser) checkNodes() {
	first := map[netip.Addr]Node{}
	for _, n := range p.config.Nodes {
		for _, a := range []netip.Prefix{n.Address, n.Address6} {
			if !a.IsValid() {
				continue
			}
			if other, twice := first[a.Addr()]; twice {
				p.report.errorf(n.addressRange, fmt.Sprintf("node %q: address taken", n.Name), "%s is the address of node %q (%s) already; each host has its own.", a.Addr(), other.Name, where(other.addressRange))
				continue
			}
			first[a.Addr()] = n
		}
	}
}

func (p *parser) checkModes() {
	c := &p.config
	type segment struct {
		vni  uint32
		port uint16
	}
	taken, lowest := map[segment]Network{}, map[uint32]*Network{}
	var ipip *Network
	for i := range c.Networks {
		n := &c.Networks[i]
		title := fmt.Sprintf("network %q: ", n.Name)
		v6 := slices.ContainsFunc(n.Pools, func(q netip.Prefix) bool { return q.Addr().Is6() })
		if low, family := 68, "IPv4"; n.MTU != 0 {
			if v6 {
				low, family = 1280, "IPv6"
			}
			if n.MTU < low {
				p.report.errorf(n.mtuRange, title+"mtu too small", "%s needs at least %d bytes; %d is given.", family, low, n.MTU)
			}
		}
		if n.Uses(ModeIPIP) {
			if v6 {
				p.report.errorf(n.poolsRange, title+"ipip carries IPv4 only", "Take the IPv6 pool out, or put it in a network of mode \"vxlan\" or \"bgp\".")
			}
			if ipip != nil && ipip.MTU != n.MTU {
				p.report.errorf(n.mtuRange, title+"ipip networks share one mtu", "All ipip networks use tunl0; network %q (%s) has another mtu. Give both the same.", ipip.Name, where(ipip.rng))
			}
			if ipip == nil {
				ipip = n
			}
		}
		if n.Uses(ModeVXLAN) {
			if other, twice := taken[segment{n.VNI, n.Port}]; twice {
				rng := n.rng
				if n.vxlanRange.Filename != "" {
					rng = n.vxlanRange
				}
				p.report.errorf(rng, title+"vxlan (vni, port) taken", "Network %q (%s) has vni %d at port %d. Give this one a VNI of its own: vxlan { vni = %d }.", other.Name, where(other.rng), n.VNI, n.Port, n.VNI+1)
			}
			taken[segment{n.VNI, n.Port}] = *n
			switch l := lowest[n.VNI]; {
			case l == nil:
				lowest[n.VNI] = n
			case n.Port < l.Port:
				l.SecondPort, lowest[n.VNI] = true, n
			default:
				n.SecondPort = true
			}
		}
		p.checkFamily(n)
	}
	for _, n := range c.Nodes {
		for _, net := range c.Networks {
			if !net.Uses(ModeIPIP) && !net.Uses(ModeVXLAN) {
				continue
			}
			var had [2]bool
			for _, b := range c.BlocksIn(n, net.Name) {
				had[b.Addr().BitLen()/128] = true
			}
			for i, v6 := range []bool{false, true} {
				if _, ok := c.Tunnel(n, net.Name, v6); had[i] && !ok {
					p.report.errorf(n.blocksRange, fmt.Sprintf("node %q: no address for the tunnel", n.Name), "All its blocks in network %q hold a single address; mode %q needs a block of two or more, whose first address is the tunnel's.", net.Name, net.Mode)
				}
			}
		}
	}
}

// checkFamily finds the IP version that a network's packets travel in between nodes.
func (p *parser) checkFamily(n *Network) {
	c := &p.config
	var without4, without6 []Node
	for _, node := range c.Nodes {
		blocks := c.BlocksIn(node, n.Name)
		if len(blocks) == 0 || node.addressUnsure {
			continue
		}
		if !node.Address.IsValid() {
			without4 = append(without4, node)
		}
		if !node.Address6.IsValid() {
			without6 = append(without6, node)
		}
		if !n.Uses(ModeBGP) {
			continue
		}
		for _, b := range blocks {
			switch {
			case b.Addr().Is4() && !node.Address.IsValid():
				p.report.errorf(node.rng, fmt.Sprintf("node %q: no address", node.Name), "Its block %s in network %q (mode \"bgp\") needs an IPv4 next hop: give address.", b, n.Name)
			case b.Addr().Is6() && !node.Address6.IsValid():
				p.report.errorf(node.rng, fmt.Sprintf("node %q: no address6", node.Name), "Its block %s in network %q (mode \"bgp\") needs an IPv6 next hop: give address6.", b, n.Name)
			}
		}
	}
	switch {
	case n.Uses(ModeIPIP) && len(without4) > 0:
		p.report.errorf(n.rng, fmt.Sprintf("network %q: nodes without address", n.Name), "ipip runs over IPv4; give address to %s.", some(without4))
	case n.Uses(ModeVXLAN) && len(without4) > 0 && len(without6) > 0:
		p.report.errorf(n.rng, fmt.Sprintf("network %q: no family for all nodes", n.Name), "A vxlan network runs over IPv4 where all its nodes have address, else over IPv6 where all have address6. Without address: %s. Without address6: %s.",
			some(without4), some(without6))
	case n.Uses(ModeVXLAN) && len(without4) > 0:
		n.Family6 = true
	}
}

// some names nodes, not more than people read.
func some(nodes []Node) string {
	if len(nodes) > 5 {
		return names(nodes[:5]) + fmt.Sprintf(" and %d more", len(nodes)-5)
	}
	return names(nodes)
}

func (p *parser) checkWorkloads() {
	c := &p.config
	addrs := map[netip.Addr]Workload{}
	containers := map[string]Workload{}
	var networks []string
	for _, n := range c.Networks {
		networks = append(networks, n.Name)
	}
	for i := range c.Workloads {
		w := &c.Workloads[i]
		title := fmt.Sprintf("workload %q: ", w.Name)
		node, ok := c.Node(w.Node)
		if !ok && !p.unsure {
			p.report.errorf(w.nodeRange, title+"unknown node", "The file has no node %q.%s", w.Node, c.nearestNode(w.Node))
		}
		container := strings.Join([]string{w.Node, w.Docker, w.Containerd, w.Netns}, "\x00")
		if other, twice := containers[container]; twice && !p.unsure {
			p.report.errorf(w.rng, title+"container taken", "Workload %q (%s) names the same container; each has a network namespace of its own.", other.Name, where(other.rng))
		} else {
			containers[container] = *w
		}
		given := w.Network
		fits := given == ""
		for j, a := range w.Addresses {
			if other, twice := addrs[a]; twice {
				p.report.errorf(w.addressRange, title+"address taken", "%s is the address of workload %q (%s) already.", a, other.Name, where(other.addressRange))
			} else {
				addrs[a] = *w
			}
			if !ok {
				continue
			}
			single := netip.PrefixFrom(a, a.BitLen())
			if !slices.ContainsFunc(node.Blocks, func(b netip.Prefix) bool { return b.Contains(a) }) {
				if p.unsure || node.blocksUnsure {
					continue
				}
				p.report.errorf(w.addressRange, title+"address outside its node's blocks", "%s is in none of the blocks of node %q (%s).%s", a, node.Name, prefixList(node.Blocks), c.whose(a))
				continue
			}
			net, found := c.NetworkOf(single)
			if !found {
				continue // the block is outside every pool: said already
			}
			if j == 0 {
				w.Network = net.Name
			}
			fits = fits || net.Name == given
			if tunnel, ok := c.Tunnel(node, net.Name, a.Is6()); ok && tunnel == a && (net.Uses(ModeIPIP) || net.Uses(ModeVXLAN)) {
				p.report.errorf(w.addressRange, title+"the tunnel's address", "%s, the first of node %q's blocks in network %q, is the address of its tunnel device in mode %q. Take another.", a, node.Name, net.Name, net.Mode)
			}
		}
		switch {
		case p.unsure:
		case given != "" && !slices.Contains(networks, given):
			p.report.errorf(w.networkRange, title+"unknown network", "The file has no network %q.%s", given, didYouMean(given, networks))
		case !fits && ok && w.Network != given:
			p.report.errorf(w.networkRange, title+"another network", "Its address lies in a pool of network %q, not %q.", w.Network, given)
		}
	}
}

// whose says which node has the block that an address lies in.
func (c *Config) whose(a netip.Addr) string {
	for _, n := range c.Nodes {
		for _, b := range n.Blocks {
			if b.Contains(a) {
				return fmt.Sprintf(" It lies in %s of node %q.", b, n.Name)
			}
		}
	}
	return ""
}

func prefixList(list []netip.Prefix) string {
	if len(list) == 0 {
		return "none"
	}
	var out []string
	for _, b := range list {
		out = append(out, b.String())
	}
	return strings.Join(out, ", ")
}

// nearestNode proposes the node whose name is nearest, if one is near.
func (c *Config) nearestNode(name string) string {
	if len(c.Nodes) > 1000 {
		return ""
	}
	var all []string
	for _, n := range c.Nodes {
		all = append(all, n.Name)
	}
	return didYouMean(name, all)
}

// didYouMean proposes the nearest of some names, if one is near.
func didYouMean(name string, of []string) string {
	if len(of) > 1000 {
		return ""
	}
	best, distance := "", 3
	for _, n := range of {
		if d := edits(name, n); d < distance {
			best, distance = n, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf(" Did you mean %q?", best)
}

// edits is the Levenshtein distance.
func edits(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
