package desired_test

import (
	"net/netip"
	"testing"
	"time"

	"netd/reconcile/desired"
	"netd/reconcile/object"
)

// TestPeerBlock is what a peer block is for the session: with nothing in it but who the router is, and with each attribute
// alone. Everything that an attribute is not about stays as it is by default.
func TestPeerBlock(t *testing.T) {
	tor := netip.MustParseAddr("192.168.170.1")
	plain := object.Peer{Addr: tor, ASN: 65101, Local: netip.MustParseAddr("192.168.170.137"), Port: 179, Opens: object.Dials, Family: object.Dual,
		HoldTime: 9 * time.Second, Keepalive: 3 * time.Second, GracefulRestart: 2 * time.Minute, MaxPrefixes: 1000, Up: true, Outside: true, UntellLoops: true,
		Self: netip.MustParseAddr("192.168.170.137"), Self6: netip.MustParseAddr("2001:db8:170::137")}
	for _, x := range []struct {
		attribute string
		want      func(*object.Peer)
	}{
		{"", func(*object.Peer) {}},
		{`nodes = ["here"]`, func(*object.Peer) {}},
		{`nodes = ["there"]`, nil},
		{`match_labels = { rack = "r1" }`, func(*object.Peer) {}},
		{`match_labels = { rack = "r2" }`, nil},
		{`port = 1179`, func(p *object.Peer) { p.Port = 1179 }},
		{`password_file = "/etc/netd/tor"`, func(p *object.Peer) { p.Password = "0badf00d" }},
		{`multihop = 3`, func(p *object.Peer) { p.Multihop = 3 }},
		{`ttl_security = true`, func(p *object.Peer) { p.TTLSecurity = true }},
		{`passive = true`, func(p *object.Peer) { p.Opens = object.Listens }},
		{`hold_time = "30s"`, func(p *object.Peer) { p.HoldTime, p.Keepalive = 30*time.Second, 10*time.Second }},
		{`import = ["172.30.0.0/24"]`, func(p *object.Peer) {
			p.Import, p.FirstAS, p.NextHops, p.LocalPref = "172.30.0.0/24", 65101, "192.168.170.1", "100"
		}},
		{`default_route = true`, func(p *object.Peer) {
			p.Import, p.FirstAS, p.NextHops, p.LocalPref = "0.0.0.0/0, ::/0", 65101, "192.168.170.1", "100"
		}},
		{`export = ["172.16.0.0/12 le 24"]`, func(p *object.Peer) { p.Transit, p.Family, p.Self6 = "172.16.0.0/12 le 24", object.IPv4, netip.Addr{} }},
		{`communities = ["65000:1", "65000:1:2", "no-export"]`, func(p *object.Peer) { p.Communities = "65000:1 65000:1:2 no-export" }},
		{`prepend = 10`, func(p *object.Peer) { p.Prepend = 10 }},
		{`local_pref = 300`, func(*object.Peer) {}}, // there is nothing to prefer
		{"local_pref = 300\nimport = [\"172.30.0.0/24\"]", func(p *object.Peer) {
			p.Import, p.FirstAS, p.NextHops, p.LocalPref = "172.30.0.0/24", 65101, "192.168.170.1", "300"
		}},
		{`max_prefixes = 50`, func(p *object.Peer) { p.MaxPrefixes = 50 }},
		{`next_hop_self = false`, func(*object.Peer) {}}, // own blocks are by way of this node all the same
		{"next_hop_self = false\nexport = [\"172.16.0.0/12 le 24\"]", func(p *object.Peer) {
			p.Transit, p.Family, p.Self6, p.KeepNextHop = "172.16.0.0/12 le 24", object.IPv4, netip.Addr{}, true
		}},
	} {
		c, n, f := policy(t, "peer \"tor\" {\n  address = \"192.168.170.1\"\n  asn = 65101\n"+x.attribute+"\n}\n")
		f.Passwords = map[string]string{"/etc/netd/tor": "0badf00d"}
		r, err := desired.Compile(c, n, f)
		if err != nil {
			t.Fatal(err)
		}
		got, there := r.Want.State[object.PeerKey(tor)].(object.Peer)
		switch {
		case x.want == nil && there:
			t.Errorf("%s: there is a session", x.attribute)
		case x.want != nil && !there:
			t.Errorf("%s: there is no session", x.attribute)
		case x.want != nil:
			want := plain
			x.want(&want)
			for i, field := range got.Fields() {
				if w := want.Fields()[i]; w != field {
					t.Errorf("%s: %+v, want %+v", x.attribute, field, w)
				}
			}
		}
	}
}

// TestPasswordUnread: a session whose password_file cannot be read keeps the password that it has, and one that has none gets one that
// no speaker knows: it is never without.
func TestPasswordUnread(t *testing.T) {
	tor := netip.MustParseAddr("192.168.170.1")
	c, n, f := policy(t, "peer \"tor\" {\n  address = \"192.168.170.1\"\n  asn = 65101\n  password_file = \"/etc/netd/tor\"\n}\n")
	for _, x := range []struct {
		read map[string]string
		kept map[netip.Addr]string
		want string
	}{
		{nil, nil, desired.UnknownPassword},
		{nil, map[netip.Addr]string{netip.MustParseAddr("192.168.170.2"): "0badf00d"}, desired.UnknownPassword},
		{nil, map[netip.Addr]string{tor: "0badf00d"}, "0badf00d"},
		{map[string]string{"/etc/netd/tor": "cafe0000"}, map[netip.Addr]string{tor: "0badf00d"}, "cafe0000"},
	} {
		f.Passwords, f.Kept = x.read, x.kept
		r, err := desired.Compile(c, n, f)
		if err != nil {
			t.Fatal(err)
		}
		if got := r.Want.State[object.PeerKey(tor)].(object.Peer).Password; got != x.want {
			t.Errorf("read %v, kept %v: %q, want %q", x.read, x.kept, got, x.want)
		}
	}
}
