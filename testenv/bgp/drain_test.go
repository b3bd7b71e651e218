package bgp

import (
	"strings"
	"testing"

	"netd/testenv/netns"
	"netd/testenv/router"
)

// TestDrain has a switch of two ask to be left before it goes down (RFC 8326): its flows are moved to the other while it still forwards
// them, and nothing is lost. Where both ask, there is nobody else, and both are used.
func TestDrain(t *testing.T) {
	r := newRack(t, []router.Program{router.FRR, router.BIRD}, `
peer "tor-a" {
  address    = "192.168.170.1"
  asn        = 65101
  import     = ["172.30.0.0/24"]
  local_pref = 300
}
peer "tor-b" {
  address    = "192.168.170.2"
  asn        = 65102
  import     = ["172.30.0.0/24"]
  local_pref = 300
}`, []session{{as: 65101, netdAS: 64512, restart: 60}, {as: 65102, netdAS: 64512, restart: 60}})
	r.node.up(2)
	route := func(want string) {
		t.Helper()
		r.wait("the route "+want, func() string {
			return differs(strings.Join(strings.Fields(r.node.routes("172.30.0.0/24")), " "), "172.30.0.0/24 "+want)
		})
	}
	const both = "nexthop via 192.168.170.1 dev eth0 weight 1 nexthop via 192.168.170.2 dev eth0 weight 1"
	route(both)
	since := [2]any{r.node.sinceOf(r.tors[0].addr), r.node.sinceOf(r.tors[1].addr)}
	flows := r.flows(netns.Open("/run/netns/" + r.id + "-web"))
	by := r.seenBy()
	bird := r.sessions[1].conf(router.BIRD)
	drained := strings.Replace(bird, "export where source = RTS_STATIC;", "export filter { if source != RTS_STATIC then reject; bgp_community.add((65535,0)); accept; };", 1)

	r.routers[0].Ask("configure terminal", "router bgp 65101", "bgp graceful-shutdown")
	route("via 192.168.170.2 dev eth0")
	r.wait("words", func() string {
		return missing(r.node.must("show", "routes", "--bgp"), "path 65101, local pref 1, med 0, communities graceful-shutdown\n")
	})
	r.routers[1].Configure(drained)
	route(both)
	r.routers[0].Ask("configure terminal", "router bgp 65101", "no bgp graceful-shutdown")
	route("via 192.168.170.1 dev eth0")
	r.routers[1].Configure(bird)
	route(both)
	used := map[int]bool{}
	for to, s := range flows {
		used[by[to]] = true
		if got := s.Stop(); got.Lost != 0 {
			t.Errorf("the flow to %s: %s", to, got)
		}
	}
	if len(used) != 2 {
		t.Errorf("at first all flows went by one switch: %v", by)
	}
	if now := [2]any{r.node.sinceOf(r.tors[0].addr), r.node.sinceOf(r.tors[1].addr)}; now != since {
		t.Errorf("a session was reset: up since %v, then %v", since, now)
	}
	if out := r.node.must("plan"); !strings.Contains(out, "No changes.") {
		t.Errorf("a plan after that:\n%s", out)
	}
}
