package speaker

import (
	"net/netip"
	"slices"
	"testing"

	api "github.com/osrg/gobgp/v3/api"

	"netd/reconcile/object"
)

// TestWellKnown: what asks not to be told on (RFC 1997: NO_EXPORT, NO_ADVERTISE) is told to nobody, whatever an export list has and
// whoever reflects: its statement stands before all that let out what others told.
func TestWellKnown(t *testing.T) {
	router, client := netip.MustParseAddr("192.168.170.1"), netip.MustParseAddr("192.168.170.138")
	text, err := compose(64512, map[netip.Addr]object.Peer{
		router: {Addr: router, Outside: true, Import: "172.30.0.0/24", Transit: "172.16.0.0/12 le 24", Self: netip.MustParseAddr("192.168.170.137")},
		client: {Addr: client, Reflected: true, Import: "10.10.194.128/26", NextHops: "192.168.170.138"},
	})
	if err != nil {
		t.Fatal(err)
	}
	at := slices.IndexFunc(text.exporting, func(s *api.Statement) bool { return s.GetName() == wellKnownNever })
	if at < 0 || text.exporting[at].GetActions().GetRouteAction() != api.RouteAction_REJECT || text.exporting[at].GetConditions().GetCommunitySet().GetName() != wellKnownNever {
		t.Fatalf("no statement refuses them:\n%v", text.exporting)
	}
	set := slices.IndexFunc(text.sets, func(s *api.DefinedSet) bool { return s.GetName() == wellKnownNever })
	if set < 0 || !slices.Equal(text.sets[set].GetList(), []string{"65535:65281", "65535:65282"}) {
		t.Errorf("the set of %q is %v", wellKnownNever, text.sets)
	}
	others := 0
	for i, s := range text.exporting {
		if s.GetActions().GetRouteAction() != api.RouteAction_ACCEPT || s.GetConditions().GetRouteType() == api.Conditions_ROUTE_TYPE_LOCAL {
			continue
		}
		if others++; i < at {
			t.Errorf("%q lets out what others told before that is asked", s.GetName())
		}
	}
	if others == 0 {
		t.Error("nothing lets out what others told: this proves nothing")
	}
}
