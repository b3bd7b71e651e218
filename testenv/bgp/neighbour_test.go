package bgp

import (
	"fmt"
	"strings"

	"netd/testenv/router"
)

// session is what a router's configuration says of its session with netd; the zero value is eBGP or iBGP by the numbers
// alone.
type session struct {
	as, netdAS  uint32
	id          string   // its own address
	v6          bool     // which, and all that is told, is of IPv6
	netd        string   // the neighbour's
	announce    []string // prefixes of its own
	password    string
	ttlSecurity bool
	restart     int  // graceful restart, for so many seconds; 0: off
	passive     bool // it waits to be dialled
	hold        int  // 0: 9 s; negative: none
}

// conf is the session in a router's own words.
func (s session) conf(p router.Program) string {
	if s.hold == 0 {
		s.hold = 9
	}
	s.hold = max(s.hold, 0)
	static, networks := "", ""
	for _, p := range s.announce {
		static += "route " + p + " blackhole; "
		networks += "  network " + p + "\n"
	}
	restart := "off"
	if s.restart > 0 {
		restart = fmt.Sprintf("on; graceful restart time %d", s.restart)
	}
	on := func(b bool, text string) string {
		if b {
			return text
		}
		return ""
	}
	family, routerID := "ipv4", s.id
	if s.v6 {
		family, routerID = "ipv6", "10.255.0.138"
	}
	var b strings.Builder
	if p == router.BIRD {
		fmt.Fprintf(&b, `router id %s;
protocol device { scan time 1; }
protocol kernel { %s %s { import none; export all; }; }
protocol static own { %s; %s }
protocol bgp netd {
  local %s as %d;
  neighbor %s as %d;
  hold time %d;
  connect delay time 1; connect retry time 1; error wait time 1, 4;
  graceful restart %s; long lived graceful restart off;
`, routerID, on(s.restart > 0, "graceful restart on;"), family, family, static, s.id, s.as, s.netd, s.netdAS, s.hold, restart)
		b.WriteString(on(s.password != "", "  password \""+s.password+"\";\n"))
		b.WriteString(on(s.ttlSecurity, "  ttl security on;\n"))
		b.WriteString(on(s.passive, "  passive on;\n"))
		fmt.Fprintf(&b, "  direct;\n  %s { import all; export where source = RTS_STATIC; next hop self; };\n}\n", family)
		return b.String()
	}
	n := "\n neighbor " + s.netd
	fmt.Fprintf(&b, "router bgp %d\n bgp router-id %s\n no bgp ebgp-requires-policy\n no bgp network import-check", s.as, routerID)
	if s.restart > 0 {
		fmt.Fprintf(&b, "\n bgp graceful-restart\n bgp graceful-restart preserve-fw-state\n bgp graceful-restart restart-time %d", s.restart)
	} else {
		b.WriteString("\n bgp graceful-restart-disable")
	}
	b.WriteString(n + fmt.Sprintf(" remote-as %d", s.netdAS))
	b.WriteString(n + fmt.Sprintf(" timers %d %d", s.hold/3, s.hold) + n + " timers connect 1")
	b.WriteString(on(s.password != "", n+" password "+s.password))
	b.WriteString(on(s.ttlSecurity, n+" ttl-security hops 1"))
	b.WriteString(on(s.passive, n+" passive"))
	fmt.Fprintf(&b, "\n address-family %s unicast\n%s  neighbor %s activate\n  neighbor %s next-hop-self\n exit-address-family\n", family, networks, s.netd, s.netd)
	return b.String()
}
