package desired_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"netd/config"
	"netd/reconcile/desired"
	"netd/reconcile/object"
)

const policyFile = `
network "routed" {
  pools = ["10.10.0.0/16", "fd10::/48"]
  mode  = "bgp"
}
network "tunnels" {
  pools = ["10.20.0.0/16"]
  mode  = "vxlan"
}
node "here" {
  address  = "192.168.170.137/24"
  address6 = "2001:db8:170::137/64"
  blocks   = ["10.10.40.128/26", "fd10:0:0:1::/64", "10.20.1.0/24"]
  labels   = { rack = "r1" }
}
node "there" {
  address  = "192.168.170.138/24"
  address6 = "2001:db8:170::138/64"
  blocks   = ["10.10.194.128/26", "fd10:0:0:2::/64", "10.20.2.0/24"]
}
node "far" {
  address = "192.168.171.139/24"
  blocks  = ["10.10.7.0/24"]
}
`

// policy is a file with more blocks, and what the host "here" is.
func policy(t testing.TB, more string) (*config.Config, config.Node, desired.Facts) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "netd.hcl")
	if err := os.WriteFile(path, []byte(policyFile+more), 0o600); err != nil {
		t.Fatal(err)
	}
	c := parse(t, path, config.ModeBGP)
	n, _ := c.Node("here")
	return c, n, facts(c, n)
}

// told is a path that begins with the AS of who tells it, as one from another AS has to.
func told(c *config.Config, self config.Node, from, prefix, via string) object.BestPath {
	p := object.BestPath{Prefix: netip.MustParsePrefix(prefix), NextHop: netip.MustParseAddr(via), Peer: netip.MustParseAddr(from)}
	for _, x := range c.Peers {
		if x.Address == p.Peer && x.ASN != self.ASN {
			p.FirstAS = x.ASN
		}
	}
	return p
}

// TestRefusal is what is taken from whom, and why the rest is not.
func TestRefusal(t *testing.T) {
	c, n, f := policy(t, `
peer "open" {
  address       = "192.168.170.1"
  asn           = 65101
  import        = ["10.0.0.0/8 le 32", "172.16.0.0/12 le 24", "fd00::/8 le 128", "192.168.0.0/16 le 32", "100.64.0.0/10"]
  default_route = true
}
peer "closed" {
  address = "192.168.170.2"
  asn     = 65102
}
peer "lists" {
  address = "192.168.170.3"
  asn     = 65103
  import  = ["0.0.0.0/0 le 32", "10.10.0.0/16", "203.0.113.0/25", "192.168.170.0/28"]
}
peer "inside" {
  address = "192.168.170.4"
  asn     = 64512
}
`)
	why := desired.Judge(c, n, f)
	const open, closed, lists, inside, there, far = "192.168.170.1", "192.168.170.2", "192.168.170.3", "192.168.170.4", "192.168.170.138", "192.168.171.139"
	for _, x := range []struct{ from, prefix, via, want string }{
		{open, "172.30.0.0/24", open, ""},
		{open, "172.16.0.0/12", open, ""},
		{open, "0.0.0.0/0", open, ""},
		{open, "100.64.0.0/10", open, ""},
		{open, "172.30.0.0/25", open, "import list does not have it"},
		{open, "8.8.8.0/24", open, "import list does not have it"},
		{open, "10.99.0.0/16", open, ""},
		{open, "fd99::/64", "2001:db8:170::1", ""},

		{open, "10.10.194.128/26", open, ""}, // a block of another node by way of the router
		{open, "10.10.194.128/26", there, ""},
		{open, "10.10.194.128/26", "192.168.170.2", "another host"},
		{open, "10.10.194.130/32", open, "more specific than 10.10.194.128/26, a block of node there"},
		{open, "10.10.40.128/26", open, "10.10.40.128/26, a block of this node"},
		{open, "10.10.40.129/32", open, "a block of this node"},
		{open, "fd10:0:0:1::/64", "2001:db8:170::1", "a block of this node"},
		{open, "10.20.2.0/24", open, "network tunnels of mode vxlan"},
		{open, "10.20.9.0/24", open, "network tunnels of mode vxlan"},
		{open, "10.10.0.0/16", open, "covers the pool 10.10.0.0/16"},
		{open, "10.0.0.0/8", open, "covers the pool 10.10.0.0/16"},
		{open, "10.10.128.0/17", open, ""}, // less than the pool
		{open, "192.168.170.0/25", open, "the subnet of this node"},
		{open, "192.168.171.0/24", open, ""},

		{open, "172.30.0.0/24", "192.168.170.137", "this host"},
		{open, "172.30.0.0/24", there, "node there, which it does not lead to"},
		{open, "172.30.0.0/24", "192.168.170.77", "another host"},
		{open, "172.30.0.0/24", "0.0.0.0", "no host"},
		{open, "172.30.0.0/24", "224.0.0.5", "no host"},
		{open, "172.30.0.0/24", "127.0.0.1", "no host"},

		{open, "172.30.0.0/24", "2001:db8:170::1", "another family"},
		{open, "10.10.194.128/26", "2001:db8:170::138", "another family"},
		{open, "fd99::/64", open, "another family"},
		{open, "fd99::/64", "::ffff:192.168.170.1", "no host"},

		{closed, "172.30.0.0/24", closed, "import is not written"},
		{closed, "0.0.0.0/0", closed, "default_route is off"},

		{lists, "8.8.8.0/24", lists, ""},
		{lists, "10.10.0.0/16", lists, ""},
		{lists, "10.0.0.0/8", lists, "covers the pool"},
		{lists, "0.0.0.0/0", lists, "a default route, and default_route is off"},
		{lists, "127.0.0.0/8", lists, "127.0.0.0/8, which is special"},
		{lists, "224.0.0.0/8", lists, "224.0.0.0/4, which is special"},
		{lists, "169.254.1.1/32", lists, "169.254.0.0/16, which is special"},
		{lists, "198.18.0.0/15", lists, "which is special"},
		{lists, "203.0.113.0/25", lists, ""},
		{lists, "192.168.170.0/28", lists, ""},

		{inside, "10.10.194.128/26", there, ""},
		{inside, "10.10.194.128/26", inside, ""},
		{inside, "10.10.7.0/24", far, ""},
		{inside, "10.10.194.128/26", far, "node far, which it does not lead to"},
		{inside, "10.10.194.128/26", "192.168.170.77", "neither node there nor the peer"},
		{inside, "172.30.0.0/24", inside, "import is not written, and it is no block of a node"},
		{inside, "10.20.2.0/24", there, "import is not written, and it is no block of a node"},

		{there, "10.10.194.128/26", there, ""},
		{"2001:db8:170::138", "fd10:0:0:2::/64", "2001:db8:170::138", ""},
		{there, "10.10.194.128/26", "2001:db8:170::138", "another family"},
		{there, "10.10.194.128/26", "::ffff:192.168.170.138", "no host"},
		{"2001:db8:170::138", "fd10:0:0:2::/64", there, "another family"},
		{"2001:db8:170::138", "fd10:0:0:2::/64", "::ffff:192.168.170.138", "no host"},
		{there, "10.10.7.0/24", there, "of node far"},
		{there, "10.10.7.0/24", far, "of node far"},
		{there, "10.10.40.128/26", there, "a block of this node"},
		{there, "10.10.194.128/26", "192.168.170.1", "not node there"},
		{there, "10.10.194.130/32", there, "more specific than"},
		{there, "10.10.200.0/26", there, "no block of that node"},
		{there, "0.0.0.0/0", there, "no block of that node"},
		{there, "172.30.0.0/24", there, "no block of that node"},
		{there, "10.20.2.0/24", there, "network tunnels of mode vxlan"},
		{far, "10.10.7.0/24", far, ""},
		{"192.168.170.99", "10.10.7.0/24", far, "no neighbour"},
	} {
		got := why(told(c, n, x.from, x.prefix, x.via)).Why
		if (got == "") != (x.want == "") || !strings.Contains(got, x.want) {
			t.Errorf("%s via %s from %s: %q, want %q", x.prefix, x.via, x.from, got, x.want)
		}
	}
}

// TestFirstAS: a path from another AS begins with that of who tells it, whatever the speaker's own filter let through; one from
// within begins as it likes.
func TestFirstAS(t *testing.T) {
	c, n, f := policy(t, `
peer "outside" {
  address = "192.168.170.1"
  asn     = 65101
  import  = ["172.16.0.0/12 le 24"]
}
peer "inside" {
  address = "192.168.170.4"
  asn     = 64512
  import  = ["172.16.0.0/12 le 24"]
}
`)
	why := desired.Judge(c, n, f)
	for _, x := range []struct {
		from  string
		first uint32
		want  string
	}{
		{"192.168.170.1", 65101, ""},
		{"192.168.170.1", 65102, "its path does not begin with AS 65101, the neighbour's own (RFC 4271 §6.3)"},
		{"192.168.170.1", 0, "its path does not begin with AS 65101, the neighbour's own (RFC 4271 §6.3)"},
		{"192.168.170.4", 0, ""},
		{"192.168.170.4", 65102, ""},
	} {
		p := told(c, n, x.from, "172.30.0.0/24", x.from)
		p.FirstAS = x.first
		if got := why(p).Why; got != x.want {
			t.Errorf("AS %d first from %s: %q, want %q", x.first, x.from, got, x.want)
		}
	}
}

// TestRefusalOfWorkloads: where each workload is announced, a node's single addresses are taken from it too.
func TestRefusalOfWorkloads(t *testing.T) {
	for advertise, want := range map[string][3]bool{ // block, address, half a block
		`["blocks"]`:              {true, false, false},
		`["blocks", "workloads"]`: {true, true, false},
		`["workloads"]`:           {false, true, false},
	} {
		c, n, f := policy(t, fmt.Sprintf("bgp {\n  advertise = %s\n}\npeer \"tor\" {\n  address = \"192.168.170.1\"\n  asn = 65101\n}\n", advertise))
		why := desired.Judge(c, n, f)
		const there = "192.168.170.138"
		for i, p := range []string{"10.10.194.128/26", "10.10.194.130/32", "10.10.194.128/27"} {
			if got := why(told(c, n, there, p, there)).Why; (got == "") != want[i] {
				t.Errorf("advertise = %s: %s: %q", advertise, p, got)
			}
		}
	}
}

// TestFiltersAgree holds the speaker's lists against the judge: what a router may tell by the one it may by the other, for
// random lists and prefixes of the places that matter.
func TestFiltersAgree(t *testing.T) {
	places := []string{"10.10.40.128/26", "10.10.194.128/26", "10.10.7.0/24", "10.10.0.0/16", "10.20.0.0/16", "10.0.0.0/8", "192.168.170.0/24", "0.0.0.0/0",
		"203.0.113.0/24", "127.0.0.0/8", "172.16.0.0/12", "fd10:0:0:1::/64", "fd10:0:0:2::/64", "fd10::/48", "fd00::/8", "::/0", "2001:db8:170::/64", "fe80::/10"}
	near := func() netip.Prefix {
		p := netip.MustParsePrefix(places[rand.IntN(len(places))])
		bits := min(max(p.Bits()+rand.IntN(9)-4, 0), p.Addr().BitLen())
		b := p.Addr().AsSlice()
		if i := bits / 8; bits > p.Bits() && i < len(b) {
			b[i] |= byte(rand.IntN(256))
		}
		a, _ := netip.AddrFromSlice(b)
		if rand.IntN(4) == 0 {
			bits = a.BitLen()
		}
		return netip.PrefixFrom(a, bits).Masked()
	}
	for range 150 {
		var list []string
		for range 1 + rand.IntN(4) {
			p := near()
			high := p.Bits() + rand.IntN(p.Addr().BitLen()-p.Bits()+1)
			low := p.Bits() + rand.IntN(high-p.Bits()+1)
			list = append(list, fmt.Sprintf("%q", object.PrefixRange{Prefix: p, Min: low, Max: high}.String()))
		}
		advertise := []string{`"blocks"`, `"workloads"`, `"blocks", "workloads"`}[rand.IntN(3)]
		more := fmt.Sprintf(`
bgp {
  advertise = [%s]
}
peer "tor" {
  address       = "192.168.170.1"
  asn           = %d
  import        = [%s]
  default_route = %v
}`, advertise, 64512+rand.IntN(2), strings.Join(list, ", "), rand.IntN(2) == 0)
		c, n, f := policy(t, more)
		f.Sessions = true
		r, err := desired.Compile(c, n, f)
		if err != nil {
			t.Fatal(err)
		}
		tor := netip.MustParseAddr("192.168.170.1")
		peer := r.Want.State[object.PeerKey(tor)].(object.Peer)
		imports, err := object.ParsePrefixRanges(peer.Import)
		if err != nil {
			t.Fatal(err)
		}
		except, err := object.ParsePrefixRanges(peer.Except)
		if err != nil {
			t.Fatal(err)
		}
		why := desired.Judge(c, n, f)
		for range 300 {
			p := near()
			hop := tor
			if p.Addr().Is6() {
				hop = netip.MustParseAddr("2001:db8:170::1")
			}
			judged := why(told(c, n, tor.String(), p.String(), hop.String())).Why
			if filtered := object.MatchAny(imports, p) && !object.MatchAny(except, p); filtered != (judged == "") {
				t.Fatalf("%s: the speaker takes it: %v, the judge says %q\n%s\nimport %s\nexcept %s", p, filtered, judged, more, peer.Import, peer.Except)
			}
		}
	}
}
