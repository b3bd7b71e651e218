package desired_test

import (
	"net/netip"
	"strings"
	"testing"

	"netd/config"
	"netd/reconcile/desired"
	"netd/reconcile/object"
)

// TestRivals has ipip tunnels of others beside tunl0: one that takes a node's packets is in tunl0's way, and says whose; another
// is not, and its far end is let through the guard.
func TestRivals(t *testing.T) {
	c := parse(t, "testdata/3-nodes.hcl", config.ModeIPIP)
	self, other := c.Nodes[0], c.Nodes[1]
	for _, x := range []struct {
		name          string
		local, remote netip.Addr
		from          string // whose packets it takes
	}{
		{"from a node", netip.Addr{}, other.Address.Addr(), "node " + other.Name},
		{"from a node to this one", self.Address.Addr(), other.Address.Addr(), "node " + other.Name},
		{"from anywhere to this node", self.Address.Addr(), netip.Addr{}, "every node"},
		{"from a node to another address", netip.MustParseAddr("198.51.100.1"), other.Address.Addr(), ""},
		{"from elsewhere", netip.Addr{}, netip.MustParseAddr("198.51.100.2"), ""},
	} {
		f := facts(c, self)
		f.Host.Tunnels = []object.HostTunnel{{Name: "rival", Local: x.local, Remote: x.remote}}
		r, err := desired.Compile(c, self, f)
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case x.from == "" && len(r.Want.Foreign) > 0, x.from != "" && len(r.Want.Foreign) != 1:
			t.Errorf("%s: %+v", x.name, r.Want.Foreign)
		case x.from != "":
			if h := r.Want.Foreign[0]; h.Key != object.LinkKey("", "tunl0") || !strings.HasSuffix(h.What, "rival, which takes tunl0's packets from "+x.from) {
				t.Errorf("%s: %+v", x.name, h)
			}
		}
		if set := (object.NftSet{Table: object.NftTable{Family: "inet", Name: "netd"}, Name: "ipip-others", Type: "ipv4_addr"}); x.remote.IsValid() {
			if _, ok := r.Want.State[object.NftElem{Set: set, Elem: x.remote.String()}.Key()]; !ok {
				t.Errorf("%s: its far end is not let through", x.name)
			}
		}
	}
}
