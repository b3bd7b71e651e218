package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"netd/testenv/netns"
)

// TestUnderlayKinds has the node's address on every kind of link that hosts have it on.
func TestUnderlayKinds(t *testing.T) {
	for _, x := range []struct {
		kind, link string
		mtu        int      // of the underlay
		up         []string // on each host, whose eth0 is on the wire; N is its number
		file       func(file, mode string) string
	}{
		{"bridge", "br0", 1500, []string{"ip link add br0 type bridge", "ip link set eth0 master br0", "ip link set br0 up", "ip addr add 192.168.1.N/24 dev br0"}, nil},
		{"bond", "bond0", 1500, []string{"ip link add bond0 type bond mode active-backup", "ip link set eth0 down", "ip link set eth0 master bond0", "ip link set bond0 up", "ip addr add 192.168.1.N/24 dev bond0"}, nil},
		{"vlan", "eth0.5", 1500, []string{"ip link add link eth0 name eth0.5 type vlan id 5", "ip link set eth0.5 up", "ip addr add 192.168.1.N/24 dev eth0.5"}, nil},
		{"lo", "eth0", 1500, []string{"ip addr add 192.168.1.N/32 dev lo", "ip addr add 172.16.0.N/24 dev eth0", "ip route add 192.168.1.0/24 dev eth0 src 192.168.1.N"},
			func(file, mode string) string {
				if mode == "bgp" { // nodes that share no subnet need a router between them
					return strings.ReplaceAll(file, "/24\"\n  blocks", "/24\"\n  interface = \"eth0\"\n  blocks")
				}
				return strings.NewReplacer(`192.168.1.1/24"`, "192.168.1.1/32\"\n  interface = \"eth0\"", `192.168.1.2/24"`, "192.168.1.2/32\"\n  interface = \"eth0\"").Replace(file)
			}},
	} {
		for _, mode := range []string{"vxlan", "ipip", "bgp"} {
			t.Run(x.kind+" "+mode, func(t *testing.T) {
				if mode == "ipip" {
					needIPIP(t)
				}
				if x.kind == "bond" || x.kind == "vlan" {
					needLinkType(t, x.kind)
				}
				file := fmt.Sprintf(twoSites, mode)
				if x.file != nil {
					file = x.file(file, mode)
				}
				l := newUnderlay(t, file, "a", "b")
				l.wire("a eth0", "b eth0")
				for i, h := range l.hosts {
					for _, command := range x.up {
						h.Run(t, strings.ReplaceAll(command, "N", fmt.Sprint(i+1)))
					}
				}
				a, b := l.hosts[0], l.hosts[1]
				size, dev := x.mtu-50, "vxlan.netd"
				if mode == "ipip" {
					size, dev = x.mtu-20, "tunl0"
				}
				if mode == "bgp" { // routes are learned by sessions, which daemons hold
					size, dev = x.mtu, x.link
					for _, h := range l.hosts {
						h.start()
					}
					for i, h := range l.hosts {
						l.wait("the learned route", func() string {
							return h.lacks(fmt.Sprintf("10.10.%[1]d.0/24 via 192.168.1.%[1]d dev %[2]s ", 2-i, x.link))
						})
					}
					l.settled()
				} else {
					l.destroyed()
					l.apply()
				}
				l.pings(a.container, "10.10.2.10", size)
				l.pings(b.container, "10.10.1.10", size)
				l.pings(a.NS, "10.10.2.10", size)
				a.has("ip link show dev "+dev, fmt.Sprintf("mtu %d ", size))
				a.has("nft list set inet netd switched", `"`+x.link+`"`)
				a.has("nft list set inet netd endpoints", `" . 10.10.1.10`)
			})
		}
	}
}

// needLinkType stops a test of links that this kernel has not. `make vm` runs it in a guest, where it fails without them.
func needLinkType(t *testing.T, typ string) {
	t.Helper()
	netns.Need(t)
	create := exec.Command("ip", "link", "add", "probe0", "type", typ)
	if typ == "vlan" {
		create = exec.Command("ip", "link", "add", "link", "lo", "name", "probe0", "type", "vlan", "id", "5")
	}
	out, err := create.CombinedOutput()
	switch {
	case err == nil:
		netns.Run(t, "ip link del probe0")
	case !strings.Contains(string(out), "Unknown device type"): // lo takes no VLAN, and that is said by who knows VLANs
	case os.Getenv("NETD_GUEST") != "":
		t.Fatalf("this guest has no %s: %s", typ, out)
	default:
		t.Skipf("this kernel has no %s: the same test runs in the guest (make vm)", typ)
	}
}

// TestSmallPath has a link in the path that carries less than the hosts' own. What the router there says of it reaches the
// container that sent too much, through the tunnel and from the world, and large transfers pass. VXLAN over IPv4 lets routers
// fragment what is outside, so that nothing has to be said. Over IPv6 no router may, and the kernel does not tell containers
// what it learns of the path (net/ipv6/ip6_output.c, ip6_forward, heeds the link alone): there the file says what it carries.
func TestSmallPath(t *testing.T) {
	v6 := strings.NewReplacer("address = \"192.168.1.", "address6 = \"2001:db8:1::", "address = \"192.168.2.", "address6 = \"2001:db8:2::", "/24\"\n  blocks", "/64\"\n  blocks", "  encapsulate", "  mtu = 1230\n  encapsulate")
	for _, x := range []struct {
		what, mode string
		file       func(string) string
		said       string // to the sender of too much
	}{
		{"vxlan", "vxlan", nil, ""},
		{"vxlan over IPv6", "vxlan", v6.Replace, "mtu=1230"},
		{"ipip", "ipip", nil, "mtu = 1280"},
	} {
		t.Run(x.what, func(t *testing.T) {
			if x.mode == "ipip" {
				needIPIP(t)
			}
			file := fmt.Sprintf(threeSites, x.mode, "always")
			if x.file != nil {
				file = x.file(file)
			}
			l, near, far := newSites(t, file)
			a, c := l.hosts[0], l.hosts[2]
			near.Run(t, "ip link set mid mtu 1300")
			far.Run(t, "ip link set mid mtu 1300")
			l.destroyed()
			l.apply()
			l.pings(a.container, "10.10.3.10", 1200)
			if x.said != "" {
				l.wait("the router's word", func() string {
					if out, err := a.container.Output("ping", "-c3", "-i0.1", "-W1", "-Mdo", "-s1400", "10.10.3.10"); err == nil || !strings.Contains(out, x.said) {
						return "ping says: " + out
					}
					return ""
				})
			} else {
				l.pings(a.container, "10.10.3.10", 1450)
			}
			l.transfers(a.container, c.container, "10.10.3.10")
			l.transfers(c.container, a.container, "10.10.1.10")

			if x.file == nil { // the world beyond, masqueraded
				l.wait("a word from the world", func() string {
					if out, err := a.container.Output("ping", "-c3", "-i0.1", "-W1", "-Mdo", "-s1400", "192.168.2.9"); err == nil || !strings.Contains(out, "mtu = 1300") {
						return "ping says: " + out
					}
					return ""
				})
			}
		})
	}
}

// transfers sends bytes over TCP from one container to another's address.
func (l *twoHosts) transfers(from, to *netns.NS, address string) {
	l.t.Helper()
	server := exec.Command("socat", "-u", "TCP-LISTEN:8080,reuseaddr", "STDOUT")
	if strings.Contains(address, ":") {
		server = exec.Command("socat", "-u", "TCP6-LISTEN:8080,reuseaddr", "STDOUT")
		address = "[" + address + "]"
	}
	var got bytes.Buffer
	server.Stdout = &got
	if err := to.Start(server); err != nil {
		l.t.Fatal(err)
	}
	client := exec.Command("socat", "-u", "STDIN", "TCP:"+address+":8080,retry=1000,interval=0.05")
	client.Stdin = strings.NewReader(strings.Repeat("x", 500_000))
	if err := from.Start(client); err != nil {
		l.t.Fatal(err)
	}
	if err := client.Wait(); err != nil {
		l.t.Error("the stream's client:", err)
		_ = server.Process.Kill()
	}
	if err := server.Wait(); err != nil || got.Len() != 500_000 {
		l.t.Errorf("the stream: %v, %d bytes", err, got.Len())
	}
}
