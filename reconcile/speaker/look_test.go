package speaker

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"netd/reconcile"
	"netd/reconcile/object"
	"netd/testenv/router"
)

// TestMarksShow: the marks of an own path are not shown as communities; what a neighbour sends that looks the same is.
func TestMarksShow(t *testing.T) {
	p, err := apiPath(object.Path{Prefix: netip.MustParsePrefix("10.10.40.128/26"), NextHop: netip.MustParseAddr("192.168.170.137"), To: "192.168.170.1 nodes"})
	if err != nil {
		t.Fatal(err)
	}
	p.NeighborIp = "<nil>" // as gobgp says it of an own one
	own, err := routeOf(p)
	if err != nil || len(own.Communities) != 0 || len(own.marks) != 2 {
		t.Errorf("an own path: %d marks, communities %v, %v", len(own.marks), own.Communities, err)
	}
	p.NeighborIp = "192.168.170.1"
	if told, err := routeOf(p); err != nil || len(told.Communities) != 2 || len(told.marks) != 0 {
		t.Errorf("a neighbour's path: %d marks, communities %v, %v", len(told.marks), told.Communities, err)
	}
}

// TestSeveralBest: of the ways to a prefix all are shown as the best that are, where there may be several, and no other.
func TestSeveralBest(t *testing.T) {
	hosts := newHosts(t, 4)
	h := hosts[0]
	h.start()
	p, longer := netip.MustParsePrefix("172.30.1.0/24"), hosts[3]
	var w reconcile.Want
	w.Put(object.BGP{ASN: 64512, RouterID: h.addr, Listen: h.addr.String(), Port: 179, Multipath: true, Refuse: true}, reconcile.Cause{})
	for i, o := range hosts[1:] {
		w.Put(h.outsider(o, 65101+uint32(i)), reconcile.Cause{})
	}
	h.converge(w)
	for i, o := range hosts[1:] {
		path := []uint32{65101 + uint32(i)}
		if o == longer {
			path = append(path, 65200)
		}
		_, _ = h.session(o, router.Open{ASN: path[0]}).Write(router.Update(nil, slices.Concat(router.Origin(), router.ASPath(path...), router.NextHop(o.addr)), p))
	}
	got := ""
	h.within(10*time.Second, "two best ways of three", func() bool {
		table, err := h.client.Routes(t.Context(), LocRIB, netip.Addr{})
		if err != nil {
			t.Fatal(err)
		}
		var lines []string
		for _, r := range table {
			lines = append(lines, fmt.Sprintln(r.Prefix, r.NextHop, r.Best))
		}
		slices.Sort(lines)
		got = strings.Join(lines, "")
		return got == "172.30.1.0/24 192.168.170.138 true\n172.30.1.0/24 192.168.170.139 true\n172.30.1.0/24 192.168.170.140 false\n"
	})
}

// TestUntellable: a path with an attribute that gobgp's API has no message for, which may come from far, is shown with what is known of it, and
// keeps no other from being shown.
func TestUntellable(t *testing.T) {
	hosts := newHosts(t, 2)
	h, far := hosts[0], hosts[1]
	h.start()
	var w reconcile.Want
	w.Put(object.BGP{ASN: 64512, RouterID: h.addr, Listen: h.addr.String(), Port: 179, Refuse: true}, reconcile.Cause{})
	peer := h.outsider(far, 64512)
	peer.Family, peer.Self6, peer.Import = object.Dual, netip.MustParseAddr("2001:db8::137"), "172.30.0.0/16 le 32, 2001:db8::/32 le 64"
	w.Put(peer, reconcile.Cause{})
	h.converge(w)
	four, six := netip.MustParsePrefix("172.30.1.0/24"), netip.MustParsePrefix("2001:db8:1::/48")
	transitive := byte(router.Optional | router.Transitive)
	attributes := slices.Concat(router.Origin(), router.ASPath(65001, 65002), router.NextHop(far.addr), router.Attribute(router.Optional, 4, 0, 0, 0, 7), router.LocalPref(300),
		router.Attribute(transitive, 8, 0xfd, 0xe9, 0, 9), router.Attribute(router.Optional, 9, 1, 2, 3, 4), router.Attribute(router.Optional, 10, 5, 6, 7, 8),
		router.Attribute(transitive, 16, 6, 4, 0, 0, 5, 220, 0, 0), // of EVPN (RFC 8214)
		router.Attribute(transitive, 32, 0, 0, 0xfd, 0xe9, 0, 0, 0, 1, 0, 0, 0, 2))
	reach := router.Attribute(router.Optional, 14, slices.Concat([]byte{0, 2, 1, 16}, netip.MustParseAddr("2001:db8::138").AsSlice(), []byte{0}, router.Prefixes(six))...)
	r := h.session(far, router.Open{ASN: 64512, IPv6: true})
	_, _ = r.Write(router.Update(nil, slices.Concat(attributes, reach), four))
	h.wait("both paths", func() bool { return len(h.client.Snapshot().Paths) == 2 })
	const words = "path 65001 65002, local pref 300, med 7, communities 65001:9 65001:1:2, originator 1.2.3.4, clusters 5.6.7.8"
	want := fmt.Sprintln(four, far.addr, far.addr, words) + fmt.Sprintln(six, "2001:db8::138", far.addr, words)
	for _, table := range []Table{AdjIn, LocRIB} {
		routes, err := h.client.Routes(t.Context(), table, far.addr)
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		for _, r := range routes {
			got += fmt.Sprintln(r.Prefix, r.NextHop, r.Peer, r.Attributes())
		}
		if got != want {
			t.Errorf("%s:\n%swant\n%s", table, got, want)
		}
	}
}

// TestUntellableMany is TestUntellable with more such paths than one request may name: gRPC takes 4 MB.
func TestUntellableMany(t *testing.T) {
	const many, each = 95_000, 200
	hosts := newHosts(t, 2)
	h, far := hosts[0], hosts[1]
	h.start()
	h.client.Allow(many)
	var w reconcile.Want
	w.Put(object.BGP{ASN: 64512, RouterID: h.addr, Listen: h.addr.String(), Port: 179, Refuse: true}, reconcile.Cause{})
	peer := h.outsider(far, 64512)
	peer.Family, peer.Self6, peer.Import = object.Dual, netip.MustParseAddr("2001:db8::137"), ""
	w.Put(peer, reconcile.Cause{})
	h.converge(w)
	r := h.session(far, router.Open{ASN: 64512, IPv6: true})
	attributes := slices.Concat(router.Origin(), router.ASPath(65001), router.LocalPref(300), router.Attribute(router.Optional|router.Transitive, 16, 6, 4, 0, 0, 5, 220, 0, 0))
	reach := slices.Concat([]byte{0, 2, 1, 16}, netip.MustParseAddr("2001:db8::138").AsSlice(), []byte{0})
	a := netip.MustParseAddr("2001:db8:1111:2222:3333:4444:5555:0").As16() // as text they are as long as can be
	for i := uint32(0); i < many; {
		var prefixes []netip.Prefix
		for range each {
			binary.BigEndian.PutUint32(a[12:], 0x55551111+i)
			prefixes = append(prefixes, netip.PrefixFrom(netip.AddrFrom16(a), 128))
			i++
		}
		if _, err := r.Write(router.Update(nil, slices.Concat(attributes, router.Attribute(router.Optional, 14, slices.Concat(reach, router.Prefixes(prefixes...))...)))); err != nil {
			t.Fatal(err)
		}
	}
	_, _ = r.Write(slices.Concat(router.EndOfRIB(), router.Update(nil, router.Attribute(router.Optional, 15, 0, 2, 1))))
	h.within(time.Minute, "all that it tells", func() bool {
		return slices.ContainsFunc(h.client.Snapshot().Peers, func(p object.SpeakerPeer) bool { return p.Addr == far.addr && p.Synced })
	})
	routes, err := h.client.Routes(t.Context(), AdjIn, far.addr)
	if err != nil || len(routes) != many {
		t.Errorf("%d of %d are shown: %v", len(routes), many, err)
	}
}

// TestNotStarted: a look at a speaker that has no router yet is told from one that fails, whatever is looked at.
func TestNotStarted(t *testing.T) {
	h := newHosts(t, 1)[0]
	h.start()
	neighbour := netip.MustParseAddr("192.168.170.1")
	for what, look := range map[string]func() error{
		"the table":        func() error { _, err := h.client.Routes(t.Context(), LocRIB, netip.Addr{}); return err },
		"what it was told": func() error { _, err := h.client.Routes(t.Context(), AdjIn, neighbour); return err },
		"what is told":     func() error { _, err := h.client.Routes(t.Context(), AdjOut, neighbour); return err },
	} {
		if err := look(); !errors.Is(err, ErrNotStarted) {
			t.Errorf("%s: %v", what, err)
		}
	}
}
