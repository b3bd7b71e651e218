package bgp

import (
	"fmt"
	"os"
	"testing"
	"time"

	"netd/testenv/router"
	"netd/testenv/stream"
)

// TestOpens has a node open one connection after another, each with an OPEN, of another AS and then of its own, and leave it at that.
// Status says what it offered. The session of the other two stands and their stream loses nothing, the speaker lives and keeps none of the connections,
// and the node's own session is up as soon as it behaves.
func TestOpens(t *testing.T) {
	l := newLab(t, threeNodes)
	one, two, three := l.host("one", "192.168.170.137/24"), l.host("two", "192.168.170.138/24"), l.host("three", "192.168.170.139/24")
	c, d := l.container("web"), l.container("app")
	one.start()
	two.start()
	l.wait("the route to node two", func() string { return missing(one.routes("10.10.194.128/26"), "via 192.168.170.138") })
	pid, since := one.speaker(), one.sinceOf(two.addr)
	holds := func() int {
		t.Helper()
		fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
		if err != nil {
			t.Fatal(err)
		}
		return len(fds)
	}
	before := holds()
	s := stream.Start(t, c, web, d, app, time.Millisecond)
	s.Flowing(t)
	end := router.End{NS: three.NS, Local: three.addr, Remote: one.addr, TTL: 255}
	const many = 300
	opened := 0
	for i := range many {
		r, err := end.Dial(t.Context())
		if err != nil {
			continue // it was not quick enough to be let in
		}
		t.Cleanup(r.Close) // not before: the speaker is to let go of it
		if _, err := r.Write(router.Open{ASN: 64513 - uint32(i/(many/2)), ID: three.addr, HoldTime: 9 * time.Second}.Bytes()); err == nil {
			opened++
		}
		if i == many/2-1 {
			l.wait("the words", func() string {
				out, _ := one.ask("status")
				return missing(out, "AS 64513 offered, 64512 expected")
			})
		}
	}
	if opened < many/2 {
		t.Errorf("%d of %d connections were opened: no flood", opened, many)
	}
	r := l.rogue(three)
	l.say(r, router.Announce(three.addr, nil, prefixes("10.10.3.0/24")...), router.EndOfRIB())
	l.wait("its route", func() string { return missing(one.routes("10.10.3.0/24"), "via 192.168.170.139") })
	l.wait("the connections to be let go", func() string {
		if n := holds(); n > before+8 {
			return fmt.Sprintf("the speaker holds %d descriptors, %d before", n, before)
		}
		return ""
	})
	if now := one.speaker(); now != pid {
		t.Errorf("the speaker died of it: %d, then %d", pid, now)
	}
	if now := one.sinceOf(two.addr); now != since {
		t.Errorf("the session of the others was lost: up since %s, then %s", since, now)
	}
	if got := s.Stop(); got.Lost != 0 {
		t.Errorf("the stream between the others: %s", got)
	}
}
