package speaker

import (
	"context"
	"slices"
	"testing"
	"time"

	"netd/testenv/router"
)

// TestOwnDeferral has a neighbour added after the first one was up, and one that was there before it tell its last table: gobgp
// has not waited for that one and looks no more, and this host's blocks are told the new one all the same, and soon.
func TestOwnDeferral(t *testing.T) {
	hosts := newHosts(t, 4)
	h := hosts[0]
	h.start()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	establish := func(from *host, restart time.Duration) *router.Raw {
		t.Helper()
		r, err := router.End{NS: from.ns, Local: from.addr, Remote: h.addr, TTL: 255}.Dial(ctx)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(r.Close)
		if err := r.Establish(ctx, router.Open{ASN: 64512, ID: from.addr, HoldTime: 9 * time.Second, Restart: restart}); err != nil {
			t.Fatal(err)
		}
		h.wait(from.name+" up", func() bool {
			ns, _ := h.client.Neighbours()
			return slices.ContainsFunc(ns, func(n Neighbour) bool { return n.Addr == from.addr && n.State == "established" })
		})
		return r
	}
	told := func(r *router.Raw, within time.Duration) error {
		ctx, cancel := context.WithTimeout(ctx, within)
		defer cancel()
		return r.Until(ctx, func(got []router.Message, _ error) bool {
			return slices.ContainsFunc(got, func(m router.Message) bool { return m.Type == router.TypeUpdate && len(m.Body) > 4 })
		})
	}
	first, last, late := hosts[1], hosts[2], hosts[3]
	h.converge(h.want([]*host{first, last}))
	if err := told(establish(first, 0), 5*time.Second); err != nil {
		t.Fatal(err)
	}
	h.converge(h.want([]*host{first, last, late}))
	l := establish(last, time.Minute)
	z := establish(late, time.Minute)
	tells := func(r *router.Raw, of *host) {
		t.Helper()
		if _, err := r.Write(router.EndOfRIB()); err != nil {
			t.Fatal(err)
		}
		h.wait(of.name+" to be known", func() bool {
			ns, _ := h.client.Neighbours()
			return slices.ContainsFunc(ns, func(n Neighbour) bool { return n.Addr == of.addr && n.Synced })
		})
	}
	tells(z, late)
	tells(l, last)
	if err := told(z, 10*time.Second); err != nil {
		t.Fatalf("the neighbour that was added later is told nothing: %v", err)
	}
}
