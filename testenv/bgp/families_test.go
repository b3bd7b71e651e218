package bgp

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"netd/testenv/router"
)

// TestFewerFamilies has a router that restarts gracefully come back without IPv6. What it had there goes although
// no End-of-RIB ever says so, and what it tells again of IPv4 is there. (TestRestartNoMore has it come back without any graceful restart.)
func TestFewerFamilies(t *testing.T) {
	for _, x := range []struct {
		name    string
		program router.Program
		less    func(conf string) string
	}{
		{"BIRD without IPv6", router.BIRD, func(conf string) string {
			before, after, _ := strings.Cut(conf, "  ipv6 { import all;")
			_, after, _ = strings.Cut(after, "\n")
			return before + after
		}},
		{"FRR without IPv6", router.FRR, func(conf string) string {
			before, after, _ := strings.Cut(conf, " address-family ipv6 unicast\n")
			_, after, _ = strings.Cut(after, "exit-address-family\n")
			return before + after
		}},
	} {
		t.Run(x.name, func(t *testing.T) {
			l := newLab(t, fmt.Sprintf(dualFile, `
peer "tor" {
  address = "192.168.170.1"
  asn     = 65101
  nodes   = ["a"]
  import  = ["172.30.0.0/24", "fd30::/64"]
}
bgp {
  mesh = false
}`))
			l.container("one")
			a, tor := l.host("a", "192.168.170.137/24"), l.host("tor", "192.168.170.1/24")
			a.dual("2001:db8:170::137/64")
			tor.dual("2001:db8:170::1/64")
			conf := dualConf(x.program, tor.addr, a.addr)
			r := router.New(t, x.program, tor.NS, conf)
			a.start()
			there := func() string {
				return missing(a.routes("172.30.0.0/24"), "via 192.168.170.1 ") + missing(a.routes6("fd30::/64"), "via 2001:db8:170::1 ")
			}
			a.up(1)
			l.wait("both routes", there)
			gone := a.deleted("ip -4")
			begin := time.Now()
			r.Kill()
			r.Write(x.less(conf))
			if out := there(); out != "" {
				t.Errorf("the routes of a router that restarts went at once: %s", out)
			}
			r.Start()
			a.upSince(1, begin)
			took := l.within(15*time.Second, "the end of what it does not tell any more", func() string { return a.routes6("fd30::/64") })
			t.Logf("it went %s after the router was back", took)
			l.wait("the other family's route", func() string { return missing(a.routes("172.30.0.0/24"), "via 192.168.170.1 ") })
			t.Logf("of IPv4 went meanwhile: %q", gone())
		})
	}
}
