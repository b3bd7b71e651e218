package desired_test

import (
	"net/netip"
	"slices"
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

// TestLeaving has a network come to mode bgp from vxlan with no receive in its file: what the kernel still sends through the
// tunnel goes on through it until a session gives a route, and the device stays while its time is not over.
func TestLeaving(t *testing.T) {
	for _, x := range []struct {
		what    string
		mode    config.Mode
		tunnel  string   // the prefix that the kernel has a route to through the device
		lately  []string // devices that were needed a moment ago
		learned bool
		via     string
		device  bool
		leaves  bool
	}{
		{"not learned yet", config.ModeBGP, "10.10.194.128/26", nil, false, "via 10.10.194.128 dev vxlan.netd onlink", true, true},
		{"not learned, and no such route is left", config.ModeBGP, "", []string{"vxlan.netd"}, false, "", true, false},
		{"learned a moment ago", config.ModeBGP, "10.10.194.128/26", []string{"vxlan.netd"}, true, "via 192.168.170.138 dev ens33", true, false},
		{"learned", config.ModeBGP, "10.10.194.128/26", nil, true, "via 192.168.170.138 dev ens33", false, false},
		{"a route to no node's block", config.ModeBGP, "10.10.200.0/26", nil, false, "", false, false},
		{"another device", config.ModeBGP, "10.10.194.128/26", []string{"netdvx7"}, true, "via 192.168.170.138 dev ens33", false, false},
		{"the tunnel's own mode", config.ModeVXLAN, "10.10.194.128/26", nil, false, "via 10.10.194.128 dev vxlan.netd onlink", true, false},
	} {
		t.Run(x.what, func(t *testing.T) {
			c := parse(t, "testdata/2-nodes.hcl", x.mode)
			f := facts(c, c.Nodes[0])
			if !x.learned {
				f.Speaker.Paths = nil
			}
			if x.tunnel != "" {
				f.Host.TunnelRoutes = []object.Learned{{Prefix: netip.MustParsePrefix(x.tunnel), NextHop: netip.MustParseAddr("10.10.194.128"), Link: "vxlan.netd"}}
			}
			f.Host.Lately = x.lately
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
			if _, device := r.Want.State[object.LinkKey("", "vxlan.netd")]; device != x.device {
				t.Errorf("vxlan.netd is wanted: %t", device)
			}
			if leaves := slices.Equal(r.Leaves, []string{"vxlan.netd"}); leaves != x.leaves || leaves != (len(r.Notes) == 1) {
				t.Errorf("leaves %v, with the notes %q", r.Leaves, r.Notes)
			}
			if len(c.Networks[0].Receive) > 0 {
				t.Error("the configuration itself was changed")
			}
		})
	}
}
