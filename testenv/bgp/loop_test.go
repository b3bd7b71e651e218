package bgp

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"netd/testenv/router"
)

// oneReflector reflects between clients and has a router of its own AS beside it.
const oneReflector = `network "lab" {
  pools = ["10.10.0.0/16"]
  mode  = "bgp"
}

node "rr" {
  address         = "192.168.170.137/24"
  blocks          = []
  route_reflector = "192.168.170.137"
}

node "one" {
  address = "192.168.170.1/24"
  blocks  = ["10.10.1.0/24"]
}

node "two" {
  address = "192.168.170.138/24"
  blocks  = ["10.10.2.0/24"]
}

peer "core" {
  address = "192.168.170.2"
  asn     = 64512
  nodes   = ["rr"]
  passive = true
}

peer "edge" {
  address = "192.168.170.3"
  asn     = 65103
  nodes   = ["rr"]
  passive = true
  export  = ["10.10.2.0/24"]
}
`

// TestReflectedNoMore has a reflector come to prefer, for a node's block, the way by a router outside, which clients are not told:
// they are told a withdrawal of the way by the node, which is gone.
func TestReflectedNoMore(t *testing.T) {
	l := newLab(t, oneReflector)
	rr, one := l.host("rr", "192.168.170.137/24"), l.host("one", "192.168.170.1/24")
	two, core := l.host("two", "192.168.170.138/24"), l.host("core", "192.168.170.2/24")
	rr.start()
	one.start()
	node, outside, far := l.rogue(two), l.socket(core, 64512, rr), l.socket(l.host("edge", "192.168.170.3/24"), 65103, rr)
	l.say(far, router.EndOfRIB())
	l.say(outside, router.EndOfRIB())
	l.say(node, router.Announce(two.addr, nil, prefixes("10.10.2.0/24")...), router.EndOfRIB())
	l.wait("one's route", func() string { return missing(one.routes("10.10.2.0/24"), "via 192.168.170.138 ") })
	l.say(outside, router.Update(nil, slices.Concat(router.Origin(), router.ASPath(65001), router.NextHop(core.addr), router.LocalPref(100)), prefixes("10.10.2.0/24")...))
	l.wait("the other way", func() string { return missing(rr.must("show", "routes", "--bgp"), "192.168.170.2") })
	l.say(node, router.Update(prefixes("10.10.2.0/24"), nil))
	l.wait("the reflector's route by the router", func() string { return missing(rr.routes("10.10.2.0/24"), "via 192.168.170.2 ") })
	l.wait("one to be told of no way", func() string { return one.routes("10.10.2.0/24") })
	// Who is told that way has nothing of what the speaker knows it by (LARGE_COMMUNITY, RFC 8092).
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := far.Until(ctx, func(got []router.Message, _ error) bool {
		return slices.ContainsFunc(got, func(m router.Message) bool {
			if bytes.Contains(m.Body, router.Attribute(router.Optional|router.Transitive, 32, make([]byte, 12)...)[:3]) {
				t.Errorf("the router of another AS was told %x", m.Body)
			}
			return bytes.Contains(m.Body, router.ASPath(64512, 65001))
		})
	}); err != nil {
		t.Error(err)
	}
	if out := rr.must("plan"); missing(out, "No changes.") != "" {
		t.Errorf("a plan after that:\n%s", out)
	}
	if out := rr.must("show", "routes", "--bgp"); strings.Contains(out, "communit") {
		t.Errorf("what the speaker knows it by is shown:\n%s", out)
	}
}
