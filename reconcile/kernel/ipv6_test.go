package kernel_test

import (
	"strings"
	"testing"

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
	h.box.Run(t, "ping -6 -c1 -W1 fd00:10:0:1::") // at once: no address waits for duplicate detection
	netns.Run(t, "ping -6 -c1 -W1 fd00:10:0:1::80")
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
}
