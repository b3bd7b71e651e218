package bgp

import (
	"fmt"
	"strings"
	"testing"

	"netd/testenv/netns"
	"netd/testenv/router"
)

// torConf is a switch that tells each of its neighbours what the others told.
func torConf(p router.Program, as int, id string, neighbours [][2]any) string {
	var b strings.Builder
	if p == router.BIRD {
		fmt.Fprintf(&b, "router id %s;\nprotocol device { scan time 1; }\nprotocol kernel { ipv4 { import none; export where source = RTS_BGP; }; }\n", id)
		for i, n := range neighbours {
			fmt.Fprintf(&b, "protocol bgp n%d {\n  local as %d;\n  neighbor %s as %d;\n  hold time 9;\n  connect delay time 1; connect retry time 1; error wait time 1, 4;\n"+
				"  graceful restart on; direct;\n  ipv4 { import all; export where source = RTS_BGP; next hop self; };\n}\n", i, as, n[0], n[1])
		}
		return b.String()
	}
	fmt.Fprintf(&b, "router bgp %d\n bgp router-id %s\n no bgp ebgp-requires-policy\n bgp graceful-restart", as, id)
	for _, n := range neighbours {
		fmt.Fprintf(&b, "\n neighbor %s remote-as %d\n neighbor %s timers 3 9\n neighbor %s timers connect 1", n[0], n[1], n[0], n[0])
	}
	b.WriteString("\n address-family ipv4 unicast\n")
	for _, n := range neighbours {
		fmt.Fprintf(&b, "  neighbor %s next-hop-self\n", n[0])
	}
	b.WriteString(" exit-address-family\n")
	return b.String()
}

// TestSubnets is two nodes in two subnets with a switch between, which knows the blocks by its sessions with both. Nodes of
// one AS learn each other's blocks from each other, and resolve the next hop by their own route to it, which they follow;
// nodes of two AS without a mesh learn them from the switch.
func TestSubnets(t *testing.T) {
	for _, program := range []router.Program{router.BIRD, router.FRR} {
		for _, mesh := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s/mesh=%v", program, mesh), func(t *testing.T) { subnets(t, program, mesh) })
		}
	}
}

func subnets(t *testing.T, program router.Program, mesh bool) {
	as := [2]int{64512, 64512}
	if !mesh {
		as = [2]int{64601, 64602}
	}
	l := newLab(t, fmt.Sprintf(`
network "lab" {
  pools        = ["10.10.0.0/16"]
  mode         = "bgp"
  nat_outgoing = false
}
bgp {
  mesh = %v
}
node "a" {
  address = "192.168.170.137/24"
  blocks  = ["10.10.40.128/26"]
  asn     = %d
}
node "b" {
  address = "192.168.171.138/24"
  blocks  = ["10.10.194.128/26"]
  asn     = %d
}
peer "tor-a" {
  address = "192.168.170.1"
  asn     = 65101
  nodes   = ["a"]
  import  = ["10.10.0.0/16 ge 24 le 26"]
}
peer "tor-b" {
  address = "192.168.171.1"
  asn     = 65101
  nodes   = ["b"]
  import  = ["10.10.0.0/16 ge 24 le 26"]
}
workload "one" {
  node    = "a"
  address = "10.10.40.129"
  netns   = "/run/netns/LAB-one"
}
workload "two" {
  node    = "b"
  address = "10.10.194.129"
  netns   = "/run/netns/LAB-two"
}
`, mesh, as[0], as[1]))
	one, two := l.container("one"), l.container("two")
	tor := l.host("tor", "192.168.170.1/24")
	tor.Run(t, "ip addr add 192.168.170.2/24 dev eth0")
	other := "other" + l.id
	netns.Run(t, "ip link add "+other+" type bridge")
	t.Cleanup(func() { netns.Run(t, "ip link del "+other) })
	netns.Run(t, "ip link set "+other+" up")
	l.attach(tor.NS, other, "tor", "192.168.171.1/24")
	tor.Run(t, "sysctl -q -w net.ipv4.ip_forward=1 net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.eth0.rp_filter=0 net.ipv4.conf.eth0.send_redirects=0 net.ipv4.conf.all.send_redirects=0")
	a := l.host("a", "192.168.170.137/24")
	b := l.host("b", "192.168.171.138/24")
	netns.Run(t, fmt.Sprintf("ip link set %s-b master %s", l.id, other))
	a.Run(t, "ip route add default via 192.168.170.1")
	b.Run(t, "ip route add default via 192.168.171.1")
	router.New(t, program, tor.NS, torConf(program, 65101, "192.168.170.1", [][2]any{{"192.168.170.137", as[0]}, {"192.168.171.138", as[1]}}))
	a.start()
	b.start()
	n := 1
	if mesh {
		n = 2
	}
	a.up(n)
	b.up(n)
	l.wait("the far block", func() string {
		return differs(a.routes("10.10.194.128/26"), "10.10.194.128/26 via 192.168.170.1 dev eth0")
	})
	l.wait("the far block", func() string {
		return differs(b.routes("10.10.40.128/26"), "10.10.40.128/26 via 192.168.171.1 dev eth0")
	})
	one.Run(t, "ping -q -c 3 -i 0.05 -w20 10.10.194.129")
	two.Run(t, "ping -q -c 3 -i 0.05 -w20 10.10.40.129")
	if out := a.must("plan"); !strings.Contains(out, "No changes.") {
		t.Errorf("the plan after that:\n%s", out)
	}
	// A smaller link behind the switch: what it says of that comes in bare from an address of no pool, and reaches the container.
	tor.Run(t, "ip link set up0 mtu 1300")
	l.wait("the switch's word", func() string {
		out, err := one.Output("ping", "-c", "1", "-W", "1", "-M", "do", "-s", "1400", "10.10.194.129")
		if err == nil || !strings.Contains(out, "mtu = 1300") && !strings.Contains(out, "mtu=1300") {
			return "ping says: " + out
		}
		return ""
	})
	tor.Run(t, "ip link set up0 mtu 1500")
	if !mesh {
		return
	}
	// The host's own route to the far node changes: the learned one follows.
	a.Run(t, "ip route add 192.168.171.0/24 via 192.168.170.2")
	took := l.wait("the other way", func() string {
		return differs(a.routes("10.10.194.128/26"), "10.10.194.128/26 via 192.168.170.2 dev eth0")
	})
	a.Run(t, "ip route add 192.168.171.138/32 nexthop via 192.168.170.1 nexthop via 192.168.170.2")
	both := "10.10.194.128/26\n\tnexthop via 192.168.170.1 dev eth0 weight 1\n\tnexthop via 192.168.170.2 dev eth0 weight 1"
	took += l.wait("both ways", func() string { return differs(a.routes("10.10.194.128/26"), both) })
	one.Run(t, "ping -q -c 3 -i 0.05 -w20 10.10.194.129")
	a.Run(t, "ip route del 192.168.171.138/32")
	a.Run(t, "ip route del 192.168.171.0/24")
	took += l.wait("the first way", func() string {
		return differs(a.routes("10.10.194.128/26"), "10.10.194.128/26 via 192.168.170.1 dev eth0")
	})
	if took > 20e9 {
		t.Errorf("three changes took %s to follow: not by their events", took)
	}
}
