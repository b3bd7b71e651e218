package main

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"
)

// nodesFile is a file of n nodes in mode vxlan, a /26 each; the first is baihl-master's.
func nodesFile(n int) []byte {
	var f bytes.Buffer
	f.WriteString("network \"lab\" {\n  pools = [\"10.0.0.0/8\"]\n  mode  = \"vxlan\"\n}\n")
	for i := range n {
		addr, block := nodeOf(i)
		fmt.Fprintf(&f, "node \"web-%05d\" {\n  address = \"%s/16\"\n  blocks  = [\"%s\"]\n}\n", i, addr, block)
	}
	return f.Bytes()
}

func nodeOf(i int) (netip.Addr, netip.Prefix) {
	return netip.AddrFrom4([4]byte{192, 168, byte((i + 137) >> 8), byte(i + 137)}), netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 10), byte(i >> 2), byte(i << 6)}), 26)
}

// TestTenThousandNodes has a file of 10,000 nodes validated, planned for another node from here, and applied on one: every
// node has its route, neighbour and FDB entry, a second plan is empty, and a file with one node less takes away that node's
// objects and no other.
func TestTenThousandNodes(t *testing.T) {
	const n = 10_000
	l := newLab(t, "vxlan")
	h := l.hosts[0]
	h.Run(t, "ip addr del 192.168.170.137/24 dev ens33")
	h.Run(t, "ip addr add 192.168.0.137/16 dev ens33")
	write := func(nodes int) {
		t.Helper()
		if err := os.WriteFile(l.file, nodesFile(nodes), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write(n)
	h.must(0, "validate", l.file)
	// A next hop object, a neighbour, an FDB entry and a route for each of the others.
	if plan := h.must(0, "plan", "--offline", "--node", "web-09999"); strings.Count(plan, "\n  + route ") != n || strings.Count(plan, "\n  + fdb ") != n-1 {
		t.Errorf("the offline plan has %d routes and %d FDB entries, want %d and %d", strings.Count(plan, "\n  + route "), strings.Count(plan, "\n  + fdb "), n, n-1)
	}
	h.must(0, "apply", "-y")
	t.Cleanup(func() { h.must(0, "destroy", "-y") })
	if out := h.must(0, "plan", "--detailed-exitcode"); !strings.Contains(out, "No changes.") {
		t.Errorf("the second plan:\n%.2000s", out)
	}
	// The kernel's own text against the file, node by node.
	routes, neighs, fdb := h.Run(t, "ip route show proto 142"), h.Run(t, "ip neigh show dev vxlan.netd nud permanent"), h.Run(t, "bridge fdb show dev vxlan.netd")
	prefixes, gateways, ends := words(routes), words(neighs), words(fdb)
	for i := 1; i < n; i++ {
		if addr, block := nodeOf(i); !prefixes[block.String()] || !gateways[block.Addr().String()] || !ends[addr.String()] {
			t.Fatalf("node %d: route to %s %v, neighbour %s %v, FDB entry to %s %v", i, block, prefixes[block.String()],
				block.Addr(), gateways[block.Addr().String()], addr, ends[addr.String()])
		}
	}
	if r, g, e := strings.Count(routes, "\n"), strings.Count(neighs, "\n"), strings.Count(fdb, "\n"); r != n || g != n-1 || e != n-1 {
		t.Errorf("%d routes, %d neighbours, %d FDB entries; want %d, %d, %d", r, g, e, n, n-1, n-1)
	}
	write(n - 1)
	// Its route, neighbour, FDB entry and next hop, and its place in the guards' two sets of nodes.
	plan := h.must(exitChanges, "plan", "--detailed-exitcode")
	if !strings.Contains(plan, "Plan: 0 to add, 0 to change, 6 to destroy.") {
		t.Errorf("the plan with a node less:\n%.2000s", plan)
	}
	h.must(0, "apply", "-y")
	_, last := nodeOf(n - 1)
	if out := h.Run(t, "ip route show "+last.String()); out != "" {
		t.Errorf("the route of the node that is gone: %s", out)
	}
	if got := strings.Count(h.Run(t, "ip route show proto 142"), "\n"); got != n-1 {
		t.Errorf("%d routes are left, want %d", got, n-1)
	}
}

// words is the set of a text's words.
func words(text string) map[string]bool {
	set := map[string]bool{}
	for w := range strings.FieldsSeq(text) {
		set[w] = true
	}
	return set
}
