package main

import (
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"netd/reconcile/doctor"
	"netd/testenv/netns"
)

// fault fails the test unless a check finds what it should, and returns that.
func (h *labHost) fault(check string, level doctor.Level, says string, flags ...string) checkView {
	h.lab.t.Helper()
	found, code := h.examined(flags...)
	c := found[check]
	if c.Level != level || !strings.Contains(c.Evidence, says) || level == doctor.Fail && code != exitDegraded {
		h.lab.t.Fatalf("exit %d, %s: %s %s, want %s: %s", code, check, c.Level, c.Evidence, level, says)
	}
	return c
}

// TestDoctorNewLinks has systemd-sysctl, as udev calls it for each new link, make netd's tunnel strict and close the underlay:
// doctor names the lines, its files undo them, and systemd-sysctl does so no more.
func TestDoctorNewLinks(t *testing.T) {
	const program = "/lib/systemd/systemd-sysctl"
	needPrograms(t, program)
	l := newLab(t, "vxlan")
	l.destroyed()
	l.apply()
	a := l.hosts[0]
	a.ownFiles("", "/etc/sysctl.d")
	udev := func(link string) string {
		a.sh(program + " --prefix=/net/ipv4/conf/" + link)
		conf := "/proc/sys/net/ipv4/conf/" + link + "/"
		return strings.ReplaceAll(strings.TrimSpace(a.Run(t, "cat "+conf+"forwarding "+conf+"rp_filter")), "\n", " ")
	}
	a.fault("new-links", doctor.OK, "none of")

	// The package's file comes after this one, and wins, but against one that names the link and comes later still.
	packaged, err := os.ReadFile("../../packaging/sysctl.d/zz-netd.conf")
	if err != nil {
		t.Fatal(err)
	}
	a.sh("cat >/etc/sysctl.d/zz-netd.conf <<'end'\n" + string(packaged) + "end\nprintf 'net.ipv4.conf.*.rp_filter = 0\\n' >/etc/sysctl.d/99-hard.conf")
	if got := udev("vxlan.netd") + ", " + udev(vethOfMaster); got != "1 2, 1 1" {
		t.Errorf("beside the package's file new links have %s", got)
	}
	a.sh("printf 'net.ipv4.conf.*.forwarding = 1\nnet.ipv4.conf.vxlan/netd.rp_filter = 1\nnet.ipv4.conf.v*.forwarding = 0\n' >/etc/sysctl.d/zzz-hard.conf")
	if got := udev("vxlan.netd"); got != "0 1" {
		t.Errorf("a new vxlan.netd has %s: there is no fault to be found", got)
	}
	a.fault("new-links", doctor.Warn, "/etc/sysctl.d/zzz-hard.conf says net.ipv4.conf.v*.forwarding = 0; /etc/sysctl.d/zzz-hard.conf says net.ipv4.conf.vxlan.netd.rp_filter = 1: udev gives that to each new link of netd's")
	if c := a.fault("new-links", doctor.OK, "none of", "--fix"); c.Fixed != "done" {
		t.Errorf("%+v", c)
	}
	if got := udev("vxlan.netd"); got != "1 2" {
		t.Errorf("after the fix a new vxlan.netd has %s", got)
	}

	// The underlay's link is the host's own: --fix leaves it.
	a.sh("printf 'net/ipv4/conf/*/forwarding = 0\\n' >/etc/sysctl.d/98-closed.conf\nrm /etc/sysctl.d/zzz-hard.conf")
	if got := udev("vxlan.netd") + ", " + udev(vethOfMaster) + ", " + udev("ens33"); got != "1 2, 1 1, 0 0" {
		t.Errorf("new links have %s: there is no fault to be found", got)
	}
	c := a.fault("new-links", doctor.Warn, "/etc/sysctl.d/98-closed.conf says net.ipv4.conf.*.forwarding = 0: at the next boot, and when ens33 comes anew", "--fix")
	if c.Safe || c.Fixed != "" {
		t.Errorf("the underlay's own line: %+v", c)
	}
	a.sh(c.Fix)
	a.fault("new-links", doctor.OK, "none of")
	if got := udev("vxlan.netd") + ", " + udev("ens33"); got != "1 2, 1 0" {
		t.Errorf("after the fix new links have %s", got)
	}
}

// TestDoctorAddress has a host without its node's address, on a link whose name is made to be run.
func TestDoctorAddress(t *testing.T) {
	const link = `';>pwn;'"$(>q)`
	l := newLab(t, "vxlan")
	a := l.hosts[0]
	// Before netd is there the switch is not doctor's to set: netd keeps what it was, and guards a host that was no router.
	for _, when := range []string{"before", "resting"} {
		c := a.fault("forwarding", doctor.Warn, "net.ipv4.conf.ens33.forwarding is 0, and netd is not applied here: it switches that, and guards it", "--fix")
		if c.Safe || c.Fixed != "" {
			t.Errorf("%s: %+v", when, c)
		}
		a.has("sysctl net.ipv4.conf.ens33.forwarding", "= 0")
		if c.Fix != "netd apply" {
			t.Errorf("the fix is %q", c.Fix)
		}
		a.must(0, "apply", "-y")
		a.fault("forwarding", doctor.OK, "ens33 forwards")
		a.has("nft list set inet netd switched", `"ens33"`)
		if when == "before" {
			a.must(0, "destroy", "-y")
		}
	}
	a.Run(t, "ip link set ens33 down")
	a.Run(t, "ip link set ens33 name "+link)
	a.Run(t, "ip link set dev "+link+" up")
	a.Run(t, "sysctl -qw net/ipv4/conf/"+link+"/forwarding=0")
	if c := a.fault("forwarding", doctor.OK, link+" forwards", "--fix"); c.Fixed != "done" {
		t.Errorf("%+v", c)
	}
	a.Run(t, "ip addr flush dev "+link)
	c := a.fault("address", doctor.Fail, "no link of this host holds the node's address 192.168.170.137", "--node", "baihl-master")
	a.sh(c.Fix)
	a.fault("address", doctor.OK, "192.168.170.137/24")
	for _, name := range []string{"pwn", "q"} {
		if os.Remove(name) == nil {
			t.Error("a part of the link's name was run")
		}
	}
}

// TestDoctorLease has a host lose its node's address to another, as a DHCP lease does: which node it is was known when netd wrote to
// it, and is asked of the daemon where one runs. Where neither knows, what is said names no address that netd itself gave it.
func TestDoctorLease(t *testing.T) {
	l := newLab(t, "vxlan")
	a := l.hosts[0]
	a.Run(t, "sysctl -qw net.ipv4.conf.ens33.promote_secondaries=1")
	lost := func(how string) {
		t.Helper()
		a.Run(t, "ip addr add 192.168.170.77/24 dev ens33")
		a.Run(t, "ip addr del 192.168.170.137/24 dev ens33")
		c := a.fault("address", doctor.Fail, "no link of this host holds the node's address 192.168.170.137")
		a.sh(c.Fix)
		a.Run(t, "ip addr del 192.168.170.77/24 dev ens33")
		if c := a.fault("address", doctor.OK, "192.168.170.137/24"); c.Fixed != "" {
			t.Errorf("%s: %+v", how, c)
		}
	}
	a.must(0, "apply", "-y")
	lost("without a daemon")
	a.start()
	a.synced()
	lost("with one")
	a.stop(syscall.SIGTERM)

	a.Run(t, "ip addr add 192.168.170.77/24 dev ens33")
	a.Run(t, "ip addr del 192.168.170.137/24 dev ens33")
	a.dir = t.TempDir() // what it was is forgotten
	for command, code := range map[string]int{"doctor": exitConfig, "plan": exitConfig, "status": exitNoDaemon} {
		if out := a.must(code, command); !strings.Contains(out, "this host is no node of the file: its addresses are 192.168.170.77/24, its name is") {
			t.Errorf("netd %s: %s", command, out)
		}
	}
}

// TestDoctorClocks has a node answer with another time of day than this host's.
func TestDoctorClocks(t *testing.T) {
	l := newLab(t, "vxlan")
	a, b := l.hosts[0], l.hosts[1]
	others := func() string { // of the other nodes alone: this host's own clock is as it is
		t.Helper()
		out, _ := a.netd("doctor")
		var lines []string
		for line := range strings.Lines(out) {
			if f := strings.Fields(line); len(f) > 1 && f[1] == "clocks" && strings.Contains(line, "the clock of node") {
				lines = append(lines, strings.TrimSpace(line))
			}
		}
		return strings.Join(lines, "\n")
	}
	if got := others(); got != "" {
		t.Errorf("before: %s", got)
	}
	// The kernel's own answers do not leave, and these do.
	for _, line := range []string{"nft add table inet clock", "nft add chain inet clock out { type filter hook output priority 0 ; }", "nft add rule inet clock out icmp type timestamp-reply meta mark != 1 drop"} {
		b.Run(t, line)
	}
	var fd int
	if err := b.Do(func() (err error) {
		fd, err = unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, unix.IPPROTO_ICMP)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK, 1); err != nil {
		t.Fatal(err)
	}
	file := os.NewFile(uintptr(fd), "icmp")
	c, err := net.FilePacketConn(file)
	if err != nil {
		t.Fatal(err)
	}
	_ = file.Close()
	done := make(chan struct{})
	t.Cleanup(func() { _ = c.Close(); <-done })
	go func() {
		defer close(done)
		for packet := make([]byte, 1500); ; {
			n, from, err := c.ReadFrom(packet)
			if err != nil {
				return
			}
			m := packet[:n]
			if len(m) < 20 || m[0] != 13 {
				continue
			}
			m[0] = 14
			ahead := uint32((time.Now().UnixMilli() + 90_000) % (24 * 60 * 60 * 1000))
			binary.BigEndian.PutUint32(m[12:], ahead)
			binary.BigEndian.PutUint32(m[16:], ahead)
			m[2], m[3] = 0, 0
			binary.BigEndian.PutUint16(m[2:], sum(m))
			_, _ = c.WriteTo(m, from)
		}
	}()
	// Within half the round trip, which a busy machine makes long.
	named := regexp.MustCompile(`warn +clocks +the clock of node baihl-node \(192\.168\.170\.138\) is 1m(29|30)(\.[0-9])?s ahead of this one's`)
	l.wait("another time to be named", func() string { // this process tells it, when it gets to it
		if got := others(); !named.MatchString(got) {
			return "doctor says: " + got
		}
		return ""
	})
	b.Run(t, "nft delete table inet clock") // the kernel answers first
	if got := others(); got != "" {
		t.Errorf("afterwards: %s", got)
	}
}

// TestDoctorChecksum has a wire between two hosts that does of checksums what a network card with a broken offload does: those
// of the outermost header it fills in, those within a tunnel not. TCP is lost in the tunnel while pings pass, until doctor's
// command is run.
func TestDoctorChecksum(t *testing.T) {
	l := newLab(t, "vxlan")
	l.destroyed()
	l.apply()
	l.reach()
	a, b := l.hosts[0], l.hosts[1]
	for _, h := range l.hosts {
		h.ownFiles("", "/etc/systemd")
		netns.Run(t, "ip link set "+h.wire+" nomaster")
	}
	l.carries(fillOutermost, a.wire, b.wire)
	if l.flows() == "" {
		t.Fatal("TCP passes: there is no fault to be found")
	}
	for _, h := range l.hosts {
		c := h.fault("checksum-offload", doctor.Warn, "answers pings and no TCP")
		h.sh(c.Fix)
		if out := h.sh("cat /etc/systemd/network/00-netd.link"); out != "[Match]\nOriginalName=vxlan.netd netdvx* netdx*\n\n[Link]\nTransmitChecksumOffload=no\n" {
			t.Errorf("the file:\n%s", out)
		}
	}
	if out := l.flows(); out != "" {
		t.Errorf("after the fixes: %s", out)
	}
	for _, h := range l.hosts {
		h.fault("checksum-offload", doctor.OK, "1 of 1 tunnel ends answer TCP")
		h.enter = nil // the containers are where the test sees them
		if out := h.must(0, "plan"); !strings.Contains(out, "No changes.") {
			t.Errorf("the plan:\n%s", out)
		}
	}
}

// TestCardChecksum has a card that fills in no checksum at all. In the tunnel pings are lost too, since VXLAN's own header has one:
// that is what netd test tells, and it is the card's offload that must go.
func TestCardChecksum(t *testing.T) {
	l := newLab(t, "vxlan")
	l.destroyed()
	l.apply()
	a, b := l.hosts[0], l.hosts[1]
	for _, h := range l.hosts {
		netns.Run(t, "ip link set "+h.wire+" nomaster")
	}
	l.carries(func(b []byte) { clear(b[:virtioHead]) }, a.wire, b.wire)
	a.tests(t, "baihl-node node ok 1500", "baihl-node tunnel lost 0")
	for _, h := range l.hosts {
		h.Run(t, "ethtool -K ens33 tx off")
	}
	a.tests(t, "baihl-node node ok 1500", "baihl-node tunnel ok 1450")
	if out := l.flows(); out != "" {
		t.Error(out)
	}
}

// virtioHead is how long a struct virtio_net_hdr is (linux/virtio_net.h).
const virtioHead = 10

// carries carries packets between two links until the test ends. A struct virtio_net_hdr is before each, for the card to see what
// the kernel left to it.
func (l *twoHosts) carries(card func([]byte), names ...string) {
	l.t.Helper()
	var ends []*os.File
	for _, name := range names {
		link, err := net.InterfaceByName(name)
		if err != nil {
			l.t.Fatal(err)
		}
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			l.t.Fatal(err)
		}
		ends = append(ends, os.NewFile(uintptr(fd), name))
		for _, option := range []int{unix.PACKET_IGNORE_OUTGOING, unix.PACKET_VNET_HDR} {
			if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, option, 1); err != nil {
				l.t.Fatal(err)
			}
		}
		const all = unix.ETH_P_ALL<<8&0xff00 | unix.ETH_P_ALL>>8
		if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: link.Index}); err != nil {
			l.t.Fatal(err)
		}
	}
	done := make(chan struct{})
	for i := range ends {
		go func(from, to *os.File) {
			defer func() { done <- struct{}{} }()
			for b := make([]byte, 1<<16); ; {
				n, err := from.Read(b)
				if err != nil {
					return
				}
				card(b[:n])
				_, _ = to.Write(b[:n]) // what is too large for the link is lost, as on any
			}
		}(ends[i], ends[1-i])
	}
	l.t.Cleanup(func() {
		for _, end := range ends {
			_ = end.Close()
		}
		<-done
		<-done
	})
}

// fillOutermost fills in the checksum that the kernel left to the card, if it is of a packet's outermost header. b is a struct
// virtio_net_hdr and the frame: flags, two fields on segments, and from where on to sum and where to put it.
func fillOutermost(b []byte) {
	const ether, ip = 14, 20
	frame := b[virtioHead:]
	start, at := int(binary.NativeEndian.Uint16(b[6:])), int(binary.NativeEndian.Uint16(b[8:]))
	if b[0]&1 != 0 && start == ether+ip {
		binary.BigEndian.PutUint16(frame[start+at:], sum(frame[start:]))
	}
	clear(b[:virtioHead])
}

// sum is the Internet's checksum (RFC 1071).
func sum(b []byte) uint16 {
	var s uint32
	for i := range b {
		s += uint32(b[i]) << (8 * (1 - i%2))
	}
	for s>>16 != 0 {
		s = s>>16 + s&0xffff
	}
	return ^uint16(s)
}

// manyNear is a file with more nodes on one subnet than the kernel's table of neighbours holds.
var manyNear = func() string {
	var file strings.Builder
	file.WriteString("network \"lab\" {\n  pools = [\"10.0.0.0/8\"]\n  mode  = \"vxlan\"\n}\n")
	for i := range 1200 {
		fmt.Fprintf(&file, "node \"n%d\" {\n  address = \"192.168.%d.%d/20\"\n  blocks  = [\"10.%d.%d.0/24\"]\n}\n", i, 170+(i+137)/256, (i+137)%256, i/256, i%256)
	}
	return file.String()
}()

// TestDoctorNeighbours has a small table named. TestDoctorGuest runs the command: the table is the whole kernel's.
func TestDoctorNeighbours(t *testing.T) {
	l := newLab(t, "vxlan")
	a := l.hosts[0]
	a.fault("neighbours", doctor.OK, "1 of ")
	for _, half := range []string{"192.168.160.0/21", "192.168.168.0/21"} { // nothing is sent there: the table is that of all labs
		a.Run(t, "ip route add blackhole "+half)
	}
	l.write(manyNear)
	a.Run(t, "ip addr add 192.168.170.137/20 dev ens33")
	a.Run(t, "ip addr del 192.168.170.137/24 dev ens33")
	c := a.fault("neighbours", doctor.Warn, "1199 nodes in 192.168.160.0/20 and ")
	if !strings.Contains(c.Evidence, "net.ipv4.neigh.default.gc_thresh3 is 1024") || !strings.Contains(c.Fix, "net.ipv4.neigh.default.gc_thresh3 = 4096") {
		t.Errorf("%+v", c)
	}
}
