package main

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"netd/config"
	"netd/reconcile/desired"
	"netd/reconcile/object"
	"netd/reconcile/speaker"
)

// TestReasons: each route that the speaker does not take has a reason that says what to look for, where the lists have none
// against it.
func TestReasons(t *testing.T) {
	file := filepath.Join(t.TempDir(), "netd.hcl")
	if err := os.WriteFile(file, []byte(`network "lab" {
  pools = ["10.10.0.0/16"]
  mode  = "bgp"
}
node "here" {
  address         = "192.168.170.137/24"
  blocks          = ["10.10.40.128/26"]
  route_reflector = "10.0.0.1"
}
node "there" {
  address = "192.168.170.138/24"
  blocks  = ["10.10.194.128/26"]
}
peer "tor" {
  address = "192.168.170.1"
  asn     = 65101
  import  = ["172.16.0.0/12 le 24"]
}
`), 0o600); err != nil {
		t.Fatal(err)
	}
	source, err := config.Read(file, nil)
	if err != nil {
		t.Fatal(err)
	}
	c, ds := source.Parse()
	if ds.HasErrors() {
		t.Fatal(ds)
	}
	n, _ := c.Node("here")
	tor, there := netip.MustParseAddr("192.168.170.1"), netip.MustParseAddr("192.168.170.138")
	prefix := netip.MustParsePrefix("172.30.0.0/24")
	for _, x := range []struct {
		name  string
		route speaker.Route
		taken bool
		lists string // what they have against it
		want  string
	}{
		{"taken", speaker.Route{Peer: tor, ASPath: []uint32{65101}}, true, "", ""},
		{"an own AS", speaker.Route{Peer: tor, ASPath: []uint32{65101, 64512}}, false, "", "a loop: this node's AS 64512 is in its path"},
		{"no AS, within one", speaker.Route{Peer: there}, false, "", "the speaker does not take it"},
		{"an own originator", speaker.Route{Peer: there, Originator: "192.168.170.137"}, false, "", "a loop: this node is its originator (RFC 4456 §8)"},
		{"another's originator", speaker.Route{Peer: there, Originator: "192.168.170.139"}, true, "", ""},
		{"an own cluster", speaker.Route{Peer: there, Clusters: []string{"10.0.0.2", "10.0.0.1"}}, false, "", "a loop: this node's cluster 10.0.0.1 is in its path (RFC 4456 §8)"},
		{"against the lists", speaker.Route{Peer: tor, ASPath: []uint32{65002}}, false, "its import list does not have it", "its import list does not have it"},
	} {
		x.route.Prefix, x.route.NextHop = prefix, x.route.Peer
		l := &looker{config: c, node: n, judge: func(object.BestPath) desired.Verdict { return desired.Verdict{Why: x.lists} }}
		got := l.sorted([]speaker.Route{x.route}, map[speakerPath]bool{{x.route.Peer, prefix}: x.taken})[0].Reason
		if (got == "") != (x.want == "") || !strings.HasPrefix(got, x.want) {
			t.Errorf("%s: %q, want %q", x.name, got, x.want)
		}
	}
}

// TestToldTo: what is said of this host's own routes is whom they are told to now, by name; the marks that the speaker has for that
// mean nothing to anyone.
func TestToldTo(t *testing.T) {
	tor, fabric, down := netip.MustParseAddr("192.168.170.1"), netip.MustParseAddr("fe80::1%eth0"), netip.MustParseAddr("192.168.170.2")
	l := &looker{config: &config.Config{Peers: []config.Peer{{Name: "tor", Address: tor}, {Name: "fabric", Address: fabric.WithZone("")}, {Name: "down", Address: down}}},
		peers: []speaker.Neighbour{{Addr: tor, State: "established"}, {Addr: fabric, State: "established"}, {Addr: down, State: "active"}}}
	for _, x := range []struct {
		to   []string
		want string
	}{
		{nil, "told to nobody"},
		{[]string{"192.168.170.1"}, "told to tor"},
		{[]string{"192.168.170.2"}, "told to nobody"},
		{[]string{"192.168.170.1", "192.168.170.2", "fe80::1", "nodes"}, "told to fabric, nodes, tor"},
	} {
		if got := l.own(speaker.Route{Origin: "igp", ToldTo: x.to}).Text; got != x.want {
			t.Errorf("%q, want %q", got, x.want)
		}
	}
}
