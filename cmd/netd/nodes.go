package main

import (
	"fmt"
	"io"
	"math/big"
	"net/netip"
	"slices"
	"strings"

	"netd/config"
	"netd/reconcile/desired"
	"netd/reconcile/store"
	"netd/reconcile/workload"
)

// nodeView is a node of the file.
type nodeView struct {
	Name     string         `json:"name"`
	Address  string         `json:"address"`
	Blocks   []netip.Prefix `json:"blocks"`
	ThisHost bool           `json:"this_host"`
}

func nodesOf(c *config.Config, self config.Node) []nodeView {
	out := make([]nodeView, 0, len(c.Nodes))
	for _, n := range c.Nodes {
		var addrs []string
		for _, a := range []netip.Prefix{n.Address, n.Address6} {
			if a.IsValid() {
				addrs = append(addrs, a.String())
			}
		}
		out = append(out, nodeView{n.Name, strings.Join(addrs, ", "), append([]netip.Prefix{}, n.Blocks...), n.Name == self.Name})
	}
	return out
}

// shown is how many nodes fit on the one screen of a status.
const shown = 10

// writeNodes prints this host and the first others.
func writeNodes(w io.Writer, nodes []nodeView) {
	if len(nodes) == 0 {
		return
	}
	fmt.Fprintf(w, "\nNodes: %d\n", len(nodes))
	var rows [][]string
	left := 0
	for _, n := range nodes {
		if !n.ThisHost && len(rows) >= shown-1 && len(nodes) > shown {
			left++
			continue
		}
		var blocks []string
		for _, b := range n.Blocks {
			blocks = append(blocks, b.String())
		}
		text, here := strings.Join(blocks, ", "), ""
		if text == "" {
			text = "no blocks"
		}
		if n.ThisHost {
			here = "this host"
		}
		rows = append(rows, []string{"  " + n.Name, n.Address, text, here})
	}
	table(w, rows)
	if left > 0 {
		fmt.Fprintf(w, "  and %d more (netd show blocks)\n", left)
	}
}

// blockView is a block of this host and how much of it is taken.
type blockView struct {
	Block     netip.Prefix `json:"block"`
	Size      string       `json:"size"`   // a decimal number, which may be larger than a program's
	Tunnel    bool         `json:"tunnel"` // its first address is a tunnel's
	Workloads int          `json:"workloads"`
}

// blocksOf counts the addresses of a node's attached workloads: those that the file declares and that are not pending, and
// those of runtimes.
func blocksOf(c *config.Config, node config.Node, pending []workload.Pending, attached []store.Endpoint) []blockView {
	out := make([]blockView, 0, len(node.Blocks))
	for _, b := range node.Blocks {
		v := blockView{Block: b, Size: new(big.Int).Lsh(big.NewInt(1), uint(b.Addr().BitLen()-b.Bits())).String()}
		if n, ok := c.NetworkOf(b); ok {
			tunnel, ok := c.Tunnel(node, n.Name, b.Addr().Is6())
			v.Tunnel = ok && tunnel == b.Addr()
		}
		for _, w := range c.Workloads {
			waits := slices.ContainsFunc(pending, func(p workload.Pending) bool { return p.ID == desired.WorkloadID(w) })
			if w.Node == node.Name && !waits && slices.ContainsFunc(w.Addresses, b.Contains) {
				v.Workloads++
			}
		}
		for _, e := range attached {
			for _, a := range e.Addrs() {
				if b.Contains(a) {
					v.Workloads++
				}
			}
		}
		out = append(out, v)
	}
	return out
}

func (b blockView) words() string {
	taken := b.Workloads
	var by []string
	if b.Tunnel {
		taken++
		by = append(by, "the tunnel's")
	}
	if b.Workloads > 0 {
		by = append(by, count(b.Workloads, "workload"))
	}
	size := b.Size
	if len(size) > 9 { // IPv6
		size = fmt.Sprintf("2^%d", b.Block.Addr().BitLen()-b.Block.Bits())
	}
	if taken == 0 {
		return "none of " + size + " taken"
	}
	return fmt.Sprintf("%d of %s taken: %s", taken, size, strings.Join(by, " and "))
}

// writePending names the workloads that wait for their container.
func writePending(w io.Writer, pending []workload.Pending) {
	if len(pending) == 0 {
		return
	}
	var parts []string
	for _, p := range pending {
		parts = append(parts, fmt.Sprintf("%s: %s", strings.TrimPrefix(string(p.ID), "file/"), p.Reason))
	}
	fmt.Fprintf(w, "Pending: %s (%s)\n", count(len(parts), "workload"), strings.Join(parts, "; "))
}
