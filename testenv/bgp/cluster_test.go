package bgp

import (
	"fmt"
	"strings"
	"testing"

	"netd/testenv/netns"
	"netd/testenv/router"
)

// twoReflectors have one client, and tell a router of their AS what it tells.
const twoReflectors = `network "lab" {
  pools = ["10.10.0.0/16"]
  mode  = "bgp"
}

node "rr1" {
  address         = "192.168.170.1/24"
  blocks          = []
  route_reflector = "192.168.170.1"
}

node "rr2" {
  address         = "192.168.170.2/24"
  blocks          = []
  route_reflector = "192.168.170.2"
}

node "three" {
  address = "192.168.170.139/24"
  blocks  = ["10.10.3.0/24"]
}

peer "core" {
  address       = "192.168.170.5"
  asn           = 64512
  nodes         = ["rr1", "rr2"]
  export        = ["10.10.0.0/16 le 26"]
  next_hop_self = false
}
`

// TestClusterLoop has two reflectors tell a core router of theirs, which reflects between the two, what their clients tell. What a
// client takes back is gone everywhere, as often as it does: neither keeps what the other one was told, by way of the core.
func TestClusterLoop(t *testing.T) {
	netns.Need(t)
	for _, x := range []struct {
		p      router.Program
		shared bool // one cluster
	}{{router.BIRD, false}, {router.FRR, false}, {router.FRR, true}} {
		p, file := x.p, twoReflectors
		if x.shared {
			file = strings.NewReplacer(`route_reflector = "192.168.170.1"`, `route_reflector = "192.0.2.1"`, `route_reflector = "192.168.170.2"`, `route_reflector = "192.0.2.1"`).Replace(file)
		}
		t.Run(fmt.Sprintf("%s, one cluster %v", p, x.shared), func(t *testing.T) {
			l := newLab(t, file)
			rr1, rr2, core, client := l.host("rr1", "192.168.170.1/24"), l.host("rr2", "192.168.170.2/24"), l.host("core", "192.168.170.5/24"), l.host("three", "192.168.170.139/24")
			bird := `router id 192.168.170.5;
protocol device { scan time 1; }
template bgp clients {
  local 192.168.170.5 as 64512; hold time 9; passive on; direct; graceful restart on; rr client; rr cluster id 192.168.170.5;
  ipv4 { import all; export all; };
}
protocol bgp peer1 from clients { neighbor 192.168.170.1 as 64512; }
protocol bgp peer2 from clients { neighbor 192.168.170.2 as 64512; }
`
			frr := "router bgp 64512\n bgp router-id 192.168.170.5\n bgp cluster-id 192.168.170.5\n bgp graceful-restart\n no bgp network import-check\n"
			for _, n := range []string{"192.168.170.1", "192.168.170.2"} {
				frr += fmt.Sprintf(" neighbor %[1]s remote-as 64512\n neighbor %[1]s timers 3 9\n neighbor %[1]s timers connect 1\n neighbor %[1]s passive\n"+
					" address-family ipv4 unicast\n  neighbor %[1]s route-reflector-client\n exit-address-family\n", n)
			}
			r := router.New(t, p, core.NS, map[router.Program]string{router.BIRD: bird, router.FRR: frr}[p])
			has := func() string {
				if p == router.BIRD {
					return r.Ask("show route where net = 10.10.3.0/24 all")
				}
				return r.Ask("show bgp ipv4 unicast 10.10.3.0/24")
			}
			rr1.start()
			rr2.start()
			var to [2]*router.Raw
			for i, rr := range []*host{rr1, rr2} {
				to[i] = l.member(client, rr)
				l.say(to[i], router.EndOfRIB())
			}
			for i := range 3 {
				for _, s := range to {
					l.say(s, router.Announce(client.addr, nil, prefixes("10.10.3.0/24")...))
				}
				l.wait("the core to know it", func() string { return missing(has(), "192.168.170.139") })
				for _, rr := range []*host{rr1, rr2} {
					l.wait(rr.Name+" to have the way", func() string { return missing(rr.routes("10.10.3.0/24"), "via 192.168.170.139 ") })
				}
				if p == router.FRR && i == 0 { // BIRD tells nobody what it has from him
					l.wait("a reflector to refuse what came back", func() string {
						out := rr1.must("show", "peers", "core", "--routes", "rejected") + rr2.must("show", "peers", "core", "--routes", "rejected")
						return missing(out, "a loop: this node's cluster 192.")
					})
				}
				first := i % 2
				for _, s := range []*router.Raw{to[first], to[1-first]} {
					l.say(s, router.Update(prefixes("10.10.3.0/24"), nil))
				}
				for _, rr := range []*host{rr1, rr2} {
					l.wait(rr.Name+" to have none", func() string {
						if rr.routes("10.10.3.0/24") == "" {
							return ""
						}
						return rr1.must("show", "routes", "--bgp") + rr2.must("show", "routes", "--bgp") + has()
					})
				}
				l.wait("the core to have none", func() string {
					if out := has(); strings.Contains(out, "192.168.170.139") {
						return out
					}
					return ""
				})
			}
			for _, rr := range []*host{rr1, rr2} {
				if out := rr.must("plan"); missing(out, "No changes.") != "" {
					t.Errorf("a plan after that:\n%s", out)
				}
			}
		})
	}
}
