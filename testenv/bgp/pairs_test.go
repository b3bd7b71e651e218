package bgp

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"netd/testenv/netns"
	"netd/testenv/router"
	"netd/testenv/stream"
)

// TestPairs has netd beside BIRD and FRR, as a ToR switch of another AS and as a node of the same, with and without MD5,
// GTSM and graceful restart, in combinations that have every pair of these; one end starts first, then the other does. Both
// are restarted under a stream: with graceful restart nothing is lost, without it what was told is back (and what that costs, in TestCross).
func TestPairs(t *testing.T) {
	netns.Need(t)
	for _, x := range []struct {
		program            router.Program
		external           bool
		md5, gtsm, restart bool
		routerFirst        bool
	}{
		{program: router.BIRD, external: true, md5: true, gtsm: true, restart: true, routerFirst: true},
		{program: router.BIRD, external: true, md5: false, gtsm: false, restart: false, routerFirst: false},
		{program: router.BIRD, external: false, md5: true, gtsm: false, restart: true, routerFirst: false},
		{program: router.FRR, external: false, md5: true, gtsm: true, restart: false, routerFirst: true},
		{program: router.FRR, external: true, md5: false, gtsm: true, restart: true, routerFirst: false},
		{program: router.FRR, external: true, md5: true, gtsm: false, restart: true, routerFirst: true},
	} {
		words := []string{string(x.program)}
		for i, on := range []bool{x.external, x.md5, x.gtsm, x.restart, x.routerFirst} {
			if on {
				words = append(words, []string{"eBGP", "MD5", "GTSM", "GR", "router first"}[i])
			}
		}
		t.Run(strings.Join(words, ","), func(t *testing.T) {
			secret := filepath.Join(t.TempDir(), "password")
			if err := os.WriteFile(secret, []byte("between us\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			bgp, peer := "", ""
			s := session{as: 64512, netdAS: 64512, id: "192.168.170.138", netd: "192.168.170.137", ttlSecurity: x.gtsm, announce: []string{"10.10.194.128/26"}}
			if x.md5 {
				s.password = "between us"
				if x.program == router.FRR {
					s.password = "between_us" // FRR's passwords end at a blank
					if err := os.WriteFile(secret, []byte("between_us\n"), 0o600); err != nil {
						t.Fatal(err)
					}
				}
			}
			if x.restart {
				s.restart = 120
			} else {
				bgp += "  graceful_restart = \"0s\"\n"
			}
			config := twoNodes
			if x.external {
				s.as, s.announce, s.passive = 65101, []string{"172.30.0.0/24"}, true
				peer = fmt.Sprintf("peer \"tor\" {\n  address      = \"192.168.170.138\"\n  asn          = 65101\n  import       = [\"172.30.0.0/24\"]\n  ttl_security = %v\n  hold_time    = \"9s\"\n", x.gtsm)
				if x.md5 {
					peer += fmt.Sprintf("  password_file = %q\n", secret)
				}
				peer += "}\n"
				config = "network \"lab\" {\n  pools = [\"10.10.0.0/16\"]\n  mode  = \"bgp\"\n  nat_outgoing = false\n}\nnode \"one\" {\n  address = \"192.168.170.137/24\"\n  blocks  = [\"10.10.40.128/26\"]\n}\n" +
					"workload \"web\" {\n  node    = \"one\"\n  address = \"10.10.40.129\"\n  netns   = \"/run/netns/LAB-web\"\n}\n" + peer
			} else {
				bgp += fmt.Sprintf("  ttl_security = %v\n", x.gtsm)
				if x.md5 {
					bgp += fmt.Sprintf("  password_file = %q\n", secret)
				}
			}
			if bgp != "" {
				config = strings.Replace(config, "bgp {\n  hold_time        = \"9s\"\n  graceful_restart = \"120s\"\n}\n", "", 1) + "\nbgp {\n" + bgp + "}\n"
			}
			l := newLab(t, config)
			one, two := l.host("one", "192.168.170.137/24"), l.host("two", "192.168.170.138/24")
			c := l.container("web")
			far := netip.MustParseAddr("10.10.194.134")
			if x.external {
				far = netip.MustParseAddr("172.30.0.9")
			}
			two.Run(t, "ip addr add "+far.String()+"/32 dev lo")
			var r *router.Router
			start := []func(){one.start, func() { r = router.New(t, x.program, two.NS, s.conf(x.program)) }}
			if x.routerFirst {
				start[0], start[1] = start[1], start[0]
			}
			for _, f := range start {
				f()
			}
			begin := time.Now()
			one.up(1)
			t.Logf("up and synced %s after both were started", time.Since(begin).Round(time.Millisecond))
			// Who says no End-of-RIB is waited for 20 s by a new speaker: not in the end, where nothing comes after it.
			back := func(since time.Time, synced bool) {
				t.Helper()
				if synced {
					one.upSince(1, since)
				} else {
					l.wait("a new session", func() string {
						s := one.status()
						if len(s.Peers) != 1 || s.Peers[0].State != "established" || !s.Peers[0].Since.After(since) {
							return fmt.Sprintf("%+v", s)
						}
						return ""
					})
				}
				l.wait("the route there", func() string { return missing(one.routes(s.announce[0]), "via 192.168.170.138") })
				l.wait("the route back", func() string { return missing(two.Run(t, "ip route show 10.10.40.128/26"), "via 192.168.170.137") })
			}
			back(time.Time{}, true)
			restart := func(what string, die func()) {
				t.Helper()
				var there, here *stream.Stream
				gone := two.deleted("ip -4")
				if x.restart {
					there, here = stream.Start(t, c, web, two.NS, far, time.Millisecond), stream.Start(t, two.NS, far, c, web, time.Millisecond)
					there.Flowing(t)
					here.Flowing(t)
				}
				begin := time.Now()
				die()
				back(begin, x.restart || what != "netd")
				if !x.restart {
					return
				}
				to, from := there.Stop(), here.Stop()
				t.Logf("%s restarted: to it %s; from it %s", what, to, from)
				// What FRR's own host refuses to send is no loss of netd's, where FRR took the route out of its own kernel.
				if out := gone(); what == "frr" && strings.Contains(out, "Deleted 10.10.40.128/26 ") {
					t.Logf("frr took out of its own kernel:\n%s", out)
					from.Lost -= from.Refused
				}
				if to.Lost != 0 || from.Lost != 0 {
					t.Errorf("%s restarted: to it %s; from it %s", what, to, from)
				}
			}
			if x.restart {
				restart("netd", one.killSpeaker)
			}
			restart(string(x.program), func() { r.Kill(); r.Start() })
			if !x.restart {
				restart("netd", one.killSpeaker)
			}
		})
	}
}
