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
	"netd/reconcile/desired"
	"netd/reconcile/kernel"
	"netd/reconcile/object"
	"netd/reconcile/watch"
	"netd/testenv/netns"
)

// TestForeignLinks: links of others on which nothing of netd's stands ask for a look at the facts and for no look at the host. Those
// that bear something, or bear netd's mark, do; that by which a default route leaves, which may go with it, asks for what is wanted.
func TestForeignLinks(t *testing.T) {
	h := newHost(t, config.ModeVXLAN)
	h.converge()
	over := make(chan reconcile.Report, 9) // the loop's one pass, which would take the signs below for leftovers
	loop := &reconcile.Loop{Engine: h.engine, Pokes: reconcile.NewPokes(), Resync: time.Hour, Report: func(r reconcile.Report) { over <- r },
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
	select {
	case r := <-over:
		if r.Err != nil {
			t.Fatal(r.Err)
		}
	case <-time.After(time.Minute):
		t.Fatal("the loop makes no pass")
	}
	if !loop.Bears(object.LinkKey("", "ens33")) {
		t.Fatal("nothing stands on the underlay link")
	}
	source := netip.MustParseAddr("10.99.0.7")
	w := watch.Kernel{Own: h.k.PortIDs(), PlacesOf: h.k.PlacesOf, Filter: func() string { return "" }, Trouble: func(err error) { t.Log(err) },
		Wants: loop.Wants, Bears: loop.Bears, Sends: func(a netip.Addr) bool { return a == source },
		Default: func(link string) bool { return link == "gate" },
		Poke:    func(p reconcile.Poke) { mu.Lock(); defer mu.Unlock(); news = append(news, p) }}
	wg.Add(1)
	go func() { defer wg.Done(); w.Follow(ctx) }()
	for opened := 0; opened < 2; time.Sleep(time.Millisecond) {
		mu.Lock()
		opened = len(news)
		mu.Unlock()
	}
	const look, ask, all = "the facts", "what is wanted", "everything"
	asks := func(p reconcile.Poke) string {
		switch {
		case p.Whole:
			return all
		case p.Wanted:
			return ask
		case p.Facts:
			return look
		}
		return ""
	}
	// The last command's news come behind all others': the sign that these are known.
	sign := object.RouteKey("", netip.MustParsePrefix("10.98.0.0/24"), object.MainTable, 0)
	hear := func(command, want string) (heard []string) {
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
			await(command+", that asks for a look at "+want, func(p reconcile.Poke) bool { return asks(p) == want })
		}
		netns.Run(t, "ip route del blackhole 10.98.0.0/24 proto 142")
		mu.Lock()
		defer mu.Unlock()
		for _, p := range news {
			heard = append(heard, asks(p))
		}
		return heard
	}
	hear("", "")
	defer netns.Run(t, "ip link del foreign")
	for _, x := range []struct{ command, want string }{
		{"ip link add odd type veth peer name even", look},
		{"ip link set odd up", look},
		{"ip link set even up", look},
		{"ip addr add 10.99.0.1/24 dev odd", look},
		{"ip link set odd name strange", look},
		{"ip addr del 10.99.0.1/24 dev strange", look},
		{"ip addr add 10.99.0.7/24 dev strange", all}, // netd sends from it
		{"ip link set strange group 142", all},        // netd's mark
		{"ip link set strange group 0", look},
		{"ip link del strange", look},
		{"ip link add gate type veth peer name hedge", ask},
		{"ip addr add 10.97.0.1/24 dev gate", look},
		{"ip addr del 10.97.0.1/24 dev gate", ask},
		{"ip link del hedge", ask},
		{"ip link set ens33 mtu 1400", all},               // what is wanted stands on it
		{"ip addr add 192.168.170.99/24 dev ens33", look}, // nothing goes when one comes
		{"ip addr del 192.168.170.99/24 dev ens33", all},
		{"ip link add foreign type vxlan id 77 dstport 4790 dev ens33", all}, // in the way of netd's, perhaps
	} {
		heard := hear(x.command, x.want)
		if more := slices.Contains(heard, all) && x.want != all || slices.Contains(heard, ask) && x.want == look; more {
			t.Errorf("%s: asks for a look at %q, want one at %s", x.command, heard, x.want)
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

// TestSameHost: a look at a host besides its routes is what a whole one sees besides them, and what others do to links and
// addresses is known by it from what concerns nobody, such as the ports of Docker's bridge.
func TestSameHost(t *testing.T) {
	netns.Need(t)
	netns.Run(t, "sysctl -q -w net.ipv6.conf.default.addr_gen_mode=1") // no address that comes a moment later
	defer netns.Run(t, "sysctl -q -w net.ipv6.conf.default.addr_gen_mode=0")
	h := newHost(t, config.ModeVXLAN)
	netns.Run(t, "ip link add docker9 type bridge")
	defer netns.Run(t, "ip link del docker9")
	netns.Run(t, "ip link add anchor up master docker9 type veth peer name shore netns nginx-master") // for its carrier
	h.box.Run(t, "ip link set shore up")
	netns.Run(t, "ip link set docker9 up mtu 1400") // whatever that of its ports
	look := func() object.Host {
		t.Helper()
		now, err := h.k.HostBesidesRoutes(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		return now
	}
	self, _ := h.cfg.Node("baihl-master")
	for _, x := range []struct {
		command string
		same    bool
	}{
		{"ip link add veth9 master docker9 type veth peer name odd netns nginx-master", true},
		{"ip link set veth9 mtu 1300", true},
		{"ip link set veth9 up", true},
		{"ip addr add fe80::9/64 dev veth9 nodad", true},
		{"ip addr add 10.99.0.1/24 dev veth9", false},
		{"ip addr del 10.99.0.1/24 dev veth9", false},
		{"ip link set veth9 nomaster", false},
		{"ip link del veth9", false},
		{"ip link set docker9 down", false},
		{"ip addr add 2001:db8::9/64 dev docker9 nodad", false},
		{"ip link set ens33 mtu 1400", false},
		{"ip link set ens33 down", false},
		{"ip link set ens33 up", false},
		{"ip link set wire down", false}, // ens33 loses its carrier
		{"ip link set wire up", false},
		{"ip addr add 192.168.170.99/24 dev ens33", false},
		{"ip addr del 192.168.170.99/24 dev ens33", false},
		{"sysctl -q -w net.ipv4.conf.ens33.forwarding=1", false},
		{"sysctl -q -w net.ipv6.conf.ens33.accept_ra=2", false},
		{"sysctl -q -w net.ipv4.conf.all.rp_filter=2", false},
		{"sysctl -q -w net.ipv4.conf.all.rp_filter=0", false},
		{"sysctl -q -w net.ipv4.ip_forward=1", false},
		{"sysctl -q -w net.ipv4.ip_forward=0", false},
		{"sysctl -q -w net.ipv6.conf.all.forwarding=1", false},
		{"sysctl -q -w net.ipv6.conf.all.forwarding=0", false},
		{"ip route add 10.99.2.0/24 via 192.168.170.138 proto 142", true}, // netd's own have events of their own
		{"ip route del 10.99.2.0/24 via 192.168.170.138 proto 142", true},
	} {
		was := look()
		netns.Run(t, x.command)
		now := look()
		if same := desired.Same(self, was, now); same != x.same {
			t.Errorf("%s: the same host: %t\n%+v\n%+v", x.command, same, was, now)
		}
		whole, err := h.k.Host(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		if !desired.Same(self, whole, now) {
			t.Errorf("%s: the whole look sees another host\n%+v\n%+v", x.command, whole, now)
		}
	}
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
