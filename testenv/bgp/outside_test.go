package bgp

import (
	"net/netip"
	"strings"
	"testing"

	"netd/testenv/router"
)

// TestOutsideLies has a router outside the file, of whom everything is taken that may be, tell what may not, one after another:
// none of it is in the kernel, each is shown with its reason, its session stands, and what it tells then of its own is taken. The streams
// between the nodes lose nothing.
func TestOutsideLies(t *testing.T) {
	l := newLab(t, twoNodes+`
peer "tor" {
  address = "192.168.170.1"
  asn     = 65101
  passive = true
  nodes   = ["one"]
  import  = ["0.0.0.0/0 le 32"]
}
`)
	one, two, tor := l.host("one", "192.168.170.137/24"), l.host("two", "192.168.170.138/24"), l.host("tor", "192.168.170.1/24")
	c, d := l.container("web"), l.container("app")
	one.start()
	two.start()
	own := prefixes("172.30.0.0/24")
	r := l.socket(tor, 65101, one)
	l.tell(r, tor, 65101, false, own)
	l.say(r, router.EndOfRIB())
	taken := func() string { return missing(one.routes("172.30.0.0/24"), "via 192.168.170.1 dev eth0") }
	l.wait("its own", taken)
	one.up(2)
	l.wait("the nodes' routes", func() string {
		return missing(one.routes("10.10.194.128/26"), "via 192.168.170.138") + missing(two.routes("10.10.40.128/26"), "via 192.168.170.137")
	})
	streams := l.streams(c, d)
	since := one.sinceOf(tor.addr)
	rejected := func() string { return one.must("show", "peers", "tor", "--routes", "rejected") }
	for _, x := range []struct {
		prefix, via string
		path        []uint32
		want        string
	}{
		{"0.0.0.0/0", "192.168.170.1", []uint32{65101}, "a default route, and default_route is off"},
		{"10.0.0.0/8", "192.168.170.1", []uint32{65101}, "it covers the pool 10.10.0.0/16, and the import list does not name it itself"},
		{"10.10.40.128/26", "192.168.170.1", []uint32{65101}, "it lies in 10.10.40.128/26, a block of this node"},
		{"10.10.40.129/32", "192.168.170.1", []uint32{65101}, "it lies in 10.10.40.128/26, a block of this node"},
		{"10.10.194.128/27", "192.168.170.1", []uint32{65101}, "it is more specific than 10.10.194.128/26, a block of node two"},
		{"192.168.170.0/25", "192.168.170.1", []uint32{65101}, "it lies in 192.168.170.0/24, the subnet of this node"},
		{"127.0.0.0/8", "192.168.170.1", []uint32{65101}, "which is special (RFC 6890)"},
		{"172.30.9.0/24", "192.168.170.99", []uint32{65101}, "its next hop 192.168.170.99 is another host (RFC 7454 §10)"},
		{"172.30.9.0/24", "192.168.170.137", []uint32{65101}, "its next hop 192.168.170.137 is this host"},
		{"172.30.9.0/24", "192.168.170.138", []uint32{65101}, "its next hop 192.168.170.138 is node two, which it does not lead to"},
		{"172.30.9.0/24", "192.168.170.1", []uint32{65999}, "its path does not begin with AS 65101, the neighbour's own (RFC 4271 §6.3)"},
		{"172.30.9.0/24", "192.168.170.1", []uint32{65101, 64512}, "a loop: this node's AS 64512 is in its path"},
	} {
		before := one.Run(t, "ip route show")
		hop := netip.MustParseAddr(x.via)
		l.say(r, router.Update(nil, append(append(router.Origin(), router.ASPath(x.path...)...), router.NextHop(hop)...), prefixes(x.prefix)...))
		l.wait(x.prefix+" via "+x.via+": the reason", func() string { return missing(rejected(), x.want) })
		l.wait(x.prefix+" via "+x.via+": words", func() string { return missing(one.must("status"), "  tor: 1 route rejected, "+x.prefix+": ") })
		if now := one.Run(t, "ip route show"); now != before {
			t.Errorf("%s via %s: the kernel had\n%sand has\n%s", x.prefix, x.via, before, now)
		}
		l.say(r, router.Update(prefixes(x.prefix), nil))
		l.wait("it to be taken back", func() string { return missing(rejected(), "No routes.") })
	}
	if now := one.sinceOf(tor.addr); !now.Equal(since) {
		t.Errorf("its session was lost: up since %s, then %s", since, now)
	}
	l.tell(r, tor, 65101, true, own)
	l.wait("its own to go", func() string { return one.routes("172.30.0.0/24") })
	l.tell(r, tor, 65101, false, own)
	l.wait("its own again", taken)
	if out := two.routes("172.30.0.0/24"); strings.TrimSpace(out) != "" {
		t.Errorf("node two has it: %s", out)
	}
	for _, s := range streams {
		if got := s.Stop(); got.Lost != 0 {
			t.Errorf("the stream between the nodes: %s", got)
		}
	}
}
