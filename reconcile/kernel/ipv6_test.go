package kernel_test

import (
	"strings"
	"testing"

	"netd/reconcile/object"
	"netd/testenv/netns"
)

const dualStack = `network "lab" {
  pools         = ["10.10.0.0/16", "fd00:10::/48"]
  mode          = "vxlan"
  nat_outgoing6 = true
}
node "baihl-master" {
  address = "192.168.170.137/24"
  blocks  = ["10.10.40.128/26", "fd00:10:0:1::/64"]
}
node "baihl-node" {
  address = "192.168.170.138/24"
  blocks  = ["10.10.194.128/26", "fd00:10:0:2::/64"]
}
workload "nginx-master" {
  node    = "baihl-master"
  address = ["10.10.40.129", "fd00:10:0:1::80"]
  netns   = "/run/netns/nginx-master"
}
`

// TestDualStack leads a fresh host to both families over a tunnel of IPv4, in which a second plan is empty although the
// kernel fills in metrics and links of IPv6 routes, and back.
func TestDualStack(t *testing.T) {
	h := newHostOf(t, dualStack)
	h.box.Run(t, "sysctl -q -w net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1") // as Docker makes it
	before := netns.Run(t, "sysctl net.ipv6.conf.all.forwarding net.ipv6.conf.ens33.accept_ra")
	h.converge()
	if again := h.plan(); !again.Empty() {
		t.Errorf("the second plan is not empty:\n%s", text(again))
	}
	for command, want := range map[string]string{
		"ip -6 route show fd00:10:0:2::/64":                                    "fd00:10:0:2::/64 via fd00:10:0:2:: dev vxlan.netd proto 142 metric 1024 onlink pref medium",
		"ip -6 route show fd00:10:0:1::/64":                                    "blackhole fd00:10:0:1::/64 dev lo proto 142 metric 1024 pref medium",
		"ip -6 route show fd00:10:0:1::80":                                     "fd00:10:0:1::80 dev netd0668201186e proto 142 src fd00:10:0:1:: metric 1024 pref medium",
		"sysctl -n net.ipv6.conf.all.forwarding net.ipv6.conf.ens33.accept_ra": "1\n2",
	} {
		if got := strings.TrimSpace(netns.Run(t, command)); got != want {
			t.Errorf("%s:\n%s\nwant\n%s", command, got, want)
		}
	}
	if got := netns.Run(t, "ip -6 -o addr show dev netd0668201186e"); strings.Count(got, "inet6") != 1 || !strings.Contains(got, "fe80::ecee:eeff:feee:eeee/64 scope link") || strings.Contains(got, "tentative") {
		t.Errorf("addresses of the host's end:\n%s", got)
	}
	// Well within a second, which duplicate detection would take. The kernel makes an address its own by a work queue all the same.
	h.box.Run(t, "ping -6 -c1 -i0.02 -w1 fd00:10:0:1::")
	netns.Run(t, "ping -6 -c1 -i0.02 -w1 fd00:10:0:1::80")
	if got := h.box.Run(t, "ip -6 neigh"); !strings.Contains(got, "fe80::ecee:eeff:feee:eeee dev eth0 lladdr ee:ee:ee:ee:ee:ee") {
		t.Errorf("the container's neighbour:\n%s", got)
	}
	h.cfg = parse(t, strings.NewReplacer(`, "fd00:10::/48"`, "", `, "fd00:10:0:1::/64"`, "", `, "fd00:10:0:2::/64"`, "", `["10.10.40.129", "fd00:10:0:1::80"]`, `"10.10.40.129"`).Replace(dualStack))
	h.converge()
	if got := netns.Run(t, "sysctl net.ipv6.conf.all.forwarding net.ipv6.conf.ens33.accept_ra"); got != before {
		t.Errorf("without IPv6 blocks:\n%swas\n%s", got, before)
	}
	if got := netns.Run(t, "ip -6 route show proto 142"); got != "" {
		t.Errorf("IPv6 routes are left:\n%s", got)
	}
	h.cfg = parse(t, dualStack) // and once more, on the veth that is there
	h.converge()
	h.box.Run(t, "ping -6 -c1 -i0.02 -w1 fd00:10:0:1::")
}

// TestRepairIPv6 has others alter, delete and add to what netd owns of IPv6, one thing at a time, as TestRepair does.
func TestRepairIPv6(t *testing.T) {
	h := newHostOf(t, dualStack)
	netns.Run(t, "ip addr add 2001:db8:1::137/64 dev ens33 nodad")
	h.converge()
	fill := strings.NewReplacer("VETH", object.VethName("file/nginx-master"), "VTEP", strings.Fields(netns.Run(t, "ip neigh show fd00:10:0:2::"))[4]).Replace
	for _, x := range []struct{ kind, where, command string }{
		{"route", "", "ip -6 route del fd00:10:0:2::/64"},
		{"route", "", "ip -6 route replace fd00:10:0:2::/64 via 2001:db8:1::138 dev ens33 proto 142"},
		{"route", "", "ip -6 route replace fd00:10:0:2::/64 via fe80::1 dev vxlan.netd proto 142"},
		{"route", "", "ip -6 route replace fd00:10:0:2::/64 dev vxlan.netd proto 142"},
		{"route", "", "ip -6 route append fd00:10:0:2::/64 via 2001:db8:1::138 dev ens33 proto 142"},
		{"route", "", "ip -6 route add fd00:10:0:2::/64 via 2001:db8:1::138 dev ens33 proto 142 metric 5"},
		{"route", "", "ip -6 route del fd00:10:0:2::/128"},
		{"route", "", "ip -6 route replace unreachable fd00:10:0:1::/64 proto 142"},
		{"route", "", "ip -6 route del blackhole fd00:10:0:1::/64"},
		{"route", "", "ip -6 route replace fd00:10:0:1::80 dev VETH src 2001:db8:1::137 proto 142"},
		{"route", "", "ip -6 route add fd00:10:0:77::/64 via 2001:db8:1::138 dev ens33 proto 142"},
		{"addr", "", "ip addr del fd00:10:0:1::/128 dev vxlan.netd"},
		{"addr", "", "ip addr del fe80::ecee:eeff:feee:eeee/64 dev VETH"},
		{"addr", "box", "ip addr del fd00:10:0:1::80/128 dev eth0"},
		{"route", "box", "ip -6 route del default"},
		{"route", "box", "ip -6 route replace default via fe80::99 dev eth0 proto 142"},
		{"neigh", "", "ip neigh del fd00:10:0:2:: dev vxlan.netd"},
		{"neigh", "", "ip neigh replace fd00:10:0:1::80 lladdr 02:00:00:00:00:09 dev VETH nud permanent"},
		{"neigh", "", "ip neigh add fd00:10:0:2::99 lladdr 02:00:00:00:00:09 dev vxlan.netd nud permanent"},
		{"sysctl", "", "sysctl -q -w net.ipv6.conf.all.forwarding=0"},
		{"sysctl", "", "sysctl -q -w net.ipv6.conf.ens33.accept_ra=1"},
		{"sysctl", "", "sysctl -q -w net.ipv6.conf.VETH.disable_ipv6=1"},
		{"sysctl", "", "sysctl -q -w net.ipv6.conf.VETH.addr_gen_mode=0"},
		{"sysctl", "", "sysctl -q -w net.ipv6.conf.VETH.accept_ra=2"},
		{"sysctl", "", "sysctl -q -w net.ipv6.conf.VETH.accept_dad=1"},
		{"sysctl", "", "sysctl -q -w net.ipv6.conf.VETH.proxy_ndp=0"},
		{"sysctl", "", "sysctl -q -w net.ipv6.conf.vxlan/netd.disable_ipv6=1"},
		{"sysctl", "box", "sysctl -q -w net.ipv6.conf.eth0.disable_ipv6=1"},
		{"link", "", "ip link del vxlan.netd"},
		{"link", "", "ip link del VETH"},
		{"link", "", "ip link set VETH mtu 1000"}, // IPv6 leaves a link below 1280, with its settings
		{"nft", "", "nft delete element inet netd pools6 { fd00:10::/48 }"},
		{"nft", "", "nft add element inet netd pools6 { fd00:11:: - fd00:12:: }"},
		{"nft", "", "nft add element inet netd pools6 { ffff:: - ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff }"},
		{"nft", "", "nft flush set inet netd endpoints6"},
		{"nft", "", "nft add element inet netd nodes { 192.168.170.99 }"},
	} {
		name := x.command
		if x.where != "" {
			name = "in the container: " + name
		}
		t.Run(name, func(t *testing.T) {
			h.t = t
			if x.where == "box" {
				h.box.Run(t, fill(x.command))
			} else {
				netns.Run(t, fill(x.command))
			}
			seen := false
			plan := h.converge()
			for _, c := range plan.Changes {
				seen = seen || c.Key.Kind == x.kind
			}
			if !seen {
				t.Errorf("the plan has no %s:\n%s", x.kind, text(plan))
			}
			if left := h.plan(); !left.Empty() {
				t.Errorf("not repaired:\n%s", text(left))
			}
		})
	}
	h.t = t
}

// TestTunnelFamily has the nodes of a network lose their IPv4 addresses in the file: the tunnel runs over IPv6, and back.
func TestTunnelFamily(t *testing.T) {
	h := newHostOf(t, dualStack)
	netns.Run(t, "ip addr add 2001:db8:1::137/64 dev ens33 nodad")
	four := h.cfg
	six := parse(t, strings.NewReplacer(`address = "192.168.170.137/24"`, `address6 = "2001:db8:1::137/64"`, `address = "192.168.170.138/24"`, `address6 = "2001:db8:1::138/64"`).Replace(dualStack))
	h.converge()
	for _, x := range []struct {
		local, fdb, mtu string
	}{{"local 2001:db8:1::137 ", "dst 2001:db8:1::138 ", "mtu 1430 "}, {"local 192.168.170.137 ", "dst 192.168.170.138 ", "mtu 1450 "}} {
		h.cfg, six = six, four
		h.converge()
		if left := h.plan(); !left.Empty() {
			t.Errorf("the plan is not empty:\n%s", text(left))
		}
		if out := netns.Run(t, "ip -d link show vxlan.netd"); !strings.Contains(out, x.local) || !strings.Contains(out, x.mtu) {
			t.Errorf("want %sand %sin:\n%s", x.local, x.mtu, out)
		}
		if out := netns.Run(t, "bridge fdb show dev vxlan.netd"); !strings.Contains(out, x.fdb) {
			t.Errorf("want %sin:\n%s", x.fdb, out)
		}
	}
}
