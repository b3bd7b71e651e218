package bgp

import (
	"slices"
	"strings"
	"testing"

	"netd/testenv/router"
)

// TestPreference has a router of another AS tell a preference of its own with a prefix, which is for this AS alone to give: the
// shorter path of another router is taken all the same, and where the file prefers the first, that one.
func TestPreference(t *testing.T) {
	file := strings.NewReplacer(`["10.64.0.0/10 le 24", "172.24.0.0/16 le 24"]`, `["172.28.0.0/14 le 24"]`).Replace(flapping)
	l := newLab(t, file)
	node, a, b := l.host("node", "192.168.170.137/24"), l.host("steady", "192.168.170.1/24"), l.host("flapper", "192.168.170.2/24")
	node.start()
	steady, flapper := l.socket(a, 65101, node), l.socket(b, 65102, node)
	via := func(hop string) {
		t.Helper()
		l.wait("the route by "+hop, func() string { return missing(node.routes("172.28.0.0/24"), "via "+hop+" ") })
	}
	l.say(steady, router.Update(nil, slices.Concat(router.Origin(), router.ASPath(65101, 65101), router.NextHop(a.addr), router.LocalPref(1000)), prefixes("172.28.0.0/24")...), router.EndOfRIB())
	via("192.168.170.1")
	l.say(flapper, router.Update(nil, slices.Concat(router.Origin(), router.ASPath(65102), router.NextHop(b.addr)), prefixes("172.28.0.0/24")...), router.EndOfRIB())
	via("192.168.170.2")
	l.write(strings.Replace(file, "  asn          = 65101\n", "  asn          = 65101\n  local_pref   = 101\n", 1))
	via("192.168.170.1")
}
