package desired

import (
	"net/netip"
	"slices"

	"netd/config"
	"netd/reconcile/object"
)

// A network that comes to mode bgp from a tunnel, without `receive` in its file, leaves it as if `receive` named it: a block
// keeps its route through the tunnel, and the tunnel its device and guards, until a session gives the block. That may take
// until the other host's file says bgp too, and loses nothing. The device stays for a while longer (object.Host.Lately),
// since the other end may learn its way later.
//
// No other change of mode can be held so: only a session tells that the other end has changed.

// left is a tunnel that a network left and still needs.
type left struct {
	network string
	mode    config.Mode
}

// through is a block's route by a device.
type through struct {
	block netip.Prefix
	dev   string
}

// leaving returns the configuration with the tunnels that networks of mode bgp have left among those that they receive by,
// which these are, and what goes by them: the kernel has routes of netd to blocks of other nodes there.
func leaving(c *config.Config, self config.Node, h object.Host) (*config.Config, []left, map[through]bool) {
	if len(h.TunnelRoutes)+len(h.Lately) == 0 || !slices.ContainsFunc(c.Networks, func(n config.Network) bool { return n.Mode == config.ModeBGP }) {
		return c, nil, nil
	}
	stays := map[through]bool{}
	for _, r := range h.TunnelRoutes {
		stays[through{r.Prefix, r.Link}] = true
	}
	var all []left
	with := *c
	with.Networks = slices.Clone(c.Networks)
	for i := range with.Networks {
		n := &with.Networks[i]
		for _, m := range tunnelModes {
			if n.Mode != config.ModeBGP || n.Uses(m) {
				continue
			}
			dev := tunnelName(*n, m)
			if slices.Contains(h.Lately, dev) || slices.ContainsFunc(c.Nodes, func(other config.Node) bool {
				return other.Name != self.Name && slices.ContainsFunc(c.BlocksIn(other, n.Name), func(p netip.Prefix) bool { return stays[through{p, dev}] })
			}) {
				n.Receive = append(slices.Clip(n.Receive), m)
				all = append(all, left{n.Name, m})
			}
		}
	}
	return &with, all, stays
}

// late reports whether a tunnel that a network left was needed a moment ago.
func (b *builder) late() bool {
	return slices.ContainsFunc(b.left, func(l left) bool {
		n, _ := b.networkNamed(l.network)
		return slices.Contains(b.facts.Host.Lately, tunnelName(n, l.mode))
	})
}
