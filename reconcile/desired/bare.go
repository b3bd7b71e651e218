package desired

import (
	"net/netip"
	"slices"

	"netd/config"
	"netd/reconcile"
	"netd/reconcile/object"
)

// bareBlocks are the blocks of a family whose packets come in by the underlay link without a tunnel.
func (b *builder) bareBlocks(family family) []netip.Prefix {
	var out []netip.Prefix
	for _, n := range b.c.Networks {
		for _, r := range b.remotes(n.Name) {
			if n.Uses(config.ModeBGP) || !b.crosses(n, family, *r.node) {
				out = append(out, family.of(r.blocks)...)
			}
		}
	}
	return out
}

// bareToNode are the blocks of a family whose containers speak to this node's own address bare and with their own source,
// although a tunnel leads from node to node: no tunnel leads to that address. They are those of a network that
//
//   - this node has no blocks of: it speaks to containers from its address, and that is where the answers go;
//   - does not masquerade what its containers send to this address.
func (b *builder) bareToNode(family family) []netip.Prefix {
	own := family.address(b.self)
	if !own.IsValid() {
		return nil
	}
	var out []netip.Prefix
	for _, n := range b.c.Networks {
		masquerades := n.NATOutgoing
		if family.v6 {
			masquerades = n.NATOutgoing6
		}
		exempt := slices.ContainsFunc(n.NATExempt, func(p netip.Prefix) bool { return p.Contains(own.Addr()) })
		if masquerades && !exempt && !b.blockless(n, family) {
			continue
		}
		for _, r := range b.remotes(n.Name) {
			if !n.Uses(config.ModeBGP) && b.crosses(n, family, *r.node) {
				out = append(out, family.of(r.blocks)...)
			}
		}
	}
	return out
}

// blockless reports whether this node has no blocks of a family in a network.
func (b *builder) blockless(n config.Network, family family) bool {
	return len(family.of(b.c.BlocksIn(b.self, n.Name))) == 0
}

// looseUnderlay has the underlay link take what the way back of leads through a tunnel.
func (b *builder) looseUnderlay(why reconcile.Cause) {
	if link := b.underlay(ipv4).Name; link != "" {
		b.put(object.Sysctl{Name: object.LinkSysctl("ipv4", "conf", link, "rp_filter"), Value: "2"}, why)
	}
}
