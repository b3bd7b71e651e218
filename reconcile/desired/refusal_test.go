package desired

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"netd/config"
)

const threeNodes = `network "lab" {
  pools = ["10.10.0.0/16"]
  mode  = "bgp"
}

network "tunnels" {
  pools = ["10.20.0.0/16"]
  mode  = "vxlan"
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
	file := filepath.Join(t.TempDir(), "netd.hcl")
	if err := os.WriteFile(file, []byte(threeNodes), 0o600); err != nil {
		t.Fatal(err)
	}
	source, err := config.Read(file, nil)
	if err != nil {
		t.Fatal(err)
	}
	c, ds := source.Parse()
	if ds.HasErrors() {
		t.Fatal(ds)
	}
	self, _ := c.Node("one")
	a := NewAdmission(c, self)
	const two, three, tor = "192.168.170.2", "192.168.170.3", "192.168.170.254"
	for _, x := range []struct {
		from, prefix, nextHop string
		path                  []uint32
		want                  string
	}{
		{two, "10.10.2.0/24", two, nil, ""},
		{three, "10.10.2.0/24", two, nil, ""}, // reflected
		{tor, "172.16.5.0/24", tor, []uint32{65000}, ""},
		{two, "10.10.1.0/24", two, nil, "own block"},
		{two, "10.10.1.128/25", two, nil, "overlaps this node's own block 10.10.1.0/24"},
		{two, "10.10.0.0/16", two, nil, "overlaps this node's own block 10.10.1.0/24"},
		{two, "0.0.0.0/0", two, nil, "a default route"},
		{tor, "0.0.0.0/0", tor, []uint32{65000}, "a default route"},
		{two, "10.10.3.0/24", two, nil, "the block of node three, and node two is no reflector"},
		{two, "10.10.3.0/24", three, nil, "the block of node three, and node two is no reflector"},
		{three, "10.10.2.0/24", three, nil, "the next hop 192.168.170.3 is not that node's address"},
		{two, "10.10.2.0/24", "192.168.170.9", nil, "the next hop 192.168.170.9 is not that node's address"},
		{two, "10.10.2.128/25", two, nil, "more specific than 10.10.2.0/24, the block of node two"},
		{two, "10.10.2.0/23", two, nil, "it covers 10.10.2.0/24, the block of node two"},
		{two, "10.20.2.0/24", two, nil, "in network tunnels, of mode vxlan"},
		{two, "10.10.77.0/24", two, nil, "no node has it"},
		{tor, "192.0.2.0/24", tor, []uint32{65000}, "import of peer tor does not list it"},
		{tor, "172.16.0.0/12", tor, []uint32{65000, 64512}, "a loop: this node's AS 64512"},
		{tor, "172.16.5.0/25", tor, []uint32{65000}, "import of peer tor does not list it"},
	} {
		got := a.Refusal(netip.MustParseAddr(x.from), netip.MustParsePrefix(x.prefix), netip.MustParseAddr(x.nextHop), x.path)
		if (x.want == "") != (got == "") || !strings.Contains(got, x.want) {
			t.Errorf("%s via %s from %s, path %v: %q, want %q", x.prefix, x.nextHop, x.from, x.path, got, x.want)
		}
	}
}
