package bgp

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"netd/testenv/netns"
	"netd/testenv/router"
)

// twoNodes is a mesh of two: netd, and another that may be netd, BIRD or FRR.
const twoNodes = `network "lab" {
  pools = ["10.10.0.0/16"]
  mode  = "bgp"
}

bgp {
  hold_time        = "9s"
  graceful_restart = "120s"
}

node "one" {
  address = "192.168.170.137/24"
  blocks  = ["10.10.40.128/26"]
}

node "two" {
  address = "192.168.170.138/24"
  blocks  = ["10.10.194.128/26"]
}

workload "web" {
  node    = "one"
  address = "10.10.40.129"
  netns   = "/run/netns/LAB-web"
}

workload "app" {
  node    = "two"
  address = "10.10.194.134"
  netns   = "/run/netns/LAB-app"
}
`

var (
	web = netip.MustParseAddr("10.10.40.129")
	app = netip.MustParseAddr("10.10.194.134")
)

// nodeTwo is the second node where it is a router.
func nodeTwo(restart int, more ...string) session {
	return session{as: 64512, netdAS: 64512, id: "192.168.170.138", netd: "192.168.170.137", ttlSecurity: true, restart: restart,
		announce: append([]string{"10.10.194.128/26"}, more...)}
}

// TestStale has a router restart with less than it had, and another not at all: what it does not announce again goes with
// its End-of-RIB, or with the time that it asked for, and not before.
func TestStale(t *testing.T) {
	netns.Need(t)
	for _, p := range []router.Program{router.BIRD, router.FRR} {
		t.Run(string(p), func(t *testing.T) {
			config := strings.Replace(twoNodes, `["10.10.194.128/26"]`, `["10.10.194.128/26", "10.10.195.0/26"]`, 1)
			l := newLab(t, config)
			one, two := l.host("one", "192.168.170.137/24"), l.host("two", "192.168.170.138/24")
			l.container("web")
			one.start()
			other := router.New(t, p, two.NS, nodeTwo(10, "10.10.195.0/26").conf(p))
			one.up(1)
			has := func(prefix string) bool { return one.routes(prefix) != "" }
			l.wait("the routes of both blocks", func() string { // a moment after the session
				if !has("10.10.194.128/26") || !has("10.10.195.0/26") {
					return one.Run(t, "ip route")
				}
				return ""
			})

			begin := time.Now()
			other.Kill()
			other.Write(nodeTwo(10).conf(p))
			if !has("10.10.195.0/26") {
				t.Error("the route of a router that restarts went at once")
			}
			other.Start()
			one.upSince(1, begin)
			l.wait("the end of the stale route", func() string { return one.routes("10.10.195.0/26") })
			if !has("10.10.194.128/26") {
				t.Error("the route that was announced again is gone")
			}

			// An edit on which the session lives leaves it one of a router that restarts gracefully, which gobgp would forget.
			before := one.sinceOf(two.addr)
			l.write(strings.Replace(config, `"9s"`, `"12s"`, 1))
			one.must("reload")
			if now := one.sinceOf(two.addr); !now.Equal(before) {
				t.Errorf("the session was reset: up since %s, then %s", before, now)
			}

			begin = time.Now()
			other.Kill()
			for time.Since(begin) < 7*time.Second { // all the while
				// Where looking took until the time was over nothing is known of before.
				if gone, at := !has("10.10.194.128/26"), time.Since(begin); gone && at < 10*time.Second {
					t.Fatalf("the route went after %s; the router asked for 10 s", at)
				}
				time.Sleep(100 * time.Millisecond)
			}
			l.within(60*time.Second, "the end of the restart time", func() string { return one.routes("10.10.194.128/26") })
			t.Logf("gone after %s", time.Since(begin))
			l.wait("words", func() string { return missing(one.degraded("status"), "did not come back within its restart time") })
		})
	}
}

// TestRestartNoMore has a router come back with less than it had and without graceful restart, which was switched off: it never
// says End-of-RIB, and what it had goes all the same.
func TestRestartNoMore(t *testing.T) {
	l := newLab(t, strings.Replace(twoNodes, `["10.10.194.128/26"]`, `["10.10.194.128/26", "10.10.195.0/26"]`, 1))
	one, two := l.host("one", "192.168.170.137/24"), l.host("two", "192.168.170.138/24")
	l.container("web")
	one.start()
	other := router.New(t, router.BIRD, two.NS, nodeTwo(120, "10.10.195.0/26").conf(router.BIRD))
	one.up(1)
	l.wait("the route that is to go", func() string { return missing(one.routes("10.10.195.0/26"), "via") })
	other.Kill()
	other.Write(nodeTwo(0).conf(router.BIRD))
	other.Start()
	l.within(90*time.Second, "the end of the stale route", func() string { return one.routes("10.10.195.0/26") })
	l.wait("the route that was announced again", func() string { return missing(one.routes("10.10.194.128/26"), "via") })
}

// TestRestartInTries has a router that restarts open its session and lose it again before it is up, some times, as one does whose links are
// not up yet: its routes stay for the time that it asked for, and go with it.
func TestRestartInTries(t *testing.T) {
	const restart = 40 * time.Second
	l := newLab(t, flapping)
	node, a := l.host("node", "192.168.170.137/24"), l.host("steady", "192.168.170.1/24")
	node.start()
	open := router.Open{ASN: 65101, ID: a.addr, HoldTime: 9 * time.Second, Restart: restart}
	list := numbered("10.64.0.0", 2)
	has := func(p netip.Prefix) bool { return node.routes(p.String()) != "" }
	r := l.dial(a, node, func(ctx context.Context, r *router.Raw) error { return r.Establish(ctx, open) })
	l.tell(r, a, 65101, false, list)
	l.say(r, router.EndOfRIB())
	l.wait("two routes", func() string {
		if !has(list[0]) || !has(list[1]) {
			return node.must("show", "peers")
		}
		return ""
	})
	r.Close()
	begin := time.Now()
	deleted := node.deleted("ip -4")
	for range 2 {
		l.dial(a, node, func(ctx context.Context, r *router.Raw) error {
			if _, err := r.Write(open.Bytes()); err != nil {
				return err
			}
			return r.Until(ctx, func(got []router.Message, _ error) bool {
				return slices.ContainsFunc(got, func(m router.Message) bool { return m.Type == router.TypeOpen })
			})
		}).Close()
		time.Sleep(time.Second)
		if at := time.Since(begin); at > restart {
			t.Fatalf("the tries took %s: nothing is shown of the time before", at)
		} else if !has(list[0]) {
			t.Fatalf("the routes went before %s:\n%s%s", at, deleted(), node.must("show", "peers"))
		}
	}
	l.within(2*restart, "the end of the restart time", func() string { return node.routes(list[0].String()) })
	if took := time.Since(begin); took < restart {
		t.Errorf("gone after %s", took)
	}
}

// TestNoEndOfRIB has a speaker restart beside a router that knows no graceful restart and never says that it has told
// everything. RFC 4724 does not wait for such a one; here its routes stay until it has told them again, or 20 s: that costs
// no packet of what it tells again, and what it does not tell goes late. What is new is taken at once.
func TestNoEndOfRIB(t *testing.T) {
	l := newLab(t, flapping)
	node, a := l.host("node", "192.168.170.137/24"), l.host("steady", "192.168.170.1/24")
	node.start()
	dial := func() *router.Raw {
		t.Helper()
		return l.dial(a, node, func(ctx context.Context, r *router.Raw) error {
			return r.Establish(ctx, router.Open{ASN: 65101, ID: a.addr, HoldTime: 9 * time.Second})
		})
	}
	list := numbered("10.64.0.0", 3)
	has := func(p netip.Prefix) bool { return node.routes(p.String()) != "" }
	r := dial()
	l.tell(r, a, 65101, false, list[:2])
	l.wait("two routes", func() string {
		if !has(list[0]) || !has(list[1]) {
			return node.must("show", "peers")
		}
		return ""
	})
	gone := node.deleted("ip -4")
	node.killSpeaker()
	r = dial()
	begin := time.Now()
	l.tell(r, a, 65101, false, list[1:])
	l.within(15*time.Second, "what is new", func() string { // before the 20 s are over, for which the rest is kept
		if !has(list[2]) {
			return node.must("show", "peers")
		}
		return ""
	})
	l.wait("the end of what was not told again", func() string { return node.routes(list[0].String()) })
	took := time.Since(begin)
	t.Logf("gone after %s", took.Round(time.Second))
	if took < 15*time.Second {
		t.Errorf("it went after %s", took)
	}
	if out := gone(); !has(list[1]) || strings.Contains(out, list[1].String()) {
		t.Errorf("what was told again went in between:\n%s", out)
	}
}

// TestAnew changes what the two ends agree on when a session opens, which ends it and opens another: of a neighbour whose table
// is not known yet nothing goes.
func TestAnew(t *testing.T) {
	l := newLab(t, flapping)
	node, a := l.host("node", "192.168.170.137/24"), l.host("steady", "192.168.170.1/24")
	node.start()
	list := numbered("10.64.0.0", 2000)
	tell := func() *router.Raw {
		r := l.socket(a, 65101, node)
		l.tell(r, a, 65101, false, list)
		l.say(r, router.EndOfRIB())
		return r
	}
	r := tell()
	there := func() string {
		if n := strings.Count(node.Run(t, "ip route show proto 142"), " via "); n != len(list) {
			return fmt.Sprint(n)
		}
		return ""
	}
	l.wait("all routes", there)
	gone := node.deleted("ip -4")
	for _, restart := range []string{"60s", "61s", "62s"} {
		begin := time.Now()
		l.write(flapping + "\nbgp {\n  graceful_restart = \"" + restart + "\"\n}\n")
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		if err := r.Ended(ctx); err != nil {
			t.Fatal(err)
		}
		cancel()
		r = tell()
		l.wait("a new session", func() string {
			if !node.sinceOf(a.addr).After(begin) {
				return node.must("show", "peers")
			}
			return there()
		})
	}
	if out := gone(); out != "" {
		t.Errorf("%d routes went in between, the first:\n%.300s", strings.Count(out, "\n")+1, out)
	}
}

// TestSilence stops a router as a dead host is silent: its routes go with the hold time, whether it may restart gracefully
// or not, and are back when it speaks again. With graceful restart off, its death takes them at once.
func TestSilence(t *testing.T) {
	netns.Need(t)
	for _, p := range []router.Program{router.BIRD, router.FRR} {
		for _, restart := range []int{0, 120} {
			t.Run(fmt.Sprintf("%s, restart time %d", p, restart), func(t *testing.T) {
				config := strings.Replace(twoNodes, `"9s"`, `"6s"`, 1)
				if restart == 0 {
					config = strings.Replace(config, `"120s"`, `"0s"`, 1)
				}
				l := newLab(t, config)
				one, two := l.host("one", "192.168.170.137/24"), l.host("two", "192.168.170.138/24")
				l.container("web")
				one.start()
				s := nodeTwo(restart)
				s.hold = 6
				other := router.New(t, p, two.NS, s.conf(p))
				there := func() string { return missing(one.routes("10.10.194.128/26"), "via 192.168.170.138") }
				one.up(1)
				l.wait("the route", there) // a moment after the session
				begin := time.Now()
				other.Freeze()
				l.wait("the withdrawal", func() string { return one.routes("10.10.194.128/26") }) // a restart time is 120 s
				took := time.Since(begin)
				t.Logf("withdrawn after %s", took)
				// The last KEEPALIVE may be 2 s old, and more where the router had no processor; noticing takes some, too, and more on a busy machine.
				if took < 2*time.Second || took > 12*time.Second {
					t.Errorf("withdrawn after %s; the hold time is 6 s", took)
				}
				l.wait("words", func() string { return missing(one.degraded("status"), "hold timer expired") })
				thawed := time.Now()
				other.Thaw()
				one.upSince(1, begin)
				t.Logf("up %s after it spoke again", time.Since(thawed))
				l.wait("the route again", there)

				begin = time.Now()
				other.Kill()
				if restart == 0 {
					l.wait("the withdrawal", func() string { return one.routes("10.10.194.128/26") })
					t.Logf("killed: withdrawn after %s", time.Since(begin))
					l.wait("why", func() string {
						s := one.status()
						if len(s.Peers) != 1 || s.Peers[0].ErrorAt.Before(begin) {
							return fmt.Sprintf("%+v", s)
						}
						if p := s.Peers[0]; strings.Contains(p.Error, "hold timer expired") {
							t.Errorf("the session was lost, and the routes stayed until the hold time was over: %s", p.Error)
						}
						return ""
					})
				}
				started := time.Now()
				other.Start()
				one.upSince(1, begin)
				t.Logf("up %s after it was started", time.Since(started))
			})
		}
	}
}
