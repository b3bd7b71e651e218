package object

import (
	"go/ast"
	"go/parser"
	"go/token"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"netd/reconcile"
)

// samples is one value of every kind with every attribute set.
var samples = []reconcile.Resource{
	Veth{Name: "netd0668201186e", MAC: HostEndMAC, MTU: 1450, Up: true, Alias: "netd: file/web", Workload: "file/web", Peer: "eth0", PeerMAC: MAC{2}, PeerMTU: 1450, PeerUp: true},
	VXLAN{Name: "vxlan.netd", VNI: 4096, Port: 4789, Local: master, Underlay: "ens33", MAC: MAC{2}, MTU: 1450, Up: true, Learning: true, Alias: "netd: network lab"},
	IPIP{Name: "tunl0", MTU: 1480, Up: true},
	Sysctl{In: "file/web", Name: "net.ipv4.ip_forward", Value: "1"},
	Addr{In: "file/web", Link: "eth0", Prefix: netip.PrefixFrom(master, 24), Scope: ScopeLink},
	Neigh{Link: "vxlan.netd", IP: node, MAC: MAC{2}},
	FDB{Link: "vxlan.netd", MAC: MAC{2}, Dst: node},
	Route{In: "file/web", Dst: netip.MustParsePrefix("10.10.194.128/26"), Table: MainTable, Metric: 7, Type: Unicast, Via: node, Dev: "vxlan.netd",
		Onlink: true, Src: master, Scope: ScopeLink, Nexthop: 9, Hops: "192.168.170.138 dev ens33, 192.168.170.139 dev ens33"},
	Nexthop{ID: 9, Via: node, Dev: "vxlan.netd", Onlink: true},
	NftTable{Family: "inet", Name: "netd"},
	NftChain{Table: NftTable{"inet", "netd"}, Name: "spoof", Type: "filter", Hook: "prerouting", Priority: -300, Rules: "counter drop"},
	NftSet{Table: NftTable{"inet", "netd"}, Name: "nodes", Type: "ipv4_addr", Interval: true},
	NftElem{Set: NftSet{NftTable{"inet", "netd"}, "nodes", "ipv4_addr", true}, Elem: "192.168.170.138"},
	Accept{Family: "ip", Chain: "DOCKER-USER", In: "netd+", Out: "ens33", Src: netip.MustParsePrefix("10.10.0.0/16"), Dst: netip.MustParsePrefix("10.20.0.0/16"), Established: true, Stray: "7"},
	BGP{ASN: 64512, RouterID: master, Listen: "192.168.170.137", Port: 179, Multipath: true, Refuse: true},
	toldPeer(),
	Path{Prefix: netip.MustParsePrefix("10.10.40.128/26"), NextHop: master, To: ToNodes},
}

func toldPeer() Peer {
	p := somePeer()
	p.Cluster, p.Self, p.Self6 = master, master, netip.MustParseAddr("2001:db8::1")
	return p
}

// TestFields walks every attribute of every kind: two values that differ in one are two keys, or show different fields. Else a
// plan would print a change of nothing, and `plan --against` would not see it at all.
func TestFields(t *testing.T) {
	seen := map[string]bool{}
	for _, r := range samples {
		seen[reflect.TypeOf(r).Name()] = true
		mutate(t, reflect.ValueOf(r), func(field string, v reflect.Value) {
			other := v.Interface().(reconcile.Resource)
			if !valid(v) {
				t.Fatalf("%T.%s: the sample leaves an address open", r, field)
			}
			if other == r {
				t.Errorf("%T.%s: the test changed nothing", r, field)
			}
			if other.Key() == r.Key() && reconcile.Difference(r, other) == "" {
				t.Errorf("%T.%s differs and no field shows it", r, field)
			}
		})
	}
	for _, name := range resourceTypes(t) {
		if !seen[name] {
			t.Errorf("the test has no sample of %s", name)
		}
	}
}

// valid reports whether all addresses of a value are.
func valid(v reflect.Value) bool {
	for i := range v.NumField() {
		if a, ok := v.Field(i).Interface().(netip.Addr); ok && !a.IsValid() {
			return false
		}
	}
	return true
}

// mutate calls each with v changed in one attribute, for every attribute, those of a struct within it too.
func mutate(t *testing.T, v reflect.Value, each func(field string, changed reflect.Value)) {
	t.Helper()
	for i := range v.NumField() {
		name := v.Type().Field(i).Name
		with := func(set func(f reflect.Value)) reflect.Value {
			other := reflect.New(v.Type()).Elem()
			other.Set(v)
			set(other.Field(i))
			return other
		}
		f := v.Field(i)
		switch x := f.Interface().(type) {
		case netip.Addr:
			each(name, with(func(f reflect.Value) { f.Set(reflect.ValueOf(x.Next())) }))
			continue
		case netip.Prefix:
			each(name, with(func(f reflect.Value) { f.Set(reflect.ValueOf(netip.PrefixFrom(x.Addr(), x.Bits()+1))) }))
			continue
		case time.Duration: // shown in seconds
			each(name, with(func(f reflect.Value) { f.SetInt(int64(x + time.Second)) }))
			continue
		}
		switch f.Kind() {
		case reflect.Bool:
			each(name, with(func(f reflect.Value) { f.SetBool(!f.Bool()) }))
		case reflect.Int:
			each(name, with(func(f reflect.Value) { f.SetInt(f.Int() + 1) }))
		case reflect.Uint8, reflect.Uint16, reflect.Uint32:
			each(name, with(func(f reflect.Value) { f.SetUint(f.Uint() - 1) }))
		case reflect.String:
			each(name, with(func(f reflect.Value) { f.SetString(f.String() + "x") }))
		case reflect.Array:
			each(name, with(func(f reflect.Value) { f.Index(5).SetUint(f.Index(5).Uint() ^ 1) }))
		case reflect.Struct:
			mutate(t, f, func(inner string, changed reflect.Value) {
				each(name+"."+inner, with(func(f reflect.Value) { f.Set(changed) }))
			})
		default:
			t.Fatalf("%s.%s: the test does not know the type %s", v.Type().Name(), name, f.Type())
		}
	}
}

// resourceTypes are the types of this package that have the method Fields.
func resourceTypes(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		f, err := parser.ParseFile(token.NewFileSet(), file, b, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			if m, ok := d.(*ast.FuncDecl); ok && m.Recv != nil && m.Name.Name == "Fields" {
				if id, ok := m.Recv.List[0].Type.(*ast.Ident); ok {
					out = append(out, id.Name)
				}
			}
		}
	}
	if len(out) < 10 {
		t.Fatalf("only %v found", out)
	}
	return out
}

// TestRouteTypes: a route that stands where netd's would is called what ip route calls it.
func TestRouteTypes(t *testing.T) {
	for n, want := range map[RouteType]string{Unicast: "unicast", Blackhole: "blackhole", 2: "local", 7: "unreachable", 8: "prohibit", 9: "throw", 0: "type 0", 77: "type 77"} {
		if got := n.String(); got != want {
			t.Errorf("%d is called %q, not %q", n, got, want)
		}
	}
}
