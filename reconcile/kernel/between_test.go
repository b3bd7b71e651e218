package kernel_test

import (
	"context"
	"net/netip"
	"strings"
	"testing"

	"netd/config"
	"netd/reconcile"
	"netd/reconcile/kernel"
	"netd/reconcile/object"
	"netd/testenv/netns"
)

// TestStrangersBetween has a stranger take a place between the look at it and the deletion: it is left alone.
func TestStrangersBetween(t *testing.T) {
	netns.Need(t)
	k, err := kernel.New(memory{})
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	kind := func(r reconcile.Resource) reconcile.Kind {
		for _, x := range k.Kinds() {
			if x.Name() == r.Key().Kind {
				return x
			}
		}
		t.Fatalf("no kind for %s", r.Key())
		return nil
	}
	veth := object.VethName("file/web")
	netns.Run(t, "ip link add "+veth+" type veth peer name far")
	t.Cleanup(func() { netns.Run(t, "ip link del "+veth) })
	netns.Run(t, "ip link set "+veth+" up")
	netns.Run(t, "ip link set far up")
	four, six := netip.MustParsePrefix("10.10.194.128/26"), netip.MustParsePrefix("fd00:10:0:2::/64")
	route := func(dst netip.Prefix) object.Route {
		return object.Route{Dst: dst, Table: object.MainTable, Type: object.Unicast, Dev: veth, Scope: object.ScopeLink}
	}
	for _, x := range []struct {
		make, show string
		gone       reconcile.Resource
		refused    bool
	}{
		{"ip route add 10.10.194.128/26 dev " + veth + " proto static", "ip route show 10.10.194.128/26", route(four), false},
		{"ip -6 route add fd00:10:0:2::/64 dev " + veth + " proto static", "ip -6 route show fd00:10:0:2::/64", route(six), false},
		{"ip -6 route add fd00:10:0:2::/64 dev " + veth + " metric 500 proto 142", "ip -6 route show fd00:10:0:2::/64", route(six), false}, // another place
		{"", "ip -o link show " + veth, object.Veth{Name: veth}, true},                                                                     // its group says that it is not netd's
	} {
		if x.make != "" {
			netns.Run(t, x.make)
		}
		before := netns.Run(t, x.show)
		err := kind(x.gone).Delete(context.Background(), x.gone)
		if (err != nil) != x.refused || x.refused && !strings.Contains(err.Error(), veth) {
			t.Errorf("%s: %v", x.show, err)
		}
		if now := netns.Run(t, x.show); now != before || now == "" {
			t.Errorf("it was\n%sand is\n%s", before, now)
		}
		if x.make != "" {
			netns.Run(t, strings.Replace(x.make, " add ", " del ", 1))
		}
	}
}

// TestForwardingGoesBack: where the host became a router after netd came, its links are left as ip_forward says, not as they were.
func TestForwardingGoesBack(t *testing.T) {
	h := newHost(t, config.ModeVXLAN)
	read := func() string { return netns.Run(t, "sysctl -n net.ipv4.conf.ens33.forwarding") }
	t.Cleanup(func() { netns.Run(t, "sysctl -q -w net.ipv4.ip_forward=0") })
	for _, forward := range []string{"0", "1"} {
		netns.Run(t, "sysctl -q -w net.ipv4.ip_forward=0")
		if read() != "0\n" {
			t.Fatal("ens33 forwards before netd came")
		}
		h.converge()
		if read() != "1\n" {
			t.Fatal("ens33 does not forward")
		}
		if forward == "1" {
			netns.Run(t, "sysctl -q -w net.ipv4.ip_forward="+forward)
		}
		if _, _, err := h.engine.Converge(context.Background(), reconcile.Want{}, nil, nil); err != nil {
			t.Fatal(err)
		}
		if got := read(); got != forward+"\n" {
			t.Errorf("ip_forward is %s, ens33's switch is left at %s", forward, got)
		}
	}
}
