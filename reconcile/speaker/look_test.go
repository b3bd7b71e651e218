package speaker

import (
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
