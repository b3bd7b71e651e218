package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"netd/config"
	"netd/reconcile/desired"
	"netd/reconcile/object"
)

// TestPlanTexts holds plans as people read them against text that was checked by hand: each mode onto an empty host, with two
// nodes and with three, and from each mode to the next.
func TestPlanTexts(t *testing.T) {
	file := func(nodes int) string { return fmt.Sprintf("../../reconcile/desired/testdata/%d-nodes.hcl", nodes) }
	for _, mode := range []string{"ipip", "vxlan", "bgp"} {
		for _, nodes := range []int{2, 3} {
			t.Run(fmt.Sprintf("%s-%d", mode, nodes), func(t *testing.T) {
				planText(t, fmt.Sprintf("%s-%d", mode, nodes), exitChanges, "-c", file(nodes), "--var", "mode="+mode, "--node", "baihl-master")
			})
		}
	}
	for _, x := range [][2]string{{"ipip", "vxlan"}, {"vxlan", "bgp"}, {"bgp", "ipip"}, {"vxlan", "vxlan"}} {
		name := x[0] + "-to-" + x[1]
		t.Run(name, func(t *testing.T) {
			code := exitChanges
			if x[0] == x[1] {
				code = 0
			}
			planText(t, name, code, "-c", file(2), "--var", "mode="+x[1], "--node", "baihl-master", "--against", savedState(t, file(2), x[0]))
		})
	}
}

func planText(t *testing.T, name string, code int, args ...string) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var out, talk bytes.Buffer
	args = append(append([]string{"plan"}, args...), "--offline", "--detailed-exitcode", "--color", "never")
	cmd := exec.Command(exe, args...)
	cmd.Env = append(os.Environ(), "NETD_TEST_PROGRAM=1")
	cmd.Stdout, cmd.Stderr = &out, &talk
	if err := cmd.Run(); cmd.ProcessState == nil {
		t.Fatal(err)
	}
	if got := cmd.ProcessState.ExitCode(); got != code {
		t.Fatalf("netd %s: exit code %d, want %d:\n%s", strings.Join(args, " "), got, code, talk.String())
	}
	golden := filepath.Join("testdata/plan", name+".txt")
	if *update {
		if err := os.WriteFile(golden, out.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(want, out.Bytes()) {
		t.Errorf("%s: want\n%s\ngot\n%s", golden, want, out.Bytes())
	}
}

// savedState is what `netd show state --json` prints on a host that is in line with a file.
func savedState(t *testing.T, file, mode string) string {
	t.Helper()
	source, err := config.Read(file, map[string]string{"mode": mode})
	if err != nil {
		t.Fatal(err)
	}
	c, ds := source.Parse()
	if ds.HasErrors() {
		t.Fatal(ds)
	}
	node := c.Nodes[0]
	facts := desired.Facts{Host: object.Host{Name: node.Name, IPv6: true, DefaultLinks: []string{"ens33"},
		Links: []object.HostLink{{Name: "ens33", Index: 2, MTU: 1500, Up: true, Addrs: []netip.Prefix{node.Address}}}}}
	for _, w := range c.Workloads {
		if w.Node == node.Name {
			facts.Endpoints = append(facts.Endpoints, desired.EndpointOf(w))
		}
	}
	r, err := desired.Compile(c, node, facts)
	if err != nil {
		t.Fatal(err)
	}
	v := stateView{SchemaVersion: 1, Facts: facts.Host}
	if v.Resources, err = json.Marshal(r.Want.State); err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "state.json")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
