package workload

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"netd/reconcile/object"
	"netd/testenv/netns"
)

func TestMain(m *testing.M) { netns.Main(m) }

// TestLook: what a declared container must be to be attached, and the words for what it is not.
func TestLook(t *testing.T) {
	netns.Need(t)
	free, other, bridged, routed := netns.New(t, "free"), netns.New(t, "other"), netns.New(t, "bridged"), netns.New(t, "routed")
	bridged.Run(t, "ip link add eth0 type veth peer name far")
	routed.Run(t, "ip link add eth7 type veth peer name far")
	routed.Run(t, "ip link set eth7 up")
	routed.Run(t, "ip link set far up")
	routed.Run(t, "ip route add default dev eth7")
	identity, err := Identify(free.Path())
	if err != nil {
		t.Fatal(err)
	}
	declared := func(path string) Declared {
		e := object.Endpoint{ID: "file/web", Netns: path, Interface: "eth0", IPv4: netip.MustParseAddr("10.10.40.129")}
		return Declared{Endpoint: e, Container: `container "web"`}
	}
	with := func(d Declared, change func(*Declared)) Declared { change(&d); return d }
	attached := []object.Endpoint{{ID: "cni/c1/eth0", Netns: other.Path()}}
	for _, x := range []struct {
		name    string
		d       Declared
		reason  string // empty: it is attached
		refused bool
	}{
		{"a free one", declared(free.Path()), "", false},
		{"the one that was found", with(declared(free.Path()), func(d *Declared) { d.Identity = identity }), "", false},
		{"the path means another one since", with(declared(free.Path()), func(d *Declared) { d.Identity = identity + "0" }), `no container "web"`, false},
		{"it does not run", declared(""), `no container "web"`, false},
		{"it ended since", declared("/proc/4194304/ns/net"), `no container "web"`, false},
		{"no Docker", with(declared(""), func(d *Declared) { d.Unknown = fmt.Errorf("dial: %w", unix.ECONNREFUSED) }), `no container "web"`, false},
		{"no socket of Docker", with(declared(""), func(d *Declared) { d.Unknown = fmt.Errorf("dial: %w", os.ErrNotExist) }), `no container "web"`, false},
		{"a Docker that hangs", with(declared(""), func(d *Declared) { d.Unknown = context.DeadlineExceeded }), `no container "web": context deadline exceeded`, false},
		{"the host's own", declared("/proc/thread-self/ns/net"), `container "web" is in the host's own network namespace`, true},
		{"another workload's", declared(other.Path()), `container "web" is in the network namespace of cni/c1/eth0`, true},
		{"an eth0", declared(bridged.Path()), `container "web" has an interface eth0 already, which is not netd's`, true},
		{"a default route", declared(routed.Path()), `container "web" has a default route already, which is not netd's`, true},
		{"a default route of the other family", with(declared(routed.Path()), func(d *Declared) {
			d.IPv4, d.IPv6 = netip.Addr{}, netip.MustParseAddr("fd00::1")
		}), "", false},
	} {
		t.Run(x.name, func(t *testing.T) {
			present, pending := Look([]Declared{x.d}, attached)
			if x.reason == "" {
				if len(pending) > 0 || len(present) != 1 || present[0].Netns != x.d.Netns {
					t.Errorf("present %+v, pending %+v", present, pending)
				}
				return
			}
			reason := ""
			if len(pending) == 1 {
				reason, _, _ = strings.Cut(pending[0].Reason, ";")
			}
			if len(present) > 0 || reason != x.reason || pending[0].Refused != x.refused {
				t.Errorf("present %+v, pending %+v, want %q, refused %v", present, pending, x.reason, x.refused)
			}
		})
	}

	// An eth0 is netd's own where somebody renamed the other end, and not where that is another workload's.
	wired := netns.New(t, "wired")
	netns.Run(t, "ip link add foo group 142 type veth peer name eth0 netns wired")
	t.Cleanup(func() { netns.Run(t, "ip link del foo") })
	for alias, attached := range map[string]int{"netd: file/web": 1, "netd: file/other": 0} {
		foo, err := netlink.LinkByName("foo")
		if err == nil {
			err = netlink.LinkSetAlias(foo, alias)
		}
		if err != nil {
			t.Fatal(err)
		}
		if present, pending := Look([]Declared{declared(wired.Path())}, nil); len(present) != attached {
			t.Errorf("%s: present %+v, pending %+v", alias, present, pending)
		}
	}

	// One that is attached stays so while nobody can say where it is, and what is in it then is no matter of refusals.
	netns.Run(t, "ip link add "+object.VethName("file/web")+" type veth peer name far")
	t.Cleanup(func() { netns.Run(t, "ip link del far") })
	present, pending := Look([]Declared{with(declared("/proc/1/ns/net"), func(d *Declared) { d.Unknown = unix.ECONNREFUSED })}, attached)
	if len(pending) > 0 || len(present) != 1 || present[0].Netns != "" {
		t.Errorf("attached, and Docker is away: present %+v, pending %+v", present, pending)
	}
	if present, pending = Look([]Declared{declared(bridged.Path())}, attached); len(present) != 1 {
		t.Errorf("attached already: present %+v, pending %+v", present, pending)
	}
	if present, pending = Look([]Declared{declared("")}, attached); len(present) != 0 || len(pending) != 1 {
		t.Errorf("ended: present %+v, pending %+v", present, pending)
	}
}
