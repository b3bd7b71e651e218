package speaker

import (
	"bytes"
	"context"
	"net/netip"
	"testing"
	"time"

	"netd/reconcile"
	"netd/reconcile/object"
	"netd/testenv/router"
)

// TestRefreshFlood: who asks for all that it is told is told it, and once more where it asks again soon, however often: each time costs gobgp a walk through its table.
func TestRefreshFlood(t *testing.T) {
	hosts := newHosts(t, 2)
	h, far := hosts[0], hosts[1]
	h.start()
	var w reconcile.Want
	w.Put(object.BGP{ASN: 64512, RouterID: h.addr, Listen: h.addr.String(), Port: 179, Refuse: true}, reconcile.Cause{})
	peer := h.outsider(far, 65101)
	peer.Import, peer.Transit = "", ""
	w.Put(peer, reconcile.Cause{})
	p := netip.MustParsePrefix("10.10.1.0/24")
	w.Put(object.Path{Prefix: p, NextHop: h.addr, To: far.addr.String()}, reconcile.Cause{})
	h.converge(w)
	r := h.session(far, router.Open{ASN: 65101})
	told := func(most int, within time.Duration) (n int) {
		ctx, cancel := context.WithTimeout(t.Context(), within)
		defer cancel()
		_ = r.Until(ctx, func(got []router.Message, _ error) bool {
			n = 0
			for _, m := range got {
				if m.Type == router.TypeUpdate && bytes.HasSuffix(m.Body, router.Prefixes(p)) {
					n++
				}
			}
			return n >= most
		})
		return n
	}
	if told(1, 10*time.Second) != 1 {
		t.Fatal("it is told nothing at first")
	}
	begin := time.Now()
	_, _ = r.Write(bytes.Repeat(router.Frame(router.TypeRefresh, []byte{0, 1, 0, 1}), 100))
	if n := told(2, refreshEvery-time.Second); n < 2 { // not what it is told after that
		t.Fatal("the first time it asks it is told nothing")
	}
	if n := told(3, 2*refreshEvery); n != 3 || time.Since(begin) < refreshEvery {
		t.Errorf("for 100 requests it is told %d times within %s", n-1, time.Since(begin))
	}
	_, _ = r.Write(router.Frame(router.TypeRefresh, []byte{0, 25, 0, 65})) // of no family of the session's: passed over (RFC 2918 §4)
	_, _ = r.Write(router.Frame(router.TypeRefresh, []byte{0, 1, 0, 1}))
	if n := told(4, 2*refreshEvery); n != 4 {
		t.Errorf("later it is told %d times", n-1)
	}
	if n := told(5, time.Second); n != 4 {
		t.Errorf("for 101 requests it is told %d times", n-1)
	}
}
