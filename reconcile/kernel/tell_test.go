package kernel_test

import (
	"context"
	"errors"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"netd/config"
	"netd/reconcile"
	"netd/reconcile/object"
	"netd/testenv/netns"
)

// TestTell has the kernel say what it makes of 2,000 routes, more than one send takes: each as wanted, and as a listing finds it
// afterwards. One in whose place something is is refused as taken, whose ever it is, and nothing is told of it.
func TestTell(t *testing.T) {
	h := newHost(t, config.ModeBGP)
	h.converge()
	kind := h.kind(object.KindRoute)
	t.Cleanup(func() {
		netns.Run(t, "ip route flush root 172.31.0.0/16")
		netns.Run(t, "ip route flush root 172.31.0.0/16 type blackhole")
	})
	netns.Run(t, "ip route add 172.31.0.3/32 via 192.168.170.9 dev ens33 proto static")
	netns.Run(t, "ip route add 172.31.2.3/32 via 192.168.170.9 dev ens33 proto 142")
	netns.Run(t, "ip route add blackhole 172.31.3.3/32 proto 142")
	netns.Run(t, "ip route add 172.31.4.3/32 via 192.168.170.9 dev ens33 proto 142 metric 7") // another place
	taken := map[int]bool{3: true, 2<<8 | 3: true, 3<<8 | 3: true}
	several := object.HopList([]object.Hop{{Via: netip.MustParseAddr("192.168.170.8"), Dev: "ens33"}, {Via: netip.MustParseAddr("192.168.170.9"), Dev: "ens33"}})
	var changes []reconcile.Change
	var want []reconcile.Resource
	for i := range 2000 {
		r := object.Route{Dst: netip.PrefixFrom(netip.AddrFrom4([4]byte{172, 31, byte(i >> 8), byte(i)}), 32), Table: object.MainTable, Type: object.Unicast}
		if i%3 == 0 {
			r.Hops = several
		} else {
			r.Via, r.Dev = netip.MustParseAddr("192.168.170.8"), "ens33"
		}
		changes = append(changes, reconcile.Change{Op: reconcile.Create, Phase: reconcile.Build, Key: r.Key(), Want: r})
		want = append(want, r)
	}
	ctx := context.Background()
	errs, made := kind.(reconcile.Teller).Tell(ctx, changes)
	own, _, err := kind.List(ctx, want)
	if err != nil {
		t.Fatal(err)
	}
	there := reconcile.State{}
	for _, r := range own {
		there.Add(r)
	}
	for i, c := range changes {
		switch {
		case taken[i] && (!errors.Is(errs[i], reconcile.ErrTaken) || made[i] != nil || there[c.Key] == c.Want):
			t.Errorf("%s, which is taken: %v, made %v", c.Key, errs[i], made[i])
		case !taken[i] && (errs[i] != nil || made[i] != c.Want || there[c.Key] != c.Want):
			t.Fatalf("%s: %v, made %v, there is %v, want %v", c.Key, errs[i], made[i], there[c.Key], c.Want)
		}
	}

	// What fails in the midst of a send is told of itself alone.
	bad := changes[5].Want.(object.Route)
	bad.Dst, bad.Via = netip.MustParsePrefix("172.31.100.1/32"), netip.MustParseAddr("203.0.113.1")
	good := bad
	good.Dst, good.Via = netip.MustParsePrefix("172.31.100.2/32"), netip.MustParseAddr("192.168.170.8")
	gone := changes[7].Want.(object.Route)
	errs, made = kind.(reconcile.Teller).Tell(ctx, []reconcile.Change{
		{Op: reconcile.Create, Key: bad.Key(), Want: bad}, {Op: reconcile.Delete, Key: gone.Key(), Have: gone}, {Op: reconcile.Create, Key: good.Key(), Want: good},
		{Op: reconcile.Create, Key: bad.Key(), Want: bad}})
	if !errors.Is(errs[0], unix.ENETUNREACH) || errs[1] != nil || errs[2] != nil || !errors.Is(errs[3], unix.ENETUNREACH) {
		t.Errorf("errors %v", errs)
	}
	if made[0] != nil || made[1] != nil || made[2] != reconcile.Resource(good) || made[3] != nil {
		t.Errorf("made %v", made)
	}
}
