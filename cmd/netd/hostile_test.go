package main

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// packet is an IPv4 packet with a payload; the kernel fills in length and checksum.
func packet(from, to string, protocol byte, payload []byte) []byte {
	b := make([]byte, 20, 20+len(payload))
	b[0], b[8], b[9] = 0x45, 64, protocol
	s, d := netip.MustParseAddr(from).As4(), netip.MustParseAddr(to).As4()
	copy(b[12:], s[:])
	copy(b[16:], d[:])
	return append(b, payload...)
}

func udp(port uint16, payload []byte) []byte {
	b := make([]byte, 8, 8+len(payload))
	b[0], b[1] = 0x30, 0x39
	b[2], b[3] = byte(port>>8), byte(port)
	n := len(payload) + 8
	b[4], b[5] = byte(n>>8), byte(n)
	return append(b, payload...)
}

// raw sends an IP packet as it is, from inside a namespace.
func raw(b []byte) error {
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
	if err != nil {
		return err
	}
	defer unix.Close(s)
	return unix.Sendto(s, b, 0, &unix.SockaddrInet4{Addr: [4]byte(b[16:20])})
}

// dropped adds up the counters of the drop rules of one chain.
func (h *labHost) dropped(chain string) int {
	h.lab.t.Helper()
	out, err := h.Output("nft", "list", "chain", "inet", "netd", chain)
	if err != nil {
		h.lab.t.Fatalf("%v: %s", err, out)
	}
	sum := 0
	for _, line := range strings.Split(out, "\n") {
		if !strings.Contains(line, "drop") {
			continue
		}
		if _, after, ok := strings.Cut(line, "counter packets "); ok {
			n, _ := strconv.Atoi(strings.Fields(after)[0])
			sum += n
		}
	}
	return sum
}

// TestHostile has containers and hosts send what must not get through: it is dropped, and counted where it was dropped.
func TestHostile(t *testing.T) {
	l := newLab(t, "vxlan")
	for _, h := range l.hosts {
		h.must(0, "apply", "-y")
		t.Cleanup(func() { h.must(0, "destroy", "-y") })
	}
	l.reach()
	master, node := l.hosts[0], l.hosts[1]
	// A VXLAN datagram that would put an echo request into the far container.
	vtep := strings.Fields(master.Run(t, "ip neigh show 10.10.194.128"))[4]
	mac, err := net.ParseMAC(vtep)
	if err != nil {
		t.Fatal(err)
	}
	echo := packet("10.10.40.129", "10.10.194.134", unix.IPPROTO_ICMP, []byte{8, 0, 0xf7, 0xff, 0, 0, 0, 0})
	frame := append(append(append([]byte{}, mac...), 2, 0, 0, 0, 0, 9, 8, 0), echo...)
	vxlan := append([]byte{8, 0, 0, 0, 0, 0x10, 0, 0}, frame...)

	for _, x := range []struct {
		what   string
		send   func() error
		where  *labHost
		chains []string
	}{
		{"VXLAN from a container", func() error {
			return master.container.Do(func() error {
				return raw(packet("10.10.40.129", "192.168.170.138", unix.IPPROTO_UDP, udp(4789, vxlan)))
			})
		}, master, []string{"vxlan-wire", "vxlan-forward"}},
		{"VXLAN from a container with its node's address", func() error {
			return master.container.Do(func() error {
				return raw(packet("192.168.170.137", "192.168.170.138", unix.IPPROTO_UDP, udp(4789, vxlan)))
			})
		}, master, []string{"spoof", "vxlan-wire"}},
		{"a container's neighbour's address", func() error {
			return master.container.Do(func() error {
				return raw(packet("10.10.40.130", "10.10.194.134", unix.IPPROTO_ICMP, []byte{8, 0, 0xf7, 0xff, 0, 0, 0, 0}))
			})
		}, master, []string{"spoof"}},
		{"VXLAN from an address of no node", func() error {
			return master.Do(func() error {
				return bare(packet("192.168.170.99", "192.168.170.138", unix.IPPROTO_UDP, udp(4789, vxlan)), "ens33", node)
			})
		}, node, []string{"vxlan-wire"}},
		{"what is no VXLAN to the VXLAN port, from a container", func() error {
			return master.container.Do(func() error {
				return raw(packet("10.10.40.129", "192.168.170.138", unix.IPPROTO_UDP, udp(4789, []byte("short"))))
			})
		}, master, []string{"vxlan-forward"}},
		{"a container's address, bare on the wire", func() error {
			return master.Do(func() error {
				b := packet("10.10.40.129", "10.10.194.134", unix.IPPROTO_ICMP, []byte{8, 0, 0xf7, 0xff, 0, 0, 0, 0})
				return bare(b, "ens33", node)
			})
		}, node, []string{"spoof"}},
	} {
		t.Run(x.what, func(t *testing.T) {
			l.t = t
			count := func() (n int) {
				for _, c := range x.chains {
					n += x.where.dropped(c)
				}
				return n
			}
			before := count()
			if err := x.send(); err != nil {
				t.Fatal(err)
			}
			l.wait("the drop to be counted", func() string {
				if count() > before {
					return ""
				}
				return fmt.Sprintf("%v of %s count nothing", x.chains, x.where.Name)
			})
		})
	}
	l.t = t

	// On the host: an unprivileged process sends to the VXLAN port of the other host; root's own traffic still passes.
	before := master.dropped("vxlan-output")
	cmd := exec.Command("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "socat", "-u", "STDIN", "UDP:192.168.170.138:4789")
	cmd.Stdin = strings.NewReader(string(vxlan))
	if err := master.Start(cmd); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if now := master.dropped("vxlan-output"); now == before {
		t.Error("a datagram of an unprivileged process passed")
	}
	ping := exec.Command("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "socat", "-u", "STDIN", "UDP:10.10.194.134:9")
	ping.Stdin = strings.NewReader("to a container, as another user")
	before = master.dropped("vxlan-output")
	if err := master.Start(ping); err != nil {
		t.Fatal(err)
	}
	_ = ping.Wait()
	if now := master.dropped("vxlan-output"); now != before {
		t.Error("another user's datagram to a container was dropped")
	}
	l.reach()
}

// bare sends a packet out of a link without asking the routes, to another host on the wire.
func bare(b []byte, dev string, to *labHost) error { return bareTo(b, dev, to, "ens33") }

// bareTo is bare to a host whose link on the wire is toDev.
func bareTo(b []byte, dev string, to *labHost, toDev string) error {
	link, err := net.InterfaceByName(dev)
	if err != nil {
		return err
	}
	show, err := to.Output("ip", "-br", "link", "show", "dev", toDev)
	if err != nil {
		return err
	}
	mac, err := net.ParseMAC(strings.Fields(show)[2])
	if err != nil {
		return err
	}
	s, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(s)
	b[2], b[3] = byte(len(b)>>8), byte(len(b))
	sum := uint32(0)
	for i := 0; i < 20; i += 2 {
		sum += uint32(b[i])<<8 | uint32(b[i+1])
	}
	sum = sum>>16 + sum&0xffff
	sum += sum >> 16
	b[10], b[11] = byte(^sum>>8), byte(^sum)
	addr := &unix.SockaddrLinklayer{Protocol: 0x0008, Ifindex: link.Index, Halen: 6}
	copy(addr.Addr[:], mac)
	return os.NewSyscallError("sendto", unix.Sendto(s, b, 0, addr))
}
