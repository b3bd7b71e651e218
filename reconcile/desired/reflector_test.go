package desired

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"netd/reconcile/object"
)

// manyClients is a network with reflectors and n clients in one subnet.
func manyClients(n int) string {
	return fmt.Sprintf(`network "lab" {
  pools = ["10.0.0.0/8"]
  mode  = "bgp"
}

node "rr1" {
  address         = "172.16.0.1/12"
  blocks          = []
  route_reflector = "172.16.0.1"
}

node "rr2" {
  address         = "172.16.0.2/12"
  blocks          = ["10.255.0.0/24"]
  route_reflector = "172.16.0.2"
}

dynamic "node" {
  for_each = { for i in range(%d) : format("n-%%04d", i) => i }
  labels   = [node.key]
  content {
    address = "${cidrhost("172.16.0.0/12", node.value + 10)}/12"
    blocks  = [cidrsubnet("10.0.0.0/9", 17, node.value)]
  }
}
`, n)
}

// TestManyClients compiles 500 clients and their two reflectors, each node by itself, as each host does: both ends of every
// session want it, one of them dials, clients have two and reflectors all, and what each end may tell is what the file gives.
func TestManyClients(t *testing.T) {
	const clients = 500
	c := parseText(t, manyClients(clients))
	sessions := map[netip.Addr]map[netip.Addr]object.Peer{}
	for _, n := range c.Nodes {
		r, err := Compile(c, n, Facts{Sessions: true, Host: object.Host{Links: []object.HostLink{{Name: "eth0", MTU: 1500, Up: true, Addrs: []netip.Prefix{n.Address}}}}})
		if err != nil {
			t.Fatal(err)
		}
		mine := map[netip.Addr]object.Peer{}
		for _, x := range r.Want.State {
			if p, ok := x.(object.Peer); ok {
				mine[p.Addr] = p
			}
		}
		sessions[n.Address.Addr()] = mine
	}
	reflector := map[netip.Addr]netip.Addr{}
	blocks := map[netip.Addr]string{}
	for _, n := range c.Nodes {
		reflector[n.Address.Addr()] = n.RouteReflector
		var list []object.PrefixRange
		for _, b := range n.Blocks {
			list = append(list, object.Exactly(b))
		}
		blocks[n.Address.Addr()] = object.PrefixRanges(list)
	}
	total := 0
	for a, mine := range sessions {
		if want := map[bool]int{false: 2, true: clients + 1}[reflector[a].IsValid()]; len(mine) != want {
			t.Fatalf("%s has %d sessions, want %d", a, len(mine), want)
		}
		for b, p := range mine {
			total++
			q, ok := sessions[b][a]
			switch {
			case !ok:
				t.Fatalf("%s wants a session with %s, which does not", a, b)
			case p.Opens == q.Opens:
				t.Fatalf("%s and %s both %s", a, b, p.Opens)
			case p.Cluster.IsValid() != (reflector[a].IsValid() && !reflector[b].IsValid()):
				t.Fatalf("%s has %s as a client of cluster %s", a, b, p.Cluster)
			case p.Cluster.IsValid() && p.Cluster != reflector[a]:
				t.Fatalf("%s reflects to %s under %s", a, b, p.Cluster)
			case p.Reflected != p.Cluster.IsValid():
				t.Fatalf("%s tells %s what others told: %v", a, b, p.Reflected)
			case !reflector[b].IsValid() && p.Import != blocks[b]:
				t.Fatalf("%s takes %s from the client %s, which has %s", a, p.Import, b, blocks[b])
			case reflector[b].IsValid():
				for o, list := range blocks {
					if strings.Contains(", "+p.Import+", ", ", "+list+", ") != (o != a) && list != "" {
						t.Fatalf("from the reflector %s, %s takes the blocks of %s: %v", b, a, o, o == a)
					}
				}
			}
		}
	}
	if want := 2 * (2*clients + 1); total != want {
		t.Errorf("%d ends of sessions, want %d", total, want)
	}
}

// TestMostOfNodes: a node may tell twice what the file has of the session's family, and 1,000; a reflector what all others have.
func TestMostOfNodes(t *testing.T) {
	most := func(text, self, peer string) uint32 {
		t.Helper()
		c := parseText(t, text)
		for _, n := range c.Nodes {
			if n.Name != self {
				continue
			}
			r, err := Compile(c, n, Facts{Sessions: true, Host: object.Host{Links: []object.HostLink{{Name: "eth0", MTU: 1500, Up: true, Addrs: []netip.Prefix{n.Address}}}}})
			if err != nil {
				t.Fatal(err)
			}
			p, _ := r.Want.State[object.PeerKey(netip.MustParseAddr(peer))].(object.Peer)
			return p.MaxPrefixes
		}
		t.Fatal("no such node")
		return 0
	}
	each := func(advertise string) string {
		return manyClients(20) + "\nbgp {\n  advertise = " + advertise + "\n}\n"
	}
	for _, x := range []struct {
		name, text, self, peer string
		want                   uint32
	}{
		{"a client", manyClients(20), "rr1", "172.16.0.10", 1000 + 2},
		{"a reflector: the other one and the other clients", manyClients(20), "n-0003", "172.16.0.1", 1000 + 2*20},
		{"a client's blocks and containers", each(`["blocks", "workloads"]`), "rr1", "172.16.0.10", 1000 + 2*(1+64)},
		{"a client's containers", each(`["workloads"]`), "rr1", "172.16.0.10", 1000 + 2*64},
		{"a reflector, one of whose blocks has more addresses than a host has containers", strings.Replace(each(`["workloads"]`), `"10.255.0.0/24"`, `"10.128.0.0/10"`, 1), "rr1", "172.16.0.2", 1000 + 2*(1<<16+20*64)},
	} {
		if got := most(x.text, x.self, x.peer); got != x.want {
			t.Errorf("%s: %d, want %d", x.name, got, x.want)
		}
	}
}
