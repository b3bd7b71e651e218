package kernel_test

import (
	"context"
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"netd/config"
	"netd/reconcile"
	"netd/reconcile/kernel"
	"netd/reconcile/object"
	"netd/testenv/netns"
)

// contracted is what the contract is tried with: the first resource of a type that is in the wanted state and fits, and for
// each attribute that is not in its key a way to change it. An attribute without one fails the test.
var contracted = []struct {
	kind   string
	of     func(reconcile.Resource) bool
	change map[string]func(reconcile.Resource) reconcile.Resource
}{
	{object.KindLink, is[object.Veth], map[string]func(reconcile.Resource) reconcile.Resource{
		"MAC": to(func(v *object.Veth) { v.MAC[5] = 9 }), "MTU": to(func(v *object.Veth) { v.MTU = 1300 }),
		"Up": to(func(v *object.Veth) { v.Up = false }), "Alias": to(func(v *object.Veth) { v.Alias = "other" }),
		"Workload": nil, // the peer of a veth is nowhere else while its namespace lives; a veth into another is another name
		"Peer":     to(func(v *object.Veth) { v.Peer = "eth7" }),
		"PeerMAC":  to(func(v *object.Veth) { v.PeerMAC[5] ^= 9 }), "PeerMTU": to(func(v *object.Veth) { v.PeerMTU = 1300 }),
		"PeerUp": to(func(v *object.Veth) { v.PeerUp = false }), "Renamed": nil, "Unmarked": nil, "Master": nil, // TestRepair
	}},
	{object.KindLink, is[object.VXLAN], map[string]func(reconcile.Resource) reconcile.Resource{
		"VNI": to(func(v *object.VXLAN) { v.VNI = 77 }), "Port": to(func(v *object.VXLAN) { v.Port = 4790 }),
		"Local":    to(func(v *object.VXLAN) { v.Local = netip.MustParseAddr("192.168.170.99") }),
		"Underlay": to(func(v *object.VXLAN) { v.Underlay = "wire" }), "MAC": to(func(v *object.VXLAN) { v.MAC[5] ^= 9 }),
		"MTU": to(func(v *object.VXLAN) { v.MTU = 1300 }), "Up": to(func(v *object.VXLAN) { v.Up = false }),
		"Learning": to(func(v *object.VXLAN) { v.Learning = true }), "Alias": to(func(v *object.VXLAN) { v.Alias = "other" }),
		"Renamed": nil, "Unmarked": nil, "Master": nil, // TestRepair
	}},
	{object.KindLink, is[object.IPIP], map[string]func(reconcile.Resource) reconcile.Resource{
		"MTU": to(func(v *object.IPIP) { v.MTU = 1300 }), "Up": to(func(v *object.IPIP) { v.Up = false }),
	}},
	{object.KindSysctl, is[object.Sysctl], map[string]func(reconcile.Resource) reconcile.Resource{
		"Value": to(func(v *object.Sysctl) {
			v.Value = map[string]string{"0": "1"}[v.Value] + map[string]string{"1": "0", "2": "1"}[v.Value]
		}),
	}},
	{object.KindAddr, func(r reconcile.Resource) bool { a, ok := r.(object.Addr); return ok && a.In == "" }, map[string]func(reconcile.Resource) reconcile.Resource{
		"Scope": to(func(v *object.Addr) { v.Scope = object.ScopeHost }),
	}},
	{object.KindNeigh, is[object.Neigh], map[string]func(reconcile.Resource) reconcile.Resource{
		"MAC": to(func(v *object.Neigh) { v.MAC[5] ^= 9 }),
	}},
	{object.KindFDB, is[object.FDB], map[string]func(reconcile.Resource) reconcile.Resource{
		"Dst": to(func(v *object.FDB) { v.Dst = netip.MustParseAddr("192.168.170.99") }),
	}},
	{object.KindNexthop, is[object.Nexthop], map[string]func(reconcile.Resource) reconcile.Resource{
		"Via": to(func(v *object.Nexthop) { v.Via = v.Via.Next() }), "Dev": to(func(v *object.Nexthop) { v.Dev = "ens33" }),
		"Onlink": to(func(v *object.Nexthop) {
			v.Onlink, v.Dev, v.Via = false, "ens33", netip.MustParseAddr("192.168.170.138")
		}),
	}},
	{object.KindRoute, func(r reconcile.Resource) bool {
		v, ok := r.(object.Route)
		return ok && v.In == "" && v.Onlink && v.Dst.Addr().Is4()
	}, map[string]func(reconcile.Resource) reconcile.Resource{
		"Type": to(func(v *object.Route) { *v = object.Route{Dst: v.Dst, Table: v.Table, Type: object.Blackhole} }),
		"Via":  to(func(v *object.Route) { v.Via = v.Via.Next() }), "Dev": to(func(v *object.Route) { v.Dev = "ens33" }),
		"Onlink": to(func(v *object.Route) { v.Onlink, v.Dev, v.Via = false, "ens33", netip.MustParseAddr("192.168.170.138") }),
		"Src":    to(func(v *object.Route) { v.Src = netip.MustParseAddr("192.168.170.137") }),
		"Scope":  to(func(v *object.Route) { v.Scope, v.Via, v.Onlink = object.ScopeLink, netip.Addr{}, false }),
		"Nexthop": to(func(v *object.Route) {
			v.Nexthop, v.Via, v.Dev, v.Onlink = 7, netip.Addr{}, "", false
		}),
		"Hops": to(func(v *object.Route) {
			v.Hops = object.Hops([]object.Hop{{Via: v.Via, Dev: v.Dev, Onlink: true}, {Via: v.Via.Next(), Dev: v.Dev, Onlink: true}})
			v.Via, v.Dev, v.Onlink = netip.Addr{}, "", false
		}),
	}},
	{object.KindAccept, is[object.Accept], nil}, // a rule is all in its key
	{object.KindNft, is[object.NftTable], nil},
	{object.KindNft, func(r reconcile.Resource) bool { v, ok := r.(object.NftChain); return ok && v.Table.Family == "inet" }, map[string]func(reconcile.Resource) reconcile.Resource{
		"Type": to(func(v *object.NftChain) { v.Type, v.Hook, v.Priority, v.Rules = "nat", "postrouting", 100, "" }),
		"Hook": to(func(v *object.NftChain) { v.Hook = "output" }), "Priority": to(func(v *object.NftChain) { v.Priority++ }),
		"Rules": to(func(v *object.NftChain) { v.Rules = "counter drop" }),
	}},
	{object.KindNft, is[object.NftSet], map[string]func(reconcile.Resource) reconcile.Resource{
		"Type": to(func(v *object.NftSet) { v.Type = "ipv4_addr" }), "Interval": to(func(v *object.NftSet) { v.Interval = !v.Interval }),
	}},
	{object.KindNft, is[object.NftElem], map[string]func(reconcile.Resource) reconcile.Resource{"Set": nil}}, // the set's own attributes
	{object.KindNft, func(r reconcile.Resource) bool {
		v, ok := r.(object.NftSet)
		return ok && strings.Contains(v.Type, " : ")
	}, map[string]func(reconcile.Resource) reconcile.Resource{
		"Type": to(func(v *object.NftSet) {
			if rest, at := strings.CutPrefix(v.Type, "ipv4_addr . "); at {
				v.Type = rest
			} else {
				v.Type = "ipv4_addr . " + v.Type
			}
		}), "Interval": nil,
	}},
	{object.KindNft, func(r reconcile.Resource) bool {
		v, ok := r.(object.NftElem)
		return ok && strings.Contains(v.Elem, " : ")
	}, map[string]func(reconcile.Resource) reconcile.Resource{"Set": nil}},
}

func is[T reconcile.Resource](r reconcile.Resource) bool { _, ok := r.(T); return ok }

func to[T reconcile.Resource](change func(*T)) func(reconcile.Resource) reconcile.Resource {
	return func(r reconcile.Resource) reconcile.Resource {
		v := r.(T)
		change(&v)
		return v
	}
}

// TestContract holds every kind of the registry to the contract of reconcile.Kind: what is created is listed as it was
// wanted; every attribute that someone changes is seen and repaired; what is deleted twice is gone; and what is gone comes
// back.
func TestContract(t *testing.T) {
	for _, mode := range []config.Mode{config.ModeVXLAN, config.ModeIPIP} {
		t.Run(string(mode), func(t *testing.T) {
			if mode == config.ModeIPIP {
				netns.Need(t)
				needIPIP(t)
			}
			if mode != config.ModeIPIP { // in the guest are no modules of iptables
				filterDrops(t)
			}
			c := &contract{host: newHost(t, mode)}
			c.home()
			tried := map[string]bool{}
			for _, x := range contracted {
				r := c.find(x.of)
				if r == nil {
					continue
				}
				tried[x.kind] = true
				name := strings.TrimPrefix(fmt.Sprintf("%T", r), "object.")
				t.Run(name, func(t *testing.T) {
					c.t, c.host.t = t, t
					c.attributes(r, x.change)
					c.twice(r)
				})
			}
			c.t, c.host.t = t, t
			for _, k := range c.k.Kinds() {
				if !tried[k.Name()] && !(mode == config.ModeIPIP && (k.Name() == object.KindFDB || k.Name() == object.KindAccept)) {
					t.Errorf("kind %s was not tried", k.Name())
				}
			}
		})
	}
}

// filterDrops has iptables drop what it does not know, as Docker does.
func filterDrops(t *testing.T) {
	netns.Need(t)
	netns.Run(t, "iptables -P FORWARD DROP")
	t.Cleanup(func() { netns.Run(t, "nft delete table ip filter") })
}

type contract struct {
	*host
	t *testing.T
}

// wanted is the walk-through's host with two next hop objects and a route by one of them, as with 1,000 nodes.
func (c *contract) wanted() reconcile.Want {
	w := c.want()
	var by object.Route
	for _, r := range w.State {
		if v, ok := r.(object.Route); ok && v.Onlink && v.Dst.Addr().Is4() {
			by = v
		}
	}
	w.Put(object.Nexthop{ID: 7, Via: by.Via, Dev: by.Dev, Onlink: true}, reconcile.Cause{})
	w.Put(object.Route{Dst: netip.MustParsePrefix("10.10.200.0/26"), Table: object.MainTable, Type: object.Unicast, Nexthop: 7}, reconcile.Cause{})
	return w
}

func (c *contract) find(of func(reconcile.Resource) bool) reconcile.Resource {
	w := c.wanted()
	for _, k := range w.State.Keys() {
		if of(w.State[k]) {
			return w.State[k]
		}
	}
	return nil
}

func (c *contract) kind(r reconcile.Resource) reconcile.Kind {
	for _, k := range c.k.Kinds() {
		if k.Name() == r.Key().Kind {
			return k
		}
	}
	return nil
}

// home converges, after which everything is listed as it was wanted.
func (c *contract) home() reconcile.Plan {
	c.host.t.Helper()
	w := c.wanted()
	plan, _, err := c.engine.Converge(context.Background(), w, nil, nil)
	if err != nil {
		c.host.t.Fatalf("%v, by\n%s", err, text(plan))
	}
	have, err := c.engine.Observe(context.Background(), w.State)
	if err != nil {
		c.host.t.Fatal(err)
	}
	for k, r := range w.State {
		if have.Own[k] != r {
			c.host.t.Errorf("%s: wanted %+v, listed %+v", k, r, have.Own[k])
		}
	}
	if n := len(have.Own) - len(w.State); n != 0 {
		c.host.t.Errorf("%d objects more than wanted", n)
	}
	return plan
}

// attributes changes each attribute of r in the kernel, by the kind's own means, behind the engine's back.
func (c *contract) attributes(r reconcile.Resource, change map[string]func(reconcile.Resource) reconcile.Resource) {
	ctx := context.Background()
	typ := reflect.TypeOf(r)
	for i := range typ.NumField() {
		field := typ.Field(i).Name
		f, told := change[field]
		switch {
		case !told && !inKey(r, i):
			c.t.Errorf("%s.%s: nobody says how to change it", typ.Name(), field)
			continue
		case f == nil:
			continue
		}
		other := f(r)
		if reflect.ValueOf(other).Field(i).Equal(reflect.ValueOf(r).Field(i)) || other.Key() != r.Key() {
			c.t.Errorf("%s.%s: %+v differs otherwise", typ.Name(), field, other)
			continue
		}
		before := c.wanted()
		if rep, ok := other.(reconcile.Replacer); ok && rep.Replaces(r) {
			// By a pass of its own, since what stands on it goes too.
			delete(before.State, r.Key())
			before.Put(other, reconcile.Cause{})
			if _, ok := r.(object.NftSet); ok { // nor can its elements and the chains that look it up be kept
				for k := range before.State {
					if k.Kind == object.KindNft && k.Name != r.Key().Name && before.State[k] != (r.(object.NftSet).Table) {
						delete(before.State, k)
					}
				}
			}
			plan, err := c.engine.Plan(ctx, &before, nil)
			if err != nil {
				c.t.Fatal(err)
			}
			if out := c.engine.Apply(ctx, plan, nil); slicesHas(out.Trouble, r.Key()) {
				c.t.Errorf("%s.%s: %v", typ.Name(), field, out.Err())
			}
		} else if err := c.kind(r).Update(ctx, r, other); err != nil {
			c.t.Errorf("%s.%s: changing it: %v", typ.Name(), field, err)
			continue
		}
		plan := c.home()
		seen := false
		for _, ch := range plan.Changes {
			seen = seen || ch.Key == r.Key()
		}
		if !seen {
			c.t.Errorf("%s.%s: changed to %+v and not seen:\n%s", typ.Name(), field, other, text(plan))
		}
	}
}

func slicesHas(events []reconcile.Event, k reconcile.Key) bool {
	for _, e := range events {
		if e.Change.Key == k {
			return true
		}
	}
	return false
}

// inKey reports whether another value of an attribute is another key.
func inKey(r reconcile.Resource, i int) bool {
	v := reflect.New(reflect.TypeOf(r)).Elem()
	v.Set(reflect.ValueOf(r))
	f := v.Field(i)
	switch x := f.Interface().(type) {
	case netip.Addr:
		f.Set(reflect.ValueOf(netip.MustParseAddr("203.0.113.1")))
	case netip.Prefix:
		f.Set(reflect.ValueOf(netip.MustParsePrefix("203.0.113.0/24")))
	case object.MAC:
		x[4] ^= 1
		f.Set(reflect.ValueOf(x))
	case object.NftTable:
		f.Set(reflect.ValueOf(object.NftTable{Family: "ip", Name: "other"}))
	default:
		switch f.Kind() {
		case reflect.String:
			f.SetString(f.String() + "x")
		case reflect.Uint32:
			f.SetUint(f.Uint() + 1)
		case reflect.Bool:
			f.SetBool(!f.Bool())
		default:
			return false
		}
	}
	return v.Interface().(reconcile.Resource).Key() != r.Key()
}

// twice deletes r, again, and sees it come back.
func (c *contract) twice(r reconcile.Resource) {
	ctx := context.Background()
	if _, ok := r.(object.NftSet); ok {
		return // never while chains look it up; the table is deleted with all of them
	}
	if _, ok := r.(object.NftTable); ok {
		netns.Run(c.t, "nft delete table inet netd")
		r = object.NftTable{Family: "inet", Name: "netd"}
	}
	for range 2 {
		if err := c.kind(r).Delete(ctx, r); err != nil {
			c.t.Errorf("deleting %s: %v", r.Key(), err)
		}
	}
	c.home()
}

// TestTwins puts something of somebody else in the place of a wanted object: it is a conflict that names its owner, and stays
// as it is, with all that stands on it left out.
func TestTwins(t *testing.T) {
	h := newHost(t, config.ModeVXLAN)
	c := &contract{host: h, t: t}
	c.home()
	for _, x := range []struct{ kind, make, show, remove, who string }{
		{"link", "ip link add vxlan.netd type vxlan id 9 dstport 9999 dev ens33", "ip -d -o link show vxlan.netd", "ip link del vxlan.netd", "not made by netd"},
		{"addr", "ip addr add 10.10.40.128/32 dev vxlan.netd", "ip -o addr show vxlan.netd", "ip addr del 10.10.40.128/32 dev vxlan.netd", "not put there by netd"},
		{"nexthop", "ip nexthop add id 7 via 192.168.170.138 dev ens33 proto bird", "ip nexthop", "ip nexthop del id 7", "bird"},
		{"route", "ip route add 10.10.194.128/26 via 192.168.170.138 dev ens33 proto static", "ip route show 10.10.194.128/26", "ip route del 10.10.194.128/26 proto static", "static"},
		{"route", "ip route add unreachable 10.10.40.128/26 proto bird", "ip route show 10.10.40.128/26", "ip route del unreachable 10.10.40.128/26", "bird"},
	} {
		t.Run(x.make, func(t *testing.T) {
			if x.kind == "addr" && !kernel.MarksAddresses() {
				t.Skip("this kernel does not say who put an address there: on a link of netd all are netd's")
			}
			h.t, c.t = t, t
			switch x.kind { // first what netd has there goes
			case "link":
				netns.Run(t, "ip link del vxlan.netd")
			case "addr":
				netns.Run(t, "ip addr del 10.10.40.128/32 dev vxlan.netd")
			case "nexthop":
				netns.Run(t, "ip nexthop del id 7")
			case "route":
				netns.Run(t, "ip route del "+strings.Fields(x.show)[3])
			}
			netns.Run(t, x.make)
			shown := netns.Run(t, x.show)
			plan, out, err := h.engine.Converge(context.Background(), c.wanted(), nil, nil)
			if len(plan.Conflicts) != 1 || plan.Conflicts[0].Key.Kind != x.kind || !strings.Contains(plan.Conflicts[0].Who, x.who) || plan.Conflicts[0].What == "" {
				t.Errorf("the conflict: %+v", plan.Conflicts)
			}
			if err != nil {
				t.Errorf("%v (%+v)", err, out.Trouble)
			}
			if now := netns.Run(t, x.show); now != shown {
				t.Errorf("it was\n%sand is\n%s", shown, now)
			}
			w := c.wanted()
			if left, err := h.engine.Plan(context.Background(), &w, nil); err != nil || len(left.Changes) > 0 {
				t.Errorf("the plan afterwards: %v\n%s", err, text(left))
			}
			netns.Run(t, x.remove)
			c.home()
		})
	}
	h.t, c.t = t, t
}
