package desired_test

import (
	"testing"

	"netd/config"
	"netd/reconcile/desired"
	"netd/reconcile/object"
)

// TestUntilLearned has a network of mode bgp that still receives vxlan: a block goes through the tunnel until a session gives
// a route to it. The other way round the file's routes count, whatever the sessions give.
func TestUntilLearned(t *testing.T) {
	for _, x := range []struct {
		what    string
		mode    config.Mode
		receive []config.Mode
		learned bool
		via     string
	}{
		{"bgp, nothing learned", config.ModeBGP, []config.Mode{config.ModeVXLAN}, false, "via 10.10.194.128 dev vxlan.netd onlink"},
		{"bgp, learned", config.ModeBGP, []config.Mode{config.ModeVXLAN}, true, "via 192.168.170.138 dev ens33"},
		{"bgp alone, nothing learned", config.ModeBGP, nil, false, ""},
		{"vxlan, learned", config.ModeVXLAN, []config.Mode{config.ModeBGP}, true, "via 10.10.194.128 dev vxlan.netd onlink"},
	} {
		t.Run(x.what, func(t *testing.T) {
			c := parse(t, "testdata/2-nodes.hcl", x.mode)
			c.Networks[0].Receive = x.receive
			f := facts(c, c.Nodes[0])
			if !x.learned {
				f.Speaker.Paths = nil
			}
			r, err := desired.Compile(c, c.Nodes[0], f)
			if err != nil {
				t.Fatal(err)
			}
			got := ""
			if route, ok := r.Want.State[object.RouteKey("", c.Nodes[1].Blocks[0], object.MainTable, 0)].(object.Route); ok {
				got = route.Summary()
			}
			if got != x.via {
				t.Errorf("the route is %q, want %q", got, x.via)
			}
			if x.receive != nil {
				if _, ok := r.Want.State[object.LinkKey("", "vxlan.netd")]; !ok {
					t.Error("there is no vxlan.netd")
				}
				if _, ok := r.Want.State[object.PeerKey(c.Nodes[1].Address.Addr())]; !ok {
					t.Error("there is no session")
				}
			}
			for _, note := range r.Notes {
				t.Errorf("a note: %s", note)
			}
		})
	}
}
