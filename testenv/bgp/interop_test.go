package bgp

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"netd/testenv/router"
)

// TestInterop has a node speak to routers of one program in every way that a peer block knows: in another AS and in its own,
// signed, with GTSM, dialled and dialling, beyond a hop. Each tells a prefix, and is told the node's block.
func TestInterop(t *testing.T) {
	for _, program := range []router.Program{router.BIRD, router.FRR} {
		t.Run(string(program), func(t *testing.T) { interop(t, program) })
	}
}

func interop(t *testing.T, program router.Program) {
	cases := []struct {
		name     string
		session  session
		block    string // of the peer, in the file
		far      bool   // the router speaks from an address behind its own
		from     string
		loopback string
	}{
		{name: "other", session: session{as: 65101, restart: 60}},
		{name: "signed", session: session{as: 65102, restart: 60, password: "s3cret", ttlSecurity: true}, block: "password_file = \"SECRET\"\n  ttl_security = true"},
		{name: "dials", session: session{as: 65103, restart: 60}, block: "passive = true"},
		{name: "waits", session: session{as: 65104, restart: 60, passive: true}},
		{name: "own", session: session{as: 64512, restart: 60}},
		{name: "own-signed", session: session{as: 64512, restart: 60, password: "s3cret"}, block: "password_file = \"SECRET\""},
		{name: "beyond", session: session{as: 65107, restart: 60}, block: "multihop = 2", far: true},
	}
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("s3cret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var peers strings.Builder
	for i := range cases {
		c := &cases[i]
		c.from = fmt.Sprintf("192.168.170.%d", 11+i)
		c.session.id, c.session.netd, c.session.netdAS = c.from, "192.168.170.137", 64512
		if c.far {
			c.session.id = "10.255.0.1"
		}
		c.session.announce = []string{fmt.Sprintf("172.30.%d.0/24", i)}
		fmt.Fprintf(&peers, "peer %q {\n  address = %q\n  asn = %d\n  import = [\"172.30.0.0/16 le 24\"]\n  %s\n}\n", c.name, c.session.id, c.session.as, strings.ReplaceAll(c.block, "SECRET", secret))
	}
	l := newLab(t, fmt.Sprintf(rackFile, peers.String()))
	l.container("web")
	node := l.host("node", "192.168.170.137/24")
	node.Run(t, "ip route add 10.255.0.1 via 192.168.170.17")
	hosts, routers := make([]*host, len(cases)), make([]*router.Router, len(cases))
	for i, c := range cases {
		hosts[i] = l.host(c.name, c.from+"/24")
		conf := c.session.conf(program)
		if c.far {
			hosts[i].Run(t, "ip addr add 10.255.0.1/32 dev lo")
			if program == router.BIRD {
				conf = strings.Replace(conf, "direct;", "multihop 2;", 1) + "protocol direct { ipv4; }\n"
			} else {
				conf = strings.Replace(conf, "\n address-family", "\n neighbor 192.168.170.137 ebgp-multihop 2\n neighbor 192.168.170.137 update-source 10.255.0.1\n address-family", 1)
			}
		}
		routers[i] = router.New(t, program, hosts[i].NS, conf)
	}
	node.start()
	node.up(len(cases))
	for i, c := range cases {
		l.wait("what "+c.name+" tells", func() string {
			return differs(node.routes(c.session.announce[0]), fmt.Sprintf("%s via %s dev eth0", c.session.announce[0], c.from))
		})
		l.wait("the block at "+c.name, func() string {
			return missing(hosts[i].Run(t, "ip route show 10.10.40.128/26"), "via 192.168.170.137 dev eth0")
		})
		for j, other := range cases {
			if out := hosts[i].Run(t, "ip route show "+other.session.announce[0]); i != j && strings.Contains(out, "192.168.170.137") {
				t.Errorf("%s was told what %s told: %s", c.name, other.name, out)
			}
		}
	}
	if out := node.must("plan"); !strings.Contains(out, "No changes.") {
		t.Errorf("the plan after that:\n%s", out)
	}
	// Of routes, plans name whom they came from.
	node.Run(t, "ip route del 172.30.1.0/24")
	l.wait("the route repaired", func() string {
		return differs(node.routes("172.30.1.0/24"), "172.30.1.0/24 via 192.168.170.12 dev eth0")
	})
	if out := node.must("show", "routes"); !strings.Contains(out, "peer signed") {
		t.Errorf("show routes does not name the peer:\n%s", out)
	}
	// One is shut down by hand. That it was is not hidden by what comes of it, and it is told nothing until it is back.
	if program == router.BIRD {
		routers[0].Ask(`disable netd "new cables"`)
	} else {
		routers[0].Ask("configure terminal", "router bgp 65101", "neighbor 192.168.170.137 shutdown message new cables")
	}
	l.wait("words", func() string {
		return missing(node.degraded("status"), "; before that: it closed the session: administrative shutdown (6/2): \"new cables\"")
	})
	if out := node.must("show", "routes", "--bgp"); missing(out, "told to beyond, dials, own, own-signed, signed, waits") != "" {
		t.Errorf("the table while other is down:\n%s", out)
	}
	if program == router.BIRD {
		routers[0].Ask("enable netd")
	} else {
		routers[0].Ask("configure terminal", "router bgp 65101", "no neighbor 192.168.170.137 shutdown")
	}
	node.up(len(cases))
}

// TestNodesOfTwoAS is two nodes on one link with numbers of their own: the mesh is eBGP.
func TestNodesOfTwoAS(t *testing.T) {
	l := newLab(t, `
network "lab" {
  pools        = ["10.10.0.0/16"]
  mode         = "bgp"
  nat_outgoing = false
}
bgp {
  advertise = ["blocks", "workloads"]
}
node "a" {
  address = "192.168.170.137/24"
  blocks  = ["10.10.40.128/26"]
  asn     = 64601
}
node "b" {
  address = "192.168.170.138/24"
  blocks  = ["10.10.194.128/26"]
  asn     = 64602
}
workload "one" {
  node    = "a"
  address = "10.10.40.129"
  netns   = "/run/netns/LAB-one"
}
workload "two" {
  node    = "b"
  address = "10.10.194.129"
  netns   = "/run/netns/LAB-two"
}
`)
	one := l.container("one")
	a, b := l.host("a", "192.168.170.137/24"), l.host("b", "192.168.170.138/24")
	a.start()
	b.start()
	a.up(1)
	b.up(1)
	l.wait("b's block", func() string {
		return differs(a.routes("10.10.194.128/26"), "10.10.194.128/26 via 192.168.170.138 dev eth0")
	})
	if got := a.routes("10.10.194.129"); got != "" {
		t.Errorf("before the container runs, its address is announced: %s", got)
	}
	two := l.container("two")
	l.wait("b's container", func() string { return differs(a.routes("10.10.194.129"), "10.10.194.129 via 192.168.170.138 dev eth0") })
	one.Run(t, "ping -q -c 2 -i 0.05 -w20 10.10.194.129")
	two.Run(t, "ping -q -c 2 -i 0.05 -w20 10.10.40.129")
	if out := a.must("plan"); !strings.Contains(out, "No changes.") {
		t.Errorf("the plan after that:\n%s", out)
	}
}
