package kernel_test

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"netd/config"
	"netd/reconcile"
	"netd/reconcile/object"
	"netd/testenv/netns"
)

// TestGetMany asks for 2,000 single routes at once, more than one send takes: those that are there as wanted, otherwise, not
// at all, a stranger's, netd's own where none is wanted any more, of very many next hops, and below a less specific route or a
// blackhole. What is told of them is what a listing tells.
func TestGetMany(t *testing.T) {
	h := newHost(t, config.ModeBGP)
	h.converge()
	kind := h.kind(object.KindRoute)
	netns.Run(t, "ip route add 172.31.4.0/22 via 192.168.170.9 dev ens33")
	netns.Run(t, "ip route add blackhole 172.31.2.0/23 proto 142")
	t.Cleanup(func() {
		netns.Run(t, "ip route flush root 172.31.0.0/16")
		netns.Run(t, "ip route flush root 172.31.0.0/16 type blackhole")
	})
	var want []reconcile.Resource
	var keys []reconcile.Key
	var lines strings.Builder
	for i := range 2000 {
		p := netip.PrefixFrom(netip.AddrFrom4([4]byte{172, 31, byte(i >> 8), byte(i)}), 32)
		r := object.Route{Dst: p, Table: object.MainTable, Type: object.Unicast, Via: netip.MustParseAddr("192.168.170.8"), Dev: "ens33"}
		keys = append(keys, r.Key())
		if i%7 != 6 {
			want = append(want, r)
		}
		if i == 3*512+10 { // where the send before had an answer that proves a route not to be there: one longer than is read
			fmt.Fprintf(&lines, "route add %s proto 142", p)
			for hop := range 150 {
				fmt.Fprintf(&lines, " nexthop via 192.168.170.%d", 1+hop%100)
			}
			lines.WriteString("\n")
			continue
		}
		switch i % 7 {
		case 6: // left over, or a stranger's where nothing is wanted
			fmt.Fprintf(&lines, "route add %s via 192.168.170.8 dev ens33 proto %s\n", p, []string{"142", "4"}[i%2])
		case 0:
			fmt.Fprintf(&lines, "route add %s via 192.168.170.8 dev ens33 proto 142\n", p)
		case 1:
			fmt.Fprintf(&lines, "route add %s via 192.168.170.9 dev ens33 proto 142\n", p)
		case 2:
			fmt.Fprintf(&lines, "route add %s via 192.168.170.8 dev ens33 proto 4\n", p)
		case 3:
			fmt.Fprintf(&lines, "route add %s via 192.168.170.8 dev ens33 proto 142 metric 7\n", p) // of another key
		case 4:
			fmt.Fprintf(&lines, "route add blackhole %s proto 142\n", p)
		}
	}
	batch := exec.Command("ip", "-batch", "-")
	batch.Stdin = strings.NewReader(lines.String())
	if out, err := batch.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	ctx := context.Background()
	held := func(own []reconcile.Resource, foreign []reconcile.Holder) map[reconcile.Key]string {
		out := map[reconcile.Key]string{}
		for _, r := range own {
			out[r.Key()] = fmt.Sprint(r)
		}
		for _, f := range foreign {
			out[f.Key] += "foreign " + f.What
		}
		return out
	}
	own, foreign, err := kind.List(ctx, want)
	if err != nil {
		t.Fatal(err)
	}
	listed := held(own, foreign)
	for _, n := range []int{len(keys), 200} { // many at once, and so few that each may be asked about once more
		asked := map[reconcile.Key]bool{}
		for _, k := range keys[:n] {
			asked[k] = true
		}
		part := maps.Clone(listed)
		maps.DeleteFunc(part, func(k reconcile.Key, _ string) bool { return !asked[k] })
		of := slices.DeleteFunc(slices.Clone(want), func(r reconcile.Resource) bool { return !asked[r.Key()] })
		own, foreign, err := kind.(reconcile.Getter).Get(ctx, keys[:n], of)
		if err != nil {
			t.Fatal(err)
		}
		if got := held(own, foreign); !maps.Equal(got, part) {
			for k := range part {
				if got[k] != part[k] {
					t.Fatalf("of %d: %s: listed %q, asked for %q", n, k, part[k], got[k])
				}
			}
			t.Fatalf("of %d: %d are more", n, len(got)-len(part))
		}
	}
}
