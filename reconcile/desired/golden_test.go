package desired_test

import (
	"bytes"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"netd/config"
	"netd/reconcile"
	"netd/reconcile/desired"
	"netd/reconcile/object"
)

var update = flag.Bool("update", false, "write testdata anew")

// TestWholeHosts holds the whole desired state of every host of a file against text that was checked by hand: the
// walk-through in each mode, with two nodes and with three, both families over either, and two subnets. What changes a line
// there changes a packet somewhere; read the difference before -update is trusted.
func TestWholeHosts(t *testing.T) {
	for _, mode := range []config.Mode{config.ModeIPIP, config.ModeVXLAN, config.ModeBGP} {
		for _, nodes := range []int{2, 3} {
			wholeHosts(t, fmt.Sprintf("testdata/%d-nodes.hcl", nodes), mode, fmt.Sprintf("%s-%d", mode, nodes))
		}
	}
	for _, mode := range []config.Mode{config.ModeVXLAN, config.ModeBGP} {
		wholeHosts(t, "testdata/dual-stack.hcl", mode, string(mode)+"-dual")
	}
	wholeHosts(t, "testdata/ipv6-only.hcl", config.ModeVXLAN, "vxlan-ipv6")
	for _, mode := range []config.Mode{config.ModeIPIP, config.ModeVXLAN} {
		wholeHosts(t, "testdata/cross-subnet.hcl", mode, string(mode)+"-cross-subnet")
	}
}

func wholeHosts(t *testing.T, file string, mode config.Mode, name string) {
	t.Run(name, func(t *testing.T) {
		c := parse(t, file, mode)
		var b strings.Builder
		for i, n := range c.Nodes {
			if i > 0 {
				b.WriteByte('\n')
			}
			fmt.Fprintf(&b, "host %s\n", n.Name)
			r, err := desired.Compile(c, n, facts(c, n))
			if err != nil {
				t.Fatal(err)
			}
			writeState(&b, r.Want)
			for _, note := range r.Notes {
				fmt.Fprintf(&b, "note: %s\n", note)
			}
		}
		golden(t, "testdata/"+name+".txt", b.String())
	})
}

// parse reads a file of testdata with its mode set.
func parse(t testing.TB, file string, mode config.Mode) *config.Config {
	t.Helper()
	source, err := config.Read(file, map[string]string{"mode": string(mode)})
	if err != nil {
		t.Fatal(err)
	}
	c, ds := source.Parse()
	if ds.HasErrors() {
		t.Fatal(ds)
	}
	return c
}

// facts are those of a fresh host that has the node's address on ens33 and a default route there, on which all its workloads
// run and, in mode bgp, a speaker knows what every other node announces.
func facts(c *config.Config, n config.Node) desired.Facts {
	f := desired.Facts{Sessions: true, Host: object.Host{
		Name: n.Name, IPv6: true, DefaultLinks: []string{"ens33"},
		Links: []object.HostLink{
			{Name: "lo", Index: 1, MTU: 65536, Up: true, Loopback: true, Addrs: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/8")}},
			{Name: "ens33", Index: 2, MTU: 1500, Up: true, Addrs: []netip.Prefix{n.Address, n.Address6}, AcceptRA: 1},
		},
	}}
	for _, w := range c.Workloads {
		if w.Node == n.Name {
			f.Endpoints = append(f.Endpoints, desired.EndpointOf(w))
		}
	}
	f.Speaker.Known = true
	for _, other := range c.Nodes {
		if other.Name == n.Name {
			continue
		}
		for _, from := range []netip.Prefix{other.Address, other.Address6} {
			if !from.IsValid() {
				continue
			}
			f.Speaker.Peers = append(f.Speaker.Peers, object.SpeakerPeer{Addr: from.Addr(), Synced: true})
			for _, network := range c.Networks {
				for _, block := range c.BlocksIn(other, network.Name) {
					if block.Addr().Is6() == from.Addr().Is6() {
						f.Speaker.Paths = append(f.Speaker.Paths, object.BestPath{Prefix: block, NextHop: from.Addr(), Peer: from.Addr()})
					}
				}
			}
		}
	}
	return f
}

// writeState writes every attribute of every resource, in the order of keys. Rules stand below their chain; what a resource
// stands on beyond what it says itself stands behind it.
func writeState(b *strings.Builder, w reconcile.Want) {
	for _, k := range w.State.Keys() {
		fmt.Fprintf(b, "  %s", k)
		var rules string
		for i, f := range w.State[k].Fields() {
			if f.Name == "rules" {
				rules = f.Value
				continue
			}
			sep := ", "
			if i == 0 {
				sep = ": "
			}
			value := f.Value
			if value == "" {
				value = `""`
			}
			fmt.Fprintf(b, "%s%s %s", sep, f.Name, value)
		}
		for _, on := range w.Stands[k] {
			fmt.Fprintf(b, "; on %s", on)
		}
		b.WriteByte('\n')
		for line := range strings.Lines(rules) {
			fmt.Fprintf(b, "      %s\n", strings.TrimSuffix(line, "\n"))
		}
	}
}

// golden holds text against a file.
func golden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(filepath.Clean(file))
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(want, []byte(got)) {
		return
	}
	// The first line that differs says more than two whole hosts.
	w, g := strings.Split(string(want), "\n"), strings.Split(got, "\n")
	for i := range max(len(w), len(g)) {
		var a, b string
		if i < len(w) {
			a = w[i]
		}
		if i < len(g) {
			b = g[i]
		}
		if a != b {
			t.Fatalf("%s:%d:\nwant %s\ngot  %s", file, i+1, a, b)
		}
	}
}
