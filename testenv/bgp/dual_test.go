package bgp

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"netd/testenv/netns"
	"netd/testenv/router"
)

const dualFile = `
network "lab" {
  pools        = ["10.10.0.0/16", "fd10::/48"]
  mode         = "bgp"
  nat_outgoing = false
}
node "a" {
  address  = "192.168.170.137/24"
  address6 = "2001:db8:170::137/64"
  blocks   = ["10.10.40.128/26", "fd10:0:0:1::/64"]
}
node "b" {
  address  = "192.168.170.138/24"
  address6 = "2001:db8:170::138/64"
  blocks   = ["10.10.194.128/26", "fd10:0:0:2::/64"]
}
%s
workload "one" {
  node    = "a"
  address = ["10.10.40.129", "fd10:0:0:1::129"]
  netns   = "/run/netns/LAB-one"
}
workload "two" {
  node    = "b"
  address = ["10.10.194.129", "fd10:0:0:2::129"]
  netns   = "/run/netns/LAB-two"
}
`

// routes6 are the IPv6 routes of netd in the host's kernel that begin with a prefix, without what the kernel adds.
func (h *host) routes6(prefix string) string {
	h.lab.t.Helper()
	out := h.Run(h.lab.t, "ip -6 route show proto 142 "+prefix)
	return strings.TrimSpace(strings.ReplaceAll(strings.ReplaceAll(out, " metric 1024", ""), " pref medium", ""))
}

// dual puts an IPv6 address on a host of the lab.
func (h *host) dual(address string) { h.Run(h.lab.t, "ip addr add "+address+" dev eth0 nodad") }

// TestDualStack is two nodes with blocks of both families, and a router that they speak to by one session over IPv4 with
// both families in it, by one over IPv6, or by one over its link-local address.
func TestDualStack(t *testing.T) {
	for _, program := range []router.Program{router.BIRD, router.FRR} {
		for _, over := range []string{"192.168.170.1", "2001:db8:170::1", "fe80::1"} {
			t.Run(fmt.Sprintf("%s over %s", program, over), func(t *testing.T) { dualStack(t, program, netip.MustParseAddr(over)) })
		}
	}
}

func dualStack(t *testing.T, program router.Program, over netip.Addr) {
	l := newLab(t, fmt.Sprintf(dualFile, fmt.Sprintf(`
peer "tor" {
  address = %q
  asn     = 65101
  nodes   = ["a"]
  import  = ["172.30.0.0/24", "fd30::/64"]
}`, over)))
	one, two := l.container("one"), l.container("two")
	a, b, tor := l.host("a", "192.168.170.137/24"), l.host("b", "192.168.170.138/24"), l.host("tor", "192.168.170.1/24")
	a.dual("2001:db8:170::137/64")
	b.dual("2001:db8:170::138/64")
	tor.dual("2001:db8:170::1/64")
	tor.dual("fe80::1/64")
	tor.Run(t, "sysctl -q -w net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1")
	world := &host{NS: netns.New(t, l.id+"-world"), lab: l}
	beyond := "beyond" + l.id
	netns.Run(t, "ip link add "+beyond+" type bridge")
	t.Cleanup(func() { netns.Run(t, "ip link del "+beyond) })
	netns.Run(t, "ip link set "+beyond+" up")
	for _, x := range []struct {
		ns     *netns.NS
		name   string
		v4, v6 string
	}{{tor.NS, "tor", "172.30.0.1/24", "fd30::1/64"}, {world.NS, "world", "172.30.0.9/24", "fd30::9/64"}} {
		l.attach(x.ns, beyond, x.name, x.v4)
		x.ns.Run(t, "ip addr add "+x.v6+" dev up0 nodad")
	}
	world.Run(t, "ip route add default via 172.30.0.1")
	world.Run(t, "ip -6 route add default via fd30::1")
	netd := a.addr
	switch {
	case over.IsLinkLocalUnicast():
		l.wait("the link's own address", func() string { // comes when the kernel has noticed that the link is up
			out := a.Run(t, "ip -6 -o addr show dev eth0 scope link")
			if f := strings.Fields(out); len(f) > 3 {
				netd = netip.MustParsePrefix(f[3]).Addr()
				return ""
			}
			return "there is none: " + out
		})
	case over.Is6():
		netd = netip.MustParseAddr("2001:db8:170::137")
	}
	r := router.New(t, program, tor.NS, dualConf(program, over, netd))
	a.start()
	b.start()
	a.up(3)
	b.up(2)

	l.wait("b's blocks", func() string {
		return differs(a.routes("10.10.194.128/26"), "10.10.194.128/26 via 192.168.170.138 dev eth0")
	})
	l.wait("b's blocks", func() string {
		return differs(a.routes6("fd10:0:0:2::/64"), "fd10:0:0:2::/64 via 2001:db8:170::138 dev eth0")
	})
	via6 := "2001:db8:170::1"
	if over.IsLinkLocalUnicast() && program == router.BIRD { // which is told to give no other
		via6 = "fe80::1"
	}
	l.wait("the router's IPv6 prefix", func() string { return differs(a.routes6("fd30::/64"), "fd30::/64 via "+via6+" dev eth0") })
	l.wait("the router's IPv4 prefix", func() string { return differs(a.routes("172.30.0.0/24"), "172.30.0.0/24 via 192.168.170.1 dev eth0") })
	l.wait("a's blocks at the router", func() string {
		return missing(tor.Run(t, "ip route show 10.10.40.128/26"), "via 192.168.170.137 dev eth0")
	})
	l.wait("a's blocks at the router", func() string {
		return missing(tor.Run(t, "ip -6 route show fd10:0:0:1::/64"), "via 2001:db8:170::137 dev eth0")
	})
	for _, ping := range []struct {
		from *netns.NS
		to   string
	}{{one, "172.30.0.9"}, {one, "fd30::9"}, {world.NS, "10.10.40.129"}, {world.NS, "fd10:0:0:1::129"}, {one, "10.10.194.129"}, {one, "fd10:0:0:2::129"}, {two, "fd10:0:0:1::129"}} {
		ping.from.Run(t, "ping -q -c 2 -i 0.05 -w20 "+ping.to)
	}
	if out := a.must("plan"); !strings.Contains(out, "No changes.") {
		t.Errorf("the plan after that:\n%s", out)
	}
	// One prefix of each family both ways, however the session's address is written. FRR tells a neighbour its own prefixes too.
	counts, back := " 2 2 0 2 ", "No routes."
	if program == router.FRR {
		counts, back = " 4 2 2 2 ", "a loop: this node's AS 64512 is in its path"
	}
	l.wait("the counts", func() string {
		return missing(strings.Join(strings.Fields(a.must("show", "peers", "tor")), " ")+" ", counts)
	})
	if out := a.must("show", "peers", "tor", "--routes", "rejected"); missing(out, back) != "" || strings.Contains(out, "172.30.0.0/24") || strings.Contains(out, "fd30::/64") {
		t.Errorf("rejected:\n%s", out)
	}
	// Two nodes have a session for each family, and one name.
	for which, blocks := range map[string][2]string{"accepted": {"10.10.194.128/26", "fd10:0:0:2::/64"}, "advertised": {"10.10.40.128/26", "fd10:0:0:1::/64"}} {
		if out := a.must("show", "peers", "b", "--routes", which); missing(out, blocks[0]) != "" || missing(out, blocks[1]) != "" {
			t.Errorf("%s by b:\n%s", which, out)
		}
	}
	if b.routes("172.30.0.0/24") != "" || b.routes6("fd30::/64") != "" {
		t.Error("what a imports from the router reached b")
	}
	_ = r
}

// dualConf is a router with one session that carries both families.
func dualConf(p router.Program, own, netd netip.Addr) string {
	var b strings.Builder
	if p == router.BIRD {
		dev := ""
		if own.IsLinkLocalUnicast() {
			dev = "interface \"eth0\";"
		}
		fmt.Fprintf(&b, `router id 192.168.170.1;
protocol device { scan time 1; }
protocol kernel { ipv4 { import none; export where source = RTS_BGP; }; }
protocol kernel { ipv6 { import none; export where source = RTS_BGP; }; }
protocol static { ipv4; route 172.30.0.0/24 blackhole; }
protocol static { ipv6; route fd30::/64 blackhole; }
protocol bgp netd {
  local %s as 65101;
  neighbor %s as 64512;
  %s
  hold time 9;
  connect delay time 1; connect retry time 1; error wait time 1, 4;
  graceful restart on; direct;
  ipv4 { import all; export where source = RTS_STATIC; next hop address 192.168.170.1; };
  ipv6 { import all; export where source = RTS_STATIC; next hop address %s; };
}
`, own, netd, dev, map[bool]string{true: "fe80::1", false: "2001:db8:170::1"}[own.IsLinkLocalUnicast()])
		return b.String()
	}
	n := "\n neighbor " + netd.String()
	fmt.Fprintf(&b, "router bgp 65101\n bgp router-id 192.168.170.1\n no bgp ebgp-requires-policy\n no bgp network import-check\n no bgp default ipv4-unicast\n bgp graceful-restart")
	b.WriteString(n + " remote-as 64512" + n + " timers 3 9" + n + " timers connect 1")
	if own.IsLinkLocalUnicast() {
		b.WriteString(n + " interface eth0")
	}
	fmt.Fprintf(&b, "\n address-family ipv4 unicast\n  network 172.30.0.0/24\n  neighbor %s activate\n  neighbor %s route-map v4 out\n exit-address-family\n", netd, netd)
	fmt.Fprintf(&b, " address-family ipv6 unicast\n  network fd30::/64\n  neighbor %s activate\n  neighbor %s route-map v6 out\n exit-address-family\n", netd, netd)
	b.WriteString("route-map v4 permit 10\n set ip next-hop 192.168.170.1\n")
	b.WriteString("route-map v6 permit 10\n set ipv6 next-hop global 2001:db8:170::1\n")
	return b.String()
}
