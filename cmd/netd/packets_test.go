package main

import (
	"bytes"
	"errors"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"netd/testenv/netns"
)

// packet is an IPv4 packet with a payload; the kernel, or checksum, fills in length and checksum.
func packet(from, to string, protocol byte, payload []byte) []byte {
	b := make([]byte, 20, 20+len(payload))
	b[0], b[8], b[9] = 0x45, 64, protocol
	copy(b[12:], net.ParseIP(from).To4())
	copy(b[16:], net.ParseIP(to).To4())
	return append(b, payload...)
}

// checksum completes the header of a packet that no kernel will.
func checksum(b []byte) {
	b[2], b[3], b[10], b[11] = byte(len(b)>>8), byte(len(b)), 0, 0
	sum := uint32(0)
	for i := 0; i < 20; i += 2 {
		sum += uint32(b[i])<<8 | uint32(b[i+1])
	}
	sum = sum>>16 + sum&0xffff
	sum += sum >> 16
	b[10], b[11] = byte(^sum>>8), byte(^sum)
}

// fragments splits a packet behind its UDP header.
func fragments(b []byte) (first, second []byte) {
	first = bytes.Clone(b[:28])
	second = append(bytes.Clone(b[:20]), b[28:]...)
	for _, f := range [][]byte{first, second} {
		f[4], f[5] = 0x12, 0x34
	}
	first[6] = 0x20 // more fragments
	second[7] = 1   // at byte 8
	return first, second
}

const marker = "this is hostile"

// echo is an echo request with the marker.
func echo(from, to string) []byte {
	return packet(from, to, unix.IPPROTO_ICMP, append([]byte{8, 0, 0, 0, 0, 1, 0, 1}, marker...))
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

// bare sends a packet from the first host to the second out of its link, without asking its routes or its firewall.
func (l *twoHosts) bare(b []byte) func() error {
	return func() error { return l.hosts[0].Do(func() error { return bareTo(b, "ens33", l.hosts[1], "ens33") }) }
}

// bareTo sends a packet out of a link without asking the routes, to another host whose link on the wire is toDev.
func bareTo(b []byte, dev string, to *labHost, toDev string) error {
	show, err := to.Output("ip", "-br", "link", "show", "dev", toDev)
	if err != nil {
		return err
	}
	return bareToMAC(b, dev, strings.Fields(show)[2])
}

func bareToMAC(b []byte, dev, to string) error {
	link, err := net.InterfaceByName(dev)
	if err != nil {
		return err
	}
	mac, err := net.ParseMAC(to)
	if err != nil {
		return err
	}
	s, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(s)
	checksum(b)
	addr := &unix.SockaddrLinklayer{Protocol: 0x0008, Ifindex: link.Index, Halen: 6}
	copy(addr.Addr[:], mac)
	return os.NewSyscallError("sendto", unix.Sendto(s, b, 0, addr))
}

// as runs a program in a namespace as a user without rights.
func as(ns *netns.NS, uid uint32, stdin []byte, name string, args ...string) error {
	cmd := exec.Command(name, args...)
	cmd.Dir = "/"
	cmd.Stdin = bytes.NewReader(stdin)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	if err := ns.Start(cmd); err != nil {
		return err
	}
	stuck := time.AfterFunc(10*time.Second, func() { _ = cmd.Process.Kill() })
	defer stuck.Stop()
	err := cmd.Wait()
	var exit *exec.ExitError
	if name == "socat" && strings.HasPrefix(args[len(args)-1], "UDP") && errors.As(err, &exit) {
		return nil // the firewall's refusal, or the victim's, may reach the sender
	}
	return err
}

// ears hear all packets of a namespace.
type ears int

func listen(t *testing.T, ns *netns.NS) ears {
	t.Helper()
	fd := -1
	err := ns.Do(func() (err error) {
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0x0300)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 8<<20); err != nil {
		t.Fatal(err)
	}
	return ears(fd)
}

// heard is a packet with the marker that came in since the last call.
func (e ears) heard() string {
	found := ""
	b := make([]byte, 2048)
	for {
		n, from, err := unix.Recvfrom(int(e), b, 0)
		if err != nil {
			return found
		}
		if ll, ok := from.(*unix.SockaddrLinklayer); ok && ll.Pkttype != unix.PACKET_OUTGOING && bytes.Contains(b[:n], []byte(marker)) {
			found = string(b[:n])
		}
	}
}

// dropped adds up the counters of the drop rules of one chain.
func (h *labHost) dropped(chain string) int {
	h.lab.t.Helper()
	return h.droppedIn("inet", chain)
}

func (h *labHost) droppedIn(family, chain string) int {
	h.lab.t.Helper()
	out, err := h.Output("nft", "list", "chain", family, "netd", chain)
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
