package bgp

import (
	"fmt"
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"time"

	"netd/testenv/netns"
	"netd/testenv/router"
	"netd/testenv/stream"
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
	const hold = 9 * time.Second // the default of both ends
	for i, programs := range [][]router.Program{{router.BIRD, router.FRR}, {router.FRR, router.BIRD}} {
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
			for j, p := range r.routers {
				r.wait("the block at "+string(p.Program), func() string {
					return missing(r.tors[j].NS.Run(t, "ip route show 10.10.40.128/26"), "via 192.168.170.137")
				})
			}
			if out := r.node.must("plan"); !strings.Contains(out, "No changes.") {
				t.Errorf("a plan after that:\n%s", out)
			}
			if got := strings.TrimSpace(r.node.Run(t, "sysctl -n net.ipv4.fib_multipath_hash_policy")); got != "1" {
				t.Errorf("flows are spread by policy %s, want 1: ports too", got)
			}
			c := netns.Open("/run/netns/" + r.id + "-web")
			c.Run(t, "ping -q -c 3 -i 0.05 -w20 172.30.0.9")
			r.world.Run(t, "ping -q -c 3 -i 0.05 -w20 10.10.40.129")

			// One switch dies without a word, its link or all but its link: its flows are lost for the hold time at most, though it
			// may restart gracefully, and those by the other switch lose nothing, nor when it comes back.
			flows := r.flows(c)
			by := r.seenBy()
			if i == 0 {
				r.tors[0].Run(t, "ip link set eth0 down")
			} else {
				r.tors[0].Run(t, "nft add table ip dead")
				for _, hook := range []string{"input", "output", "forward"} {
					r.tors[0].Run(t, "nft add chain ip dead "+hook+" { type filter hook "+hook+" priority -10; policy drop; }")
				}
			}
			r.routers[0].Kill()
			r.wait("the route by the other switch", func() string {
				return differs(r.node.routes("172.30.0.0/24"), "172.30.0.0/24 via 192.168.170.2 dev eth0")
			})
			r.world.Run(t, "ip route replace 10.10.0.0/16 via 172.30.0.2 dev up0")
			c.Run(t, "ping -q -c 3 -i 0.05 -w20 172.30.0.9")
			if i == 0 {
				r.tors[0].Run(t, "ip link set eth0 up")
			} else {
				r.tors[0].Run(t, "nft delete table ip dead")
			}
			r.routers[0].Start()
			r.wait("both again", func() string { return differs(r.node.routes("172.30.0.0/24"), both) })
			lost, least, most := [2]int{}, time.Hour, time.Duration(0)
			for to, s := range flows {
				got := s.Stop()
				switch tor := by[to]; tor {
				case 0:
					lost[0]++
					least, most = min(least, time.Duration(got.Lost)*flowEvery), max(most, time.Duration(got.Lost)*flowEvery)
				case 1:
					lost[1]++
					if got.Lost != 0 {
						t.Errorf("the flow to %s, by the switch that lives: %s", to, got)
					}
				default:
					t.Errorf("no switch has seen the flow to %s", to)
				}
			}
			t.Logf("%d flows by the switch that died: lost for %s to %s; %d by the other", lost[0], least, most, lost[1])
			if lost[0] == 0 || lost[1] == 0 {
				t.Error("all flows went by one switch")
			}
			if most > hold+hold/9 { // and what it takes to notice and to write a route
				t.Errorf("flows were lost for %s; the hold time is %s", most, hold)
			}
		})
	}
}

// flowEvery is how often a flow of a rack sends.
const flowEvery = 5 * time.Millisecond

// flows are streams from a container to so many addresses of the world that some go by each switch.
func (r *rack) flows(from *netns.NS) map[string]*stream.Stream {
	r.t.Helper()
	for _, tor := range r.tors {
		tor.Run(r.t, "nft add table ip flows")
		tor.Run(r.t, "nft add set ip flows seen { type ipv4_addr; flags dynamic; size 65535; }")
		tor.Run(r.t, "nft add chain ip flows pass { type filter hook forward priority 0; }")
		tor.Run(r.t, "nft add rule ip flows pass iifname eth0 udp dport 9 add @seen { ip daddr }")
	}
	out := map[string]*stream.Stream{}
	for i := range 16 {
		to := netip.AddrFrom4([4]byte{172, 30, 0, byte(100 + i)})
		r.world.Run(r.t, "ip addr add "+to.String()+"/24 dev up0")
		s := stream.Start(r.t, from, web, r.world.NS, to, flowEvery)
		s.Flowing(r.t)
		out[to.String()] = s
	}
	return out
}

// seenBy is the switch that forwards each flow, by where it goes.
func (r *rack) seenBy() map[string]int {
	r.t.Helper()
	by := map[string]int{}
	for i, tor := range r.tors {
		for _, to := range regexp.MustCompile(`172\.30\.0\.1[0-9][0-9]`).FindAllString(tor.Run(r.t, "nft list set ip flows seen"), -1) {
			if _, twice := by[to]; twice {
				r.t.Fatalf("the flow to %s goes by both switches", to)
			}
			by[to] = i
		}
	}
	return by
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
