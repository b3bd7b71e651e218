package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"netd/testenv/netns"
)

// newUnderlay is hosts of these names, each with a container "c-<name>", and no wire yet: the test lays those.
func newUnderlay(t *testing.T, file string, names ...string) *twoHosts {
	netns.Need(t)
	l := &twoHosts{t: t, file: filepath.Join(t.TempDir(), "netd.hcl")}
	l.write(file)
	for _, name := range names {
		l.hosts = append(l.hosts, &labHost{NS: netns.New(t, name), lab: l, container: netns.New(t, "c-"+name), dir: t.TempDir()})
	}
	return l
}

func (l *twoHosts) write(file string) {
	l.t.Helper()
	if err := os.WriteFile(l.file, []byte(file), 0o644); err != nil {
		l.t.Fatal(err)
	}
}

// wire makes a wire between links in namespaces, "NAMESPACE LINK ADDRESS…" each.
func (l *twoHosts) wire(ends ...string) {
	l.t.Helper()
	bridge := fmt.Sprintf("bridge%d", wires)
	wires++
	netns.Run(l.t, "ip link add "+bridge+" type bridge")
	l.t.Cleanup(func() { netns.Run(l.t, "ip link del "+bridge) })
	netns.Run(l.t, "ip link set "+bridge+" mtu 9000 up")
	for _, end := range ends {
		f := strings.Fields(end)
		port := fmt.Sprintf("wire%d", wires)
		wires++
		netns.Run(l.t, fmt.Sprintf("ip link add %s mtu 9000 type veth peer name %s netns %s", port, f[1], f[0]))
		netns.Run(l.t, fmt.Sprintf("ip link set %s master %s up", port, bridge))
		ns := netns.Open("/run/netns/" + f[0])
		for _, a := range f[2:] {
			ns.Run(l.t, "ip addr add "+a+" dev "+f[1]+" nodad")
		}
		ns.Run(l.t, "ip link set "+f[1]+" mtu 1500 up")
	}
}

func (l *twoHosts) apply() {
	l.t.Helper()
	for _, h := range l.hosts {
		h.must(0, "apply", "-y")
		if out := h.must(0, "plan"); !strings.Contains(out, "No changes.") {
			l.t.Errorf("%s: the plan after apply:\n%s", h.Name, out)
		}
	}
}

// destroyed leaves nothing of netd at the test's end, and looks.
func (l *twoHosts) destroyed() {
	l.t.Cleanup(func() {
		for _, h := range l.hosts {
			h.must(0, "destroy", "-y")
			for _, command := range []string{"ip route show proto 142", "ip -6 route show proto 142", "nft list tables", "ip -o link show group 142"} {
				if out := h.Run(l.t, command); out != "" {
					l.t.Errorf("%s: after destroy, %s:\n%s", h.Name, command, out)
				}
			}
		}
	})
}

// has fails the test unless a command on the host prints a line with the text.
func (h *labHost) has(command, text string) {
	h.lab.t.Helper()
	if out := strings.ReplaceAll(h.Run(h.lab.t, command), "proto netd", "proto 142"); !strings.Contains(out, text) {
		h.lab.t.Errorf("%s: %s: want %q in:\n%s", h.Name, command, text, out)
	}
}

// pings has a namespace reach an address, with packets of that many bytes that must not be fragmented.
func (l *twoHosts) pings(from *netns.NS, to string, size int) {
	l.t.Helper()
	header := 28
	if strings.Contains(to, ":") {
		header = 48
	}
	// Until two are answered: an address that is not yet its own, or a neighbour not yet known, costs the first ones.
	if out, err := from.Output("ping", "-c2", "-i0.05", "-w20", "-Mdo", "-s"+strconv.Itoa(size-header), to); err != nil {
		l.t.Errorf("%v\n%s", err, out)
	}
}

// received is how many packets a link has received.
func (h *labHost) received(dev string) int {
	h.lab.t.Helper()
	_, rx, _ := strings.Cut(h.Run(h.lab.t, "ip -s link show dev "+dev), "RX:")
	f := strings.Fields(strings.Split(rx, "\n")[1])
	n, err := strconv.Atoi(f[1])
	if err != nil {
		h.lab.t.Fatal(err)
	}
	return n
}

const threeSites = `network "lab" {
  pools       = ["10.10.0.0/16"]
  mode        = "%s"
  encapsulate = "%s"
}
node "a" {
  address = "192.168.1.1/24"
  blocks  = ["10.10.1.0/24"]
}
node "b" {
  address = "192.168.1.2/24"
  blocks  = ["10.10.2.0/24"]
}
node "c" {
  address = "192.168.2.1/24"
  blocks  = ["10.10.3.0/24"]
}
workload "c-a" {
  node    = "a"
  address = "10.10.1.10"
  netns   = "/run/netns/c-a"
}
workload "c-b" {
  node    = "b"
  address = "10.10.2.10"
  netns   = "/run/netns/c-b"
}
workload "c-c" {
  node    = "c"
  address = "10.10.3.10"
  netns   = "/run/netns/c-c"
}
`

// newSites is hosts a and b in one subnet, c in another, and two routers between, which know no container:
//
//	a, b ── lan1 near mid ── mid far lan2 ── c
func newSites(t *testing.T, file string) (l *twoHosts, near, far *netns.NS) {
	l = newUnderlay(t, file, "a", "b", "c")
	near, far = netns.New(t, "near"), netns.New(t, "far")
	l.wire("a eth0 192.168.1.1/24 2001:db8:1::1/64", "b eth0 192.168.1.2/24 2001:db8:1::2/64", "near lan1 192.168.1.254/24 2001:db8:1::fe/64")
	l.wire("near mid 172.16.0.1/24 2001:db8:ffff::1/64", "far mid 172.16.0.2/24 2001:db8:ffff::2/64")
	l.wire("c eth0 192.168.2.1/24 2001:db8:2::1/64", "far lan2 192.168.2.254/24 2001:db8:2::fe/64")
	for i, r := range []*netns.NS{near, far} {
		r.Run(t, "sysctl -q -w net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1")
		r.Run(t, fmt.Sprintf("ip route add 192.168.%d.0/24 via 172.16.0.%d", 2-i, 2-i))
		r.Run(t, fmt.Sprintf("ip route add 2001:db8:%d::/64 via 2001:db8:ffff::%d", 2-i, 2-i))
	}
	for i, h := range l.hosts {
		h.Run(t, fmt.Sprintf("ip route add default via 192.168.%d.254", 1+i/2))
		h.Run(t, fmt.Sprintf("ip route add default via 2001:db8:%d::fe", 1+i/2))
		h.Run(t, "sysctl -q -w net.ipv4.conf.all.rp_filter=1 net.ipv4.conf.eth0.rp_filter=1")
	}
	return l, near, far
}

// TestCrossSubnet has three hosts in two subnets: what shares one is routed, the rest wrapped, and each host takes bare
// packets from the blocks only that send them.
func TestCrossSubnet(t *testing.T) {
	for _, x := range []struct{ mode, dev, via string }{
		{"vxlan", "vxlan.netd", "via 10.10.3.0 dev vxlan.netd"},
		{"ipip", "tunl0", "via 192.168.2.1 dev tunl0"},
	} {
		t.Run(x.mode, func(t *testing.T) {
			if x.mode == "ipip" {
				needIPIP(t)
			}
			l, near, _ := newSites(t, fmt.Sprintf(threeSites, x.mode, "cross-subnet"))
			l.destroyed()
			l.apply()
			a, b, c := l.hosts[0], l.hosts[1], l.hosts[2]
			a.has("ip route", "10.10.2.0/24 via 192.168.1.2 dev eth0 proto 142")
			a.has("ip route", "10.10.3.0/24 "+x.via+" proto 142 onlink")
			c.has("ip route", "10.10.1.0/24 via "+map[string]string{"vxlan": "10.10.1.0", "ipip": "192.168.1.1"}[x.mode]+" dev "+x.dev)

			l.pings(a.container, "10.10.2.10", 1400)
			if n := b.received(x.dev); n != 0 {
				t.Errorf("%d packets of the own subnet came through the tunnel", n)
			}
			mtu := map[string]int{"vxlan": 1450, "ipip": 1480}[x.mode]
			for _, from := range []*netns.NS{a.container, b.container, c.container, a.NS, b.NS, c.NS} {
				for _, to := range []string{"10.10.1.10", "10.10.2.10", "10.10.3.10"} {
					l.pings(from, to, mtu)
				}
			}
			if n := b.received(x.dev); n == 0 {
				t.Error("no packet of the other subnet came through the tunnel")
			}
			if _, err := a.container.Output("ping", "-c1", "-W1", "192.168.2.254"); err != nil {
				t.Errorf("the world, masqueraded: %v", err)
			}

			// A bare packet from the other subnet's block is forged: its own go through the tunnel. Each counts at a.
			before := a.dropped("spoof")
			for source, forged := range map[string]bool{"10.10.3.10": true, "10.10.1.10": true, "10.10.2.10": false} {
				echo := packet(source, "10.10.1.10", 1, []byte{8, 0, 0xf7, 0xff, 0, 0, 0, 0})
				if err := near.Do(func() error { return bareTo(echo, "lan1", a, "eth0") }); err != nil {
					t.Fatal(err)
				}
				if forged {
					before++
				}
			}
			l.wait("the forged packets to be counted", func() string {
				if n := a.dropped("spoof"); n != before {
					return fmt.Sprintf("%d dropped, want %d", n, before)
				}
				return ""
			})

			// Always: everything goes through the tunnel, and bare packets are nobody's.
			l.write(fmt.Sprintf(threeSites, x.mode, "always"))
			l.apply()
			seen := b.received(x.dev)
			l.pings(a.container, "10.10.2.10", mtu)
			if n := b.received(x.dev); n == seen {
				t.Error("with always, no packet of the own subnet came through the tunnel")
			}
		})
	}
}
