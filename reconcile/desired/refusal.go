package desired

import (
	"fmt"
	"net/netip"
	"slices"

	"netd/config"
)

// Admission says, for people, why paths that neighbours tell a node are not taken. What is taken is decided by the
// speaker's policies and, once more, where routes are computed.
type Admission struct {
	c      *config.Config
	self   config.Node
	blocks []blockOf // of all nodes, in order; none overlaps another
}

type blockOf struct {
	prefix netip.Prefix
	node   int
}

// NewAdmission is that of one node of a configuration.
func NewAdmission(c *config.Config, self config.Node) *Admission {
	a := &Admission{c: c, self: self}
	for i, n := range c.Nodes {
		for _, b := range n.Blocks {
			a.blocks = append(a.blocks, blockOf{b, i})
		}
	}
	slices.SortFunc(a.blocks, func(x, y blockOf) int { return x.prefix.Compare(y.prefix) })
	return a
}

// overlapping is a block that p overlaps: one that holds it, or else the first that lies in it.
func (a *Admission) overlapping(p netip.Prefix) (blockOf, bool) {
	i, found := slices.BinarySearchFunc(a.blocks, p, func(b blockOf, p netip.Prefix) int { return b.prefix.Compare(p) })
	if !found && i > 0 && a.blocks[i-1].prefix.Overlaps(p) {
		return a.blocks[i-1], true
	}
	if i < len(a.blocks) && a.blocks[i].prefix.Overlaps(p) {
		return a.blocks[i], true
	}
	return blockOf{}, false
}

// Refusal is the reason; empty where the file has nothing against the path.
func (a *Admission) Refusal(from netip.Addr, p netip.Prefix, nextHop netip.Addr, path []uint32) string {
	c, self := a.c, a.self
	sender, isNode := nodeAt(c, from)
	outside := slices.IndexFunc(c.Peers, func(x config.Peer) bool { return x.Address == from })
	switch {
	case p.Bits() == 0 && (outside < 0 || !c.Peers[outside].DefaultRoute):
		return "a default route"
	case slices.Contains(path, self.ASN):
		return fmt.Sprintf("a loop: this node's AS %d is in its path", self.ASN)
	case p.Bits() == 0:
		return ""
	}
	for _, b := range self.Blocks {
		switch {
		case b == p:
			return "it is this node's own block"
		case b.Overlaps(p):
			return fmt.Sprintf("it overlaps this node's own block %s", b)
		}
	}
	if b, ok := a.overlapping(p); ok {
		if why := refusedBlock(c, c.Nodes[b.node], b.prefix, p, nextHop, sender, isNode); why != "" || b.prefix == p {
			return why
		}
	}
	if isNode {
		return fmt.Sprintf("no node has it: of node %s its blocks in networks of mode bgp are taken", sender.Name)
	}
	if outside >= 0 {
		x := c.Peers[outside]
		if !slices.ContainsFunc(x.Import, func(r config.PrefixRange) bool {
			return r.Prefix.Bits() <= p.Bits() && r.Prefix.Contains(p.Addr()) && r.Min <= p.Bits() && p.Bits() <= r.Max
		}) {
			return fmt.Sprintf("import of peer %s does not list it", x.Name)
		}
	}
	return ""
}

// refusedBlock is about a prefix that overlaps the block b of node n.
func refusedBlock(c *config.Config, n config.Node, b, p netip.Prefix, nextHop netip.Addr, sender config.Node, isNode bool) string {
	switch net, _ := c.NetworkOf(b); {
	case p.Bits() > b.Bits():
		return fmt.Sprintf("more specific than %s, the block of node %s", b, n.Name)
	case p.Bits() < b.Bits():
		return fmt.Sprintf("it covers %s, the block of node %s", b, n.Name)
	case net.Mode != config.ModeBGP:
		return fmt.Sprintf("the block of node %s is in network %s, of mode %s: the file gives its route", n.Name, net.Name, net.Mode)
	case isNode && !sender.RouteReflector.IsValid() && sender.Name != n.Name:
		return fmt.Sprintf("it is the block of node %s, and node %s is no reflector", n.Name, sender.Name)
	case isNode && nextHop != n.Address.Addr() && nextHop != n.Address6.Addr():
		return fmt.Sprintf("it is the block of node %s, and the next hop %s is not that node's address", n.Name, nextHop)
	}
	return ""
}

// nodeAt is the node with an address.
func nodeAt(c *config.Config, a netip.Addr) (config.Node, bool) {
	i := slices.IndexFunc(c.Nodes, func(n config.Node) bool { return a.IsValid() && (n.Address.Addr() == a || n.Address6.Addr() == a) })
	if i < 0 {
		return config.Node{}, false
	}
	return c.Nodes[i], true
}

// NeighbourName is what the file calls the neighbour with an address: a node's name or a peer's.
func NeighbourName(c *config.Config, a netip.Addr) string {
	if n, ok := nodeAt(c, a); ok {
		return n.Name
	}
	for _, p := range c.Peers {
		if p.Address == a {
			return p.Name
		}
	}
	return ""
}
