package reconcile_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"strings"
	"testing"

	"netd/reconcile"
	"netd/reconcile/object"
	"netd/testenv/fakehost"
)

// from is a host that has come to a state.
func from(t *testing.T, w reconcile.Want) (*fakehost.Host, *reconcile.Engine) {
	t.Helper()
	h := fakehost.New(fakehost.Underlay)
	e := &reconcile.Engine{Kinds: h.Kinds()}
	if _, _, err := e.Converge(context.Background(), w, nil, nil); err != nil {
		t.Fatalf("from nothing: %v", err)
	}
	if got := seen(h, w); !maps.Equal(got, w.State) {
		t.Fatalf("from nothing: not as wanted:\n%v\n%v", got.Keys(), w.State.Keys())
	}
	return h, e
}

// seen is what a host has, less the settings that nobody asks for any more: they stay as they are while their link does.
func seen(h *fakehost.Host, w reconcile.Want) reconcile.State {
	s := maps.Clone(h.Own)
	for k := range s {
		if _, wanted := w.State[k]; !wanted && k.Kind == object.KindSysctl {
			delete(s, k)
		}
	}
	return s
}

// differences are the objects in which a state differs from the one that is wanted.
func differences(got, want reconcile.State) string {
	var b strings.Builder
	for _, k := range got.Keys() {
		if want[k] != got[k] {
			fmt.Fprintf(&b, "has   %s: %+v\n", k, got[k])
		}
	}
	for _, k := range want.Keys() {
		if want[k] != got[k] {
			fmt.Fprintf(&b, "wants %s: %+v\n", k, want[k])
		}
	}
	return b.String()
}

// stayed reports whether what was there is there still; an IPv6 route may have lost its preferred source to the kernel.
func stayed(was, now reconcile.Resource) bool {
	x, ok := was.(object.Route)
	y, too := now.(object.Route)
	if ok && too && x.Dst.Addr().Is6() && !y.Src.IsValid() {
		x.Src = y.Src
		return x == y
	}
	return was == now
}

// disturb has strangers set links up and down, and delete things.
func disturb(r *rand.Rand, h *fakehost.Host) {
	keys := h.Own.Keys()
	if len(keys) == 0 {
		return
	}
	for range r.IntN(4) {
		k := keys[r.IntN(len(keys))]
		switch l := h.Own[k].(type) {
		case object.VXLAN:
			h.Set("", l.Name, r.IntN(2) == 0)
		case object.Veth:
			if r.IntN(2) == 0 {
				h.Set(l.Workload, l.Peer, r.IntN(2) == 0)
			} else {
				h.Set("", l.Name, r.IntN(2) == 0)
			}
		}
		if k.Kind != object.KindSysctl && r.IntN(3) == 0 {
			h.Take(k)
		}
	}
}

// TestHostsOnePass leads 10,000 random hosts of real objects, which others disturbed, from one random state to another: in one pass, after which the plan is empty; what is
// foreign stays, and what stands on it is left out.
func TestHostsOnePass(t *testing.T) {
	ctx := context.Background()
	for seed := range uint64(pairs) {
		r := rand.New(rand.NewPCG(seed, 1))
		a, b := fakehost.Random(r), fakehost.Random(r)
		h, e := from(t, a)
		if keys := b.State.Keys(); len(keys) > 0 {
			for range r.IntN(3) {
				k := keys[r.IntN(len(keys))]
				if _, own := h.Own[k]; !own && k.Kind != object.KindNft { // netd's tables are all netd's
					h.Foreign[k] = reconcile.Holder{Key: k, What: "a thing", Who: "a stranger"}
				}
			}
		}
		strangers := maps.Clone(h.Foreign)
		disturb(r, h)
		before := maps.Clone(h.Own)
		plan, err := e.Plan(ctx, &b, nil)
		if err != nil {
			t.Fatal(err)
		}
		if again, _ := e.Plan(ctx, &b, nil); words(again) != words(plan) {
			t.Fatalf("seed %d: the same host and the same wish give two plans:\n%s\n%s", seed, words(plan), words(again))
		}
		if _, err := e.Execute(ctx, b, plan, nil); err != nil {
			t.Fatalf("seed %d: %v\n%s", seed, err, words(plan))
		}
		want := maps.Clone(b.State)
		for _, c := range plan.Conflicts {
			delete(want, c.Key)
			for _, k := range c.Without {
				delete(want, k)
			}
		}
		got := seen(h, b)
		for k, x := range got { // what was there before and is left out now may stay as it was
			if _, ok := want[k]; !ok && b.State[k] != nil && stayed(before[k], x) {
				want[k] = x
			}
		}
		if !maps.Equal(got, want) {
			t.Fatalf("seed %d: one pass does not lead there:\n%s%s", seed, words(plan), differences(got, want))
		}
		if left, _ := e.Plan(ctx, &b, nil); len(left.Changes) > 0 {
			t.Fatalf("seed %d: the second plan is not empty:\n%s", seed, words(left))
		}
		if !maps.Equal(strangers, h.Foreign) {
			t.Fatalf("seed %d: something foreign changed", seed)
		}
	}
}

// TestHostFaultsHeal has operations fail at random: nothing that is wanted is lost for it, and passes without faults lead home.
func TestHostFaultsHeal(t *testing.T) {
	ctx := context.Background()
	for seed := range uint64(pairs / 5) {
		r := rand.New(rand.NewPCG(seed, 2))
		a, b := fakehost.Random(r), fakehost.Random(r)
		h, e := from(t, a)
		disturb(r, h)
		h.Fault = func() error {
			if r.IntN(4) == 0 {
				return errFault
			}
			return nil
		}
		if err := faulty(e, b); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		h.Fault = nil
		if _, _, err := e.Converge(ctx, b, nil, nil); err != nil {
			t.Fatalf("seed %d: without faults: %v", seed, err)
		}
		if !maps.Equal(seen(h, b), b.State) {
			t.Fatalf("seed %d: not healed", seed)
		}
	}
}
