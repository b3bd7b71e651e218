package desired

import (
	"net/netip"
	"strings"
	"testing"

	"netd/config"
	"netd/reconcile/object"
)

// TestDown: a link that carries nothing is told once for both families, and of a node alone not at all.
func TestDown(t *testing.T) {
	const isDown, noCarrier = "link eth0, by which packets of other nodes come, is down", "link eth0, by which packets of other nodes come, has no carrier: "
	nodes := `node "a" {
  address  = "192.168.1.1/24"
  address6 = "2001:db8:1::1/64"
  blocks   = ["10.10.1.0/24"]
}
`
	other := `node "b" {
  address  = "192.168.1.2/24"
  address6 = "2001:db8:1::2/64"
  blocks   = ["10.10.2.0/24"]
}
`
	for _, x := range []struct {
		name, more    string
		up, noCarrier bool
		want          string
	}{
		{"OK up", other, true, false, ""},
		{"bad down", other, false, false, isDown},
		{"bad without carrier", other, true, true, noCarrier},
		{"OK a node alone", "", false, false, ""},
	} {
		text := "network \"lab\" {\n  pools = [\"10.10.0.0/16\"]\n  mode  = \"vxlan\"\n}\n" + nodes + x.more
		s := config.Source{Path: "netd.hcl", Files: []config.File{{Name: "netd.hcl", Bytes: []byte(text)}}}
		c, ds := s.Parse()
		if ds.HasErrors() {
			t.Fatal(ds)
		}
		r, err := Compile(c, c.Nodes[0], Facts{Host: object.Host{IPv6: true, Links: []object.HostLink{{Name: "eth0", Index: 2, MTU: 1500, Up: x.up, NoCarrier: x.noCarrier,
			Addrs: []netip.Prefix{c.Nodes[0].Address, c.Nodes[0].Address6}}}}})
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(r.Down, "\n"); x.want == "" && got != "" || !strings.HasPrefix(got, x.want) || len(r.Down) > 1 {
			t.Errorf("%s: %q, want %q", x.name, got, x.want)
		}
	}
}
