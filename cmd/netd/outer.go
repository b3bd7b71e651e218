package main

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	"netd/config"
)

// outerSources says where the kernel would send ipip packets from another address than the node's: tunl0 has none of its own,
// and the other nodes' guards take only the file's.
func (h *host) outerSources(ctx context.Context, c *config.Config, node config.Node) ([]string, error) {
	if !slices.ContainsFunc(c.Networks, func(n config.Network) bool { return n.Mode == config.ModeIPIP }) {
		return nil, nil
	}
	var nodes []config.Node
	var remotes []netip.Addr
	for _, n := range c.Nodes {
		if n.Name != node.Name && n.Address.IsValid() {
			nodes, remotes = append(nodes, n), append(remotes, n.Address.Addr())
		}
	}
	sources, err := h.kernel.OuterSources(ctx, remotes)
	if err != nil {
		return nil, err
	}
	var notes []string
	for i, source := range sources {
		if source.IsValid() && source != node.Address.Addr() {
			notes = append(notes, fmt.Sprintf("ipip: to node %s this host would send from %s, which that node drops; have its route to %s say src %s",
				nodes[i].Name, source, remotes[i], node.Address.Addr()))
		}
	}
	if n := len(notes); n > 5 {
		notes = append(notes[:5], fmt.Sprintf("ipip: to %d nodes more from another address than %s", n-5, node.Address.Addr()))
	}
	return notes, nil
}
