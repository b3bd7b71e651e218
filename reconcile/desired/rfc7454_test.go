package desired_test

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"netd/reconcile/desired"
	"netd/reconcile/object"
)

// TestRFC7454 goes through RFC 7454, "BGP Operations and Security", section by section: what each recommendation means here,
// and that it is so where the file says nothing but who the neighbours are.
func TestRFC7454(t *testing.T) {
	c, n, f := policy(t, `
bgp {
  password_file = "/etc/netd/mesh.secret"
}
peer "tor" {
  address = "192.168.170.1"
  asn     = 65101
}
peer "trusted" {
  address       = "192.168.170.2"
  asn           = 65102
  ttl_security  = true
  import        = ["0.0.0.0/0 le 24", "::/0 le 48"]
  default_route = true
  max_prefixes  = 50
}
`)
	f.Passwords = map[string]string{"/etc/netd/mesh.secret": "0badf00d"}
	r, err := desired.Compile(c, n, f)
	if err != nil {
		t.Fatal(err)
	}
	session := func(addr string) object.Peer {
		p, ok := r.Want.State[object.PeerKey(netip.MustParseAddr(addr))].(object.Peer)
		if !ok {
			t.Fatalf("no session with %s", addr)
		}
		return p
	}
	tor, trusted, there, far := session("192.168.170.1"), session("192.168.170.2"), session("192.168.170.138"), session("192.168.171.139")
	refusal := desired.Judge(c, n, f)
	refused := func(from object.Peer, prefix string) bool {
		return refusal(told(c, n, from.Addr.String(), prefix, from.Addr.String())).Why != ""
	}
	chain := func(name string) string {
		for k, r := range r.Want.State {
			if ch, ok := r.(object.NftChain); ok && strings.HasSuffix(k.Name, name) {
				return ch.Rules
			}
		}
		return ""
	}
	has := func(set, elem string) bool {
		s := object.NftSet{Table: object.NftTable{Family: "inet", Name: "netd"}, Name: set}
		_, ok := r.Want.State[object.NftElem{Set: s, Elem: elem}.Key()]
		return ok
	}
	holds := func(what bool, section, meaning string) {
		t.Helper()
		if !what {
			t.Errorf("%s: not so: %s", section, meaning)
		}
	}

	holds(strings.Contains(chain("bgp-input"), "tcp dport 179 ip saddr != @bgp-peers counter drop") && strings.Contains(chain("bgp-input"), "ip6"),
		"§4", "the BGP port takes packets from configured neighbours alone, in both families, in the kernel before the speaker")
	holds(has("bgp-peers", "192.168.170.1") && has("bgp-peers", "192.168.170.138") && !has("bgp-peers", "192.168.170.99"),
		"§4", "the neighbours are those of the file")
	holds(chain("bgp-forward") != "", "§4", "nothing that this host forwards reaches a node's BGP port, so that no container speaks BGP as its node")

	holds(there.Password != "" && far.Password != "", "§5.1", "sessions between nodes are signed (TCP MD5) with one line of the file; a router's by its own")
	holds(tor.Password == "", "§5.1", "a router's password is its own: the nodes' is not given to it")
	holds(there.TTLSecurity && !far.TTLSecurity && trusted.TTLSecurity && !tor.TTLSecurity,
		"§5.2", "GTSM (RFC 5082) is on between nodes on one link, and at a router where the file says that it sends 255")
	holds(tor.Multihop == 0, "§5.2", "a session with another AS does not cross a router unless multihop says so")

	for _, p := range []string{"0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "192.0.2.0/24", "198.18.0.0/16", "224.0.0.0/8", "240.0.0.0/8"} {
		holds(refused(trusted, p), "§6.1.1", "special-purpose addresses are refused unless an entry of the list is about them: "+p)
	}
	holds(!refused(trusted, "172.16.0.0/16"), "§6.1.1", "private addresses are what a site is made of")
	refused6 := func(prefix string) bool {
		return refusal(told(c, n, trusted.Addr.String(), prefix, "2001:db8:170::1")).Why != ""
	}
	for _, p := range []string{"::/8", "64:ff9b:1::/48", "2001:db8:9::/48", "fe80::/16", "ff00::/8"} {
		holds(refused6(p), "§6.1.1.2", "of IPv6 too: "+p)
	}
	holds(!refused6("2a02:1234::/32") && !refused6("fd77::/48"), "§6.1.1.2", "global and unique local addresses are taken where the list has them")
	holds(!refused6("::/0"), "§6.1.6", "a default route of IPv6 likewise")
	holds(tor.Import == "" && refused(tor, "8.8.8.0/24"), "§6.1.2", "unallocated prefixes need no list: nothing is taken that import does not list (RFC 8212)")
	holds(refused(trusted, "8.8.8.0/25"), "§6.1.3", "what is too specific is what the list's le says")
	for _, p := range []string{"10.10.40.128/26", "10.10.40.129/32", "10.10.0.0/16", "10.0.0.0/8", "10.20.1.0/24", "10.20.2.0/24"} {
		holds(refused(trusted, p), "§6.1.4", "own prefixes come from nobody else, nor what covers the pools that they are of: "+p)
	}
	holds(refused(trusted, "192.168.170.0/24") && refused(tor, "192.168.170.0/25"), "§6.1.5", "the subnet that the neighbours are on, and parts of it, come from none of them")
	holds(!refused(trusted, "0.0.0.0/0") && refused(tor, "0.0.0.0/0") && refused(there, "0.0.0.0/0"),
		"§6.1.6", "a default route is taken where default_route says so, and from no node")
	holds(tor.Import == "" && tor.Transit == "" && trusted.Transit == "", "§6.2", "without lists nothing is taken, and own blocks alone are told: no transit")
	for k, r := range r.Want.State {
		if p, ok := r.(object.Path); ok {
			holds(p.To != "" && (!strings.Contains(p.To, object.ToNodes) || k.Name != "10.20.1.0/24"), "§6.2", "nodes are told only what is routed by BGP: "+k.Name)
		}
	}
	holds(r.Want.State[object.BGPKey].(object.BGP).Refuse, "§6.2", "what no list names is refused both ways, and that is repaired")
	holds(refused(there, "10.10.7.0/24") && refused(there, "10.10.40.128/26") && refused(there, "10.10.194.128/27"),
		"§6.2", "a node tells its own blocks: no other's, not this node's, nothing more specific")

	holds(there.HoldTime == 9*time.Second && there.GracefulRestart == 2*time.Minute,
		"§7", "flap damping is not used (RIPE-580 calls it harmful with old values): a short hold time, and graceful restart for what comes back")

	holds(tor.MaxPrefixes == 1000 && trusted.MaxPrefixes == 50, "§8", "a router that tells more prefixes than max_prefixes, in either family, loses its session")
	holds(there.MaxPrefixes == 1000+2, "§8", "a node that tells more than twice what the file has, and 1,000, loses its session")

	holds(trusted.FirstAS == 65102 && tor.FirstAS == 0 && tor.Import == "", "§9", "a path from another AS begins with that AS; own AS in a path is a loop, which the speaker refuses")
	forged := told(c, n, "192.168.170.2", "172.16.0.0/16", "192.168.170.2")
	forged.FirstAS = 65103
	holds(refusal(forged).Why != "", "§9", "and is looked at again before the kernel, whatever the speaker took")
	holds(there.FirstAS == 0 && !there.Outside, "§9", "within an AS paths of nodes are empty")

	hop := func(from object.Peer, prefix, via string) bool {
		return refusal(told(c, n, from.Addr.String(), prefix, via)).Why == ""
	}
	holds(hop(trusted, "172.16.0.0/16", "192.168.170.2") && !hop(trusted, "172.16.0.0/16", "192.168.170.3") && !hop(trusted, "172.16.0.0/16", "192.168.170.137"),
		"§10", "the next hop is the neighbour, or the node whose block it is: no third host, not this one")
	holds(trusted.NextHops == "" || trusted.NextHops == "192.168.170.2", "§10", "the speaker filters by it too where one next hop is right")

	holds(tor.Communities == "", "§11", "what a neighbour asks by communities is less than it may: to be left (RFC 8326, TestDrain), not to be told on (RFC 1997, TestCommunities); none has to be scrubbed")
	holds(trusted.LocalPref == "100", "§11", "nor does a preference that another AS sends (RFC 4271 §5.1.5)")
}
