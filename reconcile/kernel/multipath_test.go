package kernel_test

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"netd/reconcile"
	"netd/reconcile/kernel"
	"netd/reconcile/object"
	"netd/testenv/netns"
)

// converges is what leads this namespace to what is wanted. When the test ends nothing is.
func converges(t *testing.T) func(reconcile.Want) reconcile.Plan {
	t.Helper()
	k, err := kernel.New(memory{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Close)
	e := &reconcile.Engine{Kinds: k.Kinds(), Reading: k.Reading}
	converge := func(w reconcile.Want) reconcile.Plan {
		t.Helper()
		plan, _, err := e.Converge(context.Background(), w, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		return plan
	}
	t.Cleanup(func() { converge(reconcile.Want{}) })
	return converge
}

// TestMultipath has the kernel keep routes with several next hops: what it reads back is what was wanted, whatever order it
// keeps them in and whatever it says of their links' state; what others change of one is seen and repaired; a next hop
// less is one replace that leaves every other route alone.
func TestMultipath(t *testing.T) {
	netns.Need(t)
	netns.Run(t, "ip link add tor0 type veth peer name tor0far")
	netns.Run(t, "ip link add tor1 type veth peer name tor1far")
	t.Cleanup(func() { netns.Run(t, "ip link del tor0"); netns.Run(t, "ip link del tor1") })
	for _, line := range []string{"ip link set tor0 up", "ip link set tor0far up", "ip link set tor1 up", "ip link set tor1far up",
		"ip addr add 192.0.2.2/24 dev tor0", "ip addr add 198.51.100.2/24 dev tor1"} {
		netns.Run(t, line)
	}
	converge := converges(t)

	hop := func(via, dev string) object.Hop { return object.Hop{Via: netip.MustParseAddr(via), Dev: dev} }
	a, b, c := hop("192.0.2.1", "tor0"), hop("198.51.100.1", "tor1"), hop("198.51.100.9", "tor1")
	d := object.Hop{Via: netip.MustParseAddr("203.0.113.1"), Dev: "tor0", Onlink: true}
	want := func(hops ...object.Hop) reconcile.Want {
		var w reconcile.Want
		for _, p := range []string{"10.99.1.0/24", "10.99.2.0/24"} {
			w.Put(object.Route{Dst: netip.MustParsePrefix(p), Table: object.MainTable, Type: object.Unicast, Hops: object.Hops([]object.Hop{a, b})}, reconcile.Cause{})
		}
		w.Put(object.Route{Dst: netip.MustParsePrefix("10.99.3.0/24"), Table: object.MainTable, Type: object.Unicast, Hops: object.Hops(hops)}, reconcile.Cause{})
		return w
	}
	settled := func(w reconcile.Want) {
		t.Helper()
		if plan := converge(w); !plan.Empty() {
			t.Errorf("another pass finds %s %s: %s", plan.Changes[0].Op, plan.Changes[0].Key, plan.Changes[0].Text())
		}
	}
	full := want(d, c, b, a)
	converge(full)
	settled(full)
	if out := netns.Run(t, "ip route show 10.99.3.0/24"); strings.Count(out, "nexthop") != 4 || !strings.Contains(out, "onlink") || !strings.Contains(out, "proto 142") && !strings.Contains(out, "proto netd") {
		t.Errorf("the kernel has\n%s", out)
	}

	netns.Run(t, "ip link set tor1far down")                                      // no carrier: the kernel marks next hops as linkdown
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) { // it notices a moment later
		out := netns.Run(t, "ip route show 10.99.3.0/24")
		if strings.Contains(out, "linkdown") {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the link has no carrier, and the kernel has\n%s", out)
		}
	}
	settled(full)
	netns.Run(t, "ip link set tor1far up")

	for _, change := range []string{
		"ip route replace 10.99.3.0/24 proto 142 nexthop via 192.0.2.1 dev tor0 nexthop via 198.51.100.1 dev tor1",
		"ip route replace 10.99.3.0/24 proto 142 nexthop via 192.0.2.1 dev tor0 weight 3 nexthop via 198.51.100.1 dev tor1 nexthop via 198.51.100.9 dev tor1 nexthop via 203.0.113.1 dev tor0 onlink",
		"ip route replace 10.99.3.0/24 proto 142 via 192.0.2.1 dev tor0",
		"ip route replace 10.99.3.0/24 proto 142 nexthop via 192.0.2.1 dev tor0 nexthop via 198.51.100.1 dev tor1 nexthop via 198.51.100.9 dev tor1 nexthop via 203.0.113.1 dev tor1 onlink",
		// In another order flows go by other ways.
		"ip route replace 10.99.3.0/24 proto 142 nexthop via 203.0.113.1 dev tor0 onlink nexthop via 198.51.100.9 dev tor1 nexthop via 198.51.100.1 dev tor1 nexthop via 192.0.2.1 dev tor0",
		"ip route del 10.99.3.0/24",
	} {
		netns.Run(t, change)
		plan := converge(full)
		if len(plan.Changes) != 1 || plan.Changes[0].Key.Kind != object.KindRoute {
			t.Errorf("%s: %d changes, want the one of the route", change, len(plan.Changes))
		}
		settled(full)
	}

	for _, w := range []reconcile.Want{want(a, b, c), want(a, b), full} {
		plan := converge(w)
		if len(plan.Changes) != 1 || plan.Changes[0].Op != reconcile.Update {
			t.Errorf("%d changes, want one replace", len(plan.Changes))
		}
		settled(w)
	}
	// One that is away shares its flows among those that are there, and nobody else's move.
	goes := func() []string { return flows(t, "10.99.3.1") }
	spread := func(there ...object.Hop) reconcile.Want {
		w := want(there...)
		w.Put(object.Route{Dst: netip.MustParsePrefix("10.99.3.0/24"), Table: object.MainTable, Type: object.Unicast, Hops: object.HopList(object.Spread([]object.Hop{a, b, c, d}, there))}, reconcile.Cause{})
		return w
	}
	netns.Run(t, "sysctl -qw net.ipv4.fib_multipath_hash_policy=1")
	before := goes()
	for _, x := range []struct {
		there []object.Hop
		other object.Hop // that went, or came
	}{{[]object.Hop{a, b, c}, d}, {[]object.Hop{b, c}, a}, {[]object.Hop{b, c, d}, d}, {[]object.Hop{a, b, c, d}, a}, {[]object.Hop{a, c, d}, b}, {[]object.Hop{a, b, c, d}, b}} {
		w := spread(x.there...)
		plan := converge(w)
		if len(plan.Changes) != 1 || plan.Changes[0].Op != reconcile.Update {
			t.Errorf("%d changes, want one replace", len(plan.Changes))
		}
		settled(w)
		after := goes()
		parts, moved := map[string]int{}, 0
		for i, via := range after {
			parts[via]++
			if via != before[i] && via != x.other.Via.String() && before[i] != x.other.Via.String() {
				moved++
			}
		}
		if moved != 0 {
			t.Errorf("%s went or came, and %d of %d other flows moved", x.other, moved, len(after))
		}
		for _, h := range x.there {
			if n, fair := parts[h.Via.String()], len(after)/len(x.there); n < fair*3/4 || n > fair*5/4 {
				t.Errorf("by %v: %s has %d of %d flows", x.there, h, n, len(after))
			}
		}
		before = after
	}

	// From several to one and back is a replace too.
	single := want(a, b)
	single.Put(object.Route{Dst: netip.MustParsePrefix("10.99.3.0/24"), Table: object.MainTable, Type: object.Unicast, Via: a.Via, Dev: a.Dev}, reconcile.Cause{})
	for _, w := range []reconcile.Want{single, full} {
		plan := converge(w)
		if len(plan.Changes) != 1 || plan.Changes[0].Op != reconcile.Update {
			t.Errorf("%d changes, want one replace", len(plan.Changes))
		}
		settled(w)
	}
}

// flows is the next hop of each of many flows.
func flows(t *testing.T, to string) []string {
	t.Helper()
	var ask strings.Builder
	for port := range 2000 {
		fmt.Fprintf(&ask, "route get %s ipproto udp sport %d dport 80\n", to, 20000+port)
	}
	file := filepath.Join(t.TempDir(), "flows")
	if err := os.WriteFile(file, []byte(ask.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	var out []string
	for line := range strings.Lines(netns.Run(t, "ip -batch "+file)) {
		if _, rest, found := strings.Cut(line, " via "); found && strings.HasPrefix(line, to) {
			via, _, _ := strings.Cut(rest, " ")
			out = append(out, via)
		}
	}
	if len(out) != 2000 {
		t.Fatalf("the kernel told the way of %d flows of 2000", len(out))
	}
	return out
}

// TestMultipathIPv6 is the same of IPv6, whose next hops the kernel keeps as routes of their own with one key: link-local
// ones among them, one replaced by another, more and fewer, and one that someone takes out.
func TestMultipathIPv6(t *testing.T) {
	netns.Need(t)
	netns.Run(t, "ip link add tor0 type veth peer name tor0far")
	t.Cleanup(func() { netns.Run(t, "ip link del tor0") })
	for _, line := range []string{"ip link set tor0 up", "ip link set tor0far up", "ip addr add 2001:db8:1::2/64 dev tor0 nodad"} {
		netns.Run(t, line)
	}
	converge := converges(t)
	want := func(gateways ...string) reconcile.Want {
		var w reconcile.Want
		r := object.Route{Dst: netip.MustParsePrefix("fd99::/64"), Table: object.MainTable, Type: object.Unicast}
		if len(gateways) == 1 {
			r.Via, r.Dev = netip.MustParseAddr(gateways[0]), "tor0"
		} else {
			var hops []object.Hop
			for _, g := range gateways {
				hops = append(hops, object.Hop{Via: netip.MustParseAddr(g), Dev: "tor0"})
			}
			r.Hops = object.Hops(hops)
		}
		w.Put(r, reconcile.Cause{})
		return w
	}
	const a, b, c = "2001:db8:1::1", "2001:db8:1::9", "fe80::1"
	for i, gateways := range [][]string{{a, b, c}, {c, a}, {b, a}, {b}, {a, b, c}, {a}, {c, b}} {
		plan := converge(want(gateways...))
		if len(plan.Changes) != 1 || (plan.Changes[0].Op != reconcile.Update) != (i == 0) {
			t.Errorf("%v: %d changes, want one replace", gateways, len(plan.Changes))
		}
		if plan := converge(want(gateways...)); !plan.Empty() {
			t.Errorf("%v: another pass finds %s", gateways, plan.Changes[0].Text())
		}
		if n := strings.Count(netns.Run(t, "ip -6 route show fd99::/64"), " via "); n != len(gateways) {
			t.Errorf("%v: the kernel has %d next hops", gateways, n)
		}
	}
	converge(want(a, b, c))
	netns.Run(t, "ip -6 route del fd99::/64 via "+b+" dev tor0")
	if plan := converge(want(a, b, c)); len(plan.Changes) != 1 {
		t.Errorf("a next hop was taken out: %d changes", len(plan.Changes))
	}
	if plan := converge(want(a, b, c)); !plan.Empty() {
		t.Errorf("after that: %s", plan.Changes[0].Text())
	}

	// What Spread does for IPv4 cannot be had here: each next hop has one stretch of the hash, since the kernel takes none
	// twice (include/net/ip6_route.h, rt6_duplicate_nexthop). Shares are equal, and where the middle one of three goes nobody
	// else's flow moves; where the first or last goes, its stretch has one neighbour alone, and some of the others' move.
	twice := strings.Fields("-6 route add fd98::/64 nexthop via " + a + " dev tor0 nexthop via " + b + " dev tor0 nexthop via " + a + " dev tor0")
	if out, err := exec.Command("ip", twice...).CombinedOutput(); err == nil || !strings.Contains(string(out), "File exists") {
		t.Errorf("the kernel may take a next hop of IPv6 twice now, and Spread be for IPv6 too: %v: %s", err, out)
	}
	netns.Run(t, "sysctl -qw net.ipv6.fib_multipath_hash_policy=1")
	const d = "2001:db8:1::a"
	converge(want(a, b, d))
	before := flows(t, "fd99::1")
	for _, x := range []struct {
		goes, left  string
		least, most int
	}{{b, a + " " + d, 0, 0}, {a, b + " " + d, 1, len(before) / 4}, {d, a + " " + b, 1, len(before) / 4}} {
		converge(want(strings.Fields(x.left)...))
		parts, moved := map[string]int{}, 0
		for i, via := range flows(t, "fd99::1") {
			parts[via]++
			if before[i] != x.goes && via != before[i] {
				moved++
			}
		}
		if moved < x.least || moved > x.most {
			t.Errorf("%s went, and %d of %d flows moved that it did not have", x.goes, moved, len(before))
		}
		for via, n := range parts {
			if n < len(before)*3/8 || n > len(before)*5/8 {
				t.Errorf("%s went, and %s has %d of %d flows", x.goes, via, n, len(before))
			}
		}
		t.Logf("%s went: %v, %d of %d moved that it did not have", x.goes, parts, moved, len(before))
		converge(want(a, b, d))
	}
}
