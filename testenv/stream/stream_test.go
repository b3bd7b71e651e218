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
		count := &s.sent
		if cut {
			count = &s.refused
		}
		for first := count.Load(); count.Load() < first+300; time.Sleep(time.Millisecond) {
			if time.Since(begin) > time.Minute {
				t.Fatalf("%d sent, %d refused in a minute", s.sent.Load(), s.refused.Load())
			}
		}
		if cut {
			one.Run(t, "ip route del blackhole 192.168.170.2/32")
			s.Again(t)
		}
		took := time.Since(begin)
		r := s.Stop()
		t.Log(r)
		switch {
		case r.Sent < 300:
			t.Errorf("%d sent in %s", r.Sent, took)
		case !cut && r.Lost != 0:
			t.Errorf("a good wire: %s", r)
		case cut && (r.Lost < 300 || r.Refused < 300 || r.Longest < 300*time.Millisecond || r.Longest > 2*took):
			t.Errorf("cut for %s: %s", took, r)
		}
	}
}
