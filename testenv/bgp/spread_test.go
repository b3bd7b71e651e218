package bgp

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"netd/testenv/netns"
	"netd/testenv/router"
)

// TestSpread is a rack with three ToR switches and many flows from a container to the world beyond: a switch that dies costs
// its own flows another way, and nobody else's, though a second one died before it; those that are left share them equally;
// and a switch that comes back takes its own flows and no others.
func TestSpread(t *testing.T) {
	peers := ""
	var sessions []session
	for i := range 3 {
		peers += fmt.Sprintf("peer \"tor-%d\" {\n  address = \"192.168.170.%d\"\n  asn     = %d\n  import  = [\"172.30.0.0/24\"]\n}\n", i+1, i+1, 65101+i)
		sessions = append(sessions, session{as: uint32(65101 + i), netdAS: 64512})
	}
	r := newRack(t, []router.Program{router.BIRD, router.FRR, router.BIRD}, peers, sessions)
	r.node.up(3)
	r.watch()
	const all = "via 192.168.170.1 dev eth0 weight 1 nexthop via 192.168.170.2 dev eth0 weight 1 nexthop via 192.168.170.3 dev eth0 weight 1"
	web := netns.Open("/run/netns/" + r.id + "-web")
	settled := func(want string) {
		t.Helper()
		r.wait("the route "+want, func() string {
			got := strings.Join(strings.Fields(r.node.routes("172.30.0.0/24")), " ")
			return differs(got, "172.30.0.0/24 "+want)
		})
	}
	settled("nexthop " + all)
	flows := openFlows(t, web, r.world.addr)
	goes := r.goes(flows)
	for _, x := range []struct {
		tor  int // that dies, or comes back
		back bool
		want string
	}{
		{tor: 2, want: "nexthop via 192.168.170.1 dev eth0 weight 2 nexthop via 192.168.170.2 dev eth0 weight 2 nexthop via 192.168.170.1 dev eth0 weight 1 nexthop via 192.168.170.2 dev eth0 weight 1"},
		{tor: 2, back: true, want: "nexthop " + all},
		{tor: 0, want: "nexthop via 192.168.170.2 dev eth0 weight 1 nexthop via 192.168.170.3 dev eth0 weight 1 nexthop via 192.168.170.2 dev eth0 weight 2 nexthop via 192.168.170.3 dev eth0 weight 2"},
		{tor: 1, want: "via 192.168.170.3 dev eth0"},
		{tor: 0, back: true, want: "nexthop via 192.168.170.1 dev eth0 weight 1 nexthop via 192.168.170.3 dev eth0 weight 1"},
	} {
		if x.back {
			r.routers[x.tor].Start()
		} else {
			r.routers[x.tor].Kill()
		}
		settled(x.want)
		after := r.goes(flows)
		parts, moved := map[int]int{}, 0
		for flow, tor := range after {
			parts[tor]++
			if before := goes[flow]; tor != before && tor != x.tor && before != x.tor {
				moved++
			}
		}
		if moved != 0 {
			t.Errorf("%+v: %d of %d flows moved that neither went by that switch nor go by it", x, moved, len(after))
		}
		t.Logf("%+v: flows by switch %v", x, parts)
		goes = after
	}
	if out := r.node.must("plan"); !strings.Contains(out, "No changes.") {
		t.Errorf("a plan after that:\n%s", out)
	}
}

// openFlows opens many flows. They stay open: the kernel that a packet was born in hashes it by its socket, by a number that
// the socket drew (sk_txhash), and a host that is on the same machine believes that hash.
func openFlows(t *testing.T, from *netns.NS, to netip.Addr) map[int]net.Conn {
	t.Helper()
	const first, count = 20000, 600
	flows := map[int]net.Conn{}
	t.Cleanup(func() {
		for _, c := range flows {
			_ = c.Close()
		}
	})
	if err := from.Do(func() error {
		for port := first; port < first+count; port++ {
			c, err := net.DialUDP("udp4", &net.UDPAddr{Port: port}, net.UDPAddrFromAddrPort(netip.AddrPortFrom(to, 9)))
			if err != nil {
				return err
			}
			flows[port] = c
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return flows
}

// watch has the switches see what flows they forward.
func (r *rack) watch() {
	r.t.Helper()
	for _, tor := range r.tors {
		tor.Run(r.t, "nft add table ip seen")
		tor.Run(r.t, "nft add set ip seen flows { type inet_service; flags dynamic; size 65535; }")
		tor.Run(r.t, "nft add chain ip seen pass { type filter hook forward priority 0; }")
		tor.Run(r.t, "nft add rule ip seen pass iifname eth0 udp dport 9 add @flows { udp sport }")
	}
}

// goes sends a packet of each flow, and is the switch that each goes by.
func (r *rack) goes(flows map[int]net.Conn) map[int]int {
	r.t.Helper()
	for _, tor := range r.tors {
		tor.Run(r.t, "nft flush set ip seen flows")
	}
	goes := map[int]int{}
	r.wait("every flow to be seen by a switch", func() string {
		for port, c := range flows {
			if _, seen := goes[port]; seen {
				continue
			}
			if _, err := c.Write([]byte("x")); err != nil && !errors.Is(err, unix.ECONNREFUSED) { // nobody listens there
				return err.Error()
			}
		}
		for i, tor := range r.tors {
			for _, port := range r.seen(tor) {
				if by, twice := goes[port]; twice && by != i {
					r.t.Fatalf("flow %d goes by switches %d and %d", port, by, i)
				}
				goes[port] = i
			}
		}
		if len(goes) < len(flows) {
			return fmt.Sprintf("%d of %d", len(goes), len(flows))
		}
		return ""
	})
	return goes
}

// seen are the source ports of the flows that a switch forwarded.
func (r *rack) seen(tor *host) (ports []int) {
	r.t.Helper()
	var out struct {
		Nftables []struct {
			Set *struct {
				Elem []int `json:"elem"`
			} `json:"set"`
		} `json:"nftables"`
	}
	if err := json.Unmarshal([]byte(tor.Run(r.t, "nft -j list set ip seen flows")), &out); err != nil {
		r.t.Fatal(err)
	}
	for _, x := range out.Nftables {
		if x.Set != nil {
			ports = append(ports, x.Set.Elem...)
		}
	}
	return ports
}
