package kernel_test

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"netd/config"
	"netd/reconcile"
	"netd/reconcile/object"
	"netd/testenv/netns"
)

// TestBehind puts another's route of the same prefix and metric behind netd's, where the kernel does not show it to one who
// asks for the place. It is a conflict until it goes, whatever happens at the place meanwhile.
func TestBehind(t *testing.T) {
	h := newHost(t, config.ModeVXLAN)
	h.converge()
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	d := h.daemon(ctx, &wg)
	defer func() { cancel(); wg.Wait() }()
	d.listening()
	key := object.RouteKey("", netip.MustParsePrefix("10.10.194.128/26"), object.MainTable, 0)
	in := func(r reconcile.Report) bool {
		return slices.ContainsFunc(r.Conflicts, func(c reconcile.Conflict) bool { return c.Key == key })
	}
	// told waits for a report, and returns whether the conflict is in the last one.
	told := func(what string, want bool) {
		t.Helper()
		for end := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
			d.mu.Lock()
			n := len(d.reports)
			ok := n > 0 && in(d.reports[n-1]) == want
			d.mu.Unlock()
			if ok {
				return
			}
			if time.Now().After(end) {
				t.Fatalf("%s: a conflict: %t, want %t", what, !want, want)
			}
		}
	}
	d.quiet()
	d.forget()
	netns.Run(t, "ip route append 10.10.194.128/26 via 192.168.170.138 dev ens33 proto static")
	told("appended", true)
	d.forget()
	d.loop.Pokes.Add(reconcile.Poke{Keys: []reconcile.Key{key}})
	told("an event of the place", true)
	d.quiet()
	d.mu.Lock()
	for _, r := range d.reports {
		if !in(r) {
			t.Errorf("a pass over the place found no conflict: %+v", r)
		}
	}
	d.mu.Unlock()
	if out := netns.Run(t, "ip route show 10.10.194.128/26"); strings.Count(out, "\n") != 2 || !strings.Contains(strings.Split(out, "\n")[1], "static") {
		t.Errorf("the routes there:\n%s", out)
	}
	d.forget()
	netns.Run(t, "ip route del 10.10.194.128/26 via 192.168.170.138 dev ens33 proto static")
	told("gone", false)
}
