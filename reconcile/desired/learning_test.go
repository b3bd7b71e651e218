package desired_test

import (
	"maps"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	"netd/reconcile"
	"netd/reconcile/desired"
	"netd/reconcile/object"
)

// TestLearning has the paths of a few prefixes change again and again: where Amend answers, the state that it leads to is the one
// that Compile returns of all paths, and where all tables are known so are its reasons.
func TestLearning(t *testing.T) {
	const peers = `
peer "tor-a" {
  address = "192.168.170.1"
  asn     = 65101
  import  = ["172.16.0.0/12 le 24", "192.168.171.0/24", "192.168.175.0/24", "10.77.0.0/24 le 32", "10.10.0.0/16 le 24"]
}
peer "tor-b" {
  address = "192.168.180.2"
  asn     = 65102
  import  = ["172.16.0.0/12 le 24"]
}
peer "tor-c" {
  address = "192.168.180.4"
  asn     = 65103
  import  = ["172.16.0.0/12 le 24"]
}
`
	const core = `
peer "core" {
  address = "192.168.170.3"
  asn     = 64512
  import  = ["172.16.0.0/12 le 24"]
}
`
	prefixes := []string{"10.10.7.0/24", "10.10.200.0/24", "192.168.175.0/24", "172.99.0.0/24", "10.77.0.1/32"}
	special := len(prefixes) // more than their routes depends on these
	for _, p := range []string{"0", "1", "2", "3", "4", "5", "6", "7"} {
		prefixes = append(prefixes, "172.30."+p+".0/24")
	}
	amended, compiled := 0, 0
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 3))
		more := ""
		if r.IntN(3) == 0 {
			more = "bgp {\n  multipath = false\n}\n"
		}
		// Which next hops are told by whom: a router of the own AS may tell any.
		gives, file := map[string][]string{"192.168.170.3": {"192.168.170.3", "192.168.170.3", "192.168.170.8", "192.168.185.7"}}, core
		if seed%4 > 0 {
			file += peers
			gives["192.168.170.1"], gives["192.168.180.2"], gives["192.168.180.4"] = []string{"192.168.170.1"}, []string{"192.168.180.2"}, []string{"192.168.180.4"}
		}
		if seed%5 == 0 { // on no link
			gives["192.168.170.3"] = append(gives["192.168.170.3"], "192.168.175.5")
		}
		routers := slices.Sorted(maps.Keys(gives))
		c, n, f := policy(t, file+more)
		f.Sessions, f.Speaker.Known = true, true
		f.Host.Links = append(f.Host.Links, object.HostLink{Name: "ens34", Index: 9, MTU: 1500, Up: true, Addrs: []netip.Prefix{netip.MustParsePrefix("192.168.180.1/24")}},
			object.HostLink{Name: "ens35", Index: 10, MTU: 1500, Up: true, Addrs: []netip.Prefix{netip.MustParsePrefix("192.168.185.1/24")}})
		f.Endpoints = append(f.Endpoints, object.Endpoint{ID: "cni/a/eth0", Netns: "/proc/7/ns/net", Interface: "eth0", IPv4: netip.MustParseAddr("10.77.0.1"), Network: "routed"})
		for _, a := range append(slices.Clone(routers), "192.168.170.138", "192.168.171.139", "2001:db8:170::138") {
			f.Speaker.Peers = append(f.Speaker.Peers, object.SpeakerPeer{Addr: netip.MustParseAddr(a), Synced: seed%2 == 0 || r.IntN(3) > 0})
		}
		if r.IntN(2) == 0 {
			f.Host.LearnedRoutes = []object.Learned{{Prefix: netip.MustParsePrefix("172.30.1.0/24"), NextHop: netip.MustParseAddr("192.168.170.1"), Link: "ens33"},
				{Prefix: netip.MustParsePrefix("172.30.2.0/24"), NextHop: netip.MustParseAddr("192.168.180.2"), Link: "ens34"}}
		}
		all := map[netip.Prefix][]object.BestPath{}
		change := func(p string) netip.Prefix {
			var to []object.BestPath
			for _, from := range routers {
				via := gives[from][r.IntN(len(gives[from]))]
				if r.IntN(40) == 0 {
					via = "192.168.171.139" // another node, to which it does not lead: refused
				}
				if r.IntN(2) == 0 {
					to = append(to, told(c, n, from, p, via))
				}
			}
			if more != "" && len(to) > 1 { // the speaker tells one
				to = to[:1]
			}
			prefix := netip.MustParsePrefix(p)
			all[prefix] = to
			return prefix
		}
		paths := func(of []netip.Prefix) (out []object.BestPath) {
			for _, p := range of {
				out = append(out, all[p]...)
			}
			return out
		}
		for _, p := range prefixes[special:] {
			change(p)
		}
		compile := func() desired.Result {
			f.Speaker.Paths = paths(slices.SortedFunc(maps.Keys(all), netip.Prefix.Compare))
			got, err := desired.Compile(c, n, f)
			if err != nil {
				t.Fatal(err)
			}
			return got
		}
		is := compile()
		for range 12 {
			f.Host.LearnedRoutes = nil // the kernel has what was wanted
			for _, x := range is.Want.State {
				route, ok := x.(object.Route)
				if !ok || !strings.HasPrefix(route.Dev+route.Hops, "ens3") && !strings.HasPrefix(route.Hops, "via") {
					continue
				}
				hops := []object.Hop{{Via: route.Via, Dev: route.Dev}}
				if route.Hops != "" {
					hops, _ = object.ParseHops(route.Hops)
				}
				for _, h := range hops {
					f.Host.LearnedRoutes = append(f.Host.LearnedRoutes, object.Learned{Prefix: route.Dst, NextHop: h.Via, Link: h.Dev})
				}
			}
			var changed []netip.Prefix
			for range 1 + r.IntN(3) {
				of := prefixes[special:]
				if r.IntN(8) == 0 {
					of = prefixes
				}
				if p := change(of[r.IntN(len(of))]); !slices.Contains(changed, p) {
					changed = append(changed, p)
				}
			}
			a, ok := is.Learning.Amend(is.Want.State, changed, paths(changed))
			now := compile()
			if !ok {
				compiled++
				is = now
				continue
			}
			amended++
			put(&is.Want, a)
			for what, pair := range map[string][2]any{"state": {is.Want.State, now.Want.State}, "reasons": {reasons(is.Want), reasons(now.Want)}, "footings": {is.Want.Stands, now.Want.Stands}, "notes": {is.Notes, now.Notes}} {
				if (what == "reasons" || what == "notes") && seed%2 == 1 { // who may have given what is held is guessed anew by each Compile
					continue
				}
				if !reflect.DeepEqual(pair[0], pair[1]) {
					t.Fatalf("seed %d: %v changed to %v: %s\namended  %v\ncompiled %v", seed, changed, paths(changed), what, differ(pair[0], pair[1]), differ(pair[1], pair[0]))
				}
			}
		}
	}
	if amended < 1000 || compiled < 300 {
		t.Errorf("%d times amended, %d times compiled", amended, compiled)
	}
}

// put makes an amendment a part of what is wanted.
func put(w *reconcile.Want, a reconcile.Amendment) {
	for _, p := range a.Places {
		delete(w.State, p.Key)
		delete(w.Stands, p.Key)
		if p.Want != nil {
			w.Put(p.Want, p.Why, p.Stands...)
		}
	}
}

func reasons(w reconcile.Want) map[reconcile.Key]reconcile.Cause {
	out := map[reconcile.Key]reconcile.Cause{}
	for k := range w.State {
		out[k] = w.Because(k)
	}
	return out
}

// differ is what a has that b has not, of two maps by key.
func differ(a, b any) (out []any) {
	x, y := reflect.ValueOf(a), reflect.ValueOf(b)
	if x.Kind() != reflect.Map {
		return []any{a}
	}
	for _, k := range x.MapKeys() {
		if other := y.MapIndex(k); !other.IsValid() || !reflect.DeepEqual(x.MapIndex(k).Interface(), other.Interface()) {
			out = append(out, k.Interface(), x.MapIndex(k).Interface())
		}
	}
	return out
}
