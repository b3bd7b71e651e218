package bgp

import (
	"cmp"
	"fmt"
	"strings"
	"testing"
	"time"

	"netd/testenv/netns"
	"netd/testenv/router"
	"netd/testenv/stream"
)

// ends are two nodes of a file: netd, and another that may be netd ("") or a router.
type ends struct {
	program  router.Program
	external bool // the other has an AS of its own
	six
}

func (x ends) String() string {
	return fmt.Sprintf("%s, %s, %s", cmp.Or(string(x.program), "netd"), pick(x.external, "eBGP", "iBGP"), x.family("IPv4", "IPv6"))
}

func pick[T any](yes bool, a, b T) T {
	if yes {
		return a
	}
	return b
}

func (x ends) file() string {
	six := x.family("", "6")
	var b strings.Builder
	fmt.Fprintf(&b, "network \"lab\" {\n  pools = [%q]\n  mode  = \"bgp\"\n}\nbgp {\n  hold_time        = \"9s\"\n  graceful_restart = \"120s\"\n}\n", x.family("10.10.0.0/16", "fd10::/48"))
	for _, node := range []int{numOne, numRouter} {
		as := pick(x.external && node == numRouter, 64602, 64512)
		fmt.Fprintf(&b, "node \"%d\" {\n  address%s = \"%s/%s\"\n  router_id = \"10.255.0.%d\"\n  asn = %d\n  blocks = [%q]\n}\n", node, six, x.addr(node), x.family("24", "64"), node, as, x.block(node))
		fmt.Fprintf(&b, "workload \"c%d\" {\n  node = \"%d\"\n  address = %q\n  netns = \"/run/netns/LAB-c%d\"\n}\n", node, node, x.inside(x.block(node)), node)
	}
	return b.String()
}

// session is the other end's, where it is a router.
func (x ends) session() session {
	return session{as: pick[uint32](x.external, 64602, 64512), netdAS: 64512, id: x.addr(numRouter), netd: x.addr(numOne), v6: bool(x.six), ttlSecurity: true, restart: 120,
		announce: []string{x.block(numRouter)}}
}

// both is two nodes and a stream in each direction.
type both struct {
	*lab
	ends
	one, two *host // two is nil where it is no netd
	other    *router.Router
	gone     func() string // what left the kernel of the host of FRR, which may take routes out itself; else nil
	streams  [2]*stream.Stream
}

func newBoth(t *testing.T, x ends) *both {
	b := &both{lab: newLab(t, x.file()), ends: x}
	join := func(node int) *host {
		h := b.host(fmt.Sprint(node), fmt.Sprintf("192.168.170.%d/24", node))
		if x.six {
			h.dual(x.addr(node) + "/64")
		}
		return h
	}
	b.one = join(numOne)
	here, there := x.inside(x.block(numOne)), x.inside(x.block(numRouter))
	c := b.container(fmt.Sprintf("c%d", numOne))
	b.one.start()
	two := join(numRouter)
	far := two.NS
	if x.program == "" {
		b.two, far = two, b.container(fmt.Sprintf("c%d", numRouter))
		b.two.start()
	} else {
		two.Run(t, "ip addr add "+there.String()+" dev lo")
		b.other = router.New(t, x.program, two.NS, x.session().conf(x.program))
		if x.program == router.FRR {
			b.gone = two.deleted(x.family("ip -4", "ip -6"))
		}
	}
	b.one.up(1)
	if b.two != nil {
		b.two.up(1)
	}
	b.wait("pings", func() string {
		if out, err := c.Output("ping", "-c1", "-W1", there.String()); err != nil {
			return out
		}
		return ""
	})
	b.streams = [2]*stream.Stream{stream.Start(t, c, here, far, there, time.Millisecond), stream.Start(t, far, there, c, here, time.Millisecond)}
	for _, s := range b.streams {
		s.Flowing(t)
	}
	return b
}

// stop ends the streams: none may have lost anything.
func (b *both) stop() {
	b.t.Helper()
	for i, s := range b.streams {
		r := s.Stop()
		b.t.Log(r)
		if i == 1 && b.gone != nil { // what FRR's own host refuses to send is no loss of netd's (see TestPairs)
			if out := b.gone(); strings.Contains(out, "Deleted "+b.block(numOne)+" ") {
				b.t.Logf("frr took out of its own kernel:\n%s", out)
				r.Lost -= r.Refused
			}
		}
		if r.Lost != 0 || r.Sent < 1000 {
			b.t.Errorf("the stream: %s", r)
		}
	}
}

// TestRestart kills what holds the sessions, what writes the kernel, both, has both be another version's, and kills the other end, under a stream of 1,000
// packets a second in each direction: nothing is lost, and everything is as before afterwards. Each kind of other end is of the same AS
// and of another, over either family, and so is each AS. Where streams run, with what TestPairs, TestCross and TestReflectors do:
//
//	the other end   netd's speaker or the other end killed   netd killed, with its speaker, upgraded
//	netd            iBGP IPv4, eBGP IPv6; reflectors         iBGP IPv4, eBGP IPv6
//	BIRD            iBGP and eBGP, either family             iBGP IPv6, eBGP IPv4
//	FRR             iBGP and eBGP, either family             iBGP IPv4, eBGP IPv6
func TestRestart(t *testing.T) {
	netns.Need(t)
	for _, x := range []ends{
		{program: ""},
		{program: "", external: true, six: true},
		{program: router.BIRD, six: true},
		{program: router.BIRD, external: true},
		{program: router.FRR},
		{program: router.FRR, external: true, six: true},
	} {
		t.Run(x.String(), func(t *testing.T) {
			b := newBoth(t, x)
			again := func(what string, from time.Time) {
				t.Helper()
				b.one.upSince(1, from)
				if out := b.one.Run(t, x.family("ip -4", "ip -6")+" route show proto 142 "+x.block(numRouter)); missing(out, "via "+x.addr(numRouter)) != "" {
					t.Errorf("after %s: %s", what, out)
				}
			}
			begin := time.Now()
			b.one.killSpeaker()
			again("the speaker's death", begin)

			before := b.one.speaker()
			b.one.kill()
			b.one.start()
			again("the daemon's death", time.Time{})
			if now := b.one.speaker(); now != before {
				t.Errorf("the daemon's death cost the speaker: %d, then %d", before, now)
			}

			begin = time.Now()
			b.one.killSpeaker()
			b.one.kill()
			b.one.start()
			again("the death of both", begin)

			later, err := newer()
			if err != nil {
				t.Fatal(err)
			}
			begin, before = time.Now(), b.one.speaker()
			b.one.kill()
			b.one.netd = later
			b.one.start()
			again("the upgrade of both", begin)
			if now := b.one.speaker(); now == before {
				t.Errorf("the speaker of before, %d, serves a daemon of another version", now)
			}

			begin = time.Now()
			if b.other != nil {
				b.other.Kill()
				b.other.Start()
			} else {
				b.two.killSpeaker()
				b.two.kill()
				b.two.start()
			}
			again("the other end's death", begin)
			b.stop()
		})
	}
}
