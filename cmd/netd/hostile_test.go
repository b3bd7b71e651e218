package main

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"netd/testenv/netns"
)

// attack is something that must not get through: it is dropped where it is said, counted there, and no victim sees it.
type attack struct {
	what   string
	send   func() error
	at     *labHost
	chains []string // one of these counts it
}

// TestHostile has containers, users and strangers send what must not get through, in each mode. The far container listens
// to all of it.
func TestHostile(t *testing.T) {
	for _, mode := range []string{"vxlan", "bgp", "ipip"} {
		t.Run(mode, func(t *testing.T) {
			if mode == "ipip" {
				needIPIP(t)
			}
			l := newLab(t, mode)
			for _, h := range l.hosts {
				if mode == "bgp" {
					h.start()
					continue
				}
				h.must(0, "apply", "-y")
				t.Cleanup(func() { h.must(0, "destroy", "-y") })
			}
			l.reach()
			l.hosts[0].noNeighboursFromContainers(t)
			victim := listen(t, l.hosts[1].container)
			attacks := append(l.forgedSources(mode), l.fromOtherLinks(t)...)
			switch mode {
			case "vxlan":
				attacks = append(attacks, l.intoVXLAN(t)...)
			case "ipip":
				attacks = append(attacks, l.intoIPIP()...)
			case "bgp":
				attacks = append(attacks, l.intoBGP()...)
			}
			for _, x := range attacks {
				t.Run(x.what, func(t *testing.T) {
					l.t = t
					before := x.count()
					if err := x.send(); err != nil {
						t.Fatal(err)
					}
					l.wait("the drop to be counted", func() string {
						if x.count() > before {
							return ""
						}
						return fmt.Sprintf("%v of %s count nothing", x.chains, x.at.Name)
					})
					if got := victim.heard(); got != "" {
						t.Errorf("the far container got it: % x", got)
					}
				})
			}
			l.t = t
			if mode == "vxlan" {
				l.fragmentsWithoutConntrack(t, victim)
			}
			l.reach()
			// What is allowed is heard, so that the silence above means something.
			_ = victim.heard() // the stream filled its buffer
			if err := l.hosts[0].container.Do(func() error { return raw(echo("10.10.40.129", "10.10.194.134")) }); err != nil {
				t.Fatal(err)
			}
			l.wait("the far container to hear its friend", func() string {
				if victim.heard() == "" {
					return "nothing heard"
				}
				return ""
			})
		})
	}
}

func (x attack) count() (n int) {
	for _, c := range x.chains {
		n += x.at.dropped(c)
	}
	return n
}

// forgedSources are packets with a source that is not their sender's.
func (l *twoHosts) forgedSources(mode string) []attack {
	master, node := l.hosts[0], l.hosts[1]
	from := func(sender *netns.NS, b []byte) func() error {
		return func() error { return sender.Do(func() error { return raw(b) }) }
	}
	out := []attack{
		{"a container with its neighbour's address", from(master.container, echo("10.10.40.130", "10.10.194.134")), master, []string{"spoof"}},
		{"a container with its node's address", from(master.container, echo("192.168.170.137", "10.10.194.134")), master, []string{"spoof"}},
		{"a container with the far container's address", from(master.container, echo("10.10.194.134", "10.10.194.134")), master, []string{"spoof"}},
		{"a container with an address of the world", from(master.container, echo("203.0.113.7", "10.10.194.134")), master, []string{"spoof"}},
		{"an address of a pool that no node has, bare on the wire", l.bare(echo("10.10.99.9", "10.10.194.134")), node, []string{"spoof"}},
		{"an address of the far node's own block, bare on the wire", l.bare(echo("10.10.194.140", "10.10.194.134")), node, []string{"spoof"}},
	}
	if mode != "bgp" { // there such packets are bare
		out = append(out, attack{"a container's address, bare on the wire", l.bare(echo("10.10.40.129", "10.10.194.134")), node, []string{"spoof"}})
	}
	return out
}

// intoVXLAN are packets that would come out of the far node's VXLAN device.
func (l *twoHosts) intoVXLAN(t *testing.T) []attack {
	master, node := l.hosts[0], l.hosts[1]
	vtep := strings.Fields(master.Run(t, "ip neigh show 10.10.194.128"))[4]
	mac, err := net.ParseMAC(vtep)
	if err != nil {
		t.Fatal(err)
	}
	vxlan := func(inner []byte) []byte {
		checksum(inner)
		frame := append(append(append([]byte{}, mac...), 2, 0, 0, 0, 0, 9, 8, 0), inner...)
		return append([]byte{8, 0, 0, 0, 0, 0x10, 0, 0}, frame...)
	}
	inject := vxlan(echo("10.10.40.129", "10.10.194.134"))
	outer := func(from string, payload []byte) []byte {
		return packet(from, "192.168.170.138", unix.IPPROTO_UDP, udp(4789, payload))
	}
	container := func(b []byte) func() error {
		return func() error { return master.container.Do(func() error { return raw(b) }) }
	}
	datagram := func(ns *netns.NS, uid uint32) func() error {
		return func() error { return as(ns, uid, inject, "socat", "-u", "STDIN", "UDP:192.168.170.138:4789") }
	}
	return []attack{
		{"VXLAN from a container", container(outer("10.10.40.129", inject)), master, []string{"vxlan-forward"}},
		{"VXLAN from a user's process in a container", datagram(master.container, 65534), master, []string{"vxlan-forward"}},
		{"VXLAN from a container with its node's address", container(outer("192.168.170.137", inject)), master, []string{"spoof"}},
		{"what is no VXLAN to the VXLAN port, from a container", container(outer("10.10.40.129", []byte("short"))), master, []string{"vxlan-forward"}},
		{"VXLAN from a user's process on the host", datagram(master.NS, 65534), master, []string{"vxlan-output"}},
		{"VXLAN by hand from root on the host", datagram(master.NS, 0), master, []string{"vxlan-output"}},
		{"VXLAN from an address of no node", l.bare(outer("192.168.170.99", inject)), node, []string{"vxlan-wire"}},
		{"VXLAN in fragments from an address of no node", func() error {
			first, second := fragments(outer("192.168.170.99", inject))
			return errors.Join(l.bare(first)(), l.bare(second)())
		}, node, []string{"vxlan-wire"}},
		{"out of the tunnel for an address that is not the node's", l.bare(outer("192.168.170.137", vxlan(echo("10.10.40.129", "192.168.170.138")))), node, []string{"tunnel"}},
		{"out of the tunnel for a block of nobody", l.bare(outer("192.168.170.137", vxlan(echo("10.10.40.129", "10.10.99.9")))), node, []string{"tunnel"}},
		{"out of the tunnel from the world", l.bare(outer("192.168.170.137", vxlan(echo("203.0.113.7", "10.10.194.134")))), node, []string{"tunnel"}},
	}
}

// fragmentsWithoutConntrack sends VXLAN in fragments, the first without the VNI, to a node whose kernel puts nothing together
// before it routes, since nothing is masqueraded there.
func (l *twoHosts) fragmentsWithoutConntrack(t *testing.T, victim ears) {
	t.Helper()
	text, err := os.ReadFile(l.file)
	if err != nil {
		t.Fatal(err)
	}
	without := strings.Replace(string(text), "  mode ", "  nat_outgoing = false\n  mode ", 1)
	if err := os.WriteFile(l.file, []byte(without), 0o644); err != nil {
		t.Fatal(err)
	}
	node := l.hosts[1]
	node.must(0, "apply", "-y")
	if out := node.Run(t, "nft list table inet netd"); strings.Contains(out, "masquerade") {
		t.Fatalf("still masquerading:\n%s", out)
	}
	for _, x := range l.intoVXLAN(t) {
		if !strings.Contains(x.what, "fragments") {
			continue
		}
		before := x.count()
		if err := x.send(); err != nil {
			t.Fatal(err)
		}
		l.wait("fragments to be counted", func() string {
			if x.count() > before {
				return ""
			}
			return "not counted; the far container heard: " + victim.heard()
		})
		if got := victim.heard(); got != "" {
			t.Errorf("the far container got it: % x", got)
		}
	}
}

// intoIPIP are packets that would come out of the far node's tunl0.
func (l *twoHosts) intoIPIP() []attack {
	master, node := l.hosts[0], l.hosts[1]
	inside := func(from, to, innerFrom, innerTo string) []byte {
		inner := echo(innerFrom, innerTo)
		checksum(inner)
		return packet(from, to, unix.IPPROTO_IPIP, inner)
	}
	forged := func(from string) []byte { return inside(from, "192.168.170.138", "10.10.40.129", "10.10.194.134") }
	container := func(b []byte) func() error {
		return func() error { return master.container.Do(func() error { return raw(b) }) }
	}
	return []attack{
		{"IPIP from a container", container(forged("10.10.40.129")), master, []string{"ipip-wire", "ipip-forward"}},
		{"IPIP from a container with its node's address", container(forged("192.168.170.137")), master, []string{"spoof", "ipip-wire"}},
		{"IPIP from a container to a stranger", container(inside("10.10.40.129", "192.168.170.200", "10.10.40.129", "10.10.194.134")), master, []string{"ipip-wire", "ipip-forward"}},
		{"IPIP from an address of no node", l.bare(forged("192.168.170.99")), node, []string{"ipip-wire"}},
		{"out of the tunnel for an address that is not the node's", l.bare(inside("192.168.170.137", "192.168.170.138", "10.10.40.129", "192.168.170.138")), node, []string{"tunnel"}},
		{"out of the tunnel for a block of nobody", l.bare(inside("192.168.170.137", "192.168.170.138", "10.10.40.129", "10.10.99.9")), node, []string{"tunnel"}},
		{"out of the tunnel from the world", l.bare(inside("192.168.170.137", "192.168.170.138", "203.0.113.7", "10.10.194.134")), node, []string{"tunnel"}},
	}
}

// intoBGP are ways to a speaker for those that are no neighbours.
func (l *twoHosts) intoBGP() []attack {
	master, node := l.hosts[0], l.hosts[1]
	connect := func(ns *netns.NS, uid uint32, to string, options string) func() error {
		return func() error {
			if err := as(ns, uid, nil, "socat", "-u", "STDIN", "TCP:"+to+":179,connect-timeout=0.2"+options); err == nil {
				return errors.New("it connected")
			}
			return nil
		}
	}
	syn := []byte{0x30, 0x39, 0, 179, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0x20, 0, 0, 0, 0, 0}
	return []attack{
		{"a user's process in a container to the far speaker", connect(master.container, 65534, "192.168.170.138", ""), master, []string{"bgp-forward"}},
		{"a user's process in a container to its own node's speaker", connect(master.container, 65534, "192.168.170.137", ""), master, []string{"bgp-input"}},
		{"a container with its node's address to the far speaker", func() error {
			return master.container.Do(func() error { return raw(packet("192.168.170.137", "192.168.170.138", unix.IPPROTO_TCP, syn)) })
		}, master, []string{"spoof"}},
		{"a user's process on the host to the far speaker", connect(master.NS, 65534, "192.168.170.138", ""), master, []string{"bgp-output"}},
		{"another user's process on the host to the far speaker", connect(master.NS, 1000, "192.168.170.138", ",bind=192.168.170.137"), master, []string{"bgp-output"}},
		{"an address of no neighbour to the far speaker", l.bare(packet("192.168.170.99", "192.168.170.138", unix.IPPROTO_TCP, syn)), node, []string{"bgp-input"}},
	}
}

// fromOtherLinks gives the first host a link that has nothing to do with netd, and a stranger on the wire: while ip_forward is
// 0, nothing gets from one to the other by a switch that netd set.
func (l *twoHosts) fromOtherLinks(t *testing.T) []attack {
	master := l.hosts[0]
	lan, stranger := netns.New(t, "lan"), netns.New(t, "stranger")
	netns.Run(t, "ip link add lan0 netns baihl-master type veth peer name eth0 netns lan")
	netns.Run(t, "ip link add wire-s type veth peer name eth0 netns stranger")
	netns.Run(t, "ip link set wire-s master wire up")
	for _, x := range []struct {
		ns      *netns.NS
		command string
	}{
		{master.NS, "ip addr add 172.31.1.1/24 dev lan0"}, {master.NS, "ip link set lan0 up"},
		{lan, "ip addr add 172.31.1.2/24 dev eth0"}, {lan, "ip link set eth0 up"}, {lan, "ip route add default via 172.31.1.1"},
		{stranger, "ip addr add 192.168.170.200/24 dev eth0"}, {stranger, "ip link set eth0 up"},
		{stranger, "ip route add 172.31.1.0/24 via 192.168.170.137"},
	} {
		x.ns.Run(t, x.command)
	}
	if master.Run(t, "sysctl -n net.ipv4.ip_forward") != "0\n" || master.Run(t, "sysctl -n net.ipv4.conf.ens33.forwarding") != "1\n" {
		t.Fatal("the host should have ip_forward=0 and ens33 switched by netd")
	}
	ears := listen(t, lan)
	return []attack{{"from the wire to another link of the host", func() error {
		if _, err := stranger.Output("ping", "-c1", "-W1", "172.31.1.2"); err == nil {
			return errors.New("it was answered: the host is a router")
		}
		if _, err := lan.Output("ping", "-c1", "-W1", "192.168.170.200"); err == nil {
			return errors.New("the way back was answered: the host is a router")
		}
		if err := stranger.Do(func() error { return raw(echo("192.168.170.200", "172.31.1.2")) }); err != nil {
			return err
		}
		if got := ears.heard(); got != "" {
			return fmt.Errorf("the other link got % x", got)
		}
		// The same way is open where the host is a router by its owner's will.
		master.Run(l.t, "sysctl -q -w net.ipv4.ip_forward=1")
		defer master.Run(l.t, "sysctl -q -w net.ipv4.ip_forward=0")
		l.wait("netd to see that the host is a router", func() string {
			if master.daemon == nil {
				master.must(0, "apply", "-y")
			}
			out, _ := stranger.Output("ping", "-c1", "-W1", "172.31.1.2")
			if strings.Contains(out, " 0% packet loss") {
				return ""
			}
			return out
		})
		master.Run(l.t, "sysctl -q -w net.ipv4.ip_forward=0")
		l.wait("netd to see that it is none any more", func() string {
			if master.daemon == nil {
				master.must(0, "apply", "-y")
			}
			if out, err := stranger.Output("ping", "-c1", "-W1", "172.31.1.2"); err == nil {
				return out
			}
			if out := master.Run(l.t, "sysctl -n net.ipv4.conf.ens33.forwarding"); out != "1\n" {
				return "ens33.forwarding is " + out
			}
			return ""
		})
		_, _ = stranger.Output("ping", "-c1", "-W0.2", "172.31.1.2")
		return nil
	}, master, []string{"forward"}}}
}

// noNeighboursFromContainers sends 3,000 forged ARP requests: the neighbour table is one for all namespaces of a machine.
func (h *labHost) noNeighboursFromContainers(t *testing.T) {
	t.Helper()
	entries := func() int { return strings.Count(h.Run(t, "ip neigh"), "\n") }
	before, dropped := entries(), h.droppedIn("arp", "spoof")
	err := h.container.Do(func() error {
		link, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		s, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(s)
		for i := range 3000 {
			frame := bytes.Repeat([]byte{0xff}, 6)
			frame = append(frame, link.HardwareAddr...)
			frame = append(frame, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1)
			frame = append(append(frame, link.HardwareAddr...), 10, 77, byte(i>>8), byte(i))
			frame = append(frame, 0, 0, 0, 0, 0, 0, 169, 254, 1, 1)
			if err := unix.Sendto(s, frame, 0, &unix.SockaddrLinklayer{Ifindex: link.Index}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	h.lab.wait("forged ARP to be counted", func() string {
		if n := h.droppedIn("arp", "spoof") - dropped; n < 3000 {
			return fmt.Sprintf("%d of 3,000 dropped", n)
		}
		return ""
	})
	if n := entries() - before; n > 5 {
		t.Errorf("forged ARP made %d neighbour entries", n)
	}
}
