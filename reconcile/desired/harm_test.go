package desired

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"netd/reconcile"
	"netd/reconcile/object"
)

// harmHost is a host with n remote routes, and two containers, web in 10.10.1.0/26 and db in the block 10.10.2.7/32.
func harmHost(n int) reconcile.State {
	s := reconcile.State{}
	for i := range n {
		s.Add(object.Route{Dst: netip.MustParsePrefix(fmt.Sprintf("10.11.%d.0/24", i)), Table: object.MainTable, Type: object.Unicast,
			Via: netip.MustParseAddr("192.168.170.138"), Dev: "tunl0", Onlink: true})
	}
	s.Add(object.Route{Dst: netip.MustParsePrefix("10.10.1.0/26"), Table: object.MainTable, Type: object.Blackhole})
	for id, a := range map[string]string{"cni/1/eth0": "10.10.1.5", "file/db": "10.10.2.7"} {
		veth := object.VethName(id)
		s.Add(object.Veth{Name: veth, Workload: object.Place(id), Peer: "eth0", Alias: "netd: " + id})
		s.Add(object.Route{Dst: host(netip.MustParseAddr(a)), Table: object.MainTable, Type: object.Unicast, Dev: veth, Scope: object.ScopeLink})
		s.Add(object.Route{In: object.Place(id), Dst: netip.MustParsePrefix("0.0.0.0/0"), Table: object.MainTable, Type: object.Unicast, Via: object.Gateway, Dev: "eth0"})
	}
	return s
}

// TestHarms: from which share and number on a plan is asked for again, and by what it is not.
func TestHarms(t *testing.T) {
	drop := func(s reconcile.State, n int) {
		for i := range n {
			delete(s, object.RouteKey("", netip.MustParsePrefix(fmt.Sprintf("10.11.%d.0/24", i)), object.MainTable, 0))
		}
	}
	without := func(s reconcile.State, id string) {
		for k, r := range s {
			v, veth := r.(object.Veth)
			route, ok := r.(object.Route)
			if veth && string(v.Workload) == id || ok && (string(route.In) == id || route.Dev == object.VethName(id)) {
				delete(s, k)
			}
		}
	}
	for _, c := range []struct {
		name   string
		remote int
		was    []string
		change func(have, want reconcile.State)
		say    []string // what the lines begin with
	}{
		{"OK nothing changes", 10, nil, func(_, _ reconcile.State) {}, nil},
		{"OK four of four: too few", 4, nil, func(_, want reconcile.State) { drop(want, 4) }, nil},
		{"bad five of five", 5, nil, func(_, want reconcile.State) { drop(want, 5) },
			[]string{"it deletes 5 of 5 remote routes: 10.11.0.0/24, 10.11.1.0/24, 10.11.2.0/24, 10.11.3.0/24, 10.11.4.0/24"}},
		{"OK 30 of 100: not more than 30 %", 100, nil, func(_, want reconcile.State) { drop(want, 30) }, nil},
		{"bad 31 of 100", 100, nil, func(_, want reconcile.State) { drop(want, 31) },
			[]string{"it deletes 31 of 100 remote routes: 10.11.0.0/24, 10.11.1.0/24, 10.11.2.0/24, 10.11.3.0/24, 10.11.4.0/24, 10.11.5.0/24, 10.11.6.0/24, 10.11.7.0/24, 10.11.8.0/24, 10.11.9.0/24, and 21 more"}},
		{"bad those that are new do not count as held", 10, nil, func(have, want reconcile.State) {
			drop(have, 3)
			delete(want, object.RouteKey("", netip.MustParsePrefix("10.11.9.0/24"), object.MainTable, 0))
		}, nil},
		{"OK all change their next hop", 10, nil, func(_, want reconcile.State) {
			for k, r := range want {
				if route, ok := r.(object.Route); ok && isRemote(r) {
					route.Via = netip.MustParseAddr("192.168.170.139")
					want[k] = route
				}
			}
		}, nil},
		{"bad a block with a container that stays", 0, []string{"10.10.1.0/26"}, func(_, want reconcile.State) {
			delete(want, object.RouteKey("", netip.MustParsePrefix("10.10.1.0/26"), object.MainTable, 0))
		}, []string{"it takes the block 10.10.1.0/26 from this node, in which a container lives: cni/1/eth0 (10.10.1.5)"}},
		{"bad a block of one address, its container along", 0, []string{"10.10.2.7/32"}, func(_, want reconcile.State) { without(want, "file/db") },
			[]string{"it takes the block 10.10.2.7/32 from this node, in which a container lives: file/db (10.10.2.7)"}},
		{"OK a block that grows around its container", 0, []string{"10.10.4.0/26", "10.10.5.0/26"}, func(have, want reconcile.State) {
			for _, s := range []reconcile.State{have, want} {
				s.Add(object.Route{Dst: host(netip.MustParseAddr("10.10.4.9")), Table: object.MainTable, Type: object.Unicast, Dev: object.VethName("cni/1/eth0"), Scope: object.ScopeLink})
			}
		}, nil},
		{"OK an empty block", 0, []string{"10.10.3.0/26"}, func(_, _ reconcile.State) {}, nil},
		{"OK a block whose container is gone", 0, []string{"10.10.2.7/32"}, func(have, want reconcile.State) { without(have, "file/db"); without(want, "file/db") }, nil},
		{"OK a container goes and its block stays", 0, nil, func(_, want reconcile.State) { without(want, "file/db") }, nil},
	} {
		have, want := harmHost(c.remote), harmHost(c.remote)
		c.change(have, want)
		var was []netip.Prefix
		for _, l := range c.was {
			was = append(was, netip.MustParsePrefix(l))
		}
		is := []netip.Prefix{netip.MustParsePrefix("10.10.4.0/24"), netip.MustParsePrefix("10.10.5.0/26")}
		w := reconcile.Want{State: want}
		plan := reconcile.Diff(w, reconcile.Have{Own: have}, []string{object.KindLink, object.KindAddr, object.KindRoute}, nil)
		if got, say := strings.Join(Harms(plan, w, was, is), "\n"), strings.Join(c.say, "\n"); got != say {
			t.Errorf("%s:\n%s\nwant:\n%s", c.name, got, say)
		}
		if may := MayHarm(have, want); len(c.was) == 0 && len(c.say) > 0 && !may {
			t.Errorf("%s: by what is wanted alone it is called harmless", c.name)
		} else if may && have[object.RouteKey("", netip.MustParsePrefix("10.11.4.0/24"), object.MainTable, 0)] == want[object.RouteKey("", netip.MustParsePrefix("10.11.4.0/24"), object.MainTable, 0)] {
			t.Errorf("%s: by what is wanted alone it may be a harm", c.name) // those that go begin with the first
		}
	}
}

// TestHarmsOfConflict moves all routes to another link, in whose place a stranger's stands: they go with the link that they are on,
// which cuts off as many as if they were not wanted any more.
func TestHarmsOfConflict(t *testing.T) {
	state := func(vni uint32) reconcile.State {
		s := reconcile.State{}
		dev := object.VXLANName(vni)
		s.Add(object.VXLAN{Name: dev, VNI: vni})
		for i := range 8 {
			s.Add(object.Route{Dst: netip.MustParsePrefix(fmt.Sprintf("10.11.%d.0/24", i)), Table: object.MainTable, Type: object.Unicast,
				Via: netip.MustParseAddr("10.11.0.1"), Dev: dev, Onlink: true})
		}
		return s
	}
	was, w := state(1), reconcile.Want{State: state(2)}
	order := []string{object.KindLink, object.KindRoute}
	holder := reconcile.Holder{Key: reconcile.Key{Kind: object.KindLink, Name: object.VXLANName(2)}, What: "veth", Who: "a stranger"}
	plan := reconcile.Diff(w, reconcile.Have{Own: was, Foreign: []reconcile.Holder{holder}}, order, was)
	want := "it deletes 8 of 8 remote routes: 10.11.0.0/24, 10.11.1.0/24, 10.11.2.0/24, 10.11.3.0/24, 10.11.4.0/24, 10.11.5.0/24, 10.11.6.0/24, 10.11.7.0/24"
	if got := strings.Join(Harms(plan, w, nil, nil), "\n"); got != want {
		t.Errorf("%q", got)
	}
	for i, c := range plan.Changes {
		if last := i == len(plan.Changes)-1; c.Op != reconcile.Delete || c.Drift || last != (c.Key.Kind == object.KindLink) || !last && c.Because.Text != "stands on link "+object.VXLANName(1) {
			t.Errorf("%d: %+v", i, c)
		}
	}
	if !MayHarm(was, w.State) {
		t.Error("by what is wanted alone it is called harmless")
	}
	if got := Harms(reconcile.Diff(w, reconcile.Have{Own: was}, order, was), w, nil, nil); got != nil {
		t.Errorf("without the stranger: %q", got)
	}
}

// TestAlongWithAddress: where the address of a tunnel cannot move to the next tunnel, it takes along the routes to containers that
// prefer it, unless another link has it too.
func TestAlongWithAddress(t *testing.T) {
	own, own6 := netip.MustParsePrefix("10.10.1.0/32"), netip.MustParsePrefix("2001:db8:1::/128")
	route := object.Route{Dst: netip.MustParsePrefix("10.10.1.5/32"), Table: object.MainTable, Type: object.Unicast, Dev: "netd0", Scope: object.ScopeLink, Src: own.Addr()}
	route6 := object.Route{Dst: netip.MustParsePrefix("2001:db8:1::5/128"), Table: object.MainTable, Type: object.Unicast, Dev: "netd0", Src: own6.Addr()}
	state := func(vni uint32) (w reconcile.Want) {
		dev := object.VXLANName(vni)
		w.Put(object.VXLAN{Name: dev, VNI: vni}, reconcile.Cause{})
		address := object.Addr{Link: dev, Prefix: own}
		w.Put(address, reconcile.Cause{})
		w.Put(route, reconcile.Cause{}, address.Key())
		address.Prefix = own6
		w.Put(address, reconcile.Cause{})
		w.Put(route6, reconcile.Cause{}, address.Key())
		return w
	}
	was, w := state(1).State, state(2)
	holder := reconcile.Holder{Key: reconcile.Key{Kind: object.KindLink, Name: object.VXLANName(2)}, What: "veth", Who: "a stranger"}
	for _, both := range []bool{false, true} {
		if both {
			extra := object.Addr{Link: "netd0", Prefix: own}
			was.Add(extra)
			w.Put(extra, reconcile.Cause{})
		}
		plan := reconcile.Diff(w, reconcile.Have{Own: was, Foreign: []reconcile.Holder{holder}}, []string{object.KindLink, object.KindAddr, object.KindRoute}, was)
		if slices.ContainsFunc(plan.Changes, func(c reconcile.Change) bool { return c.Key == route6.Key() }) {
			t.Error("the IPv6 route goes, of which the kernel takes the preference alone")
		}
		goes := slices.ContainsFunc(plan.Changes, func(c reconcile.Change) bool { return c.Key == route.Key() && c.Op == reconcile.Delete })
		if goes == both {
			t.Errorf("another link has it: %v; the route goes: %v", both, goes)
		}
	}
}

// TestHarmsOfReplaced: a link that is replaced takes all its routes along and they come back: nobody is asked.
func TestHarmsOfReplaced(t *testing.T) {
	state := func(vni uint32) reconcile.State {
		s := reconcile.State{}
		s.Add(object.VXLAN{Name: "vxlan.netd", VNI: vni})
		for i := range 8 {
			s.Add(object.Route{Dst: netip.MustParsePrefix(fmt.Sprintf("10.11.%d.0/24", i)), Table: object.MainTable, Type: object.Unicast,
				Via: netip.MustParseAddr("10.11.0.1"), Dev: "vxlan.netd", Onlink: true})
		}
		return s
	}
	w := reconcile.Want{State: state(2)}
	plan := reconcile.Diff(w, reconcile.Have{Own: state(1)}, []string{object.KindLink, object.KindRoute}, nil)
	if n := plan.Counts(); n.Destroy != 9 {
		t.Fatalf("%s: the link is not replaced", n)
	}
	if got := Harms(plan, w, nil, nil); got != nil {
		t.Errorf("%q", got)
	}
	for i := range 5 {
		delete(w.State, object.RouteKey("", netip.MustParsePrefix(fmt.Sprintf("10.11.%d.0/24", i)), object.MainTable, 0))
	}
	plan = reconcile.Diff(w, reconcile.Have{Own: state(1)}, []string{object.KindLink, object.KindRoute}, nil)
	if got := Harms(plan, w, nil, nil); len(got) != 1 || !strings.HasPrefix(got[0], "it deletes 5 of 8 remote routes: ") {
		t.Errorf("%q", got)
	}
}

// TestCuts: what is said to somebody who is logged in over what a plan changes.
func TestCuts(t *testing.T) {
	addr := netip.MustParseAddr
	old, moved := addr("192.168.170.137"), addr("192.168.171.137")
	over := Session{Here: old, There: addr("192.168.1.9")}
	tunnel := Session{Here: addr("10.10.40.128"), There: addr("10.11.3.4")}
	plan := reconcile.Plan{Changes: []reconcile.Change{
		{Op: reconcile.Delete, Key: reconcile.Key{Kind: "addr", Name: "a"}, Have: object.Addr{Link: "tunl0", Prefix: host(tunnel.Here)}},
		{Op: reconcile.Delete, Key: reconcile.Key{Kind: "route", Name: "r"}, Have: object.Route{Type: object.Unicast, Dst: netip.MustParsePrefix("10.11.3.0/24")}},
		{Op: reconcile.Delete, Key: reconcile.Key{Kind: "route", Name: "s"}, Have: object.Route{Type: object.Unicast, Dst: netip.MustParsePrefix("10.11.0.0/16")}},
		{Op: reconcile.Create, Key: reconcile.Key{Kind: "route", Name: "s"}},
	}}
	for _, c := range []struct {
		name string
		plan reconcile.Plan
		s    Session
		is   netip.Addr
		want string
	}{
		{"OK nobody is logged in", plan, Session{}, moved, ""},
		{"OK the address stays", reconcile.Plan{}, over, old, ""},
		{"bad the address goes", reconcile.Plan{}, over, moved, "you are logged in at 192.168.170.137, which this node's address no longer names: the session from 192.168.1.9 is cut when the host gives that address up; log in at 192.168.171.137 before, or keep a console at hand"},
		{"OK logged in elsewhere", reconcile.Plan{}, Session{Here: addr("192.168.9.1"), There: over.There}, moved, ""},
		{"bad the tunnel's own address and the way back", plan, tunnel, old, "you are logged in at 10.10.40.128 of tunl0, which it deletes: the session from 10.11.3.4 is cut\n" +
			"you are logged in from 10.11.3.4, and it deletes the route to 10.11.3.0/24: the session is cut unless another route leads there"},
	} {
		if got := strings.Join(Cuts(c.plan, c.s, []netip.Addr{old, {}}, []netip.Addr{c.is, {}}), "\n"); got != c.want {
			t.Errorf("%s:\n%s\nwant:\n%s", c.name, got, c.want)
		}
	}
}

// TestHarmsOfOthers: what somebody else put there, and what stands in the way of a route, is none of this node's.
func TestHarmsOfOthers(t *testing.T) {
	order := []string{object.KindLink, object.KindRoute}
	before := reconcile.Want{State: harmHost(2)}
	if got := Harms(reconcile.Diff(before, reconcile.Have{Own: harmHost(20)}, order, before.State), before, nil, nil); got != nil {
		t.Errorf("stray routes: %q", got)
	}
	// 16 are held of 40 wanted, since 24 have another's in their place: 5 that go are more than 30 % of what is there.
	have, want := harmHost(21), reconcile.Want{State: harmHost(40)}
	var foreign []reconcile.Holder
	for i := range 40 {
		k := object.RouteKey("", netip.MustParsePrefix(fmt.Sprintf("10.11.%d.0/24", i)), object.MainTable, 0)
		switch {
		case i < 5:
			delete(want.State, k)
		case i >= 16:
			delete(have, k)
			foreign = append(foreign, reconcile.Holder{Key: k, What: "route", Who: "bird"})
		}
	}
	plan := reconcile.Diff(want, reconcile.Have{Own: have, Foreign: foreign}, order, nil)
	if got := Harms(plan, want, nil, nil); len(got) != 1 || !strings.HasPrefix(got[0], "it deletes 5 of 16 remote routes: ") {
		t.Errorf("%q of %d conflicts", got, len(plan.Conflicts))
	}
}
