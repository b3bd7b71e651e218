package desired_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"netd/config"
	"netd/reconcile/desired"
	"netd/reconcile/object"
)

// TestNeighbourAddrs: those that the file tells of are those whose packets the guard of the BGP port lets in.
func TestNeighbourAddrs(t *testing.T) {
	reflectors := filepath.Join(t.TempDir(), "netd.hcl")
	text := "variable \"mode\" {}\nnetwork \"lab\" {\n  pools = [\"10.10.0.0/16\"]\n  mode  = var.mode\n}\npeer \"tor\" {\n  address = \"192.168.170.1\"\n  asn     = 65000\n  nodes   = [\"a\", \"r\"]\n}\n"
	for i, name := range []string{"r", "a", "b"} {
		text += fmt.Sprintf("node %q {\n  address = \"192.168.170.%d/24\"\n  blocks  = [\"10.10.%d.0/24\"]\n%s}\n", name, 10+i, i, map[string]string{"r": "  route_reflector = \"1.1.1.1\"\n"}[name])
	}
	if err := os.WriteFile(reflectors, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	some := 0
	for _, file := range []string{"testdata/2-nodes.hcl", "testdata/3-nodes.hcl", "testdata/dual-stack.hcl", reflectors} {
		c := parse(t, file, config.ModeBGP)
		for _, n := range c.Nodes {
			r, err := desired.Compile(c, n, facts(c, n))
			if err != nil {
				t.Fatal(err)
			}
			var want, got []string
			for _, x := range r.Want.State {
				if e, ok := x.(object.NftElem); ok && (e.Set.Name == "bgp-peers" || e.Set.Name == "bgp-peers6") {
					want = append(want, e.Elem)
				}
			}
			for _, a := range desired.NeighbourAddrs(c, n) {
				got = append(got, a.String())
			}
			slices.Sort(want)
			slices.Sort(got)
			some += len(got)
			if !slices.Equal(slices.Compact(got), want) {
				t.Errorf("%s: %s: %v, and the guard has %v", file, n.Name, got, want)
			}
		}
	}
	if some == 0 {
		t.Error("no file has neighbours")
	}
}
