package object

import (
	"fmt"
	"math/bits"
	"net/netip"
	"testing"
)

// kernel is which way each of many hashes goes by, as the kernel counts it (fib_rebalance in net/ipv4/fib_semantics.c).
func kernel(hops []Hop) []netip.Addr {
	const hashes = 5040 // of 2^31, as far apart as each other
	total := 0
	for _, h := range hops {
		total += max(h.Weight, 1)
	}
	out := make([]netip.Addr, 0, hashes)
	sum := 0
	for _, h := range hops {
		sum += max(h.Weight, 1)
		bound := (uint64(sum)<<31+uint64(total)/2)/uint64(total) - 1
		for len(out) < hashes && (2*uint64(len(out))+1)<<30/hashes <= bound {
			out = append(out, h.Via)
		}
	}
	return out
}

// TestSpread goes through all that may be there of up to five: they have equal parts, and of any two of these states that
// differ in one way, only the flows of that one differ.
func TestSpread(t *testing.T) {
	for n := 2; n <= 5; n++ {
		var all []Hop
		for i := range n {
			all = append(all, Hop{Via: netip.AddrFrom4([4]byte{192, 0, 2, byte(n - i)}), Dev: "eth0"})
		}
		of := func(mask int) (out []Hop) {
			for i, h := range all {
				if mask&(1<<i) != 0 {
					out = append(out, h)
				}
			}
			return out
		}
		for mask := 1; mask < 1<<n; mask++ {
			there := of(mask)
			spread := Spread(all, there)
			goes := kernel(spread)
			parts := map[netip.Addr]int{}
			for _, via := range goes {
				parts[via]++
			}
			for _, h := range there {
				if share := len(goes) / len(there); parts[h.Via] != share {
					t.Errorf("%s: %s has %d of %d flows, want %d", HopList(spread), h.Via, parts[h.Via], len(goes), share)
				}
			}
			if bits.OnesCount(uint(mask)) == n && HopList(spread) != Hops(all) {
				t.Errorf("with all of them there: %s", HopList(spread))
			}
			for i, gone := range all {
				if mask&(1<<i) == 0 || mask == 1<<i {
					continue
				}
				for j, via := range kernel(Spread(all, of(mask&^(1<<i)))) {
					if goes[j] != gone.Via && via != goes[j] {
						t.Fatalf("%s loses %s: a flow of %s moves to %s", HopList(spread), gone.Via, goes[j], via)
					}
				}
			}
		}
	}
}

// TestSpreadMany: whoever is away, a route does not grow beyond bounds; the first that goes moves nobody else's flows.
func TestSpreadMany(t *testing.T) {
	for _, n := range []int{6, 8, 16, 64} {
		var all []Hop
		for i := range n {
			all = append(all, Hop{Via: netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}), Dev: "eth0"})
		}
		before := kernel(all)
		for there := n; there > 0; there-- {
			spread := Spread(all, all[:there])
			if len(spread) > mostShares {
				t.Errorf("%d of %d: %d entries", there, n, len(spread))
			}
			for _, h := range spread {
				if h.Weight > mostWeight {
					t.Errorf("%d of %d: %s", there, n, h)
				}
			}
			if n > 16 || there != n-1 {
				continue
			}
			for j, via := range kernel(spread) {
				if before[j] != all[n-1].Via && via != before[j] {
					t.Fatalf("%d of %d: a flow of %s moves to %s", there, n, before[j], via)
				}
			}
		}
	}
}

func ExampleSpread() {
	a, b, c := Hop{Via: netip.MustParseAddr("192.0.2.1"), Dev: "eth0"}, Hop{Via: netip.MustParseAddr("192.0.2.2"), Dev: "eth0"}, Hop{Via: netip.MustParseAddr("192.0.2.3"), Dev: "eth0"}
	fmt.Println(HopList(Spread([]Hop{a, b, c}, []Hop{a, b})))
	// Output: via 192.0.2.1 dev eth0 weight 2, via 192.0.2.2 dev eth0 weight 2, via 192.0.2.1 dev eth0, via 192.0.2.2 dev eth0
}
