package object

import (
	"net/netip"
	"testing"
)

func TestHops(t *testing.T) {
	a, b := netip.MustParseAddr("192.168.170.1"), netip.MustParseAddr("192.168.170.2")
	for _, c := range []struct {
		hops []Hop
		want string
	}{
		{[]Hop{{Via: b, Dev: "eth0"}, {Via: a, Dev: "eth0"}}, "via 192.168.170.1 dev eth0, via 192.168.170.2 dev eth0"},
		{[]Hop{{Via: a, Dev: "eth1"}, {Via: a, Dev: "eth0", Onlink: true}}, "via 192.168.170.1 dev eth0 onlink, via 192.168.170.1 dev eth1"},
		{[]Hop{{Via: a, Dev: "eth0", Weight: 5}, {Via: b, Dev: "eth0", Weight: 1}}, "via 192.168.170.1 dev eth0 weight 5, via 192.168.170.2 dev eth0"},
		{[]Hop{{Via: a, Dev: "eth0"}, {Via: a, Dev: "eth0"}}, "via 192.168.170.1 dev eth0"},
	} {
		got := Hops(c.hops)
		if got != c.want {
			t.Errorf("got %q, want %q", got, c.want)
		}
		back, err := ParseHops(got)
		if err != nil || Hops(back) != got {
			t.Errorf("%q read back: %v, %v", got, back, err)
		}
	}
	r := Route{Dst: netip.MustParsePrefix("10.0.0.0/8"), Hops: "via 192.168.170.1 dev eth0 onlink, via 192.168.170.2 dev eth1.7"}
	if got := r.Requires(); len(got) != 2 || got[0] != LinkKey("", "eth0") || got[1] != LinkKey("", "eth1.7") {
		t.Errorf("a route by eth0 and eth1.7 stands on %v", got)
	}
	for _, bad := range []string{"", "via x dev eth0", "via 192.168.170.1 eth0", "via 192.168.170.1 dev eth0 weight", "via 192.168.170.1 dev eth0 heavy"} {
		if _, err := ParseHops(bad); err == nil {
			t.Errorf("%q was taken for next hops", bad)
		}
	}
}
