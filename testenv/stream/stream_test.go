package stream

import (
	"net/netip"
	"testing"
	"time"

	"netd/testenv/netns"
)

func TestMain(m *testing.M) { netns.Main(m) }

// TestStream loses nothing over a good wire, and counts what a cut one loses.
func TestStream(t *testing.T) {
	one, two := netns.New(t, "one"), netns.New(t, "two")
	one.Run(t, "ip link add eth0 type veth peer name eth0 netns two")
	one.Run(t, "ip addr add 192.168.170.1/24 dev eth0")
	two.Run(t, "ip addr add 192.168.170.2/24 dev eth0")
	one.Run(t, "ip link set eth0 up")
	two.Run(t, "ip link set eth0 up")
	src, dst := netip.MustParseAddr("192.168.170.1"), netip.MustParseAddr("192.168.170.2")
	for _, cut := range []bool{false, true} {
		s := Start(t, one, src, two, dst, time.Millisecond)
		s.Flowing(t)
		begin := time.Now()
		if cut {
			one.Run(t, "ip route add blackhole 192.168.170.2/32")
		}
		time.Sleep(300 * time.Millisecond) // the time is what is measured
		took := time.Since(begin)
		if cut {
			one.Run(t, "ip route del blackhole 192.168.170.2/32")
		}
		time.Sleep(50 * time.Millisecond)
		r := s.Stop()
		t.Log(r)
		switch {
		case r.Sent < 300:
			t.Errorf("%d sent in %s", r.Sent, took)
		case !cut && r.Lost != 0:
			t.Errorf("a good wire: %s", r)
		case cut && (r.Lost < 250 || r.Refused < 250 || r.Longest < 250*time.Millisecond || r.Longest > 2*took):
			t.Errorf("cut for %s: %s", took, r)
		}
	}
}
