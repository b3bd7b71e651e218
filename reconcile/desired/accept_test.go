package desired_test

import (
	"slices"
	"strings"
	"testing"

	"netd/config"
	"netd/reconcile/desired"
	"netd/reconcile/object"
)

// TestAccepts: what Docker's chain has to let through, in each mode, and nothing where no chain drops.
func TestAccepts(t *testing.T) {
	for _, x := range []struct {
		name, file string
		mode       config.Mode
		v4, v6     string
		want       string
	}{
		{"no chain that drops", "testdata/2-nodes.hcl", config.ModeVXLAN, "", "", ""},
		{"vxlan", "testdata/2-nodes.hcl", config.ModeVXLAN, "DOCKER-USER", "", `
ip DOCKER-USER -d 10.10.0.0/16 -i ens33 -o netd+ --ctstate RELATED,ESTABLISHED
ip DOCKER-USER -i netd+ -o netd+
ip DOCKER-USER -i netd+ -o vxlan.netd
ip DOCKER-USER -i vxlan.netd -o netd+
ip DOCKER-USER -s 10.10.0.0/16 -i netd+ -o ens33`},
		{"Docker's chain, and the one that leads there", "testdata/2-nodes.hcl", config.ModeBGP, "DOCKER-USER FORWARD", "", `
ip DOCKER-USER -d 10.10.0.0/16 -i ens33 -o netd+
ip DOCKER-USER -i netd+ -o netd+
ip DOCKER-USER -s 10.10.0.0/16 -i netd+ -o ens33
ip FORWARD -d 10.10.0.0/16 -i ens33 -o netd+
ip FORWARD -i netd+ -o netd+
ip FORWARD -s 10.10.0.0/16 -i netd+ -o ens33`},
		{"ipip", "testdata/2-nodes.hcl", config.ModeIPIP, "FORWARD", "", `
ip FORWARD -d 10.10.0.0/16 -i ens33 -o netd+ --ctstate RELATED,ESTABLISHED
ip FORWARD -i netd+ -o netd+
ip FORWARD -i netd+ -o tunl0
ip FORWARD -i tunl0 -o netd+
ip FORWARD -s 10.10.0.0/16 -i netd+ -o ens33`},
		{"bgp: packets go bare, and come so from routers outside the file", "testdata/2-nodes.hcl", config.ModeBGP, "DOCKER-USER", "", `
ip DOCKER-USER -d 10.10.0.0/16 -i ens33 -o netd+
ip DOCKER-USER -i netd+ -o netd+
ip DOCKER-USER -s 10.10.0.0/16 -i netd+ -o ens33`},
		{"the chain of IPv6 alone drops", "testdata/ipv6-only.hcl", config.ModeVXLAN, "", "FORWARD", `
ip6 FORWARD -d fd00:10::/48 -i ens33 -o netd+ --ctstate RELATED,ESTABLISHED
ip6 FORWARD -i netd+ -o netd+
ip6 FORWARD -i netd+ -o vxlan.netd
ip6 FORWARD -i vxlan.netd -o netd+
ip6 FORWARD -s fd00:10::/48 -i netd+ -o ens33`},
	} {
		t.Run(x.name, func(t *testing.T) {
			c := parse(t, x.file, x.mode)
			f := facts(c, c.Nodes[0])
			f.Host.Filter, f.Host.Filter6 = x.v4, x.v6
			f.Host.HasTunl0 = x.mode == config.ModeIPIP
			r, err := desired.Compile(c, c.Nodes[0], f)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for k := range r.Want.State {
				if k.Kind == object.KindAccept {
					got = append(got, "\n"+k.Name)
				}
			}
			slices.Sort(got)
			if text := strings.Join(got, ""); text != x.want {
				t.Errorf("%s\nwant:%s", text, x.want)
			}
		})
	}
}
