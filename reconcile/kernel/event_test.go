package kernel_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"netd/config"
	"netd/reconcile"
	"netd/reconcile/kernel"
	"netd/reconcile/object"
	"netd/reconcile/watch"
	"netd/testenv/netns"
)

// daemon is the loop over the test's host, with the kernel's events.
type daemon struct {
	h       *host
	loop    *reconcile.Loop
	mu      sync.Mutex
	reports []reconcile.Report
	whole   atomic.Int64
	opened  chan struct{}
	calls   chan func(context.Context)
}

func (h *host) daemon(ctx context.Context, wg *sync.WaitGroup) *daemon {
	d := &daemon{h: h, opened: make(chan struct{}, 16), calls: make(chan func(context.Context))}
	es := h.want() // and the kernel knows the workloads
	d.loop = &reconcile.Loop{Engine: h.engine, Pokes: reconcile.NewPokes(), Calls: d.calls, Resync: time.Hour,
		Compile: func(context.Context) (reconcile.Want, bool, error) { return es, true, nil },
		Report: func(r reconcile.Report) {
			if r.Whole {
				d.whole.Add(1)
			}
			d.mu.Lock()
			defer d.mu.Unlock()
			d.reports = append(d.reports, r)
		}}
	w := watch.Kernel{Own: h.k.PortIDs(), Wants: d.loop.Wants, Bears: d.loop.Bears, PlacesOf: h.k.PlacesOf, Filter: func() string { return "" }, Poke: d.poke, Trouble: func(err error) { h.t.Log(err) }}
	wg.Add(2)
	go func() { defer wg.Done(); w.Follow(ctx) }()
	go func() { defer wg.Done(); _ = d.loop.Run(ctx) }()
	return d
}

func (d *daemon) poke(p reconcile.Poke) {
	d.loop.Pokes.Add(p)
	if p.Whole {
		select {
		case d.opened <- struct{}{}:
		default:
		}
	}
}

// listening waits until both subscriptions are open and the whole passes that they ask for are made.
func (d *daemon) listening() {
	<-d.opened
	<-d.opened
	for range 20 { // the loop takes what is ready in any order
		done := make(chan struct{})
		d.calls <- func(context.Context) { close(done) }
		<-done
	}
}

// repaired waits for a repair of a kind and returns it.
func (d *daemon) repaired(kind string) (reconcile.Event, bool) {
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(time.Millisecond) {
		d.mu.Lock()
		for _, r := range d.reports {
			for _, e := range r.Events {
				if e.Change.Key.Kind == kind && e.Change.Drift && e.Err == nil {
					d.mu.Unlock()
					return e, true
				}
			}
		}
		d.mu.Unlock()
	}
	return reconcile.Event{}, false
}

// settled waits until the host is as wanted.
func (d *daemon) settled(other *host) bool {
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if other.plan().Empty() {
			return true
		}
	}
	return false
}

// quiet makes a whole pass, together with those that were put off, so that none of them comes later.
func (d *daemon) quiet() {
	before := d.whole.Load()
	d.loop.Pokes.Add(reconcile.Poke{Whole: true})
	for end := time.Now().Add(time.Minute); d.whole.Load() == before && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
}

func (d *daemon) forget() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.reports = nil
}

// TestEvents has others alter what netd owns, one thing at a time: the event alone leads to its repair, and where the event
// says which object it is about, without a look at the rest of the host.
func TestEvents(t *testing.T) {
	h := newHost(t, config.ModeVXLAN)
	h.converge()
	k, err := kernel.New(h.store) // what the test looks with, beside the loop
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	second := *h
	second.k, second.engine = k, &reconcile.Engine{Kinds: k.Kinds(), Reading: k.Reading}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	d := h.daemon(ctx, &wg)
	defer func() { cancel(); wg.Wait() }()
	d.listening()
	veth := object.VethName("file/nginx-master")
	fill := strings.NewReplacer("VETH", veth, "VTEP", strings.Fields(netns.Run(t, "ip neigh show 10.10.194.128"))[4]).Replace
	const narrow, any = false, true
	for _, x := range []struct {
		kind, where, command string
		whole                bool // the event does not say enough
	}{
		{"route", "", "ip route del 10.10.194.128/26", narrow},
		{"route", "", "ip route replace 10.10.194.128/26 dev vxlan.netd proto 142", narrow},
		{"route", "", "ip route add 10.10.77.0/26 via 192.168.170.138 dev ens33 proto 142", narrow},
		{"route", "", "300 next hops", narrow},
		{"route", "", "ip route del blackhole 10.10.40.128/26", narrow},
		{"route", "", "ip route del 10.10.40.129", narrow},
		{"link", "", "ip link set VETH mtu 1300", narrow},
		{"route", "", "ip link set VETH down", narrow},
		{"link", "", "ip link del VETH", any},
		{"link", "", "ip link set vxlan.netd mtu 1300", narrow},
		{"route", "", "ip link set vxlan.netd down", narrow},
		{"link", "", "ip link del vxlan.netd", any},
		{"addr", "", "ip addr del 10.10.40.128/32 dev vxlan.netd", narrow},
		{"neigh", "", "ip neigh del 10.10.194.128 dev vxlan.netd", narrow},
		{"neigh", "", "ip neigh replace 10.10.194.128 lladdr 02:00:00:00:00:09 dev vxlan.netd nud permanent", narrow},
		{"neigh", "", "ip neigh replace 10.10.194.128 lladdr 02:00:00:00:00:09 dev vxlan.netd nud reachable", narrow},
		{"neigh", "", "ip neigh add 10.10.194.200 lladdr 02:00:00:00:00:09 dev vxlan.netd nud permanent", narrow},
		{"fdb", "", "bridge fdb del VTEP dev vxlan.netd dst 192.168.170.138", narrow},
		{"fdb", "", "bridge fdb replace VTEP dev vxlan.netd dst 192.168.170.99", narrow},
		{"fdb", "", "bridge fdb add 02:00:00:00:00:09 dev vxlan.netd dst 192.168.170.99", narrow},
		{"sysctl", "", "sysctl -q -w net.ipv4.conf.ens33.forwarding=0", narrow},
		{"sysctl", "", "sysctl -q -w net.ipv4.conf.vxlan/netd.rp_filter=1", narrow},
		{"nft", "", "nft flush chain inet netd spoof", narrow},
		{"nft", "", "nft delete table inet netd", narrow},
		{"addr", "box", "ip addr flush dev eth0", narrow},
		{"route", "box", "ip route del default", narrow},
		{"link", "box", "ip link set eth0 mtu 1300", narrow},
	} {
		name := x.command
		if x.where != "" {
			name = "in the container: " + name
		}
		t.Run(name, func(t *testing.T) {
			if x.where == "box" {
				for i := range 40 { // so that what is told of it is more than 4 KiB: who has CAP_NET_ADMIN in a container can
					h.box.Run(t, fmt.Sprintf("ip link property add dev eth0 altname %s-%0100d", x.kind, i))
				}
				d.quiet()
			}
			damage := func() (whole int64) {
				d.forget()
				before := d.whole.Load()
				f := strings.Fields(fill(x.command))
				var out string
				var err error
				switch {
				case x.where == "box":
					out, err = h.box.Output(f[0], f[1:]...)
				case f[0] == "300": // of which what is told is more than 4 KiB, and which ip(8) cannot say
					err = netlink.RouteReplace(&netlink.Route{Dst: &net.IPNet{IP: net.IP{10, 10, 194, 128}, Mask: net.CIDRMask(26, 32)}, Protocol: object.Protocol,
						MultiPath: slices.Repeat([]*netlink.NexthopInfo{{Gw: net.IP{192, 168, 170, 7}}}, 300)})
				default:
					var b []byte
					b, err = exec.Command(f[0], f[1:]...).CombinedOutput()
					out = string(b)
				}
				if err != nil {
					t.Fatalf("%v: %s", err, out)
				}
				e, ok := d.repaired(x.kind)
				if !ok {
					t.Fatalf("no %s was repaired", x.kind)
				}
				if !d.settled(&second) {
					t.Errorf("not repaired:\n%s", text(second.plan()))
				}
				if x.kind == "nft" && !strings.Contains(e.By, "(nft)") {
					t.Errorf("changed by %q", e.By)
				}
				return d.whole.Load() - before
			}
			// The kernel has news of its own of links that were just made, which ask for a whole pass at any moment. What the
			// damage asks for, it asks for each time.
			const tries = 5
			for i := 1; damage() > 0 && !x.whole; i++ {
				if i == tries {
					t.Fatalf("a whole pass for it each of %d times", tries)
				}
			}
			d.quiet()
		})
	}
}

// TestOwnEventsAreNoNews: what netd writes itself wakes nobody, and what someone else does in between is not lost for that.
func TestOwnEventsAreNoNews(t *testing.T) {
	h := newHost(t, config.ModeVXLAN)
	h.converge()
	var mu sync.Mutex
	var news []reconcile.Key
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wanted := h.want()
	opened := make(chan struct{}, 2)
	w := watch.Kernel{Own: h.k.PortIDs(), PlacesOf: h.k.PlacesOf, Filter: func() string { return "" }, Trouble: func(err error) { t.Log(err) },
		Wants: func(k reconcile.Key) bool { _, ok := wanted.State[k]; return ok },
		Bears: func(reconcile.Key) bool { return false }, // the kernel tells late of links that were just made
		Poke: func(p reconcile.Poke) {
			if p.Whole {
				select {
				case opened <- struct{}{}:
				default:
				}
			}
			mu.Lock()
			defer mu.Unlock()
			news = append(news, p.Keys...)
		}}
	wg.Add(1)
	go func() { defer wg.Done(); w.Follow(ctx) }()
	defer func() { cancel(); wg.Wait() }()
	<-opened
	<-opened
	route := object.RouteKey("", netip.MustParsePrefix("10.10.194.128/26"), object.MainTable, 0)
	for range 50 { // own writes all around
		have := wanted.State[route]
		kind := h.k.Kinds()[len(h.k.Kinds())-1]
		if err := kind.Delete(ctx, have); err != nil {
			t.Fatal(err)
		}
		if err := kind.Create(ctx, have); err != nil {
			t.Fatal(err)
		}
	}
	netns.Run(t, "ip neigh del 10.10.194.128 dev vxlan.netd")
	foreign := func() bool {
		mu.Lock()
		defer mu.Unlock()
		return slices.ContainsFunc(news, func(k reconcile.Key) bool { return k.Kind == object.KindNeigh })
	}
	for end := time.Now().Add(time.Minute); !foreign(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the foreign change is no news")
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if slices.Contains(news, route) {
		t.Error("netd's own writes are news")
	}
	for _, port := range h.k.PortIDs() {
		if port <= 1<<22 || port >= 1<<31 {
			t.Errorf("netd writes from %d, an address that the kernel may give to somebody in a container, whose events would be nobody's", port)
		}
	}
}

// TestContainersSeeNoOwnAddress: by the addresses that netd writes from the kernel is told not to deliver events, of whatever namespace
// (watch.Kernel). Who sees one in a container may give it to a socket there and hide by it what it does.
func TestContainersSeeNoOwnAddress(t *testing.T) {
	h := newHost(t, config.ModeVXLAN)
	fd := -1
	if err := h.box.Do(func() (err error) {
		if fd, err = unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE); err != nil {
			return err
		}
		return unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: ^uint32(0)})
	}); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	h.converge()
	veths, err := h.k.Veths([]object.Place{"file/nginx-master"})
	if err != nil || len(veths) != 1 {
		t.Fatalf("%v, %v", veths, err)
	}
	if err := h.k.RemoveVeths(veths); err != nil {
		t.Fatal(err)
	}
	h.converge()
	if _, _, err := h.engine.Converge(context.Background(), reconcile.Want{}, nil, nil); err != nil {
		t.Fatal(err)
	}
	types := map[uint16]int{}
	for b := make([]byte, 1<<16); ; {
		n, _, err := unix.Recvfrom(fd, b, 0)
		if errors.Is(err, unix.EAGAIN) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		ms, err := syscall.ParseNetlinkMessage(b[:n])
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range ms {
			if types[m.Header.Type]++; slices.Contains(h.k.PortIDs(), m.Header.Pid) {
				t.Errorf("a message of type %d tells of %d", m.Header.Type, m.Header.Pid)
			}
		}
	}
	if types[unix.RTM_NEWLINK] == 0 || types[unix.RTM_DELLINK] != 2 || types[unix.RTM_NEWROUTE] == 0 {
		t.Errorf("events by type: %v", types)
	}
}
