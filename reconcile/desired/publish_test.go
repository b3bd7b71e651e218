package desired_test

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"

	"netd/config"
	"netd/reconcile/desired"
	"netd/reconcile/object"
)

// TestPublishedBesideNetd: a published port takes nothing of what netd itself listens at, and a container whose family the file
// has no pools of any more asks for no set that is not there.
func TestPublishedBesideNetd(t *testing.T) {
	for mode, want := range map[config.Mode]string{config.ModeVXLAN: "udp dport 4789 return", config.ModeBGP: "tcp dport 179 return"} {
		c := parse(t, "testdata/2-nodes.hcl", mode)
		f := facts(c, c.Nodes[0])
		f.Endpoints = append(f.Endpoints, object.Endpoint{ID: "docker/e0", Interface: "eth0", IPv4: netip.MustParseAddr("10.10.40.151"), MAC: object.WorkloadMAC("docker/e0"), Network: "lab"},
			object.Endpoint{ID: "docker/e1", Interface: "eth0", IPv4: netip.MustParseAddr("10.10.40.150"), IPv6: netip.MustParseAddr("fd00::2"),
				MAC: object.WorkloadMAC("docker/e1"), Network: "lab", Ports: []object.Port{{Proto: "udp", On: 4789, Port: 53}, {Proto: "tcp", On: 179, Port: 80}}})
		r, err := desired.Compile(c, c.Nodes[0], f)
		if err != nil {
			t.Fatal(err)
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
