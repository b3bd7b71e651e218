package config

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// owned is a prefix of somebody, for finding overlaps.
type owned struct {
	prefix netip.Prefix
	owner  int
	side   int // overlaps are sought between sides, within a side, or both, as the caller says
}

// overlaps calls found for each prefix and the nearest one around it (or equal) of the side that it is compared with.
func overlaps(list []owned, between bool, found func(outer, inner owned)) {
	slices.SortStableFunc(list, func(a, b owned) int { return comparePrefix(a.prefix, b.prefix) })
	var around [2][]owned
	for _, o := range list {
		for side := range around {
			for s := around[side]; len(s) > 0 && !s[len(s)-1].prefix.Overlaps(o.prefix); s = around[side] {
				around[side] = s[:len(s)-1]
			}
		}
		against := o.side
		if between {
			against = 1 - o.side
		}
		if s := around[against]; len(s) > 0 {
			found(s[len(s)-1], o)
		}
		around[o.side] = append(around[o.side], o)
	}
}

func (p *parser) checkPools() {
	var list []owned
	for i, n := range p.config.Networks {
		for _, pool := range n.Pools {
			list = append(list, owned{pool, i, 0})
		}
	}
	overlaps(list, false, func(a, b owned) {
		x, y := p.config.Networks[a.owner], p.config.Networks[b.owner]
		if a.owner > b.owner {
			a, b, x, y = b, a, y, x
		}
		p.poolsUnsure = true // which of the two a block is in
		p.report.errorf(y.poolsRange, fmt.Sprintf("network %q: pools overlap", y.Name), "%s overlaps %s of network %q (%s). Every address belongs to one pool: make one of them smaller.",
			b.prefix, a.prefix, x.Name, where(x.poolsRange))
	})
}

func (p *parser) checkBlocks() {
	c := &p.config
	var list, mixed []owned
	for i, n := range c.Nodes {
		for _, b := range n.Blocks {
			list = append(list, owned{b, i, 0})
			if _, ok := c.NetworkOf(b); !ok && !p.poolsUnsure && !p.unsure {
				p.report.errorf(n.blocksRange, fmt.Sprintf("node %q: block outside every pool", n.Name), "%s lies in no network's pool%s. Correct the block, or add a pool that holds it.", b, c.poolNames())
			}
		}
	}
	overlaps(list, false, func(a, b owned) {
		x, y := c.Nodes[a.owner], c.Nodes[b.owner]
		if a.owner > b.owner {
			a, b, x, y = b, a, y, x
		}
		if a.owner == b.owner {
			p.report.errorf(y.blocksRange, fmt.Sprintf("node %q: blocks overlap", y.Name), "%s overlaps %s of the same node; keep one of them.", b.prefix, a.prefix)
			return
		}
		p.report.errorf(y.blocksRange, fmt.Sprintf("node %q: block overlaps one of node %q", y.Name, x.Name), "%s of node %q (%s) overlaps %s of node %q (%s). Each node needs blocks of its own.",
			b.prefix, y.Name, where(y.blocksRange), a.prefix, x.Name, where(x.blocksRange))
	})

	// The underlay: what is routed to containers cannot be where the hosts themselves are.
	subnets := map[netip.Prefix]int{}
	for i, n := range c.Nodes {
		for _, a := range []netip.Prefix{n.Address, n.Address6} {
			if a.IsValid() {
				if _, seen := subnets[a.Masked()]; !seen {
					subnets[a.Masked()] = i
				}
			}
		}
	}
	mixed = append(mixed, list...)
	for s, i := range subnets {
		mixed = append(mixed, owned{s, i, 1})
	}
	reported := map[int]bool{} // blocks of a node
	overlaps(mixed, true, func(a, b owned) {
		if a.side == 1 {
			a, b = b, a
		}
		n, host := c.Nodes[a.owner], c.Nodes[b.owner]
		if reported[a.owner] {
			return
		}
		reported[a.owner] = true
		p.report.errorf(n.blocksRange, fmt.Sprintf("node %q: block overlaps the underlay", n.Name), "%s overlaps %s, the subnet of node %q's address (%s): hosts would no longer be reached. Take another block.",
			a.prefix, b.prefix, host.Name, where(host.addressRange))
	})
	var pools []owned
	for i, n := range c.Networks {
		for _, pool := range n.Pools {
			pools = append(pools, owned{pool, i, 0})
		}
	}
	for s, i := range subnets {
		pools = append(pools, owned{s, i, 1})
	}
	warned := map[int]bool{}
	overlaps(pools, true, func(a, b owned) {
		if a.side == 1 {
			a, b = b, a
		}
		if n := c.Networks[a.owner]; !warned[a.owner] {
			warned[a.owner] = true
			p.report.warnf(n.poolsRange, fmt.Sprintf("network %q: pool overlaps the underlay", n.Name), "%s overlaps %s, the subnet of node %q's address: a block there would cut hosts off.", a.prefix, b.prefix, c.Nodes[b.owner].Name)
		}
	})
}

func (c *Config) poolNames() string {
	var out []string
	for _, n := range c.Networks {
		for _, pool := range n.Pools {
			if len(out) == 5 {
				return " (" + strings.Join(out, ", ") + ", …)"
			}
			out = append(out, pool.String())
		}
	}
	if len(out) == 0 {
		return ""
	}
	return " (" + strings.Join(out, ", ") + ")"
}

func comparePrefix(a, b netip.Prefix) int {
	return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
}
