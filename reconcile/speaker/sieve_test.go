package speaker

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"netd/reconcile"
	"netd/reconcile/object"
	"netd/testenv/router"
)

// session opens one with a host as the neighbour whose address another host has.
func (h *host) session(far *host, o router.Open) *router.Raw {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	o.ID, o.HoldTime = far.addr, 90*time.Second
	for {
		r, err := router.End{NS: far.ns, Local: far.addr, Remote: h.addr, TTL: 255}.Dial(ctx)
		if err == nil {
			if err = r.Establish(ctx, o); err == nil {
				h.t.Cleanup(r.Close)
				return r
			}
			r.Close()
		}
		if wait(ctx, 50*time.Millisecond) != nil {
			h.t.Fatal(err)
		}
	}
}

// says is what the host's speaker says of a neighbour.
func (h *host) says(addr netip.Addr) string {
	ns, _ := h.client.Neighbours()
	for _, n := range ns {
		if n.Addr == addr {
			return n.Error
		}
	}
	return ""
}

// outsider is a router outside that may tell 172.30.0.0/16 and is told it.
func (h *host) outsider(o *host, asn uint32) object.Peer {
	return object.Peer{Addr: o.addr, ASN: asn, Local: h.addr, Port: 179, Opens: object.Listens, HoldTime: 90 * time.Second, Keepalive: 30 * time.Second,
		Up: true, Outside: true, Self: h.addr, Import: "172.30.0.0/16 le 32", Transit: "172.30.0.0/16 le 32", Family: object.IPv4}
}

// heard are the UPDATEs on a connection that name a prefix.
func heard(r *router.Raw, p netip.Prefix) bool {
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	return r.Until(ctx, func(got []router.Message, _ error) bool {
		return slices.ContainsFunc(got, func(m router.Message) bool {
			return m.Type == router.TypeUpdate && strings.HasSuffix(string(m.Body), string(router.Prefixes(p)))
		})
	}) == nil
}

// TestTooLong: a path whose attributes leave no room for what is added when it is told on kills nobody, whoever tells it and whoever
// would be told, and takes the place of what was told before.
func TestTooLong(t *testing.T) {
	hosts := newHosts(t, 3)
	h, far, other := hosts[0], hosts[1], hosts[2]
	h.start()
	for _, x := range []struct {
		name      string
		from, to  uint32
		reflector bool
		old       bool // who would be told knows no AS of four octets
	}{{"a reflector", 64512, 64512, true, false}, {"of another AS, to a third", 65101, 65102, false, false}, {"to an old router", 65101, 65102, false, true}} {
		t.Run(x.name, func(t *testing.T) {
			var w reconcile.Want
			w.Put(object.BGP{ASN: 64512, RouterID: h.addr, Listen: h.addr.String(), Port: 179, Refuse: true}, reconcile.Cause{})
			from, to := h.outsider(far, x.from), h.outsider(other, x.to)
			if x.reflector {
				from.Cluster, to.Cluster = h.addr, h.addr
			} else {
				var large []string
				for i := range 64 {
					large = append(large, fmt.Sprintf("64512:1:%d", 100+i))
				}
				to.Communities, to.Prepend = strings.Join(large, " "), 10
			}
			w.Put(from, reconcile.Cause{})
			w.Put(to, reconcile.Cause{})
			h.converge(w)
			sink := h.session(other, router.Open{ASN: x.to, TwoOctet: x.old})
			r := h.session(far, router.Open{ASN: x.from})
			defer sink.Close()
			defer r.Close()
			for _, bytes := range []int{3050, 3100, 3500, 4040, 4050, 4060} {
				p := netip.PrefixFrom(netip.AddrFrom4([4]byte{172, 30, byte(bytes >> 8), byte(bytes)}), 32)
				as := []uint32{x.from}
				if x.from == 64512 {
					as = nil
				}
				short := slices.Concat(router.Origin(), router.ASPath(as...), router.NextHop(far.addr), router.LocalPref(100))
				grows := 0
				if x.old { // as much of it as there may be in AS_PATH, which becomes longer by a half
					more := slices.Concat([]byte{2, 255}, slices.Repeat([]byte{0, 2, 0, 0}, 255), []byte{2, 200}, slices.Repeat([]byte{0, 2, 0, 0}, 200))
					short = slices.Concat(router.Origin(), router.Attribute(router.Transitive, 2, slices.Concat([]byte{2, 1, 0, 0, 0xfe, 0x4d}, more)...), router.NextHop(far.addr))
					grows = len(more) / 2
				}
				_, _ = r.Write(router.Update(nil, short, p))
				h.wait("the path", func() bool { return strings.Contains(h.learned(), p.String()) })
				long := slices.Concat(short, router.Attribute(router.Optional|router.Transitive, 200, make([]byte, bytes-grows-len(short)-4)...))
				_, _ = r.Write(router.Update(nil, long, p))
				if bytes <= pathMost {
					_, _ = r.Write(router.Update(nil, short, netip.MustParsePrefix("172.30.255.0/24")))
					h.wait("what comes after it", func() bool { return strings.Contains(h.learned(), "172.30.255.0/24") })
					if !strings.Contains(h.learned(), p.String()) || !heard(sink, p) {
						t.Errorf("a path of %d bytes is not taken, or not told on: %s", bytes, h.learned())
					}
				} else {
					h.within(10*time.Second, fmt.Sprintf("a path of %d bytes to be taken for a withdrawal", bytes), func() bool { return !strings.Contains(h.learned(), p.String()) })
					h.within(10*time.Second, "words", func() bool {
						return strings.Contains(h.says(far.addr), "bytes of attributes, which is taken for a withdrawal")
					})
				}
				if h.dead() {
					t.Fatalf("the speaker died of a path of %d bytes", bytes)
				}
			}
			from.TTLSecurity = true // gobgp sets it on the connection itself
			w.Put(from, reconcile.Cause{})
			h.converge(w)
			_, _ = r.Write(router.Update([]netip.Prefix{netip.MustParsePrefix("172.30.255.0/24")}, nil))
			h.wait("a withdrawal after that, in the same session", func() bool { return !strings.Contains(h.learned(), "172.30.255.0/24") && h.says(far.addr) != "" })
		})
	}
}

// dead reports whether a host's speaker is gone.
func (h *host) dead() bool {
	select {
	case <-h.process.Done:
		return true
	default:
		return false
	}
}

// TestSieve: what gobgp does not survive, or takes otherwise than the RFCs have it.
func TestSieve(t *testing.T) {
	hosts := newHosts(t, 2)
	h, far := hosts[0], hosts[1]
	h.start()
	var w reconcile.Want
	w.Put(object.BGP{ASN: 64512, RouterID: h.addr, Listen: h.addr.String(), Port: 179, Refuse: true}, reconcile.Cause{})
	peer := h.outsider(far, 64512)
	peer.Family, peer.Self6 = object.Dual, netip.MustParseAddr("2001:db8::137")
	peer.Import, peer.Transit = "172.30.0.0/16 le 32, 2001:db8::/32 le 64", ""
	w.Put(peer, reconcile.Cause{})
	h.converge(w)
	a, b, six, hop6 := netip.MustParsePrefix("172.30.1.0/24"), netip.MustParsePrefix("172.30.2.0/23"), netip.MustParsePrefix("2001:db8:1::/48"), netip.MustParseAddr("2001:db8::138")
	origin, path, hop, pref := router.Origin(), router.ASPath(65001), router.NextHop(far.addr), router.LocalPref(100)
	plain := slices.Concat(origin, path, hop, pref)
	reach := func(ps ...netip.Prefix) []byte {
		return router.Attribute(router.Optional, 14, slices.Concat([]byte{0, 2, 1, 16}, hop6.AsSlice(), []byte{0}, router.Prefixes(ps...))...)
	}
	unreach := func(ps ...netip.Prefix) []byte {
		return router.Attribute(router.Optional, 15, slices.Concat([]byte{0, 2, 1}, router.Prefixes(ps...))...)
	}
	prefixes := func(ps ...netip.Prefix) []netip.Prefix { return ps }
	as4 := router.Attribute(router.Optional|router.Transitive, 17, 2, 1, 0, 0, 0xfd, 0xe9)
	long := router.Attribute(router.Optional|router.Transitive, 200, make([]byte, 3500)...)
	own := slices.Repeat([]byte{0, 0, 0xfc, 0}, 255)
	via := func(family byte, hop []byte, ps ...netip.Prefix) []byte {
		return router.Attribute(router.Optional, 14, slices.Concat([]byte{0, family, 1, byte(len(hop))}, hop, []byte{0}, router.Prefixes(ps...))...)
	}
	nowhere, nowhere4, four := via(2, nil, six), via(1, nil, a), via(2, far.addr.AsSlice(), six)
	vpls, short, flow := router.Attribute(router.Optional, 15, 0, 25, 65, 0, 0), router.Attribute(router.Optional, 14, 0, 2, 1), router.Attribute(router.Optional, 15, 0, 2, 133, 1, 1, 1)
	refresh := router.Frame(5, []byte{0, 1, 0})
	var r *router.Raw
	for _, x := range []struct {
		name        string
		first, then []byte
		learned     []netip.Prefix // after that
		closed      []byte         // the NOTIFICATION that ends the session
		words       string
	}{
		{name: "a message of an unknown type", then: router.Frame(99, nil), closed: []byte{1, 3, 99}, words: "a message of the unknown type 99"},
		{name: "a message longer than any", then: append(router.Keepalive()[:16], 0xff, 0xff, 2), closed: []byte{1, 2, 0xff, 0xff}, words: "a message of 65535 bytes"},
		{name: "a marker that is not all ones", then: slices.Concat(make([]byte, 16), router.Keepalive()[16:]), closed: []byte{1, 1}, words: "a message whose marker is not all ones"},
		{name: "another OPEN", then: router.Open{ASN: 64512, ID: far.addr, HoldTime: 9 * time.Second}.Bytes(), closed: []byte{5, 3, 1}, words: "an OPEN in a session that is up"},
		{name: "a KEEPALIVE with something in it", then: router.Frame(router.TypeKeepalive, []byte{0}), closed: []byte{1, 2, 0, 20}, words: "a KEEPALIVE of 20 bytes"},
		{name: "an UPDATE of three bytes", then: router.Frame(router.TypeUpdate, []byte{0, 0, 0}), closed: []byte{1, 2, 0, 22}, words: "an UPDATE of 22 bytes"},
		{name: "a NOTIFICATION of one byte", then: router.Frame(router.TypeNotification, []byte{6}), closed: []byte{1, 2, 0, 20}, words: "a NOTIFICATION of 20 bytes"},
		{name: "a ROUTE-REFRESH of three bytes", then: refresh, closed: slices.Concat([]byte{7, 1}, refresh), words: "a ROUTE-REFRESH of 22 bytes"},
		{name: "a ROUTE-REFRESH with filters", then: router.Frame(5, make([]byte, 4077)), closed: slices.Concat([]byte{7, 1}, router.Frame(5, make([]byte, 4077))[:4075]), words: "a ROUTE-REFRESH of 4096 bytes"},
		{name: "a ROUTE-REFRESH", then: router.Frame(5, []byte{0, 1, 0, 1})},
		{name: "a withdrawal of VPLS", then: router.Update(nil, vpls), closed: slices.Concat([]byte{3, 9}, vpls), words: "an UPDATE that gobgp does not survive"},
		{name: "an MP_REACH_NLRI of three bytes", then: router.Update(nil, slices.Concat(plain, short)), closed: slices.Concat([]byte{3, 9}, short), words: "an UPDATE that gobgp does not survive"},
		{name: "an IPv6 next hop of no octets", first: router.Update(nil, slices.Concat(plain, reach(six))), then: router.Update(nil, slices.Concat(plain, nowhere)),
			closed: slices.Concat([]byte{3, 9}, nowhere), words: "an UPDATE with a next hop of 0 bytes"},
		{name: "an IPv6 next hop of four octets", first: router.Update(nil, slices.Concat(plain, reach(six))), then: router.Update(nil, slices.Concat(plain, four)),
			closed: slices.Concat([]byte{3, 9}, four), words: "an UPDATE with a next hop of 4 bytes"},
		{name: "an IPv4 next hop of no octets", first: router.Update(nil, plain, a), then: router.Update(nil, slices.Concat(plain, nowhere4)),
			closed: slices.Concat([]byte{3, 9}, nowhere4), words: "an UPDATE with a next hop of 0 bytes"},
		{name: "an IPv6 next hop for IPv4 (RFC 8950)", then: router.Update(nil, slices.Concat(plain, via(1, hop6.AsSlice(), a))), learned: prefixes(a)},
		{name: "an IPv6 next hop with a link-local one", then: router.Update(nil, slices.Concat(plain, via(2, slices.Concat(hop6.AsSlice(), netip.MustParseAddr("fe80::2").AsSlice()), six))), learned: prefixes(six)},
		{name: "an IPv4 next hop in MP_REACH_NLRI", then: router.Update(nil, slices.Concat(plain, via(1, far.addr.AsSlice(), a))), learned: prefixes(a)},
		{name: "flow specifications behind a decent MP_UNREACH_NLRI", then: router.Update(nil, slices.Concat(unreach(six), flow)), closed: slices.Concat([]byte{3, 9}, flow), words: "an UPDATE that gobgp does not survive"},
		{name: "a malformed Prefix-SID, which may come from far", first: router.Update(nil, plain, a),
			then: router.Update(nil, slices.Concat(plain, router.Attribute(router.Optional|router.Transitive, 40, 6, 0, 0, 0, 0x40, 0x30, 0x30, 0x30)), a), words: "which gobgp does not survive: taken for a withdrawal"},
		{name: "a Prefix-SID", then: router.Update(nil, slices.Concat(plain, router.Attribute(router.Optional|router.Transitive, 40, 1, 0, 7, 0, 0, 0, 0, 0, 0, 9)), a), learned: prefixes(a)},
		{name: "an AS4_PATH before the AS_PATH", then: router.Update(nil, slices.Concat(origin, hop, pref, as4, path), a), learned: prefixes(a)},
		{name: "an AS4_PATH that hides this host's AS, of one that knows ASes of four octets", first: router.Update(nil, plain, b),
			then: router.Update(nil, slices.Concat(origin, router.ASPath(65001, 64512), hop, pref, as4), a), learned: prefixes(b)},
		{name: "an AS4_PATH and no AS_PATH", first: router.Update(nil, plain, a), then: router.Update(nil, slices.Concat(origin, hop, pref, as4), a), words: "taken for a withdrawal"},
		{name: "an AS4_AGGREGATOR alone", then: router.Update(nil, slices.Concat(router.Attribute(router.Optional|router.Transitive, 18, 0, 0, 0xfd, 0xe9, 1, 2, 3, 4), plain), a),
			learned: prefixes(a)},
		{name: "withdrawn and announced", first: router.Update(nil, plain, a, b), then: router.Update(prefixes(a, b), plain, b), learned: prefixes(b)},
		{name: "withdrawn and announced, new", then: router.Update(prefixes(a), plain, a), learned: prefixes(a)},
		{name: "withdrawn with other bits that mean nothing", first: router.Update(nil, plain, b),
			then: router.Frame(router.TypeUpdate, slices.Concat([]byte{0, 4, 23, 172, 30, 3, 0, byte(len(plain))}, plain, router.Prefixes(b))), learned: prefixes(b)},
		{name: "withdrawn and announced, IPv6", first: router.Update(nil, slices.Concat(plain, reach(six))), then: router.Update(nil, slices.Concat(unreach(six), plain, reach(six))), learned: prefixes(six)},
		{name: "both families, each its own", first: router.Update(nil, slices.Concat(plain, reach(six)), a), then: router.Update(prefixes(b), slices.Concat(plain, unreach(six)), a), learned: prefixes(a)},
		{name: "our own ORIGINATOR_ID", first: router.Update(nil, plain, a, b), then: router.Update(nil, append(slices.Clone(plain), router.Attribute(router.Optional, 9, h.addr.AsSlice()...)...), a), learned: prefixes(b)},
		{name: "our own ORIGINATOR_ID, IPv6", first: router.Update(nil, slices.Concat(plain, reach(six))),
			then: router.Update(nil, slices.Concat(plain, router.Attribute(router.Optional, 9, h.addr.AsSlice()...), reach(six)))},
		{name: "too long, of all kinds at once", first: router.Update(nil, slices.Concat(plain, reach(six)), a, b),
			then: router.Update(prefixes(b), slices.Concat(plain, long, reach(six)), a), words: "3537 bytes of attributes"},
		{name: "ASes of two octets, of one that knows such of four", first: router.Update(nil, plain, a),
			then: router.Update(nil, slices.Concat(origin, router.Attribute(router.Transitive, 2, 2, 1, 0xfd, 0xe9), hop, pref), a), words: "taken for a withdrawal"},
		{name: "256 times this host's AS", first: router.Update(nil, plain, a, b),
			then: router.Update(nil, slices.Concat(origin, router.Attribute(router.Transitive, 2, slices.Concat([]byte{2, 255}, own, []byte{2, 1, 0, 0, 0xfc, 0})...), hop, pref), a), learned: prefixes(b)},
		{name: "255 times this host's AS", first: router.Update(nil, plain, a, b),
			then: router.Update(nil, slices.Concat(origin, router.Attribute(router.Transitive, 2, slices.Concat([]byte{2, 255}, own)...), hop, pref), a), learned: prefixes(b)},
	} {
		t.Run(x.name, func(t *testing.T) {
			if r == nil {
				r = h.session(far, router.Open{ASN: 64512, IPv6: true})
			}
			if x.first != nil {
				_, _ = r.Write(x.first)
				h.wait("what it told first", func() bool { return h.learned() != "" })
			}
			_, _ = r.Write(x.then)
			marker := netip.MustParsePrefix("172.30.255.0/24")
			if x.closed == nil {
				_, _ = r.Write(router.Update(nil, plain, marker))
				h.within(10*time.Second, "what comes after it", func() bool { return h.dead() || strings.Contains(h.learned(), marker.String()) })
				for _, p := range prefixes(a, b, six) {
					if got := strings.Contains(h.learned(), p.String()+" "); got != slices.Contains(x.learned, p) {
						t.Errorf("%s is there: %v", p, got)
					}
				}
			} else {
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				defer cancel()
				if err := r.Until(ctx, func(got []router.Message, ended error) bool {
					return slices.ContainsFunc(got, func(m router.Message) bool {
						return m.Type == router.TypeNotification && slices.Equal(m.Body, x.closed)
					})
				}); err != nil {
					t.Error(err)
				}
			}
			if h.dead() {
				t.Fatal("the speaker died")
			}
			h.within(10*time.Second, "words: "+x.words, func() bool { return strings.Contains(h.says(far.addr), x.words) })
			if x.closed != nil {
				r.Close()
				r = nil
			} else {
				_, _ = r.Write(router.Update(prefixes(a, b, marker), unreach(six)))
			}
			h.wait("nothing to be left", func() bool { return h.learned() == "" })
		})
	}
}

// TestBeforeOPEN: what comes before a session is up and gobgp does not survive.
func TestBeforeOPEN(t *testing.T) {
	hosts := newHosts(t, 2)
	h, far := hosts[0], hosts[1]
	h.start()
	var w reconcile.Want
	w.Put(object.BGP{ASN: 64512, RouterID: h.addr, Listen: h.addr.String(), Port: 179, Refuse: true}, reconcile.Cause{})
	w.Put(h.outsider(far, 65101), reconcile.Cause{})
	h.converge(w)
	open := router.Open{ASN: 65101, ID: far.addr, HoldTime: 9 * time.Second}.Bytes()
	for _, x := range []struct {
		name  string
		say   []byte
		says  []byte // the NOTIFICATION
		words string
	}{
		{"an unknown type", router.Frame(0, nil), []byte{1, 3, 0}, "a message of the unknown type 0"},
		{"an unknown type after the OPEN", append(slices.Clone(open), router.Frame(6, nil)...), []byte{1, 3, 6}, "a message of the unknown type 6"},
		{"a KEEPALIVE before the OPEN", router.Keepalive(), []byte{5, 1, 4}, "a KEEPALIVE before an OPEN"},
		{"an UPDATE after the OPEN", append(slices.Clone(open), router.EndOfRIB()...), []byte{5, 2, 2}, "an UPDATE between OPEN and KEEPALIVE"},
		{"another OPEN after the OPEN", append(slices.Clone(open), open...), []byte{5, 2, 1}, "an OPEN between OPEN and KEEPALIVE"},
		{"an OPEN of nothing", router.Frame(router.TypeOpen, nil), []byte{1, 2, 0, 19}, "an OPEN of 19 bytes"},
		{"a header alone that is too long", append(router.Keepalive()[:16], 0x10, 1, 1), []byte{1, 2, 0x10, 1}, "a message of 4097 bytes"},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		for {
			r, err := router.End{NS: far.ns, Local: far.addr, Remote: h.addr, TTL: 255}.Dial(ctx)
			if err == nil {
				_, _ = r.Write(x.say)
				err = r.Until(ctx, func(got []router.Message, _ error) bool {
					return slices.ContainsFunc(got, func(m router.Message) bool { return m.Type == router.TypeNotification && slices.Equal(m.Body, x.says) })
				})
				r.Close()
			}
			if err == nil {
				break
			}
			if h.dead() {
				t.Fatalf("%s: the speaker died", x.name)
			}
			if wait(ctx, 50*time.Millisecond) != nil {
				t.Fatalf("%s: %v", x.name, err)
			}
		}
		h.within(10*time.Second, "words", func() bool {
			return strings.Contains(h.says(far.addr), "this end closed the session: ") && strings.Contains(h.says(far.addr), x.words)
		})
	}
	r := h.session(far, router.Open{ASN: 65101})
	defer r.Close()
	h.wait("the session of one that behaves", h.established)
	_, _ = r.Write(router.Update(nil, router.Attribute(router.Optional, 15, 0, 2, 1, 16, 0x20, 1)))
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if code, subcode, err := r.Notified(ctx); err != nil || code != 3 || subcode != 9 {
		t.Errorf("a prefix of a family that the session does not have: %d/%d, %v", code, subcode, err)
	}
}

// freeEnv is backlogFree of a speaker that a test starts.
const freeEnv = "NETD_TEST_FREE"

// TestVainWithdrawals has a router withdraw what it never told, no faster than that is taken: it is hung up on, with a reason, before
// that costs the host its memory.
func TestVainWithdrawals(t *testing.T) {
	hosts := newHosts(t, 2)
	h, far := hosts[0], hosts[1]
	h.env = []string{freeEnv + "=" + strconv.Itoa(48<<20)}
	h.start()
	var w reconcile.Want
	w.Put(object.BGP{ASN: 64512, RouterID: h.addr, Listen: h.addr.String(), Port: 179, Refuse: true}, reconcile.Cause{})
	peer := h.outsider(far, 65101)
	peer.MaxPrefixes = 1000
	w.Put(peer, reconcile.Cause{})
	h.converge(w)
	r := h.session(far, router.Open{ASN: 65101})
	marker := netip.MustParsePrefix("172.30.1.0/24")
	h.wait("the session", h.established)
	list := make([]netip.Prefix, 800)
	for n := uint32(0); ; {
		for i := range list {
			n++
			list[i] = netip.PrefixFrom(netip.AddrFrom4([4]byte{20, byte(n >> 16), byte(n >> 8), byte(n)}), 32)
		}
		if _, err := r.Write(router.Update(list, nil)); err != nil {
			break // it was hung up on
		}
		if n > 3_000_000 {
			t.Fatal("nobody minds")
		}
		if n%4000 != 0 {
			continue
		}
		there := n%8000 == 0 // each time another, so that it is known to be taken
		if there {
			_, _ = r.Write(router.Announce(far.addr, []uint32{65101}, marker))
		} else {
			_, _ = r.Write(router.Update([]netip.Prefix{marker}, nil))
		}
		h.wait("what it said to be taken", func() bool {
			return strings.Contains(h.learned(), marker.String()) == there || !h.established()
		})
	}
	h.within(10*time.Second, "the reason", func() bool { return strings.Contains(h.says(far.addr), "KB of prefixes, told or not") })
	if h.dead() {
		t.Error("the speaker died")
	}
}

// established reports whether the one session that a host has is up.
func (h *host) established() bool {
	ns, _ := h.client.Neighbours()
	return len(ns) == 1 && ns[0].Established()
}

// TestRestartTwice: of a router that restarts gracefully, and goes again before it has told all, what it has not told again goes then
// (RFC 4724 §4.2), and what it has stays.
func TestRestartTwice(t *testing.T) {
	hosts := newHosts(t, 2)
	h, far := hosts[0], hosts[1]
	h.start()
	var w reconcile.Want
	w.Put(object.BGP{ASN: 64512, RouterID: h.addr, Listen: h.addr.String(), Port: 179, Refuse: true}, reconcile.Cause{})
	peer := h.outsider(far, 65101)
	peer.GracefulRestart = 2 * time.Minute
	w.Put(peer, reconcile.Cause{})
	h.converge(w)
	tell := func(r *router.Raw, ps ...string) {
		for _, p := range ps {
			_, _ = r.Write(router.Announce(far.addr, []uint32{65101}, netip.MustParsePrefix(p)))
		}
	}
	const stays, goes, new = "172.30.0.0/24", "172.30.1.0/24", "172.30.2.0/24"
	has := func(p string) bool { return strings.Contains(h.learned(), p+" ") }
	up := func(is bool) {
		t.Helper()
		h.wait("the session", func() bool { return h.established() == is })
	}
	restarting := router.Open{ASN: 65101, Restart: time.Minute}
	r := h.session(far, restarting)
	tell(r, stays, goes)
	_, _ = r.Write(router.EndOfRIB())
	h.wait("both", func() bool { return has(stays) && has(goes) })
	up(true)
	r.Close()
	up(false)
	r = h.session(far, restarting)
	tell(r, stays, new)
	h.wait("what it tells again", func() bool { return has(stays) && has(goes) && has(new) })
	up(true)
	r.Close()
	h.within(10*time.Second, "what it has not told again to go", func() bool { return !has(goes) })
	if !has(stays) || !has(new) {
		t.Errorf("what it had told again is gone: %s", h.learned())
	}
	r = h.session(far, restarting)
	tell(r, new)
	_, _ = r.Write(router.EndOfRIB())
	h.within(10*time.Second, "the end of what it does not tell any more", func() bool { return !has(stays) && has(new) })
}
