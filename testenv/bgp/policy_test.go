package bgp

import (
	"strings"
	"testing"

	"netd/testenv/netns"
	"netd/testenv/router"
)

// TestHashPolicy is a rack with two switches, in which somebody sets back by what the kernel spreads flows over several next hops: with
// a daemon, without one, and while one starts. It is netd's: what differs is shown, comes back, and flows are spread as before.
func TestHashPolicy(t *testing.T) {
	var peers strings.Builder
	for _, x := range []string{"1", "2"} {
		peers.WriteString("peer \"tor-" + x + "\" {\n  address = \"192.168.170." + x + "\"\n  asn     = 6510" + x + "\n  import  = [\"172.30.0.0/24\"]\n}\n")
	}
	r := newRack(t, []router.Program{router.BIRD, router.FRR}, peers.String(), []session{{as: 65101, netdAS: 64512, restart: 60}, {as: 65102, netdAS: 64512, restart: 60}})
	r.node.up(2)
	r.watch()
	r.wait("a route with two next hops", func() string {
		return differs(r.node.routes("172.30.0.0/24"), "172.30.0.0/24 \n\tnexthop via 192.168.170.1 dev eth0 weight 1 \n\tnexthop via 192.168.170.2 dev eth0 weight 1")
	})
	flows := openFlows(t, netns.Open("/run/netns/"+r.id+"-web"), r.world.addr) // of one address to another: but for their ports they are the same
	names := []string{"net.ipv4.fib_multipath_hash_policy", "net.ipv6.fib_multipath_hash_policy"}
	policy := func(want string) string {
		return differs(r.node.Run(t, "sysctl -n "+strings.Join(names, " ")), want+"\n"+want)
	}
	setBack := func() { r.node.Run(t, "sysctl -qw "+strings.Join(names, "=0 ")+"=0") }
	says := func(out string, more ...string) (wrong string) {
		for _, part := range append(more, names...) {
			wrong += missing(out, part)
		}
		return wrong
	}
	exits := func(want int, args ...string) string {
		t.Helper()
		out, code := r.node.ask(args...)
		if code != want {
			t.Errorf("netd %s: exit code %d, want %d:\n%s", strings.Join(args, " "), code, want, out)
		}
		return out
	}
	if wrong := policy("1"); wrong != "" {
		t.Fatal(wrong)
	}
	goes := r.goes(flows)
	as := func(when string) {
		t.Helper()
		by := [2]int{}
		for flow, tor := range r.goes(flows) {
			by[tor]++
			if tor != goes[flow] {
				t.Errorf("%s flow %d goes by another switch", when, flow)
				break
			}
		}
		if min(by[0], by[1]) < len(flows)/3 {
			t.Errorf("%s flows go by the switches as %v", when, by)
		}
	}
	as("at first")

	// With a daemon. The kernel tells nobody of such a change: until the next look at everything it is drift.
	r.wait("drift", func() string { // unless that look came first
		setBack()
		out, _ := r.node.ask("drift")
		return says(out)
	})
	r.wait("drift in the plan", func() string {
		setBack()
		out, _ := r.node.ask("plan")
		return says(out)
	})
	setBack()
	if !soak() { // else the one that comes by itself after a minute is waited for
		r.node.must("reload")
	}
	t.Logf("back after %s", r.wait("the policies", func() string { return policy("1") }))
	for _, part := range []string{"In sync", names[0] + " and 1 more  0 -> 1"} {
		if wrong := missing(r.node.must("status"), part); wrong != "" {
			t.Errorf("after the repair: %s", wrong)
		}
	}
	if out := r.node.must("plan"); missing(out, "No changes.") != "" {
		t.Errorf("the plan after the repair:\n%s", out)
	}
	as("after the repair")

	// Without one flows go by one switch, until netd apply or the next daemon.
	undone := func() {
		t.Helper()
		setBack()
		by := map[int]int{}
		for _, tor := range r.goes(flows) {
			by[tor]++
		}
		if len(by) != 1 {
			t.Errorf("by addresses alone flows go by the switches as %v: nothing is shown of what spreads them", by)
		}
	}
	r.node.kill()
	undone()
	for _, out := range []string{exits(0, "plan"), exits(3, "drift")} {
		if wrong := says(out); wrong != "" {
			t.Errorf("without a daemon: %s", wrong)
		}
	}
	if wrong := missing(exits(69, "status"), "the host differs from the configuration in 2 objects (see netd plan)"); wrong != "" {
		t.Errorf("without a daemon: %s", wrong)
	}
	exits(0, "apply", "-y")
	if wrong := policy("1"); wrong != "" {
		t.Errorf("after netd apply: %s", wrong)
	}
	as("after netd apply")
	undone()
	r.node.start()
	r.node.up(2)
	if wrong := policy("1"); wrong != "" {
		t.Errorf("after the start of a daemon: %s", wrong)
	}
	as("after the start of a daemon")

	// What was there before netd comes back when it goes.
	r.node.kill()
	exits(0, "destroy", "-y")
	if wrong := policy("0"); wrong != "" {
		t.Errorf("after netd destroy: %s", wrong)
	}
}
