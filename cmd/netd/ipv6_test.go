package main

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"netd/reconcile/object"
	"netd/testenv/netns"
)

// twoFamilies is a network of both families; nodes have the addresses given.
const twoFamilies = `network "lab" {
  pools         = ["10.10.0.0/16", "fd00:10::/48"]
  mode          = "vxlan"
  encapsulate   = "%s"
  nat_outgoing6 = true
}
node "a" {
  %s
  blocks = ["10.10.1.0/24", "fd00:10:0:1::/64"]
}
node "b" {
  %s
  blocks = ["10.10.2.0/24", "fd00:10:0:2::/64"]
}
workload "c-a" {
  node    = "a"
  address = ["10.10.1.10", "fd00:10:0:1::10"]
  netns   = "/run/netns/c-a"
}
workload "four" {
  node    = "b"
  address = "10.10.2.4"
  netns   = "/run/netns/four"
}
workload "six" {
  node    = "b"
  address = "fd00:10:0:2::6"
  netns   = "/run/netns/six"
}
workload "c-b" {
  node    = "b"
  address = ["10.10.2.10", "fd00:10:0:2::10"]
  netns   = "/run/netns/c-b"
}
`

// TestDualStack has containers with an IPv4 address, an IPv6 one and both reach each other through tunnels of IPv4 and of
// IPv6, and bare, on an underlay that speaks both, and on one that speaks IPv6 alone.
func TestDualStack(t *testing.T) {
	for _, x := range []struct {
		what, encapsulate string
		addresses         []string // of a and b
		attributes        []string
		route, device     string
		mtu               int
	}{
		{"over IPv4", "always", []string{"192.168.1.1/24", "192.168.1.2/24"}, []string{`address = "192.168.1.1/24"`, `address = "192.168.1.2/24"`},
			"via fd00:10:0:2:: dev vxlan.netd proto 142 metric 1024 onlink", "local 192.168.1.1 dev eth0", 1450},
		{"over IPv6 alone", "always", []string{"2001:db8:1::1/64", "2001:db8:1::2/64"}, []string{`address6 = "2001:db8:1::1/64"`, `address6 = "2001:db8:1::2/64"`},
			"via fd00:10:0:2:: dev vxlan.netd proto 142 metric 1024 onlink", "local 2001:db8:1::1 dev eth0", 1430},
		{"bare on the subnet", "cross-subnet", []string{"192.168.1.1/24 2001:db8:1::1/64", "192.168.1.2/24 2001:db8:1::2/64"},
			[]string{"address = \"192.168.1.1/24\"\naddress6 = \"2001:db8:1::1/64\"", "address = \"192.168.1.2/24\"\naddress6 = \"2001:db8:1::2/64\""},
			"via 2001:db8:1::2 dev eth0 proto 142 metric 1024", "local 192.168.1.1 dev eth0", 1450},
	} {
		t.Run(x.what, func(t *testing.T) {
			l := newUnderlay(t, fmt.Sprintf(twoFamilies, x.encapsulate, x.attributes[0], x.attributes[1]), "a", "b")
			four, six := netns.New(t, "four"), netns.New(t, "six")
			l.wire("a eth0 "+x.addresses[0], "b eth0 "+x.addresses[1])
			l.destroyed()
			l.apply()
			a, b := l.hosts[0], l.hosts[1]
			a.has("ip -6 route show fd00:10:0:2::/64", x.route)
			a.has("ip -d link show vxlan.netd", x.device)
			for _, from := range []*netns.NS{a.container, b.container, a.NS, b.NS} {
				for _, to := range []string{"10.10.1.10", "10.10.2.4", "10.10.2.10", "fd00:10:0:1::10", "fd00:10:0:2::6", "fd00:10:0:2::10"} {
					l.pings(from, to, x.mtu)
				}
			}
			for _, to := range []string{"10.10.1.10", "10.10.2.10"} {
				l.pings(four, to, x.mtu)
			}
			for _, to := range []string{"fd00:10:0:1::10", "fd00:10:0:2::10"} {
				l.pings(six, to, x.mtu)
			}
			b.has("sysctl net.ipv6.conf."+object.VethName("file/four")+".disable_ipv6", "= 1")
		})
	}
}

// TestDualStackBGP has the routes of both families learned over BGP.
func TestDualStackBGP(t *testing.T) {
	both := []string{"address = \"192.168.1.%d/24\"\naddress6 = \"2001:db8:1::%d/64\"", "192.168.1.%d/24 2001:db8:1::%d/64"}
	l := newUnderlay(t, bgpFile(fmt.Sprintf(twoFamilies, "always", fmt.Sprintf(both[0], 1, 1), fmt.Sprintf(both[0], 2, 2))), "a", "b")
	four, six := netns.New(t, "four"), netns.New(t, "six")
	l.wire("a eth0 "+fmt.Sprintf(both[1], 1, 1), "b eth0 "+fmt.Sprintf(both[1], 2, 2))
	for _, h := range l.hosts {
		h.start()
	}
	a, b := l.hosts[0], l.hosts[1]
	for _, x := range []struct{ command, want string }{
		{"ip -6 route show fd00:10:0:2::/64", "via 2001:db8:1::2 dev eth0 proto 142"},
		{"ip route show 10.10.2.0/24", "via 192.168.1.2 dev eth0 proto 142"},
	} {
		l.wait("the learned routes", func() string {
			out, err := a.Output("sh", "-c", x.command)
			if err != nil || !strings.Contains(strings.ReplaceAll(out, "proto netd", "proto 142"), x.want) {
				return "there is " + out
			}
			return ""
		})
	}
	l.settled()
	for _, from := range []*netns.NS{a.container, b.container, a.NS, b.NS} {
		for _, to := range []string{"10.10.1.10", "10.10.2.4", "10.10.2.10", "fd00:10:0:1::10", "fd00:10:0:2::6", "fd00:10:0:2::10"} {
			l.pings(from, to, 1500)
		}
	}
	l.pings(four, "10.10.1.10", 1500)
	l.pings(six, "fd00:10:0:1::10", 1500)
}

// TestDaemonIPv6 has others damage what is netd's of IPv6 on a host and in its container: the daemon puts it back at once. An
// underlay that leaves less than IPv6 needs is said, and nothing is changed.
func TestDaemonIPv6(t *testing.T) {
	l := newUnderlay(t, fmt.Sprintf(twoFamilies, "always", `address = "192.168.1.1/24"`, `address = "192.168.1.2/24"`), "a", "b")
	netns.New(t, "four")
	netns.New(t, "six")
	l.wire("a eth0 192.168.1.1/24", "b eth0 192.168.1.2/24")
	for _, h := range l.hosts {
		h.start()
	}
	l.settled()
	a := l.hosts[0]
	l.pings(a.container, "fd00:10:0:2::10", 1450)
	veth := object.VethName("file/c-a")
	for _, x := range []struct {
		where        *netns.NS
		damage, look string
		want         string
	}{
		{a.NS, "ip -6 route del fd00:10:0:2::/64", "ip -6 route show fd00:10:0:2::/64", "via fd00:10:0:2:: dev vxlan.netd"},
		{a.NS, "ip -6 route del fd00:10:0:2::/128", "ip -6 route show fd00:10:0:2::/128", "dev vxlan.netd"},
		{a.NS, "ip -6 route del fd00:10:0:1::10", "ip -6 route show fd00:10:0:1::10", "dev " + veth + " proto"},
		{a.NS, "ip -6 neigh del fd00:10:0:1::10 dev " + veth, "ip -6 neigh show fd00:10:0:1::10", "PERMANENT"},
		{a.NS, "ip addr del fe80::ecee:eeff:feee:eeee/64 dev " + veth, "ip -6 addr show dev " + veth, "fe80::ecee:eeff:feee:eeee/64"},
		{a.NS, "sysctl -q -w net.ipv6.conf." + veth + ".disable_ipv6=1", "ip -6 route show fd00:10:0:1::10", "dev " + veth + " proto"},
		{a.NS, "sysctl -q -w net.ipv6.conf.all.forwarding=0", "sysctl net.ipv6.conf.all.forwarding", "= 1"},
		{a.NS, "ip link del vxlan.netd", "ip -6 route show fd00:10:0:2::/64", "via fd00:10:0:2:: dev vxlan.netd"},
		{a.NS, "ip link set " + veth + " down", "ip -6 route show fd00:10:0:1::10", "dev " + veth + " proto"},
		{a.container, "ip -6 route del default", "ip -6 route", "default via fe80::ecee:eeff:feee:eeee dev eth0"},
		{a.container, "ip -6 addr flush dev eth0 scope global", "ip -6 addr show dev eth0", "fd00:10:0:1::10/128"},
		{a.container, "ip link set eth0 down", "ip -6 route", "default via fe80::ecee:eeff:feee:eeee dev eth0"},
	} {
		x.where.Run(t, x.damage)
		l.wait("the repair of "+x.damage, func() string {
			out, err := x.where.Output("sh", "-c", x.look)
			if err != nil || !strings.Contains(out, x.want) {
				return "there is: " + out
			}
			return ""
		})
		l.settled()
		l.pings(a.container, "fd00:10:0:2::10", 1450)
	}

	a.Run(t, "ip link set eth0 mtu 1320")
	l.wait("the small underlay is said", func() string {
		out, code := a.netd("status")
		if code != exitDegraded || !strings.Contains(out, "needs an MTU of 1280: that of eth0 is 1320, less 50") {
			return out
		}
		return ""
	})
	a.has("ip link show dev vxlan.netd", "mtu 1450 ")
	a.Run(t, "ip link set eth0 mtu 1400")
	l.settled()
	a.has("ip link show dev vxlan.netd", "mtu 1350 ")
	l.pings(a.container, "fd00:10:0:2::10", 1350)
}

// bgpFile is a file's twin in mode bgp.
func bgpFile(file string) string {
	return strings.NewReplacer(`"vxlan"`, `"bgp"`, "  encapsulate   = \"always\"\n", "").Replace(file)
}

// TestRouterAdvertisement has a host whose way to the world is a router's advertisement: it keeps the route when netd makes
// the host forward IPv6, heeds the advertisements that follow, and its containers reach the world, masqueraded.
func TestRouterAdvertisement(t *testing.T) {
	l := newUnderlay(t, fmt.Sprintf(twoFamilies, "always", `address = "192.168.1.1/24"`, `address = "192.168.1.2/24"`), "a", "b")
	netns.New(t, "four")
	netns.New(t, "six")
	router := netns.New(t, "router")
	l.wire("a eth0 192.168.1.1/24", "b eth0 192.168.1.2/24", "router lan 2001:db8:1::fe/64")
	router.Run(t, "ip addr add 2001:db8:ffff::1/128 dev lo nodad")
	router.Run(t, "sysctl -q -w net.ipv6.conf.all.forwarding=1")
	a := l.hosts[0]
	learned := func(what string) {
		t.Helper()
		l.wait(what, func() string {
			if err := router.Do(func() error { return advertise("lan", netip.MustParsePrefix("2001:db8:1::/64")) }); err != nil {
				return err.Error() // no link-local address yet
			}
			out, err := a.Output("ip", "-6", "route", "show", "default")
			if err != nil || !strings.Contains(out, "proto ra") {
				return "the default routes are: " + out
			}
			return ""
		})
	}
	learned("the route that the router advertises")
	before := a.Run(t, "ip -6 route show default")
	l.destroyed()
	l.apply()
	if after := a.Run(t, "ip -6 route show default"); !strings.Contains(after, "proto ra") {
		t.Fatalf("the host's default route is gone; it was\n%s", before)
	}
	a.has("sysctl -n net.ipv6.conf.all.forwarding net.ipv6.conf.eth0.accept_ra", "1\n2")
	a.Run(t, "ip -6 route del default")
	learned("the route, advertised once more")

	l.wait("the host's own address", func() string {
		out, err := a.Output("ping", "-6", "-c1", "-W1", "2001:db8:ffff::1")
		if err != nil {
			return out
		}
		return ""
	})
	l.pings(a.container, "2001:db8:ffff::1", 1400) // the router knows no way to fd00:10::/48: it is masqueraded

	// The host was no router and is none: what comes in from the link and is for elsewhere on it is dropped.
	dropped := a.dropped("forward")
	b := l.hosts[1]
	b.Run(t, "ip addr add 2001:db8:1::b/64 dev eth0 nodad")
	lladdr := strings.Fields(a.Run(t, "ip -br link show dev eth0"))[2]
	b.Run(t, "ip -6 neigh replace 2001:db8:1::a0 lladdr "+lladdr+" dev eth0 nud permanent")
	b.Run(t, "ip -6 route add 2001:db8:ffff::1 via 2001:db8:1::a0 dev eth0 onlink")
	if out, err := b.Output("ping", "-6", "-c1", "-W1", "2001:db8:ffff::1"); err == nil {
		t.Errorf("the host routes for others:\n%s", out)
	}
	if n := a.dropped("forward"); n == dropped {
		t.Error("what was not forwarded was not counted")
	}
	for _, h := range l.hosts {
		h.must(0, "destroy", "-y")
	}
	a.has("sysctl -n net.ipv6.conf.all.forwarding net.ipv6.conf.eth0.accept_ra", "0\n1")
	a.has("ip -6 route show default", "proto ra")
}

// TestHostileIPv6 has a container send what it must not: it is dropped and counted, and the host's neighbour table holds
// nothing of it.
func TestHostileIPv6(t *testing.T) {
	l := newUnderlay(t, fmt.Sprintf(twoFamilies, "always", `address = "192.168.1.1/24"`, `address = "192.168.1.2/24"`), "a", "b")
	netns.New(t, "four")
	netns.New(t, "six")
	l.wire("a eth0 192.168.1.1/24", "b eth0 192.168.1.2/24")
	l.destroyed()
	l.apply()
	a, b := l.hosts[0], l.hosts[1]
	l.pings(a.container, "fd00:10:0:2::10", 100)
	hostEnd := object.HostEndMAC.String()
	gateway := "fe80::ecee:eeff:feee:eeee"
	solicit := append([]byte{135, 0, 0, 0, 0, 0, 0, 0}, netip.MustParseAddr(gateway).AsSlice()...)
	echo := []byte{128, 0, 0, 0, 0, 1, 0, 1}
	inside := func(send func() error) func() error { return func() error { return a.container.Do(send) } }
	for _, x := range []struct {
		what  string
		where *labHost
		send  func() error
	}{
		{"forged solicitations", a, inside(func() error {
			for i := range 50 {
				if err := send6("eth0", hostEnd, fmt.Sprintf("fe80::bad:%x", i), gateway, solicit); err != nil {
					return err
				}
			}
			return nil
		})},
		{"a neighbour's address", a, inside(func() error {
			return send6("eth0", hostEnd, "fd00:10:0:1::11", "fd00:10:0:2::10", echo)
		})},
		{"a router advertisement", a, inside(func() error {
			return send6("eth0", hostEnd, "fd00:10:0:1::10", "ff02::1", []byte{134, 0, 0, 0, 64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0})
		})},
		{"a redirect", a, inside(func() error {
			return send6("eth0", hostEnd, "fd00:10:0:1::10", gateway, append([]byte{137, 0, 0, 0, 0, 0, 0, 0}, make([]byte, 32)...))
		})},
		{"a container's address, bare on the wire", b, func() error {
			return a.Do(func() error {
				return send6("eth0", strings.Fields(b.Run(t, "ip -br link show dev eth0"))[2], "fd00:10:0:1::10", "fd00:10:0:2::10", echo)
			})
		}},
	} {
		t.Run(x.what, func(t *testing.T) {
			l.t = t
			before := x.where.dropped("spoof")
			if err := x.send(); err != nil {
				t.Fatal(err)
			}
			l.wait("the drop to be counted", func() string {
				if x.where.dropped("spoof") > before {
					return ""
				}
				return "spoof of " + x.where.Name + " counts nothing"
			})
		})
	}
	l.t = t
	if out := a.Run(t, "ip -6 neigh"); strings.Contains(out, "bad") {
		t.Errorf("forged solicitations are in the neighbour table:\n%s", out)
	}
	if out := a.Run(t, "ip -6 route show default"); out != "" {
		t.Errorf("a container's advertisement made a route:\n%s", out)
	}
	l.pings(a.container, "fd00:10:0:2::10", 100)
}

// TestFragmentsIPv6 has a stranger on the wire send VXLAN over IPv6, in a piece and in two, the first of which does not say of
// which VNI it is: the host's hook for what is its own comes before IPv6 puts fragments together, unless conntrack runs.
func TestFragmentsIPv6(t *testing.T) {
	file := strings.Replace(fmt.Sprintf(twoFamilies, "always", `address6 = "2001:db8:1::1/64"`, `address6 = "2001:db8:1::2/64"`), "  nat_outgoing6 = true\n", "  nat_outgoing  = false\n", 1)
	l := newUnderlay(t, file, "a", "b")
	netns.New(t, "four")
	netns.New(t, "six")
	stranger := netns.New(t, "stranger")
	l.wire("a eth0 2001:db8:1::1/64", "b eth0 2001:db8:1::2/64", "stranger lan 2001:db8:1::99/64")
	l.destroyed()
	l.apply()
	a, b := l.hosts[0], l.hosts[1]
	l.pings(a.container, "10.10.2.10", 1430)
	mac, err := net.ParseMAC(strings.Fields(b.Run(t, "ip -br link show dev vxlan.netd"))[2])
	if err != nil {
		t.Fatal(err)
	}
	echo := packet("10.10.1.10", "10.10.2.10", unix.IPPROTO_ICMP, []byte{8, 0, 0xf7, 0xff, 0, 0, 0, 0})
	vxlan := append(append(append([]byte{8, 0, 0, 0, 0, 0x10, 0, 0}, mac...), 2, 0, 0, 0, 0, 9, 8, 0), echo...)
	lladdr := strings.Fields(b.Run(t, "ip -br link show dev eth0"))[2]
	for what, from := range map[string]string{"a stranger": "2001:db8:1::99", "a node": "2001:db8:1::1"} {
		through, before := b.received("vxlan.netd"), b.dropped("vxlan-wire")
		if err := stranger.Do(func() error { return sendUDP6("lan", lladdr, from, "2001:db8:1::2", 4789, vxlan) }); err != nil {
			t.Fatal(err)
		}
		l.wait("the fragments of "+what, func() string {
			n, in := b.dropped("vxlan-wire")-before, b.received("vxlan.netd")-through
			if from == "2001:db8:1::99" && n > 0 && in == 0 || from == "2001:db8:1::1" && n == 0 && in > 0 {
				return ""
			}
			return fmt.Sprintf("%d dropped, %d got through", n, in)
		})
	}
}

// advertise sends a router advertisement with a prefix for addresses (RFC 4861, section 4.2) to all nodes on a link.
func advertise(dev string, prefix netip.Prefix) error {
	link, err := net.InterfaceByName(dev)
	if err != nil {
		return err
	}
	b := []byte{134, 0, 0, 0, 64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0} // for 1800 s
	b = append(b, 3, 4, byte(prefix.Bits()), 0xc0, 0, 0, 0x0e, 0x10, 0, 0, 0x0e, 0x10, 0, 0, 0, 0)
	b = append(b, prefix.Addr().AsSlice()...)
	s, err := unix.Socket(unix.AF_INET6, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_ICMPV6)
	if err != nil {
		return err
	}
	defer unix.Close(s)
	if err := unix.SetsockoptInt(s, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_HOPS, 255); err != nil {
		return err
	}
	to := &unix.SockaddrInet6{ZoneId: uint32(link.Index), Addr: netip.MustParseAddr("ff02::1").As16()}
	err = unix.Sendto(s, b, 0, to)
	if err == unix.EADDRNOTAVAIL { // the link's own address is not there yet
		return nil
	}
	return os.NewSyscallError("sendto", err)
}

// send6 sends an ICMPv6 message from any source out of a link, without asking anyone.
func send6(dev, mac, from, to string, icmp []byte) error {
	b := append([]byte{}, icmp...)
	binary.BigEndian.PutUint16(b[2:], checksum6(from, to, unix.IPPROTO_ICMPV6, b))
	return frame6(dev, mac, from, to, unix.IPPROTO_ICMPV6, b)
}

// sendUDP6 sends a datagram likewise, in two fragments: the UDP header, and the rest.
func sendUDP6(dev, mac, from, to string, port uint16, payload []byte) error {
	b := udp(port, payload)
	binary.BigEndian.PutUint16(b[6:], checksum6(from, to, unix.IPPROTO_UDP, b))
	fragment := func(offset, more byte, part []byte) error {
		head := []byte{unix.IPPROTO_UDP, 0, 0, offset<<3 | more, 0, 0, 0, 7}
		return frame6(dev, mac, from, to, unix.IPPROTO_FRAGMENT, append(head, part...))
	}
	if err := fragment(0, 1, b[:8]); err != nil {
		return err
	}
	return fragment(1, 0, b[8:])
}

// checksum6 is the checksum of what an IPv6 packet carries (RFC 8200, section 8.1), whose own field is zero.
func checksum6(from, to string, protocol byte, payload []byte) uint16 {
	b := append(netip.MustParseAddr(from).AsSlice(), netip.MustParseAddr(to).AsSlice()...)
	b = binary.BigEndian.AppendUint32(b, uint32(len(payload)))
	b = append(append(b, 0, 0, 0, protocol), payload...)
	if len(b)%2 != 0 {
		b = append(b, 0)
	}
	sum := uint32(0)
	for i := 0; i < len(b); i += 2 {
		sum += uint32(b[i])<<8 | uint32(b[i+1])
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

func frame6(dev, mac, from, to string, next byte, payload []byte) error {
	link, err := net.InterfaceByName(dev)
	if err != nil {
		return err
	}
	hw, err := net.ParseMAC(mac)
	if err != nil {
		return err
	}
	b := make([]byte, 8, 40+len(payload))
	b[0], b[6], b[7] = 0x60, next, 255
	binary.BigEndian.PutUint16(b[4:], uint16(len(payload)))
	b = append(append(append(b, netip.MustParseAddr(from).AsSlice()...), netip.MustParseAddr(to).AsSlice()...), payload...)
	s, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(s)
	addr := &unix.SockaddrLinklayer{Protocol: 0xdd86, Ifindex: link.Index, Halen: 6}
	copy(addr.Addr[:], hw)
	return os.NewSyscallError("sendto", unix.Sendto(s, b, 0, addr))
}
