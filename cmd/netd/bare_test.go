package main

import (
	"fmt"
	"strings"
	"testing"

	"netd/testenv/netns"
)

const withoutBlocks = `network "lab" {
  pools      = ["10.10.0.0/16"]
  mode       = "%s"
  nat_exempt = [%s]
}
node "a" {
  address = "192.168.1.1/24"
  blocks  = []
}
node "b" {
  address = "192.168.1.2/24"
  blocks  = ["10.10.2.0/24"]
}
node "c" {
  address = "192.168.1.3/24"
  blocks  = ["10.10.3.0/24"]
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

// TestBareAnswers has packets of containers that come bare because they are for a node itself: the answers to a node without
// blocks, whose tunnel has no address to answer to, and what nat_exempt leaves with its container's source.
func TestBareAnswers(t *testing.T) {
	for _, mode := range []string{"vxlan", "ipip"} {
		t.Run(mode, func(t *testing.T) {
			if mode == "ipip" {
				needIPIP(t)
			}
			l := newUnderlay(t, fmt.Sprintf(withoutBlocks, mode, ""), "a", "b", "c")
			for _, h := range l.hosts { // the first link that the kernel would take a source from is not the underlay
				h.Run(t, "ip link add mgmt type veth peer name mgmt-far")
				h.Run(t, "ip link set mgmt up")
				h.Run(t, "ip addr add 172.16.9.9/24 dev mgmt")
			}
			l.wire("a eth0 192.168.1.1/24", "b eth0 192.168.1.2/24", "c eth0 192.168.1.3/24")
			for _, h := range l.hosts {
				h.Run(t, "sysctl -q -w net.ipv4.conf.all.rp_filter=1 net.ipv4.conf.eth0.rp_filter=1")
			}
			l.destroyed()
			l.apply()
			a, b, c := l.hosts[0], l.hosts[1], l.hosts[2]
			for _, to := range []string{"10.10.2.10", "10.10.3.10"} {
				l.pings(a.NS, to, 1400)
			}
			for _, from := range []*netns.NS{b.container, c.container} { // masqueraded
				for _, to := range []string{"192.168.1.1", "192.168.1.2", "192.168.1.3"} {
					l.pings(from, to, 1400)
				}
			}
			if got := a.Run(t, "ip route get 10.10.2.10"); !strings.Contains(got, "src 192.168.1.1 ") {
				t.Errorf("a speaks to containers from another address than the file's: %s", got)
			}

			// Of these nothing but the answer to a itself is let in bare.
			before := c.dropped("spoof")
			l.forge(b, "10.10.2.10", "192.168.1.3", c)
			l.forge(b, "10.10.2.10", "10.10.3.10", c)
			l.forge(b, "10.10.2.10", "172.16.9.9", a)
			l.wait("the forged packets to be counted", func() string {
				if got := c.dropped("spoof") - before; got != 2 {
					return fmt.Sprintf("%d dropped at c, want 2", got)
				}
				if got := a.dropped("spoof"); got != 1 {
					return fmt.Sprintf("%d dropped at a, want 1", got)
				}
				return ""
			})

			l.write(fmt.Sprintf(withoutBlocks, mode, `"192.168.0.0/16"`))
			l.apply()
			for _, from := range []*netns.NS{b.container, c.container} { // with their own source
				for _, to := range []string{"192.168.1.1", "192.168.1.2", "192.168.1.3"} {
					l.pings(from, to, 1400)
				}
			}
			before = c.dropped("spoof")
			l.forge(b, "10.10.2.10", "10.10.3.10", c)
			l.wait("the forged packet to be counted", func() string {
				if got := c.dropped("spoof") - before; got != 1 {
					return fmt.Sprintf("%d dropped at c, want 1", got)
				}
				return ""
			})
		})
	}
}

// forge sends a bare packet from one host's wire to another's, from any address to any.
func (l *twoHosts) forge(from *labHost, source, destination string, to *labHost) {
	l.t.Helper()
	echo := packet(source, destination, 1, []byte{8, 0, 0xf7, 0xff, 0, 0, 0, 0})
	if err := from.Do(func() error { return bareTo(echo, "eth0", to, "eth0") }); err != nil {
		l.t.Fatal(err)
	}
}

// TestBareAnswersIPv6 has containers without masquerade, as is usual for IPv6, speak to the other node's own address.
func TestBareAnswersIPv6(t *testing.T) {
	file := fmt.Sprintf(twoFamilies, "always", `address6 = "2001:db8:1::1/64"`, `address6 = "2001:db8:1::2/64"`)
	l := newUnderlay(t, strings.Replace(file, "nat_outgoing6 = true", "nat_outgoing6 = false", 1), "a", "b")
	netns.New(t, "four")
	netns.New(t, "six")
	l.wire("a eth0 2001:db8:1::1/64", "b eth0 2001:db8:1::2/64")
	l.destroyed()
	l.apply()
	a, b := l.hosts[0], l.hosts[1]
	l.pings(a.container, "2001:db8:1::2", 1400)
	l.pings(b.container, "2001:db8:1::1", 1400)
}
