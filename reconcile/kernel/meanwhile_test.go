package kernel_test

import (
	"context"
	"net/netip"
	"strings"
	"testing"

	"netd/reconcile/kernel"
	"netd/reconcile/object"
	"netd/testenv/netns"
)

// TestMeanwhile has others take a place between the moment that netd looked and the one that it writes: what is theirs stays
// as it is, whatever the pass makes of the rest, and once it is gone the next pass brings netd's own back.
func TestMeanwhile(t *testing.T) {
	h := newHostOf(t, dualStack)
	c := &contract{host: h, t: t}
	c.home()
	veth := object.VethName("file/nginx-master")
	vtep := strings.Fields(netns.Run(t, "ip neigh show 10.10.194.128"))[4]
	foreignVXLAN := []string{"ip link del vxlan.netd", "ip link add vxlan.netd type vxlan id 9 dstport 9999 dev ens33", "ip link set vxlan.netd up"}
	foreignVeth := []string{"ip link del VETH", "ip link add VETH type veth peer name stranger", "ip link set VETH up"}
	vxlanAgain, vethAgain := []string{"ip link del vxlan.netd"}, []string{"ip link del VETH"}
	for _, x := range []struct {
		what  string
		drift string   // what netd is to repair
		then  []string // what a stranger does after netd looked
		show  string   // the stranger's, before and after
		undo  []string
	}{
		{"a route in the place of one that changes", "ip route replace 10.10.194.128/26 via 192.168.170.138 dev ens33 proto 142",
			[]string{"ip route replace 10.10.194.128/26 via 192.168.170.99 dev ens33 proto static"},
			"ip route show 10.10.194.128/26 proto static", []string{"ip route del 10.10.194.128/26 proto static"}},
		{"a route before one that changes", "ip route replace 10.10.194.128/26 via 192.168.170.138 dev ens33 proto 142",
			[]string{"ip route prepend 10.10.194.128/26 via 192.168.170.99 dev ens33 proto static"},
			"ip route show 10.10.194.128/26 proto static", []string{"ip route del 10.10.194.128/26 proto static"}},
		{"a route before a blackhole that changes", "ip route replace unreachable 10.10.40.128/26 proto 142",
			[]string{"ip route prepend 10.10.40.128/26 via 192.168.170.99 dev ens33 proto static"},
			"ip route show 10.10.40.128/26 proto static", []string{"ip route del 10.10.40.128/26 proto static"}},
		{"a route in the place of one that comes", "ip route del 10.10.194.128/26",
			[]string{"ip route add 10.10.194.128/26 via 192.168.170.99 dev ens33 proto static"},
			"ip route show 10.10.194.128/26 proto static", []string{"ip route del 10.10.194.128/26 proto static"}},
		{"a route in the place of one that goes", "ip route add 10.10.77.0/26 via 192.168.170.138 dev ens33 proto 142",
			[]string{"ip route replace 10.10.77.0/26 via 192.168.170.138 dev ens33 proto static"},
			"ip route show 10.10.77.0/26 proto static", []string{"ip route del 10.10.77.0/26 proto static"}},
		{"an IPv6 route in the place of one that changes", "ip -6 route replace fd00:10:0:2::/64 via fe80::99 dev ens33 proto 142",
			[]string{"ip -6 route replace fd00:10:0:2::/64 via fe80::98 dev ens33 proto static"},
			"ip -6 route show fd00:10:0:2::/64", []string{"ip -6 route del fd00:10:0:2::/64 proto static"}},
		{"an IPv6 next hop with one that changes", "ip -6 route replace fd00:10:0:2::/64 via fe80::99 dev ens33 proto 142",
			[]string{"ip -6 route append fd00:10:0:2::/64 via fe80::98 dev ens33 proto static"},
			"ip -6 route show fd00:10:0:2::/64", []string{"ip -6 route del fd00:10:0:2::/64 proto static"}},
		{"an IPv6 next hop with one that goes", "ip -6 route add fd00:10:0:77::/64 via fe80::99 dev ens33 proto 142",
			[]string{"ip -6 route append fd00:10:0:77::/64 via fe80::98 dev ens33 proto static"},
			"ip -6 route show fd00:10:0:77::/64", []string{"ip -6 route del fd00:10:0:77::/64 proto static"}},
		{"the metric of an IPv6 route's stand-in", "ip -6 route replace fd00:10:0:2::/64 via fe80::99 dev ens33 proto 142",
			[]string{"ip -6 route add fd00:10:0:2::/64 via fe80::98 dev ens33 metric 1023 proto static"},
			"ip -6 route show fd00:10:0:2::/64 proto static", []string{"ip -6 route del fd00:10:0:2::/64 proto static"}},
		{"a next hop object in the place of one that changes", "ip nexthop replace id 7 via 192.168.170.140 dev ens33 proto 142",
			[]string{"ip nexthop del id 7", "ip nexthop add id 7 via 192.168.170.99 dev ens33 proto static"},
			"ip nexthop show id 7", []string{"ip nexthop del id 7"}},
		{"a next hop object in the place of one that goes", "ip nexthop add id 8 via 192.168.170.140 dev ens33 proto 142",
			[]string{"ip nexthop del id 8", "ip nexthop add id 8 via 192.168.170.99 dev ens33 proto static"},
			"ip nexthop show id 8", []string{"ip nexthop del id 8"}},
		{"an address in the place of one that goes", "address 10.10.40.140/32 of netd's",
			[]string{"ip addr del 10.10.40.140/32 dev vxlan.netd", "ip addr add 10.10.40.140/32 dev vxlan.netd"},
			"ip -o addr show to 10.10.40.140", []string{"ip addr del 10.10.40.140/32 dev vxlan.netd"}},
		{"a device of that name, for a neighbour", "ip neigh del 10.10.194.128 dev vxlan.netd",
			append(foreignVXLAN[:3:3], "ip neigh add 10.10.194.128 lladdr 02:00:00:00:00:77 dev vxlan.netd nud permanent"),
			"ip neigh show dev vxlan.netd", vxlanAgain},
		{"a device of that name, for a forwarding entry", "bridge fdb del VTEP dev vxlan.netd dst 192.168.170.138",
			append(foreignVXLAN[:3:3], "bridge fdb add VTEP dev vxlan.netd dst 192.168.170.99"),
			"bridge fdb show dev vxlan.netd", vxlanAgain},
		{"a device of that name, for an address", "ip addr del 10.10.40.128/32 dev vxlan.netd", foreignVXLAN,
			"ip -o -4 addr show dev vxlan.netd", vxlanAgain},
		{"a device of that name, for a route", "ip route del 10.10.194.128/26", foreignVXLAN,
			"ip route show dev vxlan.netd", vxlanAgain},
		{"a device of that name, for its MTU", "ip link set vxlan.netd mtu 1300", foreignVXLAN,
			"ip -d link show dev vxlan.netd", vxlanAgain},
		{"a veth of that name, for its MTU", "ip link set VETH mtu 1300", foreignVeth, "ip -d link show dev VETH", vethAgain},
		{"a veth of that name, for a setting", "sysctl -q -w net.ipv4.conf.VETH.proxy_arp=0", foreignVeth,
			"sysctl net.ipv4.conf.VETH.proxy_arp", vethAgain},
		{"a veth of that name, for a route", "ip route del 10.10.40.129", foreignVeth, "ip route show dev VETH", vethAgain},
		{"a link with the number of one that went", "ip route del 10.10.194.128/26",
			[]string{"ip link del vxlan.netd", "ip link add stranger index INDEX type veth peer name stranger2",
				"ip link set stranger up", "ip addr add 10.10.194.128/32 dev stranger"},
			"ip route show dev stranger", []string{"ip link del stranger"}},
	} {
		t.Run(x.what, func(t *testing.T) {
			if strings.HasPrefix(x.drift, "address ") && !kernel.MarksAddresses() {
				t.Skip("this kernel does not say who put an address there: on a link of netd all are netd's")
			}
			h.t, c.t = t, t
			index := strings.TrimSpace(netns.Run(t, "cat /sys/class/net/vxlan.netd/ifindex"))
			fill := strings.NewReplacer("VETH", veth, "VTEP", vtep, "INDEX", index).Replace
			want := c.wanted()
			if strings.HasPrefix(x.drift, "address ") { // ip(8) of Debian 12 cannot say whose it is
				extra := object.Addr{Link: "vxlan.netd", Prefix: netip.MustParsePrefix(strings.Fields(x.drift)[1])}
				if err := c.kind(extra).Create(context.Background(), extra); err != nil {
					t.Fatal(err)
				}
			} else {
				netns.Run(t, fill(x.drift))
			}
			plan, err := h.engine.Plan(context.Background(), &want, nil)
			if err != nil || len(plan.Changes) == 0 {
				t.Fatalf("the plan: %v\n%s", err, text(plan))
			}
			for _, line := range x.then {
				netns.Run(t, fill(line))
			}
			theirs := func() string {
				var out []string
				for _, line := range strings.Split(netns.Run(t, fill(x.show)), "\n") {
					if strings.Contains(x.what, "IPv6 next hop") { // one route of both owners, as the kernel tells of it
						if _, hop, ok := strings.Cut(line, "via fe80::98 dev ens33"); !ok || hop == "" {
							continue
						}
						line = "via fe80::98 dev ens33"
					}
					out = append(out, line)
				}
				return strings.Join(out, "\n")
			}
			before := theirs()
			out := h.engine.Apply(context.Background(), plan, nil)
			if now := theirs(); now != before {
				t.Errorf("the stranger's\n%sis after %s\n%s", before, text(plan), now)
			}
			t.Log(out.Err())
			for range 2 { // and no pass after it takes it either
				if plan, err = h.engine.Plan(context.Background(), &want, nil); err != nil {
					t.Fatal(err)
				}
				h.engine.Apply(context.Background(), plan, nil)
			}
			if now := theirs(); now != before {
				t.Errorf("the stranger's\n%sis in the end\n%s", before, now)
			}
			for _, line := range x.undo {
				netns.Run(t, fill(line))
			}
			c.home()
		})
	}
	h.t, c.t = t, t
}

// TestGoneMeanwhile ends a container's namespace between the look and the pass: that is said, and ends nothing else.
func TestGoneMeanwhile(t *testing.T) {
	h := newHostOf(t, dualStack)
	h.converge()
	want := h.want()
	h.box.Run(t, "ip route del default")
	netns.Run(t, "ip route del 10.10.194.128/26")
	plan, err := h.engine.Plan(context.Background(), &want, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := h.box.Remove(); err != nil {
		t.Fatal(err)
	}
	out := h.engine.Apply(context.Background(), plan, nil)
	if err := out.Err(); err == nil || !strings.Contains(err.Error(), "the network namespace of file/nginx-master is gone") {
		t.Errorf("the pass: %v", err)
	}
	for _, e := range out.Trouble {
		if e.Change.Key.Kind != object.KindRoute || !strings.HasPrefix(e.Change.Key.Name, "@") {
			t.Errorf("%s: %v", e.Change.Key, e.Err)
		}
	}
	if got := netns.Run(t, "ip route show 10.10.194.128/26"); !strings.Contains(got, "proto 142") {
		t.Errorf("the host's route did not come: %s", got)
	}
	if _, err := h.engine.Plan(context.Background(), &want, nil); err != nil {
		t.Errorf("the plan after it: %v", err)
	}
}

// TestTwice sees a second route of netd's own beside the wanted one, as a kill between the two steps of an update leaves it,
// in either order.
func TestTwice(t *testing.T) {
	h := newHostOf(t, dualStack)
	h.converge()
	for _, x := range []struct{ make, show string }{
		{"ip route append 10.10.194.128/26 via 192.168.170.138 dev ens33 proto 142", "ip route show 10.10.194.128/26"},
		{"ip route prepend 10.10.194.128/26 via 192.168.170.138 dev ens33 proto 142", "ip route show 10.10.194.128/26"},
		{"ip -6 route add fd00:10:0:2::/64 via fe80::99 dev ens33 metric 1023 proto 142", "ip -6 route show fd00:10:0:2::/64"},
		{"ip -6 route append fd00:10:0:2::/64 via fe80::99 dev ens33 proto 142", "ip -6 route show fd00:10:0:2::/64"},
	} {
		t.Run(x.make, func(t *testing.T) {
			h.t = t
			before := netns.Run(t, x.show)
			netns.Run(t, x.make)
			h.converge()
			if now := netns.Run(t, x.show); now != before {
				t.Errorf("the routes were\n%sand are\n%s", before, now)
			}
		})
	}
	h.t = t
}
