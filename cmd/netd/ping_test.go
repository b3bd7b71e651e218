package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// TestTest has `netd test` tell a lossy host, one behind a small path, and one that is not there from those that are well.
func TestTest(t *testing.T) {
	l, near, far := newSites(t, fmt.Sprintf(threeSites, "vxlan", "always")+"node \"d\" {\n  address = \"192.168.1.9/24\"\n  blocks  = [\"10.10.4.0/24\"]\n}\n")
	l.destroyed()
	l.apply()
	a, b := l.hosts[0], l.hosts[1]
	well := []string{"b node ok 1500", "b tunnel ok 1450", "c node ok 1500", "c tunnel ok 1450", "c-a workload ok 1450", "c-b workload ok 1450", "c-c workload ok 1450"}
	gone := []string{"d node lost 0", "d tunnel lost 0"}
	a.tests(t, append(append([]string{}, well...), gone...)...)
	out := a.must(3, "test")
	for _, line := range []string{"TARGET ", "c-c     workload  10.10.3.10   0 %    ", "d       node      192.168.1.9  100 %"} {
		if !strings.Contains(out, line) {
			t.Errorf("no line %q in:\n%s", line, out)
		}
	}

	b.Run(t, "nft add table inet lossy")
	b.Run(t, "nft add chain inet lossy in { type filter hook prerouting priority -400 ; }")
	for _, to := range []string{"ip daddr 10.10.2.10", `ip daddr != 10.10.2.10 iifname "vxlan.netd"`, `ip daddr != 10.10.2.10 iifname != "vxlan.netd"`} { // each target counts for itself
		b.Run(t, "nft add rule inet lossy in "+to+" icmp type echo-request numgen inc mod 4 0 drop")
	}
	a.tests(t, "b node lossy 1500", "b tunnel lossy 1450", "c-b workload lossy 1450", "c node ok 1500")
	b.Run(t, "nft delete table inet lossy")

	// Between the routers fits less: c's own address is named with what fits. The encapsulated packets may be fragmented.
	near.Run(t, "ip link set mid mtu 1300")
	far.Run(t, "ip link set mid mtu 1300")
	a.tests(t, append([]string{"c node narrow 1300"}, well[3:]...)...)
	if out := a.must(3, "test"); !strings.Contains(out, "narrow: the path carries 1300 bytes, eth0 1500") {
		t.Error(out)
	}
	if got := a.agrees(t); got != "c 1300" {
		t.Errorf("narrow: %q", got)
	}
	// Where the fragments are lost, containers get less too.
	l.hosts[2].Run(t, "nft add table inet whole")
	l.hosts[2].Run(t, "nft add chain inet whole in { type filter hook prerouting priority -400 ; }")
	l.hosts[2].Run(t, "nft add rule inet whole in ip frag-off & 0x3fff != 0 drop")
	a.tests(t, "c node narrow 1300", "c tunnel narrow 1250", "c-c workload narrow 1250", "c-b workload ok 1450")

	if out, code := a.netd("test", "10.10.3.10"); code != 3 || !strings.Contains(out, "10.10.3.10  address  10.10.3.10  0 %") {
		t.Errorf("one address: %d\n%s", code, out)
	}
	a.must(64, "test", "c-c")
	l.hosts[2].Run(t, "nft delete table inet whole")
}

// agrees are the nodes that `netd test` finds behind a smaller path, with what it carries, and which `netd doctor` finds too.
func (h *labHost) agrees(t *testing.T) string {
	t.Helper()
	read := func(command string, v any) {
		t.Helper()
		out, _ := h.netd(command, "--json")
		if err := json.Unmarshal([]byte(out[max(strings.Index(out, "\n{\n")+1, 0):]), v); err != nil {
			t.Fatalf("%v in %s", err, out)
		}
	}
	var tested testView
	var examined doctorView
	read("test", &tested)
	read("doctor", &examined)
	var test, doctored []string
	for _, x := range tested.Targets {
		if x.Kind == "node" && x.Result == "narrow" {
			test = append(test, fmt.Sprintf("%s %d", x.Name, x.PathMTU))
		}
	}
	for _, c := range examined.Checks {
		var name string
		var mtu int
		if n, _ := fmt.Sscanf(c.Evidence, "the way to node %s", &name); c.Name == "path-mtu" && n == 1 {
			_, after, _ := strings.Cut(c.Evidence, " carries ")
			if _, err := fmt.Sscanf(after, "%d bytes", &mtu); err != nil {
				t.Fatal(err)
			}
			doctored = append(doctored, fmt.Sprintf("%s %d", name, mtu))
		}
	}
	if !slices.Equal(test, doctored) {
		t.Errorf("netd test finds %q, netd doctor %q", test, doctored)
	}
	return strings.Join(test, ", ")
}

// tests has `netd test` find "NAME KIND RESULT MTU" of some targets.
func (h *labHost) tests(t *testing.T, want ...string) {
	t.Helper()
	out, _ := h.netd("test", "--json")
	out = out[max(strings.IndexByte(out, '{'), 0):] // what it waits for is said before
	var v testView
	if err := json.Unmarshal([]byte(out), &v); err != nil || v.SchemaVersion != 1 {
		t.Fatalf("%v in %s", err, out)
	}
	found := map[string]string{}
	for _, x := range v.Targets {
		found[x.Name+" "+x.Kind] = fmt.Sprintf("%s %d", x.Result, x.PathMTU)
	}
	for _, w := range want {
		f := strings.Fields(w)
		if got := found[f[0]+" "+f[1]]; got != f[2]+" "+f[3] {
			t.Errorf("%s %s: %s, want %s %s", f[0], f[1], got, f[2], f[3])
		}
	}
}
