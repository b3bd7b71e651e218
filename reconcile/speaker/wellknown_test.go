package speaker

import (
	"net/netip"
	"slices"
	"testing"

	api "github.com/osrg/gobgp/v3/api"

	"netd/reconcile/object"
)

// TestWellKnown: what asks not to be told on (RFC 1997) is told to nobody (NO_ADVERTISE) or to no other AS (NO_EXPORT,
// NO_EXPORT_SUBCONFED), whatever an export list has and whoever reflects: these statements stand before all that let out what others told.
// TestCommunities has real routers on either side of it.
func TestWellKnown(t *testing.T) {
	router, core, client := netip.MustParseAddr("192.168.170.1"), netip.MustParseAddr("192.168.170.2"), netip.MustParseAddr("192.168.170.138")
	of := map[netip.Addr]object.Peer{
		router: {Addr: router, Outside: true, UntellLoops: true, Import: "172.30.0.0/24", Transit: "172.16.0.0/12 le 24", Self: netip.MustParseAddr("192.168.170.137")},
		core:   {Addr: core, Outside: true, Import: "172.30.0.0/24", Transit: "172.16.0.0/12 le 24", Self: netip.MustParseAddr("192.168.170.137")},
		client: {Addr: client, Reflected: true, Import: "10.10.194.128/26", NextHops: "192.168.170.138"},
	}
	text, err := compose(64512, of)
	if err != nil {
		t.Fatal(err)
	}
	for name, x := range map[string]struct {
		set []string
		who []string // nil: everyone
	}{
		wellKnownNever: {set: []string{"65535:65282"}},
		noExport:       {set: []string{"65535:65281", "65535:65283"}, who: []string{"192.168.170.1/32"}},
	} {
		set := func(kind api.DefinedType) []string {
			i := slices.IndexFunc(text.sets, func(s *api.DefinedSet) bool { return s.GetDefinedType() == kind && s.GetName() == name })
			if i < 0 {
				return nil
			}
			return text.sets[i].GetList()
		}
		if got := set(api.DefinedType_COMMUNITY); !slices.Equal(got, x.set) {
			t.Errorf("%s is of communities %v, want %v", name, got, x.set)
		}
		if got := set(api.DefinedType_NEIGHBOR); !slices.Equal(got, x.who) {
			t.Errorf("%s is of neighbours %v, want %v", name, got, x.who)
		}
		at := slices.IndexFunc(text.exporting, func(s *api.Statement) bool { return s.GetName() == name })
		if at < 0 || text.exporting[at].GetActions().GetRouteAction() != api.RouteAction_REJECT || text.exporting[at].GetConditions().GetCommunitySet().GetName() != name {
			t.Fatalf("no statement %s refuses them:\n%v", name, text.exporting)
		}
		others := 0
		for i, s := range text.exporting {
			if s.GetActions().GetRouteAction() != api.RouteAction_ACCEPT || s.GetConditions().GetRouteType() == api.Conditions_ROUTE_TYPE_LOCAL ||
				x.who != nil && s.GetConditions().GetNeighborSet().GetName() == clientsSet { // nodes
				continue
			}
			if others++; i < at {
				t.Errorf("%q lets out what others told before %s is asked", s.GetName(), name)
			}
		}
		if others == 0 {
			t.Error("nothing lets out what others told: this proves nothing")
		}
	}
	if again := text.neighbours(); !again[router].UntellLoops || again[core].UntellLoops {
		t.Errorf("read back: %+v", again)
	}
}
