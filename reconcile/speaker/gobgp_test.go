package speaker

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	api "github.com/osrg/gobgp/v3/api"

	"netd/reconcile"
	"netd/reconcile/object"
	"netd/testenv/netns"
	"netd/testenv/router"
)

// TestRibIsGobgps has routers and a node tell, untell and lose their sessions at random, gracefully and not, while this host's own paths come and go,
// imports change and neighbours are taken out: what the speaker then tells its clients is what gobgp's own table has, the best path of each prefix
// and those that are as good. The rib is made of gobgp's events alone: one that it does not make, or that is read otherwise, would leave a way
// for good where there is none.
func TestRibIsGobgps(t *testing.T) {
	netns.Need(t)
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("NETD_TEST_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("NETD_TEST_SEED=%d", seed)
	rnd := rand.New(rand.NewPCG(seed, 1))
	dir, self := t.TempDir(), netip.MustParseAddr("127.0.0.1")
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	var mu sync.Mutex
	var said []string
	go func() {
		served <- serve(ctx, dir, ServeOptions{Version: testVersion, Log: func(level, msg string, fields map[string]any) {
			mu.Lock()
			defer mu.Unlock()
			if level == "debug" {
				return
			}
			said = append(said, fmt.Sprint(time.Now().Format("15:04:05.000 "), level, " ", msg, " ", fields))
		}})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
		if mu.Lock(); t.Failed() {
			t.Log(strings.Join(said[max(0, len(said)-60):], "\n"))
		}
		mu.Unlock()
	})
	var client *Client
	for client == nil {
		c, err := Dial(ctx, dir, Secrets{})
		if err != nil && !errors.Is(err, ErrNotRunning) {
			t.Fatal(err)
		}
		client = c
	}
	t.Cleanup(client.Close)
	type neighbour struct {
		addr     netip.Addr
		asn      uint32
		in       bool   // the speaker has it
		imports  string // what it may tell
		session  *router.Raw
		graceful bool
	}
	var all []*neighbour
	for i := range 4 {
		n := &neighbour{addr: netip.AddrFrom4([4]byte{127, 0, 0, byte(2 + i)}), asn: 65101 + uint32(i)/2, in: true, imports: "172.30.0.0/16 le 32, fd30::/16 le 64"}
		if i == 3 {
			n.asn = 64512
		}
		all = append(all, n)
	}
	var prefixes []netip.Prefix
	for i := range 4 {
		prefixes = append(prefixes, netip.PrefixFrom(netip.AddrFrom4([4]byte{172, 30, byte(i), 0}), 24), netip.PrefixFrom(netip.AddrFrom16([16]byte{0xfd, 0x30, 3: byte(i)}), 48))
	}
	some := func() (four, six []netip.Prefix) {
		for _, p := range prefixes {
			if rnd.IntN(2) == 0 {
				continue
			}
			if p.Addr().Is4() {
				four = append(four, p)
			} else {
				six = append(six, p)
			}
		}
		return four, six
	}
	own := map[netip.Prefix]bool{}
	converge := func() {
		t.Helper()
		var w reconcile.Want
		w.Put(object.BGP{ASN: 64512, RouterID: self, Listen: self.String(), Port: 179, Multipath: true, Refuse: true}, reconcile.Cause{})
		for p := range own {
			hop := self
			if p.Addr().Is6() {
				hop = netip.MustParseAddr("fd00::1")
			}
			w.Put(object.Path{Prefix: p, NextHop: hop, To: object.ToNodes}, reconcile.Cause{})
		}
		for _, n := range all {
			if !n.in {
				continue
			}
			p := object.Peer{Addr: n.addr, ASN: n.asn, Local: self, Port: 179, Opens: object.Listens, Family: object.Dual, HoldTime: 90 * time.Second, Keepalive: 30 * time.Second,
				GracefulRestart: 2 * time.Minute, MaxPrefixes: 1000, Up: true, Import: n.imports, Outside: n.asn != 64512}
			if p.Outside {
				p.FirstAS, p.Self, p.Self6, p.UntellLoops = n.asn, self, netip.MustParseAddr("fd00::1"), true
			}
			w.Put(p, reconcile.Cause{})
		}
		if _, _, err := (&reconcile.Engine{Kinds: client.Kinds()}).Converge(ctx, w, nil, nil); err != nil {
			t.Fatal(err)
		}
	}
	tell := func(n *neighbour) {
		four, six := some()
		var path []uint32
		if n.asn != 64512 {
			path = []uint32{n.asn}
		}
		if rnd.IntN(4) == 0 {
			path = append(path, 65200+uint32(rnd.IntN(2)))
		}
		attributes := slices.Concat(router.Attribute(router.Transitive, 1, byte(rnd.IntN(8)/7)), router.ASPath(path...))
		if rnd.IntN(4) == 0 {
			attributes = append(attributes, router.Attribute(router.Optional, 4, 0, 0, 0, byte(rnd.IntN(2)))...)
		}
		if n.asn == 64512 {
			attributes = append(attributes, router.LocalPref(100+uint32(rnd.IntN(2)))...)
		}
		if len(four) > 0 {
			_, _ = n.session.Write(router.Update(nil, slices.Concat(attributes, router.NextHop(n.addr)), four...))
		}
		if len(six) > 0 {
			hop := netip.AddrFrom16([16]byte{0xfd, 15: byte(2 + rnd.IntN(2))})
			_, _ = n.session.Write(router.Update(nil, slices.Concat(attributes, router.Attribute(router.Optional, 14, slices.Concat([]byte{0, 2, 1, 16}, hop.AsSlice(), []byte{0}, router.Prefixes(six...))...))))
		}
	}
	untell := func(n *neighbour) {
		four, six := some()
		_, _ = n.session.Write(router.Update(four, router.Attribute(router.Optional, 15, slices.Concat([]byte{0, 2, 1}, router.Prefixes(six...))...)))
	}
	begin := func(n *neighbour) {
		t.Helper()
		until, cancel := context.WithTimeout(ctx, 30*time.Second)
		defer cancel()
		o := router.Open{ASN: n.asn, ID: n.addr, HoldTime: 90 * time.Second, IPv6: true}
		if n.graceful = rnd.IntN(2) == 0; n.graceful {
			o.Restart = 20 * time.Second
		}
		for n.session == nil {
			r, err := router.End{NS: netns.Open("/proc/self/ns/net"), Local: n.addr, Remote: self}.Dial(until)
			if err == nil {
				if err = r.Establish(until, o); err == nil {
					n.session = r
					t.Cleanup(r.Close)
					break
				}
				r.Close()
			}
			if wait(until, 20*time.Millisecond) != nil {
				t.Fatal(err)
			}
		}
		for range rnd.IntN(3) {
			tell(n)
		}
		_, _ = n.session.Write(slices.Concat(router.EndOfRIB(), router.Update(nil, router.Attribute(router.Optional, 15, 0, 2, 1))))
	}
	gobgps := func() map[netip.Prefix]string {
		t.Helper()
		table, err := client.Routes(ctx, LocRIB, netip.Addr{})
		if err != nil {
			t.Fatal(err)
		}
		if g, err := client.gobgp(); err != nil {
			t.Fatal(err)
		} else if _, err := g.GetBgp(ctx, &api.GetBgpRequest{}); err != nil { // for the race detector: ListPath is over when gobgp goes on
			t.Fatal(err)
		}
		out := map[netip.Prefix]string{}
		best := map[netip.Prefix]string{} // what makes the best path as good as it is
		for _, r := range table {
			pref, med := uint32(100), uint32(0)
			if r.LocalPref != nil {
				pref = *r.LocalPref
			}
			if r.MED != nil {
				med = *r.MED
			}
			as := fmt.Sprint(!r.Peer.IsValid(), r.Peer == all[3].addr, pref, len(r.ASPath), r.Origin, med)
			if best[r.Prefix] == "" {
				best[r.Prefix] = as
			}
			if best[r.Prefix] == as {
				out[r.Prefix] += fmt.Sprintln(r.NextHop, r.Peer, r.firstAS)
			}
		}
		return out
	}
	ours := func() map[netip.Prefix]string {
		t.Helper()
		l, err := openLink(ctx, dir)
		if err != nil {
			t.Fatal(err)
		}
		defer l.close()
		out := map[netip.Prefix]string{}
		if err := l.follow(func(kind frameType, b []byte) error {
			for kind == framePaths && len(b) > 0 {
				p, hops, rest, err := cutEntry(b, nil)
				if err != nil {
					return err
				}
				for b = rest; len(hops) > 0; hops = hops[1:] {
					out[p] += fmt.Sprintln(hops[0].nextHop, hops[0].peer, hops[0].firstAS)
				}
			}
			if kind == frameMark {
				return errEnough
			}
			return nil
		}); err != errEnough {
			t.Fatal(err)
		}
		return out
	}
	converge()
	var done []string
	sets := map[int]int{}
	for round := range 25 {
		done = done[:0]
		for range 1 + rnd.IntN(6) {
			n := all[rnd.IntN(len(all))]
			what := rnd.IntN(20)
			switch {
			case !n.in:
				what = 14
			case n.session == nil:
				what = 8
			}
			switch {
			case (what < 5 || what == 10) && n.session != nil:
				done = append(done, "tell "+n.addr.String())
				tell(n)
			case what < 8 && n.session != nil:
				done = append(done, "untell "+n.addr.String())
				untell(n)
			case what == 8 && n.session == nil && n.in:
				begin(n)
				done = append(done, fmt.Sprint("begin ", n.addr, " graceful ", n.graceful))
			case what < 10 && n.session != nil:
				done = append(done, "lose "+n.addr.String())
				n.session.Close()
				n.session = nil
			case what == 11 && n.session != nil:
				done = append(done, "cease "+n.addr.String())
				_, _ = n.session.Write(router.Frame(router.TypeNotification, []byte{6, 2}))
				n.session.Close()
				n.session = nil
			case what < 14:
				if n.imports = "172.30.0.0/16 le 32, fd30::/16 le 64"; what == 12 {
					n.imports = "172.30.0.0/23 le 24, fd30::/31 le 48"
				}
				done = append(done, fmt.Sprint("import ", n.addr, " ", n.imports))
				converge()
			case what == 14:
				if n.in = !n.in; !n.in && n.session != nil {
					n.session.Close()
					n.session = nil
				}
				done = append(done, fmt.Sprint("in ", n.addr, " ", n.in))
				converge()
			case what == 15:
				p := prefixes[rnd.IntN(3)]
				if own[p] {
					delete(own, p)
				} else {
					own[p] = true
				}
				done = append(done, fmt.Sprint("own ", p, " ", own[p]))
				converge()
			case what < 18:
				done = append(done, "soft in")
				if g, err := client.gobgp(); err != nil {
					t.Fatal(err)
				} else if _, err := g.ResetPeer(ctx, &api.ResetPeerRequest{Address: "all", Soft: true, Direction: api.ResetPeerRequest_IN}); err != nil {
					t.Fatal(err)
				}
			case what == 18 && n.session != nil: // taken for a withdrawal
				done = append(done, "malformed "+n.addr.String())
				four, _ := some()
				_, _ = n.session.Write(router.Update(nil, slices.Concat(router.Origin(), router.Attribute(router.Transitive, 2, 2, 0), router.NextHop(n.addr)), four...))
			case what == 19 && n.session != nil: // and closed for it
				done = append(done, "unreadable "+n.addr.String())
				_, _ = n.session.Write(router.Frame(99, nil))
				n.session.Close()
				n.session = nil
			}
		}
		settled := func() bool { // gobgp marks routes as stale without a lock, which ListPath reads
			_, ns, err := client.Read(ctx)
			return err == nil && !slices.ContainsFunc(all, func(n *neighbour) bool {
				return n.in && !slices.ContainsFunc(ns, func(x Neighbour) bool { return x.Addr == n.addr && x.Established() == (n.session != nil) })
			})
		}
		for deadline := time.Now().Add(10 * time.Second); !settled(); {
			for _, n := range all { // who restarted gracefully and does not any more has its session begun anew (returned)
				at, cancel := context.WithTimeout(ctx, time.Millisecond)
				if n.session != nil && n.session.Ended(at) == nil {
					n.session.Close()
					n.session = nil
					begin(n)
				}
				cancel()
			}
			if time.Now().After(deadline) {
				_, ns, err := client.Read(ctx)
				t.Fatalf("round %d: %s: sessions are not as they were left: %v %v\n%+v", round, strings.Join(done, "; "), all, err, ns)
			}
		}
		var want, got map[netip.Prefix]string
		for deadline := time.Now().Add(10 * time.Second); ; {
			want = gobgps()
			if got = ours(); maps.Equal(want, got) {
				if again := gobgps(); maps.Equal(want, again) {
					break
				}
			}
			if time.Now().After(deadline) {
				t.Fatalf("round %d: %s\ngobgp has\n%v\nclients are told\n%v", round, strings.Join(done, "; "), want, got)
			}
		}
		for _, hops := range want {
			sets[strings.Count(hops, "\n")]++
		}
	}
	t.Log("prefixes by how many ways they had:", sets)
}
