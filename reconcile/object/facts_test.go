package object

import (
	"net/netip"
	"testing"
)

// TestPortMeets: of two published ports, which are of one host address at least.
func TestPortMeets(t *testing.T) {
	for _, x := range []struct {
		a, b string
		want bool
	}{
		{"", "", true}, {"", "0.0.0.0", true}, {"", "::", true}, {"", "192.0.2.1", true},
		{"0.0.0.0", "0.0.0.0", true}, {"0.0.0.0", "192.0.2.1", true}, {"0.0.0.0", "::", false}, {"0.0.0.0", "2001:db8::1", false},
		{"::", "::", true}, {"::", "2001:db8::1", true}, {"::", "192.0.2.1", false},
		{"192.0.2.1", "192.0.2.1", true}, {"192.0.2.1", "192.0.2.2", false},
	} {
		at := func(s string) Port {
			a, _ := netip.ParseAddr(s)
			return Port{Proto: "tcp", At: a, On: 8080, Port: 80}
		}
		if at(x.a).Meets(at(x.b)) != x.want || at(x.b).Meets(at(x.a)) != x.want {
			t.Errorf("%q and %q meet: want %v", x.a, x.b, x.want)
		}
	}
	a := Port{Proto: "tcp", On: 8080}
	if a.Meets(Port{Proto: "udp", On: 8080}) || a.Meets(Port{Proto: "tcp", On: 8081}) {
		t.Error("ports of other protocols or numbers meet")
	}
}
