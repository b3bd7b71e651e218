package bgp

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"netd/testenv/router"
	"netd/testenv/stream"
)

// TestFlood has one router tell its 20,000 prefixes over and over, each time with another MED, 50,000 a second, while
// everything is looked at again and again because links of a stranger come and go. Of another router's prefix each is in
// the kernel soon all the same: no pass waits for the speaker, which is busy.
func TestFlood(t *testing.T) {
	const many = 20000
	l := newLab(t, strings.Replace(flapping, `import       = ["172.28.0.0/14 le 24"]
  max_prefixes = 20000`, `import       = ["172.28.0.0/14 le 24", "11.0.0.0/8 le 24"]
  max_prefixes = 50000`, 1))
	node, a, b := l.host("node", "192.168.170.137/24"), l.host("steady", "192.168.170.1/24"), l.host("flapper", "192.168.170.2/24")
	node.start()
	steady, flood := l.socket(a, 65101, node), l.socket(b, 65102, node)
	l.say(steady, router.EndOfRIB())
	l.tell(flood, b, 65102, false, numbered("11.0.0.0", many))
	l.say(flood, router.EndOfRIB())
	node.up(2)
	l.wait("all routes", func() string {
		if n := strings.Count(node.Run(t, "ip route show proto 142"), "via 192.168.170.2 "); n != many {
			return fmt.Sprint(n)
		}
		return ""
	})
	node.Run(t, "ip link add stranger type vxlan id 77 dstport 4799 local 192.168.170.137")
	stop, done := make(chan struct{}), make(chan error, 1)
	go func() {
		list, tick := numbered("11.0.0.0", many), time.NewTicker(800*time.Second/50_000)
		defer tick.Stop()
		for med := byte(1); ; med++ {
			attributes := slices.Concat(router.Origin(), router.ASPath(65102), router.NextHop(b.addr), router.Attribute(router.Optional, 4, 0, 0, 0, med))
			for part := range slices.Chunk(list, 800) {
				select {
				case <-stop:
					done <- nil
					return
				case <-tick.C:
				}
				if _, err := flood.Write(router.Update(nil, attributes, part...)); err != nil {
					done <- err
					return
				}
			}
		}
	}()
	used, begin, busy := cpu(node.speaker()), time.Now(), node.speaker()
	before := memory([]int{busy})
	var took []time.Duration
	for i := range 20 {
		up := "down"
		if i%2 == 0 {
			up = "up"
		}
		node.Run(t, "ip link set stranger "+up)
		p := netip.PrefixFrom(netip.AddrFrom4([4]byte{172, 24, byte(i), 0}), 24)
		at := time.Now()
		l.tell(steady, a, 65101, false, []netip.Prefix{p})
		l.within(60*time.Second, "a prefix of the other router", func() string { return missing(node.routes(p.String()), "via") })
		took = append(took, time.Since(at))
	}
	load := (cpu(busy) - used).Seconds() / time.Since(begin).Seconds()
	grown := memory([]int{busy})
	close(stop)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	slices.Sort(took)
	t.Logf("a prefix of the other router after %s (p50), %s (most); the speaker used %.0f %% of a core, and %d MB before, %d MB after %s of it", took[len(took)/2].Round(time.Millisecond), took[len(took)-1].Round(time.Millisecond), 100*load, before>>20, grown>>20, time.Since(begin).Round(time.Second))
	l.wait("no change at rest", func() string { return missing(node.must("plan"), "No changes.") })
}

// TestDrowning has a router tell its prefixes over and over, far faster than gobgp takes them, for as long as the session stands. It is hung
// up on before that costs the host its memory, and status says why; the other router's session and its prefixes stay, and a stream by way of
// it loses nothing.
func TestDrowning(t *testing.T) {
	const many = 20000
	l := newLab(t, strings.Replace(flapping, `import       = ["172.28.0.0/14 le 24"]`, `import       = ["11.0.0.0/8 le 24"]`, 1))
	node, a, b := l.host("node", "192.168.170.137/24"), l.host("steady", "192.168.170.1/24"), l.host("flapper", "192.168.170.2/24")
	node.start()
	steady, flood := l.socket(a, 65101, node), l.socket(b, 65102, node)
	l.tell(steady, a, 65101, false, numbered("10.64.0.0", 10))
	l.say(steady, router.EndOfRIB())
	l.say(flood, router.EndOfRIB())
	node.up(2)
	l.wait("the steady router's routes", func() string { return missing(node.routes("10.64.9.0/24"), "via 192.168.170.1") })
	far := netip.MustParseAddr("10.64.0.9") // beyond the steady router
	a.Run(t, "ip addr add 10.64.0.9/32 dev lo")
	s := stream.Start(t, node.NS, node.addr, a.NS, far, time.Millisecond)
	s.Flowing(t)
	pid, since := node.speaker(), node.sinceOf(a.addr)
	list := numbered("11.0.0.0", many)
	told, most, begin := 0, 0, time.Now()
	for med := byte(1); ; med++ {
		attributes := slices.Concat(router.Origin(), router.ASPath(65102), router.NextHop(b.addr), router.Attribute(router.Optional, 4, 0, 0, 0, med))
		var err error
		for part := range slices.Chunk(list, 800) {
			if _, err = flood.Write(router.Update(nil, attributes, part...)); err != nil {
				break
			}
			told += len(part)
		}
		if most = max(most, memory([]int{pid})); err != nil {
			break // it was hung up on
		}
		if most > 1500<<20 || time.Since(begin) > 2*time.Minute {
			t.Fatalf("it told %d prefixes, and the speaker has %d MB", told, most>>20)
		}
	}
	t.Logf("hung up on after %s and %d prefixes, with %d MB", time.Since(begin).Round(time.Millisecond), told, most>>20)
	l.wait("the reason", func() string {
		return missing(node.degraded("status"), "it tells faster than this host takes it: ")
	})
	l.wait("its routes gone", func() string { return node.routes("11.0.0.0/24") })
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second) // for which it tries again
	defer cancel()
	if r, err := (router.End{NS: b.NS, Local: b.addr, Remote: node.addr}).Dial(ctx); err == nil {
		if err := r.Establish(ctx, router.Open{ASN: 65102, ID: b.addr, HoldTime: 9 * time.Second}); err == nil && r.Ended(ctx) != nil {
			t.Error("it has a session again at once")
		}
		r.Close()
	}
	if now := node.sinceOf(a.addr); now != since || node.speaker() != pid {
		t.Errorf("the other router's session is up since %s (%s before), by speaker %d (%d before)", now, since, node.speaker(), pid)
	}
	if got := s.Stop(); got.Lost != 0 {
		t.Errorf("the stream by way of the other router: %s", got)
	}
	l.wait("the memory given back", func() string {
		if m := memory([]int{pid}); m > 200<<20 {
			return fmt.Sprintf("%d MB", m>>20)
		}
		return ""
	})
}
