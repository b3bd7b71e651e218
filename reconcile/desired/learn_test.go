package desired_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"netd/reconcile/desired"
	"netd/reconcile/object"
)

// TestLearned is what becomes of what the speaker knows: the routes to prefixes of others, with their causes and the notes.
func TestLearned(t *testing.T) {
	const peers = `
peer "tor-a" {
  address = "192.168.170.1"
  asn     = 65101
  import  = ["172.16.0.0/12 le 24", "192.168.171.0/24"]
}
peer "tor-b" {
  address = "192.168.170.2"
  asn     = 65102
  import  = ["172.16.0.0/12 le 24"]
}
`
	const a, b, c, there, far = "192.168.170.1", "192.168.170.2", "192.168.170.3", "192.168.170.138", "192.168.171.139"
	const third = "peer \"tor-c\" {\n  address = \"192.168.170.3\"\n  asn = 65103\n"
	type path struct{ prefix, via, from string }
	for _, x := range []struct {
		name   string
		more   string
		paths  []path
		synced string // neighbours whose table is known; "none": the speaker is not known
		held   []path // routes of netd in the kernel
		ways   []object.Way
		want   []string
		notes  []string
	}{
		{name: "two routers", paths: []path{{"172.30.0.0/24", a, a}, {"172.30.0.0/24", b, b}, {"172.30.1.0/24", b, b}},
			want: []string{"172.30.0.0/24 via 192.168.170.1 dev ens33, via 192.168.170.2 dev ens33 # peer tor-a, peer tor-b",
				"172.30.1.0/24 via 192.168.170.2 dev ens33 # peer tor-b"}},
		{name: "two of three routers", more: third + "  import = [\"172.30.0.0/16 le 24\"]\n}\n",
			paths: []path{{"172.30.0.0/24", a, a}, {"172.30.0.0/24", b, b}, {"172.30.1.0/24", b, b}, {"172.30.2.0/24", a, a}, {"172.30.2.0/24", b, b}, {"172.30.2.0/24", c, c},
				{"172.31.0.0/24", a, a}, {"172.31.0.0/24", b, b}},
			want: []string{"172.30.0.0/24 via 192.168.170.1 dev ens33 weight 2, via 192.168.170.2 dev ens33 weight 2, via 192.168.170.1 dev ens33, via 192.168.170.2 dev ens33 # peer tor-a, peer tor-b",
				"172.30.1.0/24 via 192.168.170.2 dev ens33 # peer tor-b",
				"172.30.2.0/24 via 192.168.170.1 dev ens33, via 192.168.170.2 dev ens33, via 192.168.170.3 dev ens33 # peer tor-a, peer tor-b, peer tor-c",
				"172.31.0.0/24 via 192.168.170.1 dev ens33, via 192.168.170.2 dev ens33 # peer tor-a, peer tor-b"}},
		{name: "the third has another rank", more: third + "  import     = [\"172.30.0.0/16 le 24\"]\n  local_pref = 90\n}\n",
			paths: []path{{"172.30.0.0/24", a, a}, {"172.30.0.0/24", b, b}},
			want:  []string{"172.30.0.0/24 via 192.168.170.1 dev ens33, via 192.168.170.2 dev ens33 # peer tor-a, peer tor-b"}},
		{name: "one of three held", more: third + "  import = [\"172.30.0.0/16 le 24\"]\n}\n", synced: b + " " + c + " " + there + " " + far,
			paths: []path{{"172.30.0.0/24", b, b}}, held: []path{{"172.30.0.0/24", a, ""}, {"172.30.0.0/24", b, ""}, {"172.30.0.0/24", a, ""}, {"172.30.0.0/24", b, ""}},
			want:  []string{"172.30.0.0/24 via 192.168.170.1 dev ens33 weight 2, via 192.168.170.2 dev ens33 weight 2, via 192.168.170.1 dev ens33, via 192.168.170.2 dev ens33 # peer tor-a, peer tor-b"},
			notes: []string{"1 learned route held"}},
		{name: "one way at a time", more: "bgp {\n  multipath = false\n}\n", paths: []path{{"172.30.0.0/24", a, a}},
			want: []string{"172.30.0.0/24 via 192.168.170.1 dev ens33 # peer tor-a"}},
		{name: "blocks", paths: []path{{"10.10.194.128/26", there, there}, {"10.10.7.0/24", far, far}},
			ways: []object.Way{{To: netip.MustParseAddr(far), Prefix: netip.MustParsePrefix("0.0.0.0/0"), Hops: "via 192.168.170.254 dev ens33"}},
			want: []string{"10.10.194.128/26 via 192.168.170.138 dev ens33 # node there", "10.10.7.0/24 via 192.168.170.254 dev ens33 # node far"}},
		{name: "no way to the next hop", paths: []path{{"10.10.7.0/24", far, far}},
			notes: []string{"1 learned route without a way to the next hop: 10.10.7.0/24 via 192.168.171.139"}},
		{name: "a next hop that was learned", paths: []path{{"10.10.7.0/24", far, far}, {"192.168.171.0/24", a, a}},
			ways: []object.Way{{To: netip.MustParseAddr(far), Prefix: netip.MustParsePrefix("0.0.0.0/0"), Hops: "via 192.168.170.254 dev ens33"}},
			want: []string{"10.10.7.0/24 via 192.168.170.1 dev ens33 # node far", "192.168.171.0/24 via 192.168.170.1 dev ens33 # peer tor-a"}},
		{name: "a more specific route of the host's", paths: []path{{"10.10.7.0/24", far, far}, {"192.168.171.0/24", a, a}},
			ways: []object.Way{{To: netip.MustParseAddr(far), Prefix: netip.MustParsePrefix("192.168.171.139/32"), Hops: "via 192.168.170.8 dev ens33, via 192.168.170.9 dev ens33"}},
			want: []string{"10.10.7.0/24 via 192.168.170.8 dev ens33, via 192.168.170.9 dev ens33 # node far", "192.168.171.0/24 via 192.168.170.1 dev ens33 # peer tor-a"}},
		{name: "a speaker that lies", paths: []path{{"0.0.0.0/0", a, a}, {"10.10.40.128/26", there, there}, {"10.10.194.128/26", a, there}, {"172.30.0.0/24", b, b}},
			want: []string{"172.30.0.0/24 via 192.168.170.2 dev ens33 # peer tor-b"},
			notes: []string{"node there: 2 paths refused that the speaker took (10.10.40.128/26: it lies in 10.10.40.128/26, a block of this node)",
				"peer tor-a: 1 path refused that the speaker took (0.0.0.0/0: a default route, and default_route is off)"}},
		{name: "a router whose table is not known", synced: b + " " + there + " " + far, paths: []path{{"172.30.0.0/24", b, b}},
			held: []path{{"172.30.0.0/24", a, ""}, {"172.30.5.0/24", a, ""}, {"172.30.6.0/24", b, ""}, {"172.30.7.0/25", a, ""}},
			want: []string{"172.30.0.0/24 via 192.168.170.1 dev ens33, via 192.168.170.2 dev ens33 # peer tor-a, peer tor-b",
				"172.30.5.0/24 via 192.168.170.1 dev ens33 # peer tor-a"},
			notes: []string{"2 learned routes held"}},
		{name: "no speaker", synced: "none",
			held: []path{{"172.30.0.0/24", a, ""}, {"10.10.194.128/26", there, ""}, {"10.10.7.0/24", "192.168.170.254", ""}, {"10.10.194.128/27", there, ""}, {"10.20.2.0/24", there, ""},
				{"8.8.8.0/24", a, ""}, {"172.30.9.0/24", "192.168.170.77", ""}},
			want: []string{"10.10.194.128/26 via 192.168.170.138 dev ens33 # node there", "10.10.7.0/24 via 192.168.170.254 dev ens33 # node far",
				"172.30.0.0/24 via 192.168.170.1 dev ens33 # peer tor-a"},
			notes: []string{"3 learned routes held"}},
	} {
		t.Run(x.name, func(t *testing.T) {
			file, n, f := policy(t, peers+x.more)
			f.Speaker = object.Speaker{Known: x.synced != "none"}
			for _, s := range []string{a, b, c, there, far, "2001:db8:170::138"} {
				f.Speaker.Peers = append(f.Speaker.Peers, object.SpeakerPeer{Addr: netip.MustParseAddr(s), Synced: x.synced == "" || slices.Contains(strings.Fields(x.synced+" 2001:db8:170::138"), s)})
			}
			for _, p := range x.paths {
				f.Speaker.Paths = append(f.Speaker.Paths, told(file, n, p.from, p.prefix, p.via))
			}
			for _, p := range x.held {
				f.Host.LearnedRoutes = append(f.Host.LearnedRoutes, object.Learned{Prefix: netip.MustParsePrefix(p.prefix), NextHop: netip.MustParseAddr(p.via), Link: "ens33"})
			}
			f.Host.Ways = x.ways
			r, err := desired.Compile(file, n, f)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for k, res := range r.Want.State {
				if route, ok := res.(object.Route); ok && route.In == "" && route.Type == object.Unicast && (route.Dev == "ens33" || route.Hops != "") {
					got = append(got, k.Name+" "+route.Summary()+" # "+r.Want.Because(k).Text)
				}
			}
			slices.Sort(got)
			slices.Sort(x.want)
			if !slices.Equal(got, x.want) {
				t.Errorf("routes\n%s\nwant\n%s\nnotes %q", strings.Join(got, "\n"), strings.Join(x.want, "\n"), r.Notes)
			}
			for _, note := range x.notes {
				if !slices.ContainsFunc(r.Notes, func(s string) bool { return strings.Contains(s, note) }) {
					t.Errorf("no note %q among %q", note, r.Notes)
				}
			}
		})
	}
}
