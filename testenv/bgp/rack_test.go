package bgp

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"netd/testenv/netns"
	"netd/testenv/router"
)

// rack is a host with a container below ToR switches, which all lead to a world beyond: 172.30.0.0/24, where 172.30.0.9
// answers.
type rack struct {
	*lab
	node, world *host
	tors        []*host
	routers     []*router.Router
	sessions    []session
}

const rackFile = `
network "lab" {
  pools        = ["10.10.0.0/16"]
  mode         = "bgp"
  nat_outgoing = false
}
node "node" {
  address = "192.168.170.137/24"
  blocks  = ["10.10.40.128/26"]
}
%s
workload "web" {
  node    = "node"
  address = "10.10.40.129"
  netns   = "/run/netns/LAB-web"
}
`

// newRack has switches of several programs, with the peer blocks of the file that is given.
func newRack(t *testing.T, programs []router.Program, peers string, sessions []session) *rack {
	r := &rack{lab: newLab(t, fmt.Sprintf(rackFile, peers)), sessions: sessions}
	r.container("web")
	r.node = r.host("node", "192.168.170.137/24")
	beyond := "beyond" + r.id
	netns.Run(t, "ip link add "+beyond+" type bridge")
	t.Cleanup(func() { netns.Run(t, "ip link del "+beyond) })
	netns.Run(t, "ip link set "+beyond+" up")
	back := ""
	for i := range programs {
		name := fmt.Sprintf("tor%d", i+1)
		tor := r.host(name, fmt.Sprintf("192.168.170.%d/24", i+1))
		r.tors = append(r.tors, tor)
		r.attach(tor.NS, beyond, name, fmt.Sprintf("172.30.0.%d/24", i+1))
		back += fmt.Sprintf(" nexthop via 172.30.0.%d dev up0", i+1)
		tor.Run(t, "sysctl -q -w net.ipv4.ip_forward=1 net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.eth0.rp_filter=0 net.ipv4.conf.up0.rp_filter=0")
	}
	r.world = &host{NS: netns.New(t, r.id+"-world"), lab: r.lab, addr: netip.MustParseAddr("172.30.0.9")}
	r.attach(r.world.NS, beyond, "world", "172.30.0.9/24")
	r.world.Run(t, "ip route add 10.10.0.0/16"+back)
	for i, p := range programs {
		s := &r.sessions[i]
		s.id, s.netd = r.tors[i].addr.String(), r.node.addr.String()
		s.announce = append(s.announce, "172.30.0.0/24")
		r.routers = append(r.routers, router.New(t, p, r.tors[i].NS, s.conf(p)))
	}
	r.node.start()
	return r
}

// attach puts a namespace on another bridge, by a link up0.
func (l *lab) attach(ns *netns.NS, bridge, name, address string) {
	l.t.Helper()
	port := l.id + "+" + name
	netns.Run(l.t, fmt.Sprintf("ip link add %s type veth peer name up0 netns %s", port, ns.Name))
	netns.Run(l.t, fmt.Sprintf("ip link set %s master %s up", port, bridge))
	ns.Run(l.t, "ip addr add "+address+" dev up0")
	ns.Run(l.t, "ip link set up0 up")
}

// TestRack is a rack with two ToR switches, of other programs and in other AS: what both announce is one route with two next
// hops, containers are reached by both, and with one switch gone by the other.
func TestRack(t *testing.T) {
	for _, programs := range [][]router.Program{{router.BIRD, router.FRR}, {router.FRR, router.BIRD}} {
		t.Run(string(programs[0])+"+"+string(programs[1]), func(t *testing.T) {
			r := newRack(t, programs, `
peer "tor-a" {
  address = "192.168.170.1"
  asn     = 65101
  import  = ["172.30.0.0/24"]
}
peer "tor-b" {
  address = "192.168.170.2"
  asn     = 65102
  import  = ["172.30.0.0/24"]
}`, []session{{as: 65101, netdAS: 64512, restart: 60}, {as: 65102, netdAS: 64512, restart: 60}})
			r.node.up(2)
			both := "172.30.0.0/24 \n\tnexthop via 192.168.170.1 dev eth0 weight 1 \n\tnexthop via 192.168.170.2 dev eth0 weight 1"
			r.wait("a route with two next hops", func() string { return differs(r.node.routes("172.30.0.0/24"), both) })
			for i, p := range r.routers {
				r.wait("the block at "+string(p.Program), func() string {
					return missing(r.tors[i].NS.Run(t, "ip route show 10.10.40.128/26"), "via 192.168.170.137")
				})
			}
			if out := r.node.must("plan"); !strings.Contains(out, "No changes.") {
				t.Errorf("a plan after that:\n%s", out)
			}
			if got := strings.TrimSpace(r.node.Run(t, "sysctl -n net.ipv4.fib_multipath_hash_policy")); got != "1" {
				t.Errorf("flows are spread by policy %s, want 1: ports too", got)
			}
			web := netns.Open("/run/netns/" + r.id + "-web")
			web.Run(t, "ping -q -c 3 -i 0.05 -w20 172.30.0.9")
			r.world.Run(t, "ping -q -c 3 -i 0.05 -w20 10.10.40.129")

			// One switch dies without a word; the other carries everything after the hold time.
			r.tors[0].Run(t, "ip link set eth0 down")
			r.routers[0].Kill()
			r.wait("the route by the other switch", func() string {
				return differs(r.node.routes("172.30.0.0/24"), "172.30.0.0/24 via 192.168.170.2 dev eth0")
			})
			r.world.Run(t, "ip route replace 10.10.0.0/16 via 172.30.0.2 dev up0")
			web.Run(t, "ping -q -c 3 -i 0.05 -w20 172.30.0.9")
			r.tors[0].Run(t, "ip link set eth0 up")
			r.routers[0].Start()
			r.wait("both again", func() string { return differs(r.node.routes("172.30.0.0/24"), both) })
		})
	}
}

// differs is what is wrong where a text is not as wanted, blanks at the ends of lines aside.
func differs(got, want string) string {
	clean := func(s string) string {
		lines := strings.Split(strings.TrimSpace(s), "\n")
		for i := range lines {
			lines[i] = strings.TrimSpace(lines[i])
		}
		return strings.Join(lines, "\n")
	}
	if clean(got) == clean(want) {
		return ""
	}
	return fmt.Sprintf("got\n%s\nwant\n%s", got, want)
}
