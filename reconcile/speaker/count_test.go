package speaker

import (
	"net/netip"
	"testing"

	api "github.com/osrg/gobgp/v3/api"
	gobgplog "github.com/osrg/gobgp/v3/pkg/log"
	"github.com/osrg/gobgp/v3/pkg/packet/bgp"
)

// TestTally has a neighbour asked about once it may have passed its limit in one family, not before, and not again until as
// much was told on top of what was counted.
func TestTally(t *testing.T) {
	lists, here := newTallies(), netip.MustParseAddr("fe80::1%eth0")
	lists.limit(here, &api.Peer{AfiSafis: []*api.AfiSafi{{PrefixLimits: &api.PrefixLimit{MaxPrefixes: 10}}}})
	if due := lists.begin(); len(due) != 1 { // it may be a lower limit than before
		t.Fatalf("a new limit asks for %v", due)
	}
	tell := func(v4, v6 int) {
		six := &bgp.PathAttributeMpReachNLRI{AFI: bgp.AFI_IP6}
		for range v6 {
			six.Value = append(six.Value, bgp.NewIPv6AddrPrefix(64, "2001:db8::"))
		}
		lists.told(gobgplog.Fields{"Key": "fe80::1", "nlri": make([]*bgp.IPAddrPrefix, v4), "attributes": []bgp.PathAttributeInterface{six}})
	}
	for _, step := range []struct {
		v4, v6, counted int
		due             bool
	}{
		{v4: 10, v6: 10},
		{v6: 1, due: true, counted: 4},
		{v6: 6},
		{v4: 1, v6: 1, due: true, counted: 10},
		{},
		{v4: 11, due: true},
	} {
		tell(step.v4, step.v6)
		due := lists.begin()
		if (len(due) == 1 && due[0] == here) != step.due || len(due) > 1 {
			t.Fatalf("after %d IPv4 and %d IPv6 prefixes more, due is %v", step.v4, step.v6, due)
		}
		for _, a := range due {
			lists.add(a, 0, step.counted)
		}
	}
}
