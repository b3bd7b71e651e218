package speaker

import (
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"time"

	api "github.com/osrg/gobgp/v3/api"

	"netd/reconcile/object"
)

// TestPoliciesReadBack writes the policies of neighbours of every make down and reads them back from what was written.
func TestPoliciesReadBack(t *testing.T) {
	a := netip.MustParseAddr
	of := map[netip.Addr]object.Peer{}
	for _, p := range []object.Peer{
		{Addr: a("192.168.170.138"), Import: "10.10.2.0/24", NextHops: "192.168.170.138", Reflected: true},
		{Addr: a("2001:db8:170::138"), Import: "fd10:0:0:2::/64", NextHops: "2001:db8:170::138"},
		{Addr: a("192.168.170.139")}, // has no blocks
		{Addr: a("192.168.170.1"), Outside: true, Self: a("192.168.170.137")},
		{Addr: a("192.168.170.2"), Outside: true, Import: "0.0.0.0/0, 10.0.0.0/8 ge 16 le 24", Except: "10.10.40.128/26 le 32", NextHops: "192.168.170.2",
			FirstAS: 4200000001, LocalPref: "0", Self: a("192.168.170.137"), Communities: "65000:1 65000:1:2 graceful-shutdown no-export", Prepend: 10,
			Transit: "10.99.0.0/16 le 24", KeepNextHop: true},
		{Addr: a("192.168.170.3"), Outside: true, Import: "10.0.0.0/8, fd00::/8 le 64", Except: "10.0.0.0/8, fd10::/48 le 128", LocalPref: "4294967295",
			NextHops: "192.168.170.3 2001:db8::3", Self: a("192.168.170.137"), Self6: a("2001:db8:170::137"), Transit: "fd20::/48 le 64", Communities: "65000:1:2"},
		{Addr: a("192.168.170.5"), Outside: true, Import: "10.10.0.0/16 le 26", NextHops: "192.168.170.5", Self: a("192.168.170.137"), Transit: "10.10.0.0/16 le 26", Cluster: a("192.0.2.1")},
		{Addr: a("fe80::1%eth0"), Outside: true, Self6: a("2001:db8:170::137"), Import: "fd00::/8 le 64", NextHops: "fe80::1%eth0", Communities: "blackhole"},
	} {
		of[p.Addr] = p
	}
	text, err := compose(64512, of)
	if err != nil {
		t.Fatal(err)
	}
	got := text.neighbours()
	for addr, want := range of {
		if got[addr] != want {
			t.Errorf("%s: %s", addr, diffText(got[addr], want))
		}
	}
	if len(got) != len(of) {
		t.Errorf("%d neighbours, want %d", len(got), len(of))
	}
	again, err := compose(64512, got)
	if err != nil || again.String() != text.String() {
		t.Errorf("written again it differs: %v", err)
	}
}

// TestPeerReadBack: what gobgp is given of a neighbour beside its policies is read back, and who changes it is seen.
func TestPeerReadBack(t *testing.T) {
	want := object.Peer{Addr: netip.MustParseAddr("192.168.170.1"), ASN: 65101, Local: netip.MustParseAddr("192.168.170.137"), Port: 179, Opens: object.Dials, Family: object.IPv4,
		HoldTime: 9 * time.Second, Keepalive: 3 * time.Second, GracefulRestart: 2 * time.Minute, Up: true, UntellLoops: true}
	for _, x := range []struct {
		what   string
		change func(*api.PeerConf)
		same   bool
	}{
		{"nothing", func(*api.PeerConf) {}, true},
		{"its own AS in what it is told", func(c *api.PeerConf) { c.ReplacePeerAsn = false }, false},
		{"this host's AS in what it tells", func(c *api.PeerConf) { c.AllowOwnAsn = 0 }, false},
		{"who dials", func(c *api.PeerConf) { c.Description = "" }, false},
	} {
		p := apiPeer(want, "", false)
		x.change(p.Conf)
		have, err := peerOf(p, func(string) string { return "" })
		if err != nil {
			t.Fatal(err)
		}
		if (have == want) != x.same {
			t.Errorf("%s is changed: %s", x.what, diffText(have, want))
		}
	}
}

func diffText(have, want object.Peer) string {
	var out []string
	was := map[string]string{}
	for _, f := range have.Fields() {
		was[f.Name] = f.Value
	}
	for _, f := range want.Fields() {
		if was[f.Name] != f.Value {
			out = append(out, f.Name+" "+was[f.Name]+", want "+f.Value)
		}
	}
	return strings.Join(out, "; ")
}

// TestPoliciesTampered changes one thing at a time: each is seen, so that the policies are written anew.
func TestPoliciesTampered(t *testing.T) {
	of := map[netip.Addr]object.Peer{}
	for _, s := range []string{"192.168.170.1", "192.168.170.2"} {
		of[netip.MustParseAddr(s)] = object.Peer{Addr: netip.MustParseAddr(s), Outside: true, Self: netip.MustParseAddr("192.168.170.137"),
			Import: "10.0.0.0/8 le 24", Except: "10.0.0.0/8", Transit: "10.99.0.0/16"}
	}
	clean, err := compose(64512, of)
	if err != nil {
		t.Fatal(err)
	}
	for range 200 {
		text, _ := compose(64512, of)
		list := &text.importing
		if rand.IntN(2) == 0 {
			list = &text.exporting
		}
		i := rand.IntN(len(*list))
		s := (*list)[i]
		switch rand.IntN(4) {
		case 0:
			*list = append((*list)[:i:i], (*list)[i+1:]...)
		case 1:
			s.Actions.RouteAction = 3 - s.Actions.RouteAction
		case 2:
			s.Conditions.NextHopInList = append(s.Conditions.NextHopInList, "10.9.9.9/32")
		case 3:
			j := rand.IntN(len(*list))
			if i == j {
				continue
			}
			(*list)[i], (*list)[j] = (*list)[j], (*list)[i]
		}
		again, err := compose(64512, text.neighbours())
		if err == nil && again.String() == text.String() && text.String() != clean.String() && len(text.neighbours()) == len(of) {
			same := true
			for a, p := range text.neighbours() {
				same = same && p == of[a]
			}
			if same {
				t.Fatalf("not seen:\n%s", text.String())
			}
		}
	}
}
