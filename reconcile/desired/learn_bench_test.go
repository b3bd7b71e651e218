package desired_test

import (
	"net/netip"
	"testing"

	"netd/reconcile/desired"
)

// BenchmarkLearn compiles a node with two routers that each tell 100,000 prefixes.
func BenchmarkLearn(b *testing.B) {
	c, n, f := policy(b, `
peer "a" {
  address = "192.168.170.1"
  asn     = 65101
  import  = ["0.0.0.0/0 le 24"]
}
peer "b" {
  address = "192.168.170.2"
  asn     = 65102
  import  = ["0.0.0.0/0 le 24"]
}
`)
	f.Sessions = true
	f.Speaker.Known = true
	for i := range 100_000 {
		p := netip.PrefixFrom(netip.AddrFrom4([4]byte{20 + byte(i>>16), byte(i >> 8), byte(i), 0}), 24)
		for _, from := range []string{"192.168.170.1", "192.168.170.2"} {
			f.Speaker.Paths = append(f.Speaker.Paths, told(c, n, from, p.String(), from))
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		r, err := desired.Compile(c, n, f)
		if err != nil || len(r.Want.State) < 100_000 {
			b.Fatal(err, len(r.Want.State))
		}
	}
}
