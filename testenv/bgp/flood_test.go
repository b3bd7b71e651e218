package bgp

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"netd/testenv/router"
)

// TestFlood has one router tell its 20,000 prefixes over and over, each time with another MED, as fast as the speaker takes them, while
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
		list := numbered("11.0.0.0", many)
		for med := byte(1); ; med++ {
			attributes := slices.Concat(router.Origin(), router.ASPath(65102), router.NextHop(b.addr), router.Attribute(router.Optional, 4, 0, 0, 0, med))
			for part := range slices.Chunk(list, 800) {
				select {
				case <-stop:
					done <- nil
					return
				default:
				}
				if _, err := flood.Write(router.Update(nil, attributes, part...)); err != nil {
					done <- err
					return
				}
			}
		}
	}()
	used, begin, busy := cpu(node.speaker()), time.Now(), node.speaker()
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
	close(stop)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	slices.Sort(took)
	t.Logf("a prefix of the other router after %s (p50), %s (most); the speaker used %.0f %% of a core", took[len(took)/2].Round(time.Millisecond), took[len(took)-1].Round(time.Millisecond), 100*load)
	l.wait("no change at rest", func() string { return missing(node.must("plan"), "No changes.") })
}
