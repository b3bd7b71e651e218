package main

import (
	"fmt"
	"strings"
	"testing"

	"netd/testenv/netns"
)

const sixAlone = `network "lab" {
  pools         = ["fd00:10::/48"]
  mode          = "bgp"
  nat_outgoing6 = true
}
node "a" {
  address6  = "2001:db8:1::1/64"
  router_id = "192.0.2.1"
  blocks    = ["fd00:10:0:1::/64"]
}
node "b" {
  address6  = "2001:db8:1::2/64"
  router_id = "192.0.2.2"
  blocks    = ["fd00:10:0:2::/64"]
}
workload "c-a" {
  node    = "a"
  address = "fd00:10:0:1::10"
  netns   = "/run/netns/c-a"
}
workload "c-b" {
  node    = "b"
  address = "fd00:10:0:2::10"
  netns   = "/run/netns/c-b"
}
`

// TestIPv6BGP has an underlay and containers that speak IPv6 alone in mode bgp: the session, the routes, and the world beyond.
func TestIPv6BGP(t *testing.T) {
	l := newUnderlay(t, sixAlone, "a", "b")
	world := netns.New(t, "world")
	l.wire("a eth0 2001:db8:1::1/64", "b eth0 2001:db8:1::2/64", "world eth0 2001:db8:1::fe/64")
	world.Run(t, "ip addr add 2001:db8:ffff::1/128 dev lo nodad")
	a, b := l.hosts[0], l.hosts[1]
	for _, h := range l.hosts {
		h.Run(t, "ip route add default via 2001:db8:1::fe")
		h.start()
	}
	l.wait("the learned route", func() string {
		out, err := a.Output("ip", "-6", "route", "show", "fd00:10:0:2::/64")
		if err != nil || !strings.Contains(out, "via 2001:db8:1::2 dev eth0") {
			return "there is " + out
		}
		return ""
	})
	l.settled()
	for _, from := range []*netns.NS{a.container, b.container, a.NS, b.NS} {
		for i := range l.hosts {
			l.pings(from, fmt.Sprintf("fd00:10:0:%d::10", i+1), 1500)
		}
	}
	l.pings(a.container, "2001:db8:ffff::1", 1500) // masqueraded: the world knows no way to the pool
	if out := a.must(0, "show", "peers"); !strings.Contains(out, "2001:db8:1::2  64512  established") {
		t.Errorf("the sessions:\n%s", out)
	}
	if out := a.must(0, "test"); !strings.Contains(out, "2001:db8:1::2") || strings.Contains(out, "lost") {
		t.Errorf("netd test:\n%s", out)
	}
}
