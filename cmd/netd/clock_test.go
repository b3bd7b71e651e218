package main

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestClockJumps sets the host's clock forth and back by years, as NTP does after a boot with an empty battery: the daemon repairs at
// once, whole passes come as before, a file is taken, and status tells of seconds since the start.
func TestClockJumps(t *testing.T) {
	if os.Getenv("NETD_GUEST") == "" {
		t.Skip("the clock is the whole machine's: make vm sets a guest's")
	}
	l := newLab(t, "vxlan")
	h := l.hosts[0]
	h.env = []string{"NETD_TEST_RESYNC=2s"}
	h.start()
	h.synced()
	const years = 20 * 365 * 24 * time.Hour
	for i, jump := range []time.Duration{years, -2 * years} {
		var now unix.Timespec
		if err := unix.ClockGettime(unix.CLOCK_REALTIME, &now); err != nil {
			t.Fatal(err)
		}
		now.Sec += int64(jump / time.Second)
		if err := unix.ClockSettime(unix.CLOCK_REALTIME, &now); err != nil {
			t.Fatal(err)
		}
		h.Run(t, "ip route del 10.10.194.128/26")
		repaired := time.Now()
		l.wait("the route is back", func() string { return h.lacks("10.10.194.128/26 via 10.10.194.128 dev vxlan.netd") })
		if took := time.Since(repaired); took > 30*time.Second {
			t.Errorf("the repair took %s", took)
		}
		h.Run(t, "sysctl -q -w net.ipv4.neigh."+vethOfMaster+".proxy_delay=80") // of which no event tells
		l.wait("the whole pass after it", func() string {
			out, err := h.Output("sysctl", "-n", "net.ipv4.neigh."+vethOfMaster+".proxy_delay")
			if err != nil || out != "0\n" {
				return "it is " + out
			}
			return ""
		})
		l.write(fmt.Sprintf(walkthrough, "vxlan") + fmt.Sprintf(`node "more" {
  address = "192.168.170.139/24"
  blocks  = ["10.10.%d.0/24"]
}
`, i))
		h.must(0, "reload")
		if got := h.lacks(fmt.Sprintf("10.10.%d.0/24 via", i)); got != "" {
			t.Error(got)
		}
		h.synced()
		out := h.must(0, "status")
		_, up, _ := strings.Cut(out, ", up ")
		up, _, _ = strings.Cut(up, "\n")
		if d, err := time.ParseDuration(up); err != nil || d < 0 || d > time.Hour {
			t.Errorf("after a jump by %s:\n%s", jump, out)
		}
	}
}
