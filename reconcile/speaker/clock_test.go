package speaker

import (
	"net/netip"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"netd/testenv/netns"
)

// TestClockSetBack sets the clock back by an hour while a session is up: what the neighbour tells after that is heard, and what it
// told before stays meanwhile.
func TestClockSetBack(t *testing.T) {
	if os.Getenv("NETD_GUEST") == "" {
		t.Skip("the clock is the whole machine's: make vm sets a guest's")
	}
	netns.Need(t)
	hosts := newHosts(t, 2)
	one, two := hosts[0], hosts[1]
	later := netip.MustParsePrefix("10.10.9.0/24")
	first := two.blocks
	two.blocks = append(two.blocks, later)
	for _, h := range hosts {
		h.start()
	}
	one.converge(one.want(hosts))
	two.blocks = first
	two.converge(two.want(hosts))
	one.wait("the block of the other", func() bool { return one.learned() == of(two) })

	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_REALTIME, &now); err != nil {
		t.Fatal(err)
	}
	now.Sec -= int64(time.Hour / time.Second)
	if err := unix.ClockSettime(unix.CLOCK_REALTIME, &now); err != nil {
		t.Fatal(err)
	}
	two.blocks = append(two.blocks, later)
	two.converge(two.want(hosts))
	one.wait("what is told after that", func() bool {
		if got := one.learned(); got != of(two) && got != of(&host{addr: two.addr, blocks: first}) {
			t.Fatalf("what was told before did not stay: %s", got)
		}
		return one.learned() == of(two)
	})
}
