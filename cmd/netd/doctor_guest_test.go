package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"netd/reconcile/doctor"
	"netd/testenv/netns"
)

// TestDoctorGuest is of the faults that are the whole kernel's: a module that is missing, then there and not loaded; a table of
// neighbours that is too small; a clock that nobody keeps.
func TestDoctorGuest(t *testing.T) {
	if later, _ := filepath.Glob("/later/*-vxlan.ko"); os.Getenv("NETD_GUEST") == "" || len(later) == 0 {
		t.Skip("needs a kernel that lacks modules: it runs in a guest of its own (make vm)")
	}
	l := newLab(t, "vxlan")
	a := l.hosts[0]

	c := a.fault("module", doctor.Fail, " has no vxlan: neither loaded, nor built in, nor under /lib/modules/")
	if c.Safe || !strings.HasPrefix(c.Fix, "apt-get install linux-image-") {
		t.Errorf("%+v", c)
	}
	// The package is installed.
	release, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		t.Fatal(err)
	}
	dir := "/lib/modules/" + strings.TrimSpace(string(release)) + "/kernel"
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	later, _ := filepath.Glob("/later/*.ko")
	for _, path := range later {
		_, name, _ := strings.Cut(filepath.Base(path), "-")
		if err := os.Symlink(path, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	a.Run(t, "depmod")
	for _, mode := range []string{"vxlan", "ipip"} {
		l.mode(mode)
		a.fault("module", doctor.Warn, "the module "+mode+" is there and not loaded")
		if c := a.fault("module", doctor.OK, mode, "--fix"); c.Fixed != "done" {
			t.Errorf("%+v", c)
		}
		for _, h := range l.hosts {
			h.must(0, "apply", "-y")
		}
		l.reach()
	}
	for _, h := range l.hosts {
		h.must(0, "destroy", "-y")
	}

	set := func(status int32) {
		t.Helper()
		const maxError, statusBits = 0x4, 0x10 // ADJ_MAXERROR, ADJ_STATUS (adjtimex(2))
		if _, err := unix.Adjtimex(&unix.Timex{Modes: maxError | statusBits, Status: status}); err != nil {
			t.Fatal(err)
		}
	}
	set(0) // as who keeps it does
	a.fault("clocks", doctor.OK, "told theirs")
	set(0x40) // STA_UNSYNC
	if c := a.fault("clocks", doctor.Warn, "nothing keeps this host's clock"); c.Fix != "apt-get install systemd-timesyncd && timedatectl set-ntp true" {
		t.Errorf("%+v", c)
	}
	set(0)
	a.fault("clocks", doctor.OK, "told theirs")

	l.write(manyNear)
	a.Run(t, "ip addr add 192.168.170.137/20 dev ens33")
	a.Run(t, "ip addr del 192.168.170.137/24 dev ens33")
	// A neighbour that was asked for in vain, three seconds by itself, may be thrown out to make room: on a slow machine there
	// would be room for all.
	a.Run(t, "sysctl -qw net.ipv4.neigh.ens33.mcast_solicit=600")
	refused := func() (n int) { // of a packet to each of them
		t.Helper()
		if err := a.Do(func() error {
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			if err := unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_RECVERR, 1); err != nil { // else UDP says nothing of it
				return err
			}
			if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, 1<<23); err != nil { // they all wait for their neighbours
				return err
			}
			for i := 2; i < 1200; i++ { // the first one is there
				to := &unix.SockaddrInet4{Port: 9, Addr: [4]byte{192, 168, byte(170 + (i+137)/256), byte((i + 137) % 256)}}
				if err := unix.Sendto(fd, []byte("x"), 0, to); errors.Is(err, unix.ENOBUFS) {
					n++
				} else if err != nil {
					return fmt.Errorf("to %d.%d: %w", to.Addr[2], to.Addr[3], err)
				}
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		return n
	}
	c = a.fault("neighbours", doctor.Warn, "1199 nodes in 192.168.160.0/20 and ")
	l.wait("the table to overflow", func() string {
		if refused() > 0 {
			return ""
		}
		return a.Run(t, "ip ntable show name arp_cache; ip neigh | sort -k4 | uniq -c -f4 | head")
	})
	if out, err := netns.Open("/proc/1/ns/net").Output("sh", "-ec", c.Fix); err != nil { // the table's limits are in the first namespace alone
		t.Fatalf("%v: %s", err, out)
	}
	a.fault("neighbours", doctor.OK, " of 4096")
	if n := refused(); n > 0 {
		t.Errorf("after the fix %d packets were refused", n)
	}
}
