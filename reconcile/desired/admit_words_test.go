package desired

import (
	"net/netip"
	"strings"
	"testing"

	"netd/config"
	"netd/reconcile/object"
)

const threeNodes = `network "lab" {
  pools = ["10.10.0.0/16"]
  mode  = "bgp"
}

network "tunnels" {
  pools = ["10.20.0.0/16"]
  mode  = "vxlan"
}

bgp {
  mesh = true
}

node "one" {
  address = "192.168.170.1/24"
  blocks  = ["10.10.1.0/24"]
}

node "two" {
  address = "192.168.170.2/24"
  blocks  = ["10.10.2.0/24", "10.20.2.0/24"]
}

node "three" {
  address         = "192.168.170.3/24"
  blocks          = ["10.10.3.0/24"]
  route_reflector = "192.168.170.3"
}

peer "tor" {
  address = "192.168.170.254"
  asn     = 65000
  import  = ["172.16.0.0/12 le 24"]
}
`

// TestRefusal names the reason of everything that a neighbour may not tell node one.
func TestRefusal(t *testing.T) {
	c := parseText(t, threeNodes)
	self, _ := c.Node("one")
	refusal := Judge(c, self, Facts{})
	const two, three, tor = "192.168.170.2", "192.168.170.3", "192.168.170.254"
	for _, x := range []struct {
		from, prefix, nextHop string
		want                  string
	}{
		{two, "10.10.2.0/24", two, ""},
		{three, "10.10.2.0/24", two, ""}, // reflected
		{tor, "172.16.5.0/24", tor, ""},
		{two, "10.10.1.0/24", two, "a block of this node"},
		{two, "10.10.1.128/25", two, "it lies in 10.10.1.0/24, a block of this node"},
		{two, "10.10.0.0/16", two, "it is no block of that node"},
		{two, "0.0.0.0/0", two, "it is no block of that node"},
		{tor, "0.0.0.0/0", tor, "a default route"},
		{two, "10.10.3.0/24", two, "it is of node three, and node two is no reflector"},
		{two, "10.10.3.0/24", three, "it is of node three, and node two is no reflector"},
		{three, "10.10.2.0/24", three, "its next hop 192.168.170.3 is not node two"},
		{two, "10.10.2.0/24", "192.168.170.9", "its next hop 192.168.170.9 is not node two"},
		{two, "10.10.2.128/25", two, "it is more specific than 10.10.2.0/24, a block of node two"},
		{two, "10.10.2.0/23", two, "it is no block of that node"},
		{two, "10.20.2.0/24", two, "in network tunnels of mode vxlan, whose routes come from the file"},
		{two, "10.10.77.0/24", two, "it is no block of that node"},
		{tor, "192.0.2.0/24", tor, "its import list does not have it"},
		{tor, "172.16.5.0/25", tor, "its import list does not have it"},
	} {
		p := object.BestPath{Peer: netip.MustParseAddr(x.from), Prefix: netip.MustParsePrefix(x.prefix), NextHop: netip.MustParseAddr(x.nextHop)}
		if x.from == tor {
			p.FirstAS = 65000
		}
		verdict := refusal(p)
		if got, want := verdict.Unlisted, strings.Contains(x.want, "import list does not") || strings.Contains(x.want, "default route"); got != want {
			t.Errorf("%s from %s: unlisted %v, want %v", x.prefix, x.from, got, want)
		}
		got := verdict.Why
		if (x.want == "") != (got == "") || !strings.Contains(got, x.want) {
			t.Errorf("%s via %s from %s: %q, want %q", x.prefix, x.nextHop, x.from, got, x.want)
		}
	}
}

// parseText reads a file's text.
func parseText(t testing.TB, text string) *config.Config {
	t.Helper()
	source := config.Source{Path: "netd.hcl", Files: []config.File{{Name: "netd.hcl", Bytes: []byte(text)}}}
	c, ds := source.Parse()
	if ds.HasErrors() {
		t.Fatal(ds)
	}
	return c
}
