package main

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"netd/reconcile/store"
	"netd/testenv/stream"
)

// notify is a socket as systemd gives its services.
func (h *labHost) notify(t *testing.T) *net.UnixConn {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	h.env = append(h.env, "NOTIFY_SOCKET="+path)
	return c
}

// told waits until the daemon says something to systemd.
func told(t *testing.T, c *net.UnixConn, what string) {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(time.Minute))
	b := make([]byte, 4096)
	for {
		n, err := c.Read(b)
		if err != nil {
			t.Fatalf("the daemon did not say %s: %v", what, err)
		}
		if strings.Contains(string(b[:n]), what) {
			return
		}
	}
}

// TestNotify: systemd hears of a daemon that is ready, of one whose loop turns, and of one that stops.
func TestNotify(t *testing.T) {
	l := newLab(t, "vxlan")
	h := l.hosts[0]
	c := h.notify(t)
	h.env = append(h.env, "WATCHDOG_USEC=200000")
	h.start()
	told(t, c, "READY=1")
	told(t, c, "WATCHDOG=1")
	told(t, c, "WATCHDOG=1")
	_ = h.daemon.Process.Signal(syscall.SIGTERM)
	told(t, c, "STOPPING=1")
	_ = h.daemon.Wait()
	h.daemon = nil
}

// TestAddressComesLate: a daemon without its node's address says what it waits for, is ready and DEGRADED after a while, and
// takes up when the address comes.
func TestAddressComesLate(t *testing.T) {
	l := newLab(t, "vxlan")
	h := l.hosts[0]
	h.Run(t, "ip addr del 192.168.170.137/24 dev ens33")
	c := h.notify(t)
	h.env = append(h.env, "NETD_TEST_ADDRESS_WAIT=1s")
	h.start()
	told(t, c, "STATUS=waiting for the node's address")
	told(t, c, "READY=1")
	if out := h.must(exitDegraded, "status"); !strings.Contains(out, "no node of the file") {
		t.Errorf("status:\n%s", out)
	}
	h.must(exitConfig, "apply", "-y")
	h.Run(t, "ip addr add 192.168.170.137/24 dev ens33")
	l.wait("the host in sync", func() string {
		if out, code := h.netd("status"); code != 0 {
			return out
		}
		return ""
	})
}

// said is what a process prints, to be read while it runs.
type said struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *said) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *said) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// writes is what a second listener hears of the host while f runs: each change of rtnetlink's, and each commit of nftables.
func (h *labHost) writes(t *testing.T, f func()) string {
	t.Helper()
	var route, rules said
	monitors := []*exec.Cmd{exec.Command("ip", "monitor", "link", "address", "route", "neigh", "nexthop", "netconf"), exec.Command("nft", "monitor")}
	monitors[0].Stdout, monitors[1].Stdout = &route, &rules
	for _, m := range monitors {
		if err := h.Start(m); err != nil {
			t.Fatal(err)
		}
	}
	mark := func(name string) { // what came before it was heard before it
		h.lab.wait("the monitors' "+name, func() string {
			h.Run(t, "ip link add "+name+" type bridge")
			h.Run(t, "ip link del "+name)
			h.Run(t, "nft add table "+name)
			h.Run(t, "nft delete table "+name)
			if strings.Contains(route.String(), name) && strings.Contains(rules.String(), name) {
				return ""
			}
			return route.String() + rules.String()
		})
	}
	mark("before")
	f()
	mark("after")
	for _, m := range monitors {
		_ = m.Process.Signal(syscall.SIGTERM)
		_ = m.Wait()
	}
	var heard []string
	for line := range strings.Lines(route.String() + rules.String()) {
		if strings.Contains(line, "netd") || strings.Contains(line, "10.10.") || strings.Contains(line, "proto 142") {
			heard = append(heard, line)
		}
	}
	return strings.Join(heard, "")
}

// TestRestartIsSilent: a daemon that stops and one that starts again write nothing to the kernel, and a stream of a thousand
// packets a second between the containers loses none.
func TestRestartIsSilent(t *testing.T) {
	l := newLab(t, "vxlan")
	for _, h := range l.hosts {
		h.start()
	}
	l.settled()
	l.reach()
	master := l.hosts[0]
	s := stream.Start(t, master.container, netip.MustParseAddr("10.10.40.129"), l.hosts[1].container, netip.MustParseAddr("10.10.194.134"), time.Millisecond)
	s.Flowing(t)
	for i := range 6 {
		sig := []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL}[i%2]
		heard := master.writes(t, func() {
			master.stop(sig)
			master.start()
			l.wait("the host in sync", func() string {
				if out, code := master.netd("status"); code != 0 {
					return out
				}
				return ""
			})
		})
		if heard != "" {
			t.Errorf("after %s the daemon's restart wrote:\n%s", sig, heard)
		}
	}
	if r := s.Stop(); r.Lost+r.Refused > 0 || r.Sent < 500 {
		t.Errorf("the stream: %s", r)
	}
}

// TestOneWriter: of two daemons, and of two applies, exactly one does it; the other names its pid. So it does where a daemon
// holds its lock and never answers.
func TestOneWriter(t *testing.T) {
	l := newLab(t, "vxlan")
	h := l.hosts[0]
	run := filepath.Join(h.dir, "run")
	t.Cleanup(func() { h.must(0, "destroy", "-y") })
	lock, err := store.TakeLock(run, "lock", "apply")
	if err != nil {
		t.Fatal(err)
	}
	us := fmt.Sprintf("pid %d (netd apply)", os.Getpid())
	if out := h.must(exitLocked, "apply", "-y"); !strings.Contains(out, us) {
		t.Errorf("a second apply:\n%s", out)
	}
	lock.Release()
	own, err := store.TakeLock(run, "daemon.lock", "run")
	if err != nil {
		t.Fatal(err)
	}
	us = fmt.Sprintf("pid %d (netd run)", os.Getpid())
	if out := h.must(exitLocked, "run"); !strings.Contains(out, us) {
		t.Errorf("a second daemon:\n%s", out)
	}
	// A socket that takes connections and says nothing.
	silent, err := net.Listen("unix", filepath.Join(run, socketName))
	if err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"status"}, {"apply", "-y"}} {
		began := time.Now()
		if out := h.must(exitLocked, args...); !strings.Contains(out, us) {
			t.Errorf("%s beside a silent daemon:\n%s", args[0], out)
		}
		t.Logf("%s gave the silent one up after %s", args[0], time.Since(began))
	}
	_ = silent.Close()
	own.Release()
	if out := h.Run(t, "ip route show proto 142"); out != "" {
		t.Errorf("somebody wrote:\n%s", out)
	}
}

// TestSocketIsRoots: another user gets no answer, even where the socket's mode would let it in.
func TestSocketIsRoots(t *testing.T) {
	l := newLab(t, "vxlan")
	h := l.hosts[0]
	h.start()
	path := filepath.Join(h.dir, "run", socketName)
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("the socket: %v %v", info, err)
	}
	for dir := h.dir; dir != "/"; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{filepath.Dir(path), path} {
		if err := os.Chmod(name, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	stranger := exec.Command("curl", "-s", "-m", "5", "--unix-socket", path, "http://netd/v1/status")
	stranger.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	if out, err := stranger.CombinedOutput(); err != nil || !strings.Contains(string(out), "root alone") {
		t.Errorf("a stranger is answered: %v %s", err, out)
	}
}

// TestFight: a program that keeps undoing a repair is met more and more slowly, and is named; everything else is repaired at
// once meanwhile.
func TestFight(t *testing.T) {
	l := newLab(t, "vxlan")
	h := l.hosts[0]
	h.start()
	l.wait("in sync", func() string {
		if out, code := h.netd("status"); code != 0 {
			return out
		}
		return ""
	})
	// A batch of iproute2 is one process with one socket, which deletes the route whenever it is told to.
	rival := exec.Command("ip", "-force", "-batch", "-")
	in, err := rival.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Start(rival); err != nil {
		t.Fatal(err)
	}
	route := func() bool { out, _ := h.Output("ip", "route", "show", "10.10.194.128/26"); return out != "" }
	by := fmt.Sprintf("by pid %d (ip)", rival.Process.Pid)
	l.wait("the fight is seen, and with whom", func() string { // it is over when nothing was undone for 10 s
		if route() {
			fmt.Fprintln(in, "route del 10.10.194.128/26")
		}
		if out, code := h.netd("status"); code != exitDegraded || !strings.Contains(out, "route 10.10.194.128/26 is changed again and again by someone else") || !strings.Contains(out, by) {
			return out
		}
		return ""
	})
	if !strings.Contains(h.log.String(), fmt.Sprintf("pid %d (ip)", rival.Process.Pid)) {
		t.Errorf("the log does not name the rival:\n%s", h.log)
	}
	if out, _ := h.netd("drift"); !strings.Contains(out, "Last repairs:") || !strings.Contains(out, by) {
		t.Errorf("drift:\n%s", out)
	}
	h.Run(t, "ip neigh del 10.10.194.128 dev vxlan.netd")
	l.wait("the neighbour", func() string {
		if out, _ := h.Output("ip", "neigh", "show", "10.10.194.128"); !strings.Contains(out, "lladdr") {
			return out
		}
		return ""
	})
	_ = in.Close()
	_ = rival.Wait()
	l.wait("peace", func() string {
		if !route() {
			return "no route"
		}
		return ""
	})
}
