package bgp

import (
	"fmt"
	"strings"
	"testing"

	"netd/testenv/router"
)

// labelled is two nodes, of which one has the label that both switches ask for: one listens on a port of its own, the other is
// told what the first one tells.
const labelled = `network "lab" {
  pools = ["10.10.0.0/16"]
  mode  = "bgp"
}

node "a" {
  address = "192.168.170.137/24"
  blocks  = ["10.10.1.0/24"]
  labels  = { rack = "r1", row = "north" }
}

node "b" {
  address = "192.168.170.138/24"
  blocks  = ["10.10.2.0/24"]
  labels  = { rack = "r2", row = "north" }
}

peer "first" {
  address      = "192.168.170.1"
  asn          = 65101
  match_labels = { rack = "r1", row = "north" }
  port         = 1790
  import       = ["172.30.0.0/24"]
}

peer "second" {
  address       = "192.168.170.2"
  asn           = 65102
  match_labels  = { rack = "r1" }
  export        = ["10.10.1.0/24", "172.30.0.0/24"]
  next_hop_self = NEXT
}
`

// TestLabelsPortNextHop: a peer is one of those nodes alone that have all its labels, whatever port it listens on; what another
// told is told on with this node as next hop, or with the one that it came with, and an edit of that resets nothing.
func TestLabelsPortNextHop(t *testing.T) {
	file := func(self string) string { return strings.Replace(labelled, "NEXT", self, 1) }
	l := newLab(t, file("false"))
	a, b := l.host("a", "192.168.170.137/24"), l.host("b", "192.168.170.138/24")
	first, second := l.host("first", "192.168.170.1/24"), l.host("second", "192.168.170.2/24")
	s := session{as: 65101, netdAS: 64512, id: "192.168.170.1", netd: "192.168.170.137", restart: 60, passive: true, announce: []string{"172.30.0.0/24"}}
	router.New(t, router.BIRD, first.NS, strings.Replace(s.conf(router.BIRD), "local 192.168.170.1 as", "local 192.168.170.1 port 1790 as", 1))
	s = session{as: 65102, netdAS: 64512, id: "192.168.170.2", netd: "192.168.170.137", restart: 60, passive: true}
	router.New(t, router.FRR, second.NS, s.conf(router.FRR))
	a.start()
	b.start()
	a.up(3)
	b.up(1) // a alone
	l.wait("what the first tells", func() string { return missing(a.routes("172.30.0.0/24"), "via 192.168.170.1 dev eth0") })
	if out := a.Run(t, "ss -Htn state established dport = 1790"); strings.Count(out, "192.168.170.1:1790") != 1 {
		t.Errorf("connections to port 1790:\n%s", out)
	}
	told := func(prefix, via string) {
		t.Helper()
		l.wait("what the second is told", func() string {
			return missing(second.Run(t, "ip route show "+prefix), "via "+via+" dev eth0")
		})
	}
	told("10.10.1.0/24", "192.168.170.137")
	told("172.30.0.0/24", "192.168.170.1")
	since := a.sinceOf(second.addr)
	l.write(file("true"))
	told("172.30.0.0/24", "192.168.170.137")
	told("10.10.1.0/24", "192.168.170.137")
	l.write(file("false"))
	told("172.30.0.0/24", "192.168.170.1")
	if now := a.sinceOf(second.addr); !now.Equal(since) {
		t.Errorf("the session was reset: up since %s, then %s", since, now)
	}
	l.write(strings.Replace(file("false"), `labels  = { rack = "r2"`, `labels  = { rack = "r1"`, 1)) // b may speak to them now; they do not know it
	l.wait("b's sessions", func() string {
		if n := len(b.status().Peers); n != 3 {
			return b.must("show", "peers")
		}
		return ""
	})
	if now := a.sinceOf(second.addr); !now.Equal(since) {
		t.Errorf("a label of b reset a's session: up since %s, then %s", since, now)
	}
	if out := a.must("plan"); !strings.Contains(out, "No changes.") {
		t.Errorf("the plan after that:\n%s", out)
	}
}

// TestWayThroughOwnAS has two switches of one AS be told what a router of another tells. Once the way leads through one of them,
// the other one has a withdrawal: gobgp by itself keeps what it told there, for good.
func TestWayThroughOwnAS(t *testing.T) {
	peer := func(name, address, asn, more string) string {
		return "\npeer \"" + name + "\" {\n  address = \"" + address + "\"\n  asn     = " + asn + "\n  import  = [\"172.30.0.0/24\"]\n" + more + "}\n"
	}
	export := "  export  = [\"172.30.0.0/24\"]\n"
	l := newLab(t, `network "lab" {
  pools = ["10.10.0.0/16"]
  mode  = "bgp"
}

node "a" {
  address = "192.168.170.137/24"
  blocks  = ["10.10.1.0/24"]
}
`+peer("first", "192.168.170.1", "65101", "")+peer("second", "192.168.170.2", "65102", export)+peer("third", "192.168.170.3", "65102", export))
	a := l.host("a", "192.168.170.137/24")
	hosts, routers := map[string]*host{}, map[string]*router.Router{}
	for i, name := range []string{"first", "second", "third"} {
		id := fmt.Sprintf("192.168.170.%d", i+1)
		hosts[name] = l.host(name, id+"/24")
		s := session{as: map[bool]uint32{true: 65101, false: 65102}[i == 0], netdAS: 64512, id: id, netd: "192.168.170.137", restart: 60, passive: true}
		if i < 2 {
			s.announce = []string{"172.30.0.0/24"}
		}
		routers[name] = router.New(t, router.BIRD, hosts[name].NS, s.conf(router.BIRD))
	}
	routers["second"].Ask("disable", "own")
	a.start()
	a.up(3)
	learned := func(name string) string { return hosts[name].Run(t, "ip -d route show 172.30.0.0/24 proto bird") }
	told := func(name string) {
		t.Helper()
		l.wait("what "+name+" is told", func() string { return missing(learned(name), "via 192.168.170.137 ") })
	}
	told("second")
	told("third")
	routers["second"].Ask("enable", "own")
	routers["first"].Ask("disable", "own")
	l.wait("the way by second", func() string { return missing(a.routes("172.30.0.0/24"), "via 192.168.170.2 ") })
	l.wait("third to be told of no way", func() string { return learned("third") })
	routers["first"].Ask("enable", "own")
	routers["second"].Ask("disable", "own")
	told("second")
	told("third")
	routers["first"].Ask("disable", "own")
	for name := range hosts {
		l.wait(name+" to be told of no way", func() string { return learned(name) })
	}
	if out := a.must("plan"); !strings.Contains(out, "No changes.") {
		t.Errorf("the plan after that:\n%s", out)
	}
}
