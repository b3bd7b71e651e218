package kernel_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"testing"

	"netd/config"
	"netd/reconcile"
	"netd/reconcile/object"
	"netd/testenv/netns"
)

// singly has each place that is wanted, or is told of by a listing, read by itself, as a narrow pass reads it: what is told of it is
// what the listing tells.
func (h *host) singly() {
	h.t.Helper()
	ctx := context.Background()
	want := map[string][]reconcile.Resource{}
	for _, r := range h.want().State {
		want[r.Key().Kind] = append(want[r.Key().Kind], r)
	}
	for _, kind := range h.k.Kinds() {
		g, ok := kind.(reconcile.Getter)
		if !ok {
			continue
		}
		asked := map[reconcile.Key]reconcile.Resource{}
		for _, r := range want[kind.Name()] {
			asked[r.Key()] = r
		}
		own, foreign, err := kind.List(ctx, want[kind.Name()])
		if err != nil {
			h.t.Fatal(err)
		}
		listed := told(own, foreign)
		done := h.k.Reading()
		keys := slices.AppendSeq(slices.Collect(maps.Keys(asked)), maps.Keys(listed))
		slices.SortFunc(keys, reconcile.Key.Compare)
		for _, k := range slices.Compact(keys) {
			var at []reconcile.Resource
			if r := asked[k]; r != nil {
				at = append(at, r)
			}
			own, foreign, err := g.Get(ctx, []reconcile.Key{k}, at)
			if err != nil {
				h.t.Fatalf("%s: %v", k, err)
			}
			got := told(own, foreign)
			if len(got) > 1 || got[k] != listed[k] {
				h.t.Errorf("%s: listed %q, asked for %v", k, listed[k], got)
			}
		}
		done()
	}
}

func told(own []reconcile.Resource, foreign []reconcile.Holder) map[reconcile.Key]string {
	out := map[reconcile.Key]string{}
	for _, r := range own {
		out[r.Key()] += fmt.Sprintf("%T %+v", r, r)
	}
	for _, f := range foreign {
		out[f.Key] += "foreign " + f.What + ", " + f.Who
	}
	return out
}

// TestSingly is singly on a host that has nothing yet, as it should be, and with strangers in netd's places. TestRepair does it on
// hosts of which something is missing.
func TestSingly(t *testing.T) {
	h := newHost(t, config.ModeVXLAN)
	h.singly()
	netns.Run(t, "ip link add vxlan.netd type veth peer name there")
	netns.Run(t, "ip link add "+object.VethName("file/nginx-master")+" type veth peer name here")
	netns.Run(t, "ip route add 10.10.194.128/26 via 192.168.170.9 dev ens33 proto 12")
	h.singly()
	netns.Run(t, "ip link del vxlan.netd")
	netns.Run(t, "ip link del "+object.VethName("file/nginx-master"))
	netns.Run(t, "ip route del 10.10.194.128/26")
	h.converge()
	h.singly()
}
