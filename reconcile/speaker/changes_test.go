package speaker

import (
	"net/netip"
	"slices"
	"testing"

	"netd/reconcile/object"
)

// TestChanges has a client told of paths: what a snapshot caught is no change, what comes after is, some at a time, with all
// the paths that there are by then; a speaker that is lost leaves none, and after news of a neighbour they are not all that changed.
func TestChanges(t *testing.T) {
	c := Open(t.TempDir(), Secrets{})
	peer, other := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	tell := func(p string, from ...netip.Addr) {
		t.Helper()
		ways := ""
		if len(from) > 0 {
			hops := make([]hop, len(from))
			for i, a := range from {
				hops[i] = hop{a, a, 65001}
			}
			ways = string(appendHops(nil, hops))
		}
		if err := c.heard(framePaths, appendEntry(nil, netip.MustParsePrefix(p), ways)); err != nil {
			t.Fatal(err)
		}
	}
	path := func(p string, from netip.Addr) object.BestPath {
		return object.BestPath{Prefix: netip.MustParsePrefix(p), NextHop: from, Peer: from, FirstAS: 65001}
	}
	changes := func(most int, more bool) ([]netip.Prefix, []object.BestPath) {
		t.Helper()
		prefixes, paths, rest, ok := c.Changes(most)
		if rest != more || !ok {
			t.Errorf("more: %v, kept: %v", rest, ok)
		}
		slices.SortFunc(prefixes, netip.Prefix.Compare)
		return prefixes, paths
	}
	missed := func(what string) {
		t.Helper()
		if _, _, _, ok := c.Changes(9); ok {
			t.Errorf("%s: paths alone tell what changed", what)
		}
		c.Caught()
	}
	tell("172.30.0.0/24", peer)
	if prefixes, _ := changes(9, false); len(prefixes) > 0 {
		t.Errorf("before all is known: %v", prefixes)
	}
	_ = c.heard(frameMark, nil)
	missed("a snapshot")
	tell("172.30.1.0/24", peer)
	c.Caught()
	if prefixes, _ := changes(9, false); len(prefixes) > 0 || len(c.Snapshot().Paths) != 2 {
		t.Errorf("caught: %v, %v", prefixes, c.Snapshot().Paths)
	}
	tell("172.30.2.0/24", other, peer)
	tell("172.30.1.0/24", peer)
	tell("172.30.1.0/24", other)
	tell("172.30.0.0/24")
	prefixes, paths := changes(9, false)
	want := []object.BestPath{path("172.30.2.0/24", peer), path("172.30.2.0/24", other), path("172.30.1.0/24", other)} // as they changed first
	if len(prefixes) != 3 || !slices.Equal(paths, want) {
		t.Errorf("%v: %v", prefixes, paths)
	}
	tell("172.30.1.0/24") // before what is said of the neighbour, or after
	if err := c.heard(frameNeighbours, []byte(`[{"addr":"192.0.2.2"}]`)); err != nil {
		t.Fatal(err)
	}
	missed("a neighbour that begins anew")
	if !c.Anew() {
		t.Error("a neighbour that begins anew asks for no pass over everything")
	}
	if err := c.heard(frameNeighbours, []byte(`[{"addr":"192.0.2.2","error":"it sent a malformed UPDATE"}]`)); err != nil {
		t.Fatal(err)
	}
	if changes(9, false); c.Anew() {
		t.Error("an error alone asks for a pass over everything: a neighbour may send malformed UPDATEs without end")
	}
	tell("172.30.1.0/24", peer)
	tell("172.30.2.0/24", peer)
	first, _ := changes(1, true)
	rest, _ := changes(1, false)
	if all := append(first, rest...); len(all) != 2 || all[0] == all[1] {
		t.Errorf("some at a time: %v, %v", first, rest)
	}
	for i := range uint32(changesMost + 10) { // they come and go, and nobody asks
		p := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 32).String()
		tell(p, peer)
		tell(p)
		if len(c.view.changed) > changesMost {
			t.Fatalf("%d changes are kept", len(c.view.changed))
		}
	}
	if _, _, _, ok := c.Changes(9); ok {
		t.Error("changes that were not kept are not missed")
	}
	c.Caught()
	tell("172.30.1.0/24", other)
	c.lost(nil)
	if prefixes, _ := changes(9, false); len(prefixes) > 0 {
		t.Errorf("of a speaker that is lost: %v", prefixes)
	}
}
