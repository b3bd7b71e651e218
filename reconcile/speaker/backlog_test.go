package speaker

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	api "github.com/osrg/gobgp/v3/api"
	"google.golang.org/protobuf/proto"

	"netd/reconcile"
	"netd/reconcile/object"
	"netd/testenv/router"
)

// TestBacklog has a router tell the same prefixes over and over, whoever of the two dials: it is hung up on with a reason, what it told
// goes, nothing takes that for drift, and there is no session before the pause is over, but one then.
func TestBacklog(t *testing.T) {
	hosts := newHosts(t, 2)
	h, far := hosts[0], hosts[1]
	const pause = 2 * time.Second
	h.env = []string{limitEnv + "=" + pause.String()}
	h.start()
	list := make([]netip.Prefix, 800)
	for i := range list {
		list[i] = netip.PrefixFrom(netip.AddrFrom4([4]byte{172, byte(16 + i>>8), byte(i), 0}), 24)
	}
	update := func(med byte) []byte {
		return router.Update(nil, slices.Concat(router.Origin(), router.ASPath(65101), router.NextHop(far.addr), router.Attribute(router.Optional, 4, 0, 0, 0, med)), list...)
	}
	now := func() Neighbour {
		ns, _ := h.client.Neighbours()
		if len(ns) != 1 {
			return Neighbour{}
		}
		return ns[0]
	}
	for _, opens := range []object.Opens{object.Listens, object.Dials} {
		t.Run(string(opens), func(t *testing.T) {
			var w reconcile.Want
			w.Put(object.BGP{ASN: 64512, RouterID: h.addr, Listen: h.addr.String(), Port: 179, Refuse: true}, reconcile.Cause{})
			w.Put(object.Peer{Addr: far.addr, ASN: 65101, Local: h.addr, Port: 179, Opens: opens, HoldTime: 9 * time.Second, Keepalive: 3 * time.Second,
				GracefulRestart: 2 * time.Minute, Up: true, Outside: true, Self: h.addr, Import: "172.16.0.0/12 le 24", MaxPrefixes: 1000}, reconcile.Cause{})
			h.converge(w)
			session := func() *router.Raw {
				t.Helper()
				ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
				defer cancel()
				for ctx.Err() == nil {
					end := router.End{NS: far.ns, Local: far.addr, Remote: h.addr}
					r := end.Dial
					if opens == object.Dials {
						r = end.Accept
					}
					conn, err := r(ctx)
					if err != nil {
						continue
					}
					t.Cleanup(conn.Close)
					if conn.Establish(ctx, router.Open{ASN: 65101, ID: far.addr, HoldTime: 9 * time.Second}) == nil {
						ended, end := context.WithTimeout(ctx, time.Second)
						if conn.Ended(ended) != nil && now().Established() {
							end()
							return conn
						}
						end()
					}
					conn.Close()
				}
				t.Fatalf("no session: %+v", now())
				return nil
			}
			r := session()
			begin := time.Now()
			for med := byte(0); ; med++ {
				if _, err := r.Write(update(med)); err != nil {
					break // it was hung up on
				}
				if time.Since(begin) > time.Minute {
					t.Fatal("nobody minds")
				}
			}
			closed := time.Now()
			t.Logf("hung up on after %s", closed.Sub(begin).Round(time.Millisecond))
			h.wait("the reason", func() bool { return strings.Contains(now().Error, "it tells faster than this host takes it: ") })
			h.wait("what it told to go", func() bool { return len(h.client.Snapshot().Paths) == 0 })
			if plan := h.converge(w); !plan.Empty() {
				t.Errorf("that is taken for drift:\n%s", text(plan))
			}
			r = session()
			if took := time.Since(closed); took < pause*3/4 {
				t.Errorf("there is a session again after %s", took)
			}
			if _, err := r.Write(update(0)); err != nil {
				t.Error(err)
			}
			h.wait("what it tells then", func() bool { return len(h.client.Snapshot().Paths) == len(list) })
			h.converge(reconcile.Want{})
		})
	}
}

// TestBacklogAfterUpdate: gobgp takes a neighbour whose session an update begins anew out and puts another in, with another queue: it
// is the one that is looked at.
func TestBacklogAfterUpdate(t *testing.T) {
	s, _, _ := counting(t)
	peer := countedPeer(&api.PrefixLimit{Family: ipv4, MaxPrefixes: 10})
	s.order(t, &api.AddPeerRequest{Peer: peer})
	looked := func() any {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.peers[mustAddr(countAddr)].queue
	}
	before := looked()
	peer = proto.Clone(peer).(*api.Peer)
	peer.Conf.PeerAsn++
	s.order(t, &api.UpdatePeerRequest{Peer: peer})
	q, err := queueOf(s.bgp, countAddr)
	if err != nil {
		t.Fatal(err)
	}
	if before == any(q) {
		t.Fatal("the update did not begin the session anew")
	}
	if looked() != any(q) {
		t.Error("the queue that is looked at is of the neighbour that is no more")
	}
}

// TestVainOnce: what a neighbour withdrew in vain is its session's. It is not blamed again in the place of another while it is closed.
func TestVainOnce(t *testing.T) {
	s, _, _ := counting(t)
	s.order(t, &api.AddPeerRequest{Peer: countedPeer()})
	addr := netip.MustParseAddr(countAddr)
	v := &sieve{addr: addr}
	v.vain.Store(2 * backlogVain)
	s.sieves.of[countAddr] = v
	if got, _ := s.sieves.vainest(); got != addr {
		t.Fatalf("%v withdrew most", got)
	}
	s.flooded(addr, "it withdrew too much")
	if got, n := s.sieves.vainest(); n != 0 {
		t.Errorf("after it was hung up on %v is still said to have withdrawn %d bytes", got, n)
	}
}
