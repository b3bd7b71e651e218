package desired_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"testing"

	"netd/config"
	"netd/reconcile/desired"
	"netd/reconcile/object"
)

// TestSame alters every attribute of a host, those of each link and tunnel too: it is another host then, except in its routes,
// whose events tell of them.
func TestSame(t *testing.T) {
	prefix := netip.MustParsePrefix("192.168.170.137/24")
	host := object.Host{
		Links: []object.HostLink{{Name: "ens33", Addrs: []netip.Prefix{prefix}}}, DefaultLinks: []string{"ens33"}, DefaultLinks6: []string{"ens33"},
		LearnedRoutes: []object.Learned{{Prefix: prefix, NextHop: prefix.Addr()}}, TunnelRoutes: []object.Learned{{Prefix: prefix, NextHop: prefix.Addr()}}, Lately: []string{"tunl0"}, Ways: []object.Way{{To: prefix.Addr(), Prefix: prefix}},
		Tunnels: []object.HostTunnel{{Name: "rival", Local: prefix.Addr(), Remote: prefix.Addr()}},
	}
	was := host
	was.Links, was.Tunnels = slices.Clone(host.Links), slices.Clone(host.Tunnels)
	was.Links[0].Addrs, was.Lately = slices.Clone(host.Links[0].Addrs), slices.Clone(host.Lately)
	self := config.Node{Address: prefix}
	routes := []string{"DefaultLinks", "DefaultLinks6", "LearnedRoutes", "TunnelRoutes", "Ways"}
	v := reflect.ValueOf(&host).Elem()
	for i := range v.NumField() {
		field := v.Type().Field(i).Name
		alter(t, v.Field(i), field, func(what string) {
			if same := desired.Same(self, was, host); same != slices.Contains(routes, field) {
				t.Errorf("another %s: the same host: %t", what, same)
			}
		})
	}
	if !desired.Same(self, was, host) {
		t.Error("the host as it was is another one")
	}
}

// alter calls each with v altered in one place, for every place.
func alter(t *testing.T, v reflect.Value, what string, each func(what string)) {
	t.Helper()
	was := reflect.New(v.Type()).Elem()
	was.Set(v)
	with := func(x reflect.Value) {
		v.Set(x)
		each(what)
		v.Set(was)
	}
	switch x := v.Interface().(type) {
	case netip.Addr:
		with(reflect.ValueOf(x.Next()))
		return
	case netip.Prefix:
		with(reflect.ValueOf(netip.PrefixFrom(x.Addr().Next(), x.Bits())))
		with(reflect.ValueOf(netip.PrefixFrom(x.Addr(), x.Bits()-1)))
		return
	}
	switch v.Kind() {
	case reflect.Bool:
		with(reflect.ValueOf(!v.Bool()))
	case reflect.Int:
		with(reflect.ValueOf(int(v.Int()) + 1))
	case reflect.String:
		with(reflect.ValueOf(v.String() + "x"))
	case reflect.Slice:
		if v.Len() == 0 {
			t.Fatalf("the test has no %s", what)
		}
		with(reflect.Zero(v.Type()))
		with(reflect.Append(v.Slice3(0, v.Len(), v.Len()), v.Index(0)))
		alter(t, v.Index(0), what+"[0]", each)
	case reflect.Struct:
		for i := range v.NumField() {
			alter(t, v.Field(i), what+"."+v.Type().Field(i).Name, each)
		}
	default:
		t.Fatalf("the test cannot alter %s, a %s", what, v.Type())
	}
}

// TestSamePorts adds ports of bridges to hosts, takes them away and changes them, as Docker does with each container: that is
// the same host, and the same state is wanted of it, to the last rule. What the file names is looked at nevertheless.
func TestSamePorts(t *testing.T) {
	for _, file := range []string{"testdata/2-nodes.hcl", "testdata/dual-stack.hcl"} {
		for _, mode := range []config.Mode{config.ModeIPIP, config.ModeVXLAN, config.ModeBGP} {
			if mode == config.ModeIPIP && file != "testdata/2-nodes.hcl" {
				continue
			}
			c := parse(t, file, mode)
			n := c.Nodes[0]
			for seed := range uint64(50) {
				r := rand.New(rand.NewPCG(seed, 17))
				one, other := facts(c, n), facts(c, n)
				one.Host.Links, other.Host.Links = append(one.Host.Links, ports(r)...), append(other.Host.Links, ports(r)...)
				if !desired.Same(n, one.Host, other.Host) {
					t.Fatalf("seed %d: another host\n%+v\n%+v", seed, one.Host.Links, other.Host.Links)
				}
				a, err := desired.Compile(c, n, one)
				if err != nil {
					t.Fatal(err)
				}
				b, err := desired.Compile(c, n, other)
				if err != nil {
					t.Fatal(err)
				}
				a.Learning, b.Learning = nil, nil // holds the facts themselves
				if !reflect.DeepEqual(a, b) {
					t.Fatalf("%s, %s, seed %d: the same host, and another state is wanted\n%+v\n%+v", file, mode, seed, one.Host.Links, other.Host.Links)
				}
			}
			h := facts(c, n).Host
			was := h
			h.Links = append(slices.Clone(h.Links), object.HostLink{Name: "eth9", Index: 9, Port: true})
			if n.Interface = "eth9"; desired.Same(n, was, h) {
				t.Error("the link that the file names came, and it is the same host")
			}
		}
	}
}

// ports are links of bridges with no address but those that the kernel gives each.
func ports(r *rand.Rand) (out []object.HostLink) {
	for i := range r.IntN(4) {
		l := object.HostLink{Name: fmt.Sprintf("veth%d", r.IntN(9)), Index: 10 + i, MTU: 1400 + r.IntN(2)*100, Up: r.IntN(2) == 0, Port: true}
		l.NoCarrier = l.Up && r.IntN(2) == 0
		if r.IntN(2) == 0 {
			l.Addrs = []netip.Prefix{netip.MustParsePrefix(fmt.Sprintf("fe80::%x/64", 1+r.IntN(99)))}
		}
		out = append(out, l)
	}
	return out
}
