package router

import (
	"context"
	"net/netip"
	"strings"
	"testing"
	"time"

	"netd/testenv/netns"
)

func TestMain(m *testing.M) { netns.Main(m) }

// pair is two namespaces with a wire between them: 192.168.170.1 and .2.
func pair(t *testing.T) (one, two *netns.NS) {
	one, two = netns.New(t, "one"), netns.New(t, "two")
	one.Run(t, "ip link add eth0 type veth peer name eth0 netns two")
	for i, ns := range []*netns.NS{one, two} {
		ns.Run(t, "ip addr add 192.168.170."+string(rune('1'+i))+"/24 dev eth0")
		ns.Run(t, "ip link set eth0 up")
	}
	return one, two
}

func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !holds(); {
		if time.Now().After(deadline) {
			t.Fatal("waited for", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

const bird = `router id 192.168.170.1;
protocol device { scan time 1; }
protocol static { ipv4; route 10.10.1.0/24 blackhole; }
protocol bgp tor {
  local 192.168.170.1 as 65001;
  neighbor 192.168.170.2 as 65002;
  connect delay time 1;
  ipv4 { import all; export all; };
}
`

const frr = `router bgp 65002
 bgp router-id 192.168.170.2
 no bgp ebgp-requires-policy
 neighbor 192.168.170.1 remote-as 65001
 neighbor 192.168.170.1 timers connect 1
`

// TestRouters has BIRD and FRR speak to each other: what one announces, the other puts into its kernel; frozen, killed and
// started again, they are what they were.
func TestRouters(t *testing.T) {
	one, two := pair(t)
	b, f := New(t, BIRD, one, bird), New(t, FRR, two, frr)
	holds := func(prefix string) bool {
		return strings.HasPrefix(two.Run(t, "ip route show proto 186 "+prefix), prefix)
	}
	learned := func() bool { return holds("10.10.1.0/24") }
	until(t, "FRR's route in the kernel", learned)
	if out := b.Ask("show", "protocols"); !strings.Contains(out, "Established") {
		t.Errorf("birdc:\n%s", out)
	}
	if out := f.Ask("show bgp summary"); !strings.Contains(out, "192.168.170.1") {
		t.Errorf("vtysh:\n%s", out)
	}
	b.Freeze()
	b.Thaw()
	b.Kill()
	until(t, "the withdrawal", func() bool { return !learned() })
	b.Start()
	until(t, "the route again", learned)
	b.Configure(strings.Replace(bird, "10.10.1.0/24", "10.10.2.0/24", 1))
	until(t, "the other route", func() bool { return holds("10.10.2.0/24") && !learned() })
}

// TestRaw speaks to BIRD on a socket: a session, a prefix, and nonsense, which BIRD names.
func TestRaw(t *testing.T) {
	one, two := pair(t)
	b := New(t, BIRD, one, bird)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	here, there := netip.MustParseAddr("192.168.170.2"), netip.MustParseAddr("192.168.170.1")
	r, err := End{NS: two, Local: here, Remote: there}.Dial(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := r.Establish(ctx, Open{ASN: 65002, ID: here, HoldTime: 9 * time.Second}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Write(Announce(here, []uint32{65002}, netip.MustParsePrefix("10.10.3.0/24"))); err != nil {
		t.Fatal(err)
	}
	until(t, "the prefix in BIRD", func() bool { return strings.Contains(b.Ask("show", "route"), "10.10.3.0/24") })
	if _, err := r.Write(Frame(99, nil)); err != nil {
		t.Fatal(err)
	}
	code, sub, err := r.Notified(ctx)
	if err != nil || code != 1 || sub != 3 { // Message Header Error, Bad Message Type
		t.Errorf("NOTIFICATION %d/%d, %v; want 1/3", code, sub, err)
	}
	if err := r.Ended(ctx); err != nil {
		t.Error(err)
	}
}
