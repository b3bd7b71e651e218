package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"netd/testenv/netns"
)

// twoHosts is the two hosts of the walk-through on a wire, with a container each.
type twoHosts struct {
	t     *testing.T
	file  string
	hosts []*labHost
}

type labHost struct {
	*netns.NS
	lab       *twoHosts
	dir, wire string
	file      string // instead of the lab's
	container *netns.NS
	daemon    *exec.Cmd
	log       *said // what the daemon writes
	env       []string
	runArgs   []string // further ones of the daemon
	enter     []string // what runs a command in its mount namespace; empty: it has none of its own
}

const walkthrough = `network "lab" {
  pools = ["10.10.0.0/16"]
  mode  = "%s"
}

node "baihl-master" {
  address = "192.168.170.137/24"
  blocks  = ["10.10.40.128/26"]
}

node "baihl-node" {
  address = "192.168.170.138/24"
  blocks  = ["10.10.194.128/26"]
}

workload "nginx-master" {
  node    = "baihl-master"
  address = "10.10.40.129"
  netns   = "/run/netns/nginx-master"
}

workload "nginx-node" {
  node    = "baihl-node"
  address = "10.10.194.134"
  netns   = "/run/netns/nginx-node"
}
`

// wires counts the wires of all labs: the kernel takes its time to remove those of a lab that ended.
var wires int

func newLab(t *testing.T, mode string) *twoHosts {
	netns.Need(t)
	l := &twoHosts{t: t, file: filepath.Join(t.TempDir(), "netd.hcl")}
	l.mode(mode)
	for i, name := range []string{"master", "node"} {
		h := &labHost{NS: netns.New(t, "baihl-"+name), lab: l, container: netns.New(t, "nginx-"+name), dir: t.TempDir()}
		if err := os.Chmod(h.dir, 0o755); err != nil {
			t.Fatal(err)
		}
		l.hosts = append(l.hosts, h)
		h.wire = fmt.Sprintf("wire%d", wires)
		wires++
		netns.Run(t, fmt.Sprintf("ip link add %s type veth peer name ens33 netns baihl-%s", h.wire, name))
		h.Run(t, fmt.Sprintf("ip addr add 192.168.170.%d/24 dev ens33", 137+i))
		h.Run(t, "ip link set ens33 up")
	}
	netns.Run(t, "ip link add wire type bridge")
	t.Cleanup(func() { netns.Run(t, "ip link del wire") })
	netns.Run(t, "ip link set wire up")
	for _, h := range l.hosts {
		netns.Run(t, fmt.Sprintf("ip link set %s master wire up", h.wire))
	}
	return l
}

func (l *twoHosts) mode(mode string) {
	l.t.Helper()
	if err := os.WriteFile(l.file, []byte(fmt.Sprintf(walkthrough, mode)), 0o644); err != nil {
		l.t.Fatal(err)
	}
}

func (h *labHost) command(args ...string) *exec.Cmd {
	exe, err := os.Executable()
	if err != nil {
		h.lab.t.Fatal(err)
	}
	file := h.lab.file
	if h.file != "" {
		file = h.file
	}
	global := []string{"-c", file, "--state-dir", filepath.Join(h.dir, "state"), "--run-dir", filepath.Join(h.dir, "run"), "--color", "never"}
	line := append(append(append([]string{}, h.enter...), exe), append(global, args...)...)
	cmd := exec.Command(line[0], line[1:]...)
	cmd.Env = append(append(os.Environ(), "NETD_TEST_PROGRAM=1"), h.env...)
	return cmd
}

// waits is what netd says where something takes longer than 2 s.
var waits = regexp.MustCompile(`(?m)^netd: waiting for .*\n`)

// netd runs netd on a host and returns what it printed, but for what it waits for, and its exit code.
func (h *labHost) netd(args ...string) (string, int) {
	h.lab.t.Helper()
	cmd := h.command(args...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := h.Start(cmd); err != nil {
		h.lab.t.Fatal(err)
	}
	stuck := time.AfterFunc(2*time.Minute, func() { _ = cmd.Process.Signal(syscall.SIGQUIT) }) // its goroutines are in the output
	defer stuck.Stop()
	err := cmd.Wait()
	if _, ok := err.(*exec.ExitError); err != nil && !ok {
		h.lab.t.Fatal(err)
	}
	return waits.ReplaceAllString(out.String(), ""), cmd.ProcessState.ExitCode()
}

func (h *labHost) must(code int, args ...string) string {
	h.lab.t.Helper()
	out, got := h.netd(args...)
	if got != code {
		h.lab.t.Fatalf("%s: netd %s: exit code %d, want %d:\n%s\n%s", h.Name, strings.Join(args, " "), got, code, out, h.log)
	}
	return out
}

// start starts a daemon, which ends with the test.
func (h *labHost) start() {
	h.lab.t.Helper()
	h.daemon, h.log = h.command(append([]string{"run"}, h.runArgs...)...), &said{}
	h.daemon.Stderr = h.log
	if err := h.Start(h.daemon); err != nil {
		h.lab.t.Fatal(err)
	}
	h.lab.t.Cleanup(func() { h.stop(syscall.SIGKILL); h.must(0, "destroy", "-y") })
	h.lab.wait(h.Name+": status", func() string {
		if out, code := h.netd("status"); code == exitNoDaemon {
			return out
		}
		return ""
	})
}

func (h *labHost) stop(sig syscall.Signal) {
	if h.daemon == nil {
		return
	}
	_ = h.daemon.Process.Signal(sig)
	_ = h.daemon.Wait()
	h.daemon = nil
}

// wait waits until nothing is wrong.
func (l *twoHosts) wait(what string, wrong func() string) {
	l.t.Helper()
	patience := time.Minute
	if os.Getenv("NETD_GUEST") != "" { // on an emulated processor
		patience = 2 * time.Minute
	}
	deadline := time.Now().Add(patience)
	for {
		text := wrong()
		if text == "" {
			return
		}
		if time.Now().After(deadline) {
			for _, h := range l.hosts {
				l.t.Logf("%s:\n%s", h.Name, h.log)
			}
			l.t.Fatalf("waiting for %s:\n%s", what, text)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func (l *twoHosts) settled() {
	l.t.Helper()
	for _, h := range l.hosts {
		l.wait(h.Name+" in sync", func() string {
			if out, code := h.netd("status"); code != 0 {
				return out
			}
			if out, _ := h.netd("plan"); !strings.Contains(out, "No changes.") {
				return out
			}
			return ""
		})
	}
}

// reach pings between the containers both ways, and shows a TCP stream.
func (l *twoHosts) reach() {
	l.t.Helper()
	a, b := l.hosts[0].container, l.hosts[1].container
	// Both ways: a container that was just made anew has routes a moment after the one before it answered last.
	for _, x := range []struct {
		from *netns.NS
		to   string
	}{{a, "10.10.194.134"}, {b, "10.10.40.129"}} {
		l.wait("the first answer", func() string {
			out, err := x.from.Output("ping", "-c1", "-W1", x.to)
			if err != nil {
				return out
			}
			return ""
		})
	}
	a.Run(l.t, "ping -c3 -i0.05 -w20 10.10.194.134")
	b.Run(l.t, "ping -c3 -i0.05 -w20 10.10.40.129")
	l.hosts[0].Run(l.t, "ping -c2 -i0.05 -w20 10.10.194.134")
	server := exec.Command("socat", "-u", "TCP-LISTEN:8080,reuseaddr", "STDOUT")
	var got bytes.Buffer
	server.Stdout = &got
	if err := b.Start(server); err != nil {
		l.t.Fatal(err)
	}
	client := exec.Command("socat", "-u", "STDIN", "TCP:10.10.194.134:8080,retry=1000,interval=0.05")
	client.Stdin = strings.NewReader(strings.Repeat("x", 200_000))
	if err := a.Start(client); err != nil {
		l.t.Fatal(err)
	}
	if err := client.Wait(); err != nil {
		l.t.Error("the stream's client:", err)
	}
	if err := server.Wait(); err != nil || got.Len() != 200_000 {
		l.t.Errorf("the stream: %v, %d bytes", err, got.Len())
	}
}

// captured is what tcpdump shows of two echo requests between the containers on the wire.
func (l *twoHosts) captured() string {
	l.t.Helper()
	dump := exec.Command("tcpdump", "-Z", "root", "-l", "-n", "-v", "-i", l.hosts[0].wire, "-c", "4", "ip host 192.168.170.138 or net 10.10.0.0/16")
	var out bytes.Buffer
	dump.Stdout = &out
	ready, err := dump.StderrPipe()
	if err != nil {
		l.t.Fatal(err)
	}
	if err := dump.Start(); err != nil {
		l.t.Fatal(err)
	}
	_, _ = ready.Read(make([]byte, 1)) // it says that it listens
	l.hosts[0].container.Run(l.t, "ping -c6 -i0.05 -w20 10.10.194.134")
	said, _ := io.ReadAll(ready)
	if err := dump.Wait(); err != nil {
		l.t.Errorf("tcpdump: %v: %s", err, said)
	}
	return out.String()
}
