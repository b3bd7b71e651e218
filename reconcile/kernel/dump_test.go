package kernel

import (
	"fmt"
	"net/netip"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"netd/testenv/netns"
)

// TestDumpAgain changes the addresses in the middle of a dump of them. The kernel flags what follows (NLM_F_DUMP_INTR), since
// entries may be missing from it or be there twice: the dump is made again, until one that nobody interrupted.
func TestDumpAgain(t *testing.T) {
	netns.Need(t)
	netns.Run(t, "ip link add many type bridge")
	t.Cleanup(func() { netns.Run(t, "ip link del many") })
	const n = 4000 // several datagrams of 32 KiB, so that some are not made when the first is read
	var lines strings.Builder
	for i := range n {
		fmt.Fprintf(&lines, "addr add 10.1.%d.%d/32 dev many\n", i>>8, i&255)
	}
	batch := exec.Command("ip", "-batch", "-")
	batch.Stdin = strings.NewReader(lines.String())
	if out, err := batch.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	c, err := dial()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.close)
	dump := func(interrupt func(times int)) (times int, got map[netip.Addr]int, err error) {
		begun := 0
		err = c.dump(unix.RTM_GETADDR, make([]byte, unix.SizeofIfAddrmsg), func() { times++; got = map[netip.Addr]int{} }, func(body []byte) error {
			if begun < times {
				begun = times
				interrupt(times)
			}
			for a := range attributes(body[unix.SizeofIfAddrmsg:]) {
				if a.typ == unix.IFA_LOCAL && a.addr().Is4() && !a.addr().IsLoopback() {
					got[a.addr()]++
				}
			}
			return nil
		})
		return times, got, err
	}
	times, got, err := dump(func(times int) {
		if times <= 3 {
			netns.Run(t, fmt.Sprintf("ip addr del 10.1.0.%d/32 dev many", times))
		}
	})
	if err != nil || times != 4 {
		t.Errorf("a dump that three changes interrupted was made %d times: %v", times, err)
	}
	for a, seen := range got {
		if seen != 1 {
			t.Errorf("%s is there %d times", a, seen)
		}
	}
	if len(got) != n-3 {
		t.Errorf("%d addresses of %d", len(got), n-3)
	}
	if times, _, err = dump(func(times int) { netns.Run(t, fmt.Sprintf("ip addr del 10.1.1.%d/32 dev many", times)) }); err != errInterrupted {
		t.Errorf("a dump that changes never leave alone was made %d times: %v", times, err)
	}
}
