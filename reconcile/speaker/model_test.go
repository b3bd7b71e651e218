package speaker

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"netd/reconcile/object"
)

// TestChangesLeadToSnapshot tells a client of paths in any order, with neighbours that begin anew, a speaker that is lost and prefixes that come
// and go before anyone asks. Who takes the changes, and a snapshot where they are not kept, has what a snapshot has, and no prefix is told
// twice at once.
func TestChangesLeadToSnapshot(t *testing.T) {
	for seed := range uint64(50) {
		r := rand.New(rand.NewPCG(seed, 5))
		c := Open(t.TempDir(), Secrets{})
		have := map[netip.Prefix][]object.BestPath{}
		snapshot := func() map[netip.Prefix][]object.BestPath {
			out := map[netip.Prefix][]object.BestPath{}
			for _, p := range c.Snapshot().Paths {
				out[p.Prefix] = append(out[p.Prefix], p)
			}
			return out
		}
		marked := false
		for step := range 400 {
			switch n := r.IntN(100); {
			case n < 70:
				p := netip.MustParsePrefix(fmt.Sprintf("172.30.%d.0/24", r.IntN(12)))
				ways := ""
				if k := r.IntN(4); k > 0 {
					var hops []hop
					for _, i := range r.Perm(4)[:k] {
						a := netip.AddrFrom4([4]byte{192, 0, 2, byte(1 + i)})
						hops = append(hops, hop{a, a, 65001})
					}
					ways = string(appendHops(nil, hops))
				}
				if err := c.heard(framePaths, appendEntry(nil, p, ways)); err != nil {
					t.Fatal(err)
				}
			case n < 72 && marked:
				c.lost(nil)
				marked = false
				clear(have)
			case n < 74 || !marked:
				_ = c.heard(frameMark, nil)
				marked = true
			case n < 75:
				if err := c.heard(frameNeighbours, []byte(fmt.Sprintf(`[{"addr":"192.0.2.%d","synced":%v}]`, 1+r.IntN(4), r.IntN(2) == 0))); err != nil {
					t.Fatal(err)
				}
			default:
				for more := true; more && marked; {
					prefixes, paths, m, ok := c.Changes(1 + r.IntN(5))
					if !ok {
						c.Caught()
						have = snapshot()
						break
					}
					for _, p := range prefixes {
						delete(have, p)
					}
					for i, p := range prefixes {
						if slices.Contains(prefixes[:i], p) {
							t.Fatalf("seed %d: %s twice", seed, p)
						}
					}
					at := 0
					for _, p := range paths {
						for prefixes[at] != p.Prefix {
							at++
						}
						have[p.Prefix] = append(have[p.Prefix], p)
					}
					more = m
					if more && r.IntN(3) == 0 {
						break
					}
				}
			}
			queued := map[netip.Prefix]bool{}
			for _, p := range c.view.changed {
				if queued[p] {
					t.Fatalf("seed %d, step %d: %s is queued twice", seed, step, p)
				}
				queued[p] = true
			}
			hops := 0
			for p, w := range c.view.paths {
				hops += len(w.list())
				if w.changed != queued[p] || w.hops == nil && !w.changed {
					t.Fatalf("seed %d, step %d: %s: changed %v, queued %v, %v", seed, step, p, w.changed, queued[p], w.hops)
				}
				delete(queued, p)
			}
			if hops != c.view.hops || len(queued) > 0 {
				t.Fatalf("seed %d, step %d: %d hops of %d, %v", seed, step, hops, c.view.hops, queued)
			}
			if marked && len(c.view.changed) == 0 && !c.view.missed {
				if now := snapshot(); fmt.Sprint(now) != fmt.Sprint(have) {
					t.Fatalf("seed %d, step %d:\n%v\n%v", seed, step, now, have)
				}
			}
		}
	}
}
