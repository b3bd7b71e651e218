package kernel_test

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"netd/config"
	"netd/reconcile"
	"netd/reconcile/kernel"
	"netd/reconcile/object"
	"netd/reconcile/watch"
	"netd/testenv/netns"
)

// TestForeignLinks: links of others on which nothing of netd's stands ask for what is wanted and for no look at the host. Those
// that bear something, or bear netd's mark, do.
func TestForeignLinks(t *testing.T) {
	h := newHost(t, config.ModeVXLAN)
	h.converge()
	loop := &reconcile.Loop{Engine: h.engine, Pokes: reconcile.NewPokes(), Resync: time.Hour, Report: func(reconcile.Report) {},
		Compile: func(context.Context) (reconcile.Want, bool, error) { return h.want(), true, nil }}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	defer func() { cancel(); wg.Wait() }()

	var mu sync.Mutex
	var news []reconcile.Poke
	await := func(what string, of func(reconcile.Poke) bool) {
		t.Helper()
		for end := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
			mu.Lock()
			there := slices.ContainsFunc(news, of)
			mu.Unlock()
			if there {
				return
			}
			if time.Now().After(end) {
				t.Fatalf("no news of %s: %+v", what, news)
			}
		}
	}
	wg.Add(1)
	go func() { defer wg.Done(); _ = loop.Run(ctx) }()
	underlay := object.LinkKey("", "ens33")
	for end := time.Now().Add(time.Minute); !loop.Bears(underlay); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("nothing stands on the underlay link")
		}
	}
	source := netip.MustParseAddr("10.99.0.7")
	w := watch.Kernel{Own: h.k.PortIDs(), PlacesOf: h.k.PlacesOf, Filter: func() string { return "" }, Trouble: func(err error) { t.Log(err) },
		Wants: loop.Wants, Bears: loop.Bears, Sends: func(a netip.Addr) bool { return a == source },
		Poke: func(p reconcile.Poke) { mu.Lock(); defer mu.Unlock(); news = append(news, p) }}
	wg.Add(1)
	go func() { defer wg.Done(); w.Follow(ctx) }()
	for opened := 0; opened < 2; time.Sleep(time.Millisecond) {
		mu.Lock()
		opened = len(news)
		mu.Unlock()
	}
	// The last command's news come behind all others': the sign that these are known.
	sign := object.RouteKey("", netip.MustParsePrefix("10.98.0.0/24"), object.MainTable, 0)
	hear := func(command string) (heard []reconcile.Poke) {
		t.Helper()
		mu.Lock()
		news = nil
		mu.Unlock()
		if command != "" {
			netns.Run(t, command)
		}
		netns.Run(t, "ip route add blackhole 10.98.0.0/24 proto 142")
		await("the sign after "+command, func(p reconcile.Poke) bool { return slices.Contains(p.Keys, sign) })
		if command != "" { // that what is wanted may be something else is told a moment later
			await(command, func(p reconcile.Poke) bool { return p.Whole || p.Wanted })
		}
		netns.Run(t, "ip route del blackhole 10.98.0.0/24 proto 142")
		mu.Lock()
		defer mu.Unlock()
		return slices.DeleteFunc(slices.Clone(news), func(p reconcile.Poke) bool { return slices.Contains(p.Keys, sign) })
	}
	hear("")
	defer netns.Run(t, "ip link del foreign")
	whole := func(p reconcile.Poke) bool { return p.Whole }
	for _, x := range []struct {
		command string
		whole   bool
	}{
		{"ip link add odd type veth peer name even", false},
		{"ip link set odd up", false},
		{"ip link set even up", false},
		{"ip addr add 10.99.0.1/24 dev odd", false},
		{"ip link set odd name strange", false},
		{"ip addr del 10.99.0.1/24 dev strange", false},
		{"ip addr add 10.99.0.7/24 dev strange", true}, // netd sends from it
		{"ip link set strange group 142", true},        // netd's mark
		{"ip link set strange group 0", false},
		{"ip link del strange", false},
		{"ip link set ens33 mtu 1400", true},               // what is wanted stands on it
		{"ip addr add 192.168.170.99/24 dev ens33", false}, // nothing goes when one comes
		{"ip addr del 192.168.170.99/24 dev ens33", true},
		{"ip link add foreign type vxlan id 77 dstport 4790 dev ens33", true}, // in the way of netd's, perhaps
	} {
		heard := hear(x.command)
		if got := slices.ContainsFunc(heard, whole); got != x.whole {
			t.Errorf("%s: %+v, want a look at everything: %t", x.command, heard, x.whole)
		}
	}

	netns.Run(t, "ip link add odd type veth peer name even")
	defer netns.Run(t, "ip link del odd")
	other, err := kernel.New(h.store) // ip of many a distribution knows no address protocols
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	marked := object.Addr{Link: "odd", Prefix: netip.MustParsePrefix("10.99.1.1/24")}
	for _, kind := range other.Kinds() {
		if kind.Name() == object.KindAddr {
			if err := kind.Create(ctx, marked); err != nil {
				t.Fatal(err)
			}
		}
	}
	await("an address with netd's mark on another's link", func(p reconcile.Poke) bool { return slices.Contains(p.Keys, marked.Key()) })
}

// TestLinkSettings: what the facts tell of a link's settings is what the settings are.
func TestLinkSettings(t *testing.T) {
	h := newHost(t, config.ModeVXLAN)
	netns.Run(t, "ip link add odd type veth peer name even")
	defer netns.Run(t, "ip link del odd")
	for _, x := range [][2]string{{"0", "0"}, {"1", "2"}, {"0", "1"}} {
		netns.Run(t, "sysctl -q -w net.ipv4.conf.odd.forwarding="+x[0]+" net.ipv6.conf.odd.accept_ra="+x[1])
		facts, err := h.k.Host(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		i := slices.IndexFunc(facts.Links, func(l object.HostLink) bool { return l.Name == "odd" })
		if l := facts.Links[i]; l.Forwarding != (x[0] == "1") || l.AcceptRA != int(x[1][0]-'0') {
			t.Errorf("forwarding %s, accept_ra %s: %+v", x[0], x[1], l)
		}
	}
}
