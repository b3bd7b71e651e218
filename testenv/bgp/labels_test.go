package bgp

import (
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
