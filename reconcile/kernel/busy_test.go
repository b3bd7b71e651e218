package kernel_test

import (
	"context"
	"strings"
	"testing"

	"netd/config"
	"netd/reconcile"
	"netd/reconcile/object"
	"netd/testenv/netns"
)

// TestBusySet has a stranger hold the place of what a chain stands on, so that the chain is left out, while the set that the
// chain looks up is not wanted any more: the kernel says that the set is in use. The rest is done all the same, nothing of
// the stranger's changes, and taking everything away works, the set with it.
func TestBusySet(t *testing.T) {
	h := newHost(t, config.ModeVXLAN)
	h.converge()
	w := h.want()
	var set, chain reconcile.Key
	lookups := map[reconcile.Key]int{}
	for _, k := range w.State.Keys() {
		c, ok := w.State[k].(object.NftChain)
		if !ok {
			continue
		}
		for _, on := range c.Requires() {
			if s, ok := w.State[on].(object.NftSet); ok && s.Table.Family == "inet" {
				if lookups[on]++; lookups[on] > 1 { // one that is left out goes before the set, another holds it
					set, chain = on, k
				}
			}
		}
	}
	if set.Kind == "" {
		t.Fatal("no two chains look a set up")
	}
	for k, r := range w.State { // the set goes, with its elements; what else looks it up is as the chain
		for _, on := range r.Requires() {
			if _, isChain := r.(object.NftChain); on == set && !isChain {
				delete(w.State, k)
			}
		}
	}
	delete(w.State, set)
	w.Foreign = append(w.Foreign, reconcile.Holder{Key: chain, What: "a chain", Who: "somebody else"})
	netns.Run(t, "ip route del 10.10.194.128/26")
	plan, out, err := h.engine.Converge(context.Background(), w, nil, nil)
	if err == nil || !strings.Contains(err.Error(), set.String()+": device or resource busy") || len(plan.Conflicts) != 1 {
		t.Errorf("of\n%s%v, %d in trouble", text(plan), err, len(out.Trouble))
	}
	if got := netns.Run(t, "ip route show 10.10.194.128/26"); got == "" {
		t.Error("the route did not come back")
	}
	if _, _, err := h.engine.Converge(context.Background(), reconcile.Want{}, nil, nil); err != nil {
		t.Errorf("taking everything away: %v", err)
	}
	if got := netns.Run(t, "nft list tables"); got != "" {
		t.Errorf("left: %s", got)
	}
}
