package bgp

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"netd/testenv/router"
)

// flapping is a host with two routers, which tests play by sockets.
const flapping = `network "lab" {
  pools = ["10.10.0.0/16"]
  mode  = "bgp"
}

node "node" {
  address = "192.168.170.137/24"
  blocks  = ["10.10.40.128/26"]
}

peer "steady" {
  address      = "192.168.170.1"
  asn          = 65101
  passive      = true
  import       = ["10.64.0.0/10 le 24", "172.24.0.0/16 le 24"]
  max_prefixes = 20000
}

peer "flapper" {
  address      = "192.168.170.2"
  asn          = 65102
  passive      = true
  import       = ["172.28.0.0/14 le 24"]
  max_prefixes = 20000
}
`

// socket is a router as a socket, with a session.
func (l *lab) socket(h *host, asn uint32, to *host) *router.Raw {
	l.t.Helper()
	return l.dial(h, to, func(ctx context.Context, r *router.Raw) error {
		return r.Establish(ctx, router.Open{ASN: asn, ID: h.addr, HoldTime: 9 * time.Second, Restart: 30 * time.Second})
	})
}

// dial connects until f succeeds on a connection, which is closed in the end.
func (l *lab) dial(h, to *host, f func(context.Context, *router.Raw) error) *router.Raw {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for {
		r, err := router.End{NS: h.NS, Local: h.addr, Remote: to.addr}.Dial(ctx)
		if err == nil {
			if err = f(ctx, r); err == nil {
				l.t.Cleanup(r.Close)
				return r
			}
			r.Close()
		}
		if ctx.Err() != nil {
			l.t.Fatal(err)
		}
	}
}

// numbered are n /24 from a prefix on.
func numbered(from string, n int) []netip.Prefix {
	a := netip.MustParseAddr(from).As4()
	out := make([]netip.Prefix, n)
	for i := range out {
		out[i] = netip.PrefixFrom(netip.AddrFrom4([4]byte{a[0], a[1] + byte(i>>8), byte(i), 0}), 24)
	}
	return out
}

// tell announces prefixes, or withdraws them, as many to a message as fit.
func (l *lab) tell(r *router.Raw, h *host, asn uint32, gone bool, list []netip.Prefix) {
	l.t.Helper()
	for part := range slices.Chunk(list, 500) {
		if gone {
			l.say(r, router.Update(part, nil))
		} else {
			l.say(r, router.Update(nil, slices.Concat(router.Origin(), router.ASPath(asn), router.NextHop(h.addr)), part...))
		}
	}
}

// cpu is the processor time of processes (proc(5): utime and stime in 1/100 s).
func cpu(pids ...int) (sum time.Duration) {
	for _, pid := range pids {
		b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		_, after, _ := strings.Cut(string(b), ") ")
		f := strings.Fields(after)
		var u, s int
		if len(f) > 12 {
			_, _ = fmt.Sscan(f[11], &u)
			_, _ = fmt.Sscan(f[12], &s)
		}
		sum += time.Duration(u+s) * 10 * time.Millisecond
	}
	return sum
}

// TestFlapping has one router withdraw and announce 1,000 prefixes a second while another, which has told 10,000, tells one
// more from time to time: that is in the kernel without delay, nothing grows, and in the end the kernel has what was told last.
func TestFlapping(t *testing.T) {
	const many = 10000
	seconds := 60
	if !soak() {
		seconds = 5
	}
	l := newLab(t, flapping)
	node, a, b := l.host("node", "192.168.170.137/24"), l.host("steady", "192.168.170.1/24"), l.host("flapper", "192.168.170.2/24")
	node.start()
	steady, flapper := l.socket(a, 65101, node), l.socket(b, 65102, node)
	l.tell(steady, a, 65101, false, numbered("10.64.0.0", many))
	l.say(steady, router.EndOfRIB())
	l.tell(flapper, b, 65102, false, numbered("172.28.0.0", 1000))
	l.say(flapper, router.EndOfRIB())
	count := func(via string) int {
		return strings.Count(node.Run(t, "ip route show proto 142"), "via "+via+" ")
	}
	l.wait("all routes", func() string {
		if n, m := count("192.168.170.1"), count("192.168.170.2"); n != many || m != 1000 {
			return fmt.Sprintf("%d and %d", n, m)
		}
		return ""
	})
	pids := []int{node.speaker(), node.daemon.Process.Pid}
	before, used, begin := memory(pids), cpu(pids...), time.Now()
	stop := make(chan struct{})
	done := make(chan error, 1)
	go func() { // half withdrawn and half announced each half second: 1,000 changes a second
		list := numbered("172.28.0.0", 1000)
		tick := time.NewTicker(500 * time.Millisecond)
		defer tick.Stop()
		for i := 0; ; i++ {
			select {
			case <-stop:
				_, err := flapper.Write(router.Update(nil, slices.Concat(router.Origin(), router.ASPath(65102), router.NextHop(b.addr)), list[:500]...))
				if err == nil {
					_, err = flapper.Write(router.Update(nil, slices.Concat(router.Origin(), router.ASPath(65102), router.NextHop(b.addr)), list[500:]...))
				}
				done <- err
				return
			case <-tick.C:
				half := list[i/2%2*500:][:500]
				m := router.Update(half, nil)
				if i%2 == 1 {
					m = router.Update(nil, slices.Concat(router.Origin(), router.ASPath(65102), router.NextHop(b.addr)), half...)
				}
				if _, err := flapper.Write(m); err != nil {
					done <- err
					return
				}
			}
		}
	}()
	var took []time.Duration
	for i := 0; time.Since(begin) < time.Duration(seconds)*time.Second; i++ {
		p := netip.PrefixFrom(netip.AddrFrom4([4]byte{172, 24, byte(i), 0}), 24)
		at := time.Now()
		l.tell(steady, a, 65101, false, []netip.Prefix{p})
		l.within(60*time.Second, "a prefix of the other router", func() string { return missing(node.routes(p.String()), "via") })
		took = append(took, time.Since(at))
		time.Sleep(200 * time.Millisecond) // from time to time
	}
	close(stop)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	load := (cpu(pids...) - used).Seconds() / time.Since(begin).Seconds()
	l.wait("what was told last", func() string {
		if n := count("192.168.170.2"); n != 1000 {
			return fmt.Sprintf("%d routes", n)
		}
		return ""
	})
	after := memory(pids)
	slices.Sort(took)
	p50, worst := took[len(took)/2], took[len(took)-1]
	t.Logf("%d s of 1,000 changes a second: %.0f %% of a core; memory %d MB, then %d MB; a prefix of the other router after %s (p50), %s (p99), %s (most), of which ip route show is a part",
		seconds, 100*load, before>>20, after>>20, p50.Round(time.Millisecond), took[len(took)*99/100].Round(time.Millisecond), worst.Round(time.Millisecond))
	if load > 1.5 {
		t.Errorf("the processors: %.0f %%", 100*load)
	}
	if after > before+before/2+(32<<20) {
		t.Errorf("memory grew from %d to %d MB", before>>20, after>>20)
	}
	late := p50 // beside other tests it is these that are measured, too
	if soak() {
		late = took[len(took)*99/100]
	}
	if late > 100*time.Millisecond {
		t.Errorf("the other router waits: %s (p50), %s (p99)", p50, took[len(took)*99/100])
	}
	if out := node.must("status"); missing(out, "In sync") != "" {
		t.Errorf("status:\n%s", out)
	}
}
