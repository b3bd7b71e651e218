package speaker

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"netd/reconcile"
	"netd/reconcile/object"
	"netd/testenv/router"
)

// staleEnv is staleMost of a speaker that a test starts.
const staleEnv = "NETD_TEST_STALE"

// TestNeverEndOfRIB has a router restart that tells less than before and never says End-of-RIB: what it had stays for a time, and goes.
func TestNeverEndOfRIB(t *testing.T) {
	hosts := newHosts(t, 2)
	h, far := hosts[0], hosts[1]
	h.env = []string{staleEnv + "=1s"}
	h.start()
	var w reconcile.Want
	w.Put(object.BGP{ASN: 64512, RouterID: h.addr, Listen: h.addr.String(), Port: 179, Refuse: true}, reconcile.Cause{})
	w.Put(object.Peer{Addr: far.addr, ASN: 65101, Local: h.addr, Port: 179, Opens: object.Listens, HoldTime: 9 * time.Second, Keepalive: 3 * time.Second,
		GracefulRestart: 2 * time.Minute, Up: true, Outside: true, Self: h.addr, Import: "172.30.0.0/16 le 24"}, reconcile.Cause{})
	h.converge(w)
	session := func(more []byte, told ...string) *router.Raw {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		for {
			r, err := router.End{NS: far.ns, Local: far.addr, Remote: h.addr}.Dial(ctx)
			if err == nil {
				if err = r.Establish(ctx, router.Open{ASN: 65101, ID: far.addr, HoldTime: 9 * time.Second, Restart: time.Minute}); err == nil {
					t.Cleanup(r.Close)
					for _, p := range told {
						_, _ = r.Write(router.Update(nil, slices.Concat(router.Origin(), router.ASPath(65101), router.NextHop(far.addr)), netip.MustParsePrefix(p)))
					}
					_, _ = r.Write(more)
					return r
				}
				r.Close()
			}
			if ctx.Err() != nil {
				t.Fatal(err)
			}
		}
	}
	const stays, goes = "172.30.0.0/24", "172.30.1.0/24"
	has := func(p string) bool { return strings.Contains(h.learned(), p+" ") }
	r := session(router.EndOfRIB(), stays, goes)
	h.wait("both", func() bool { return has(stays) && has(goes) })
	r.Close()
	session(router.Keepalive(), stays)
	if !has(goes) {
		t.Error("what it had went at once")
	}
	h.within(20*time.Second, "the end of what it does not tell any more", func() bool { return !has(goes) })
	session(router.Keepalive(), stays)
	h.wait("what it tells", func() bool { return has(stays) && !has(goes) })
}
