package desired_test

import (
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"

	"netd/config"
	"netd/reconcile"
	"netd/reconcile/desired"
	"netd/reconcile/object"
)

// TestPublishedBesideNetd: a published port takes nothing of what netd itself listens at, and a container whose family the file
// has no pools of any more asks for no set that is not there.
func TestPublishedBesideNetd(t *testing.T) {
	for mode, want := range map[config.Mode]string{config.ModeVXLAN: "udp dport 4789 return", config.ModeBGP: "tcp dport 179 return"} {
		vxlan, bgp := object.Port{Proto: "udp", On: 4789, Port: 53}, object.Port{Proto: "tcp", On: 179, Port: 80}
		c := parse(t, "testdata/2-nodes.hcl", mode)
		f := facts(c, c.Nodes[0])
		f.Endpoints = append(f.Endpoints, object.Endpoint{ID: "docker/e0", Interface: "eth0", IPv4: netip.MustParseAddr("10.10.40.151"), MAC: object.WorkloadMAC("docker/e0"), Network: "lab"},
			object.Endpoint{ID: "docker/e1", Interface: "eth0", IPv4: netip.MustParseAddr("10.10.40.150"), IPv6: netip.MustParseAddr("fd00::2"),
				MAC: object.WorkloadMAC("docker/e1"), Network: "lab", Ports: []object.Port{vxlan, bgp}})
		r, err := desired.Compile(c, c.Nodes[0], f)
		if err != nil {
			t.Fatal(err)
		}
		// Who asks for it now is refused; who has it is told of in the plan.
		note, refused := "workload docker/e1 has 4789->53/udp published, a port at which netd itself listens for VXLAN: nothing comes to the container by it; publish another one, or change vxlan.port of network lab in the file",
			map[object.Port]string{vxlan: "VXLAN (vxlan.port of network lab)"}
		if mode == config.ModeBGP {
			note, refused = "workload docker/e1 has 179->80/tcp published, a port at which netd itself listens for BGP: nothing comes to the container by it; publish another one, or change bgp.listen_port in the file",
				map[object.Port]string{bgp: "BGP (bgp.listen_port)"}
		}
		notes := slices.DeleteFunc(slices.Clone(r.Notes), func(n string) bool { return !strings.Contains(n, "published") })
		if !slices.Equal(notes, []string{note}) {
			t.Errorf("%s: notes %q", mode, notes)
		}
		listens := desired.Listening(c, c.Nodes[0], desired.Facts{Host: f.Host})
		for _, p := range []object.Port{vxlan, bgp, {Proto: "tcp", On: 4789}, {Proto: "udp", On: 179}} {
			if what := listens(p); what != refused[p] {
				t.Errorf("%s: %s: netd listens for %q", mode, p, what)
			}
		}
		for _, name := range []string{"publish", "publish-output"} {
			chain, _ := r.Want.State[object.NftChain{Table: object.NftTable{Family: "inet", Name: "netd"}, Name: name}.Key()].(object.NftChain)
			if before, _, _ := strings.Cut(chain.Rules, "dnat"); !strings.Contains(before, want) {
				t.Errorf("%s: %s begins with %q, without %q", mode, name, before, want)
			}
		}
		source, _ := r.Want.State[object.NftChain{Table: object.NftTable{Family: "inet", Name: "netd"}, Name: "publish-source"}.Key()].(object.NftChain)
		if want := "ip saddr @loopback oifname @veths masquerade\niifname . oifname @hairpin masquerade"; source.Rules != want {
			t.Errorf("%s: masqueraded is %q", mode, source.Rules)
		}
		var hairpins []string // a container that publishes nothing is in none
		for _, x := range r.Want.State {
			if e, ok := x.(object.NftElem); ok && e.Set.Name == "hairpin" {
				hairpins = append(hairpins, e.Elem)
			}
		}
		veth := strconv.Quote(object.VethName("docker/e1"))
		if !slices.Equal(hairpins, []string{veth + " . " + veth}) {
			t.Errorf("%s: hairpins %s", mode, hairpins)
		}
		for k, x := range r.Want.State {
			if e, ok := x.(object.NftElem); ok && r.Want.State[e.Set.Key()] == nil {
				t.Errorf("%s: %s has no set", mode, k)
			}
		}
	}
}

// TestPublishedNarrowly: what a container that publishes adds to the desired state is what Attached and Published say, nothing else.
func TestPublishedNarrowly(t *testing.T) {
	for _, file := range []string{"2-nodes.hcl", "dual-stack.hcl"} {
		for _, mode := range []config.Mode{config.ModeVXLAN, config.ModeBGP} {
			c := parse(t, "testdata/"+file, mode)
			f := facts(c, c.Nodes[0])
			f.Host.Filter, f.Host.Filter6 = "DOCKER-USER FORWARD", "FORWARD"
			e := object.Endpoint{ID: "docker/e1", Interface: "eth0", IPv4: netip.MustParseAddr("10.10.40.150"), MAC: object.WorkloadMAC("docker/e1"), Network: c.Networks[0].Name,
				Handed: true, Ports: []object.Port{{Proto: "tcp", On: 8080, Port: 80}}}
			compile := func(f desired.Facts) reconcile.State {
				r, err := desired.Compile(c, c.Nodes[0], f)
				if err != nil {
					t.Fatal(err)
				}
				return r.Want.State
			}
			want := compile(f)
			attached, err := desired.Attached(c, c.Nodes[0], f, e)
			if err != nil {
				t.Fatal(err)
			}
			published, err := desired.Published(c, c.Nodes[0], f)
			if err != nil {
				t.Fatal(err)
			}
			maps.Copy(want, attached.State)
			maps.Copy(want, published.State)
			f.Endpoints = append(f.Endpoints, e)
			got := compile(f)
			for k, r := range got {
				if want[k] != r {
					t.Errorf("%s, %s: %s is %v, narrowly %v", file, mode, k, r, want[k])
				}
				delete(want, k)
			}
			for k := range want {
				t.Errorf("%s, %s: %s is wanted narrowly alone", file, mode, k)
			}
		}
	}
}
