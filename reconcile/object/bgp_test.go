package object

import (
	"net/netip"
	"testing"
	"time"
)

var (
	master = netip.MustParseAddr("192.168.170.137")
	node   = netip.MustParseAddr("192.168.170.138")
)

func somePeer() Peer {
	return Peer{Addr: node, ASN: 64512, Local: master, Port: 179, Opens: Listens, TTLSecurity: true, HoldTime: 9 * time.Second,
		Keepalive: 3 * time.Second, GracefulRestart: 2 * time.Minute, Up: true, Import: "10.10.194.128/26"}
}

func TestPeerReplaces(t *testing.T) {
	for _, c := range []struct {
		name string
		to   func(*Peer)
		want bool
	}{
		{"password", func(p *Peer) { p.Password = "aabbccdd" }, true},
		{"AS", func(p *Peer) { p.ASN++ }, true},
		{"who dials", func(p *Peer) { p.Opens = Dials }, true},
		{"graceful restart", func(p *Peer) { p.GracefulRestart = 0 }, true},
		{"hold time", func(p *Peer) { p.HoldTime = time.Minute }, false},
		{"import", func(p *Peer) { p.Import = "" }, false},
		{"TTL", func(p *Peer) { p.TTLSecurity = false }, false},
		{"shut down", func(p *Peer) { p.Up = false }, false},
		{"loops", func(p *Peer) { p.UntellLoops = true }, true},
		{"no more reflected", func(p *Peer) { p.Reflected = false }, true},
		{"reflected", func(p *Peer) { p.Reflected = true }, false},
		{"families", func(p *Peer) { p.Family = Dual }, true},
		{"multihop", func(p *Peer) { p.Multihop = 2 }, false},
		{"limit", func(p *Peer) { p.MaxPrefixes = 5 }, false},
		{"communities", func(p *Peer) { p.Communities = "65000:1" }, false},
		{"prepend", func(p *Peer) { p.Prepend = 1 }, false},
		{"local preference", func(p *Peer) { p.LocalPref = "200" }, false},
		{"more transit", func(p *Peer) { p.Transit = "10.0.0.0/8 le 24, 172.16.0.0/12" }, false},
		{"less transit", func(p *Peer) { p.Transit = "10.0.0.0/16 le 24" }, true},
	} {
		p := somePeer()
		c.to(&p)
		have := somePeer()
		if p.Transit != "" {
			have.Transit = "10.0.0.0/8 le 24"
		}
		have.Reflected = c.name == "no more reflected"
		if got := p.Replaces(have); got != c.want {
			t.Errorf("%s: a new session is needed: %v, want %v", c.name, got, c.want)
		}
	}
}

func TestPrefixList(t *testing.T) {
	in := []netip.Prefix{netip.MustParsePrefix("10.10.194.128/26"), netip.MustParsePrefix("10.1.0.0/24"), netip.MustParsePrefix("10.10.194.128/26")}
	list := PrefixList(in)
	if want := "10.1.0.0/24, 10.10.194.128/26"; list != want {
		t.Errorf("got %q, want %q", list, want)
	}
}

func TestPrefixRanges(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"", ""},
		{"10.0.0.0/8 le 24, 10.0.0.0/8 ge 9 le 16", "10.0.0.0/8 le 24"},
		{"2001:db8::/32 ge 48 le 64, 10.0.0.0/8", "10.0.0.0/8, 2001:db8::/32 ge 48 le 64"},
		{"10.0.0.0/8 ge 16 le 24, 10.0.0.0/8", "10.0.0.0/8, 10.0.0.0/8 ge 16 le 24"},
		{"10.1.0.0/16 le 24, 10.0.0.0/8 le 20", "10.0.0.0/8 le 20, 10.1.0.0/16 le 24"},
	} {
		ranges, err := ParsePrefixRanges(c.in)
		if err != nil {
			t.Errorf("%q: %v", c.in, err)
			continue
		}
		if got := PrefixRanges(ranges); got != c.want {
			t.Errorf("%q: got %q, want %q", c.in, got, c.want)
		}
	}
	for _, bad := range []string{"nonsense", "10.0.0.0/8 le", "10.0.0.0/8 le 7", "10.0.0.0/8 ge 16", "10.0.0.0/8 lt 9", "10.0.0.0/8 ge 24 le 16", "10.0.0.0/8 le 33"} {
		if _, err := ParsePrefixRanges(bad); err == nil {
			t.Errorf("%q was taken for a prefix list", bad)
		}
	}
}

// TestRangesAgree compares the three questions about ranges with counting every prefix of a small space.
func TestRangesAgree(t *testing.T) {
	var all []netip.Prefix
	for bits := 0; bits <= 5; bits++ {
		for i := range 1 << bits {
			p, _ := netip.AddrFrom4([4]byte{byte(i << (8 - bits)), 0, 0, 0}).Prefix(bits)
			all = append(all, p)
		}
	}
	var ranges []PrefixRange
	for _, p := range all {
		for low := p.Bits(); low <= 5; low++ {
			for high := low; high <= 5; high++ {
				ranges = append(ranges, PrefixRange{p, low, high})
			}
		}
	}
	for _, a := range ranges {
		for _, b := range ranges {
			meets, covers := false, true
			for _, p := range all {
				in, other := a.Match(p), b.Match(p)
				meets = meets || in && other
				covers = covers && (!other || in)
			}
			if a.Meets(b) != meets || a.Covers(b) && !covers {
				t.Fatalf("%s and %s: meets %v want %v, covers %v want %v", a, b, a.Meets(b), meets, a.Covers(b), covers)
			}
		}
	}
}
