package probe

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"netd/testenv/netns"
)

func TestMain(m *testing.M) { netns.Main(m) }

// TestBetween: every size is found, in few rounds.
func TestBetween(t *testing.T) {
	for mtu := 68; mtu <= 9000; mtu++ {
		passed, lost, rounds := 67, 9001, 0
		for first := true; lost-passed > 1; first = false {
			rounds++
			for _, size := range between(passed, lost, first) {
				if size <= mtu {
					passed = max(passed, size)
				} else {
					lost = min(lost, size)
				}
			}
			if rounds > 6 {
				t.Fatalf("MTU %d: between %d and %d after %d rounds", mtu, passed, lost, rounds)
			}
		}
		if passed != mtu {
			t.Fatalf("MTU %d: found %d", mtu, passed)
		}
	}
}

// hosts is two namespaces on a wire: near has 10.77.0.254, far what is asked, of which some is not there.
func hosts(t *testing.T) (near, far *netns.NS) {
	near, far = netns.New(t, "near"), netns.New(t, "far")
	netns.Run(t, "ip link add wire netns near mtu 1500 type veth peer name wire netns far")
	for ns, addrs := range map[*netns.NS][]string{near: {"10.77.0.254/24", "2001:db8:77::fe/64"}, far: {"10.77.0.1/24", "2001:db8:77::1/64"}} {
		for _, a := range addrs {
			ns.Run(t, "ip addr add "+a+" dev wire nodad")
		}
		ns.Run(t, "ip link set wire up")
	}
	// A packet that is sent before the kernel has seen the carrier of both ends is lost, and ARP asks again after a second only.
	near.Run(t, "ping -q -c 1 -w 10 10.77.0.1")
	near.Run(t, "ping -q -c 1 -w 10 2001:db8:77::1")
	return near, far
}

func ask(t *testing.T, from *netns.NS, o Options, targets ...Target) (out []Result) {
	t.Helper()
	if err := from.Do(func() (err error) {
		out, err = Ping(context.Background(), targets, o)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return out
}

// TestPing: good paths of both families, one that loses a known share, small ones with and without a word, and none at all.
func TestPing(t *testing.T) {
	near, far := hosts(t)
	v4, v6 := netip.MustParseAddr("10.77.0.1"), netip.MustParseAddr("2001:db8:77::1")
	for _, r := range ask(t, near, Options{}, Target{Addr: v4, MTU: 1500}, Target{Addr: v6, MTU: 1500}, Target{Addr: v4, From: netip.MustParseAddr("10.77.0.254")}) {
		if r.Sent != 5 || r.Received != 5 || r.RTT <= 0 || r.Err != nil || r.MTU != 1500 && r.MTU != 0 || r.Loss() != 0 {
			t.Errorf("good: %+v", r)
		}
	}

	far.Run(t, "nft add table inet lab")
	far.Run(t, "nft add chain inet lab in { type filter hook prerouting priority -400 ; }")
	for _, mtu := range []int{1499, 1400, 1281, 577, 100} {
		far.Run(t, fmt.Sprintf("nft add rule inet lab in ip length gt %d drop", mtu))
		far.Run(t, fmt.Sprintf("nft add rule inet lab in ip6 length gt %d drop", max(mtu, 1281)-40))
		for i, r := range ask(t, near, Options{}, Target{Addr: v4, MTU: 1500}, Target{Addr: v6, MTU: 1500}) {
			if want := []int{mtu, max(mtu, 1281)}[i]; r.MTU != want {
				t.Errorf("a path that carries %d bytes: %+v", want, r)
			}
		}
		far.Run(t, "nft flush chain inet lab in")
	}

	far.Run(t, "nft add rule inet lab in icmp type echo-request numgen inc mod 4 0 drop")
	r := ask(t, near, Options{Count: 8, Interval: time.Millisecond}, Target{Addr: v4, MTU: 1500})[0]
	if r.Sent != 8 || r.Received != 6 || r.Loss() != 0.25 || r.MTU != 1500 {
		t.Errorf("every fourth lost: %+v", r)
	}
	far.Run(t, "nft flush chain inet lab in")

	far.Run(t, "nft add rule inet lab in icmp type echo-request reject with icmp type admin-prohibited")
	r = ask(t, near, Options{}, Target{Addr: v4, MTU: 1500})[0]
	if r.Received != 0 || r.Err == nil || !strings.Contains(r.Err.Error(), "unreachable, says 10.77.0.1") {
		t.Errorf("refused: %+v", r)
	}
	far.Run(t, "nft flush chain inet lab in")

	r = ask(t, near, Options{}, Target{Addr: netip.MustParseAddr("10.78.0.1"), MTU: 1500})[0]
	if r.Received != 0 || r.Err == nil || r.Err.Error() != "network is unreachable" {
		t.Errorf("no route: %+v", r)
	}
}

// TestPingMany: 100 addresses, of which some are not there and others lie behind a small path, are asked at once. The figure
// is printed; the limit only tells all at once from one by one.
func TestPingMany(t *testing.T) {
	near, far := hosts(t)
	var targets []Target
	for i := 1; i <= 100; i++ {
		a := netip.AddrFrom4([4]byte{10, 77, 0, byte(i)})
		if i > 1 && i <= 80 {
			far.Run(t, "ip addr add "+a.String()+"/24 dev wire")
		}
		targets = append(targets, Target{Addr: a, MTU: 1500})
	}
	far.Run(t, "nft add table inet lab")
	far.Run(t, "nft add chain inet lab in { type filter hook prerouting priority -400 ; }")
	far.Run(t, "nft add rule inet lab in ip daddr 10.77.0.1-10.77.0.20 ip length gt 1337 drop")
	began := time.Now()
	results := ask(t, near, Options{}, targets...)
	took := time.Since(began)
	t.Logf("100 targets in %s", took)
	if took > 20*time.Second {
		t.Errorf("100 targets took %s", took)
	}
	lost := slices.IndexFunc(results, func(r Result) bool { return r.Received == 0 })
	if lost != 80 {
		t.Errorf("the first lost is %d: %+v", lost+1, results[max(lost, 0)])
	}
	for i, r := range results[:80] {
		want := 1500
		if i < 20 {
			want = 1337
		}
		if r.Received != 5 || r.MTU != want {
			t.Errorf("%s: %+v", targets[i].Addr, r)
		}
	}
}
