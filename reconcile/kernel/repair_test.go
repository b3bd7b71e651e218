package kernel_test

import (
	"strings"
	"testing"

	"netd/config"
	"netd/reconcile/object"
	"netd/testenv/netns"
)

// TestRepair has others alter, delete and add to what netd owns, one thing at a time: each is seen by the plan, as an object
// of the kind named, and repaired in one pass, after which the plan is empty.
func TestRepair(t *testing.T) {
	h := newHost(t, config.ModeVXLAN)
	h.converge()
	veth := object.VethName("file/nginx-master")
	fill := strings.NewReplacer("VETH", veth, "VTEP", strings.Fields(netns.Run(t, "ip neigh show 10.10.194.128"))[4]).Replace
	for _, x := range []struct{ kind, where, command string }{
		{"route", "", "ip route del 10.10.194.128/26"},
		{"route", "", "ip route replace 10.10.194.128/26 via 192.168.170.138 dev ens33 proto 142"},
		{"route", "", "ip route replace 10.10.194.128/26 via 10.10.194.129 dev vxlan.netd onlink proto 142"},
		{"route", "", "ip route replace 10.10.194.128/26 dev vxlan.netd proto 142"},
		{"route", "", "ip route replace unreachable 10.10.40.128/26 proto 142"},
		{"route", "", "ip route del blackhole 10.10.40.128/26"},
		{"route", "", "ip route replace 10.10.40.129 dev VETH scope link src 192.168.170.137 proto 142"},
		{"route", "", "ip route add 10.10.77.0/26 via 192.168.170.138 dev ens33 proto 142"},
		{"link", "", "ip link set VETH down"},
		{"link", "", "ip link set VETH mtu 1300"},
		{"link", "", "ip link set VETH address 02:00:00:00:00:09"},
		{"link", "", "ip link set VETH alias other"},
		{"link", "", "ip link del VETH"},
		{"link", "", "ip link set vxlan.netd down"},
		{"link", "", "ip link set vxlan.netd mtu 1300"},
		{"link", "", "ip link set vxlan.netd address 02:00:00:00:00:09"},
		{"link", "", "ip link del vxlan.netd"},
		{"link", "", "ip link set VETH down && ip link set VETH name foo && ip link set foo up"}, // at once only from Linux 6.2 on
		{"link", "", "ip link set VETH down && ip link set VETH name netd0123456789a"},
		{"link", "", "ip link set vxlan.netd down && ip link set vxlan.netd name foo && ip link set foo up"},
		{"link", "", "ip link set VETH group 0"},
		{"link", "", "ip link set VETH group 7 mtu 1300"},
		{"link", "", "ip link set vxlan.netd group 0"},
		{"link", "", "ip link add br7 type bridge && ip link set VETH master br7"},
		{"link", "", "ip link set vxlan.netd master br7"},
		{"link", "box", "ip link set eth0 down"},
		{"link", "box", "ip link set eth0 mtu 1300"},
		{"link", "box", "ip link set eth0 address 02:00:00:00:00:09"},
		{"addr", "box", "ip addr flush dev eth0"},
		{"route", "box", "ip route del default"},
		{"route", "box", "ip route replace default via 169.254.1.1 dev eth0 src 10.10.40.129 proto 142"},
		{"addr", "", "ip addr del 10.10.40.128/32 dev vxlan.netd"},
		{"addr", "", "ip addr del 169.254.1.1/32 dev VETH"},
		{"neigh", "", "ip neigh del 10.10.194.128 dev vxlan.netd"},
		{"neigh", "", "ip neigh replace 10.10.194.128 lladdr 02:00:00:00:00:09 dev vxlan.netd nud permanent"},
		{"neigh", "", "ip neigh add 10.10.194.200 lladdr 02:00:00:00:00:09 dev vxlan.netd nud permanent"},
		{"neigh", "", "ip neigh del 10.10.40.129 dev VETH"},
		{"fdb", "", "bridge fdb del VTEP dev vxlan.netd dst 192.168.170.138"},
		{"fdb", "", "bridge fdb replace VTEP dev vxlan.netd dst 192.168.170.99"},
		{"fdb", "", "bridge fdb add 02:00:00:00:00:09 dev vxlan.netd dst 192.168.170.99"},
		{"sysctl", "", "sysctl -q -w net.ipv4.conf.ens33.forwarding=0"},
		{"sysctl", "", "sysctl -q -w net.ipv4.conf.VETH.proxy_arp=0"},
		{"sysctl", "", "sysctl -q -w net.ipv4.conf.VETH.rp_filter=0"},
		{"sysctl", "", "sysctl -q -w net.ipv4.conf.vxlan/netd.rp_filter=1"},
		{"sysctl", "", "sysctl -q -w net.ipv4.neigh.VETH.proxy_delay=80"},
		{"sysctl", "", "sysctl -q -w net.ipv6.conf.VETH.disable_ipv6=0"},
		{"sysctl", "", "sysctl -q -w net.ipv4.ip_forward=1"},
		{"nft", "", "nft flush chain inet netd spoof"},
		{"nft", "", "nft add rule inet netd spoof accept"},
		{"nft", "", "nft insert rule inet netd vxlan-wire accept"},
		{"nft", "", "nft delete element inet netd nodes { 192.168.170.138 }"},
		{"nft", "", "nft add element inet netd nodes { 192.168.170.99 }"},
		{"nft", "", "nft add element inet netd pools { 10.99.0.0/16 }"},
		{"nft", "", "nft flush set inet netd veths"},
		{"nft", "", "nft add chain inet netd other"},
		{"nft", "", "nft add chain inet netd forward { type filter hook forward priority 0 ; policy drop ; }"},
		{"nft", "", "nft delete table inet netd"},
		{"nft", "", "nft delete table arp netd"},
	} {
		name := x.command
		if x.where != "" {
			name = "in the container: " + name
		}
		t.Run(name, func(t *testing.T) {
			h.t = t
			command := fill(x.command)
			if x.where == "box" {
				h.box.Run(t, command)
			} else {
				for part := range strings.SplitSeq(command, " && ") {
					netns.Run(t, part)
				}
			}
			if !strings.Contains(command, " name ") { // for a link of another name all are looked at
				h.singly()
			}
			plan := h.converge()
			seen := false
			for _, c := range plan.Changes {
				seen = seen || c.Key.Kind == x.kind
			}
			if !seen && x.command != "sysctl -q -w net.ipv4.ip_forward=1" {
				t.Errorf("the plan has no %s:\n%s", x.kind, text(plan))
			}
			if left := h.plan(); !left.Empty() {
				t.Errorf("not repaired:\n%s", text(left))
			}
		})
	}
	h.t = t
}
