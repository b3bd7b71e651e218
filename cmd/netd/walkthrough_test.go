package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"netd/reconcile/watch"
	"netd/testenv/netns"
)

// TestMain lets the test binary be netd: a child with this variable runs the program, as do the parser that it starts in
// turn and the speaker, which gets no variables.
func TestMain(m *testing.M) {
	if os.Getenv("NETD_TEST_PROGRAM") != "" || len(os.Args) > 1 && os.Args[1] == "speaker" {
		steps := stepping()
		if fatal := os.Getenv("NETD_TEST_KILL_CALL"); fatal != "" { // die before that call is answered, or have who called die
			victim := os.Getpid()
			if pid, err := strconv.Atoi(os.Getenv("NETD_TEST_KILL_PID")); err == nil {
				victim = pid
			}
			var once sync.Once // later the number may be another's
			afterCall = func(method string) {
				if method == fatal {
					once.Do(func() { _ = syscall.Kill(victim, syscall.SIGKILL) })
				}
			}
		}
		if d, err := time.ParseDuration(os.Getenv("NETD_TEST_ADDRESS_WAIT")); err == nil {
			addressWait = d
		}
		if d, err := time.ParseDuration(os.Getenv("NETD_TEST_RESYNC")); err == nil {
			resync = d
		}
		if d, err := time.ParseDuration(os.Getenv("NETD_TEST_LOOK")); err == nil {
			watch.Look = d
		}
		if v := os.Getenv("NETD_TEST_VERSION"); v != "" {
			version = v
		}
		code := run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
		steps()
		os.Exit(code)
	}
	netns.Main(m)
}

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

// TestWalkthrough is the walk-through by commands alone, in the modes that need no daemon.
func TestWalkthrough(t *testing.T) {
	for _, x := range []tunnelMode{
		{"vxlan", "vxlan.netd", "via 10.10.194.128 dev vxlan.netd", "VXLAN, flags [I] (0x08), vni 4096"},
		{"ipip", "tunl0", "via 192.168.170.138 dev tunl0", "192.168.170.137 > 192.168.170.138: IP"},
	} {
		t.Run(x.mode, func(t *testing.T) {
			if x.mode == "ipip" {
				needIPIP(t)
			}
			x.walk(t)
		})
	}
}

type tunnelMode struct{ mode, dev, via, wire string }

// needIPIP stops a test that needs the ipip module. `make vm` runs it in a guest, where it fails without the module.
func needIPIP(t *testing.T) {
	t.Helper()
	netns.Need(t)
	switch {
	case strings.Contains(netns.Run(t, "ip -o link"), "tunl0"):
	case os.Getenv("NETD_GUEST") != "":
		t.Fatal("this guest has no ipip")
	default:
		t.Skip("this kernel has no ipip: the same test runs in the guest (make vm)")
	}
}

func (x tunnelMode) walk(t *testing.T) {
	l := newLab(t, x.mode)
	for _, h := range l.hosts {
		plan := h.must(exitChanges, "plan", "--detailed-exitcode")
		if !strings.Contains(plan, "+ route") || !strings.Contains(plan, "Plan: ") {
			t.Errorf("the plan:\n%s", plan)
		}
		h.must(exitUsage, "apply") // nobody to ask
		h.must(0, "apply", "-y")
		t.Cleanup(func() { h.must(0, "destroy", "-y") })
		if out := h.must(0, "plan", "--detailed-exitcode"); !strings.Contains(out, "No changes. The host matches the configuration.") {
			t.Errorf("the second plan:\n%s", out)
		}
		h.must(exitNoDaemon, "status")
		h.must(exitNoDaemon, "reload")
	}
	l.reach()
	if out := l.captured(); !strings.Contains(out, x.wire) || !strings.Contains(out, "10.10.40.129 > 10.10.194.134") {
		t.Errorf("on the wire:\n%s", out)
	}
	master := l.hosts[0]
	for _, line := range []string{
		"10.10.194.128/26 " + x.via + " proto 142 onlink",
		"blackhole 10.10.40.128/26 proto 142",
		"10.10.40.129 dev netd0668201186e proto 142 scope link src 10.10.40.128",
	} {
		if out := master.Run(t, "ip route"); !strings.Contains(strings.ReplaceAll(out, "proto netd", "proto 142"), line) {
			t.Errorf("want %q in:\n%s", line, out)
		}
	}
	if out := master.container.Run(t, "ip route"); out != "default via 169.254.1.1 dev eth0 proto 142 \n169.254.1.1 dev eth0 proto 142 scope link \n" {
		t.Errorf("the container's routes:\n%s", out)
	}
	if out := master.container.Run(t, "ip neigh"); !strings.Contains(out, "169.254.1.1 dev eth0 lladdr ee:ee:ee:ee:ee:ee") {
		t.Errorf("the container's neighbour:\n%s", out)
	}

	// What others change is drift, and goes with the next apply.
	master.Run(t, "ip route del 10.10.194.128/26")
	if out := master.must(exitDegraded, "drift"); !strings.Contains(out, "- route") {
		t.Errorf("drift:\n%s", out)
	}
	if out := master.must(0, "plan"); !strings.Contains(out, "Changed outside netd:") || !strings.Contains(out, "# repair") {
		t.Errorf("the plan:\n%s", out)
	}
	master.must(0, "apply", "-y")
	l.reach()

	// What someone else put in netd's place stays, and is named.
	master.Run(t, "ip route del blackhole 10.10.40.128/26")
	master.Run(t, "ip route add blackhole 10.10.40.128/26 proto bird")
	if out := master.must(exitFailed, "plan"); !strings.Contains(out, "Conflicts:") || !strings.Contains(out, "bird") {
		t.Errorf("the plan with a conflict:\n%s", out)
	}
	master.must(exitFailed, "apply", "-y")
	master.Run(t, "ip route del blackhole 10.10.40.128/26 proto bird")

	state := master.must(0, "show", "state", "--json")
	var v stateView
	if err := json.Unmarshal([]byte(state), &v); err != nil || v.SchemaVersion != 1 {
		t.Errorf("show state: %v", err)
	}
	master.must(0, "apply", "-y")
	saved := filepath.Join(t.TempDir(), "state.json")
	if err := os.WriteFile(saved, []byte(master.must(0, "show", "state", "--json")), 0o600); err != nil {
		t.Fatal(err)
	}
	if out := master.must(0, "plan", "--node", "baihl-master", "--offline", "--against", saved, "--detailed-exitcode"); !strings.Contains(out, "No changes.") {
		t.Errorf("the plan against the saved state:\n%s", out)
	}

	master.must(0, "destroy", "-y")
	for _, command := range []string{"ip route show proto 142", "nft list tables", "ip -o link show group 142"} {
		if out := master.Run(t, command); out != "" {
			t.Errorf("after destroy, %s:\n%s", command, out)
		}
	}
	if out := master.container.Run(t, "ip -o link"); strings.Contains(out, "eth0") {
		t.Errorf("after destroy, in the container:\n%s", out)
	}
}

func TestDaemonVXLAN(t *testing.T) {
	l := newLab(t, "vxlan")
	for _, h := range l.hosts {
		h.start()
	}
	l.settled()
	l.reach()
	master := l.hosts[0]
	gone := func(what, command, want string) {
		t.Helper()
		l.wait(what, func() string {
			out, err := master.Output("sh", "-c", command)
			if err != nil || !strings.Contains(out, want) {
				return out
			}
			return ""
		})
	}
	for _, x := range []struct{ what, damage, look, want string }{
		{"the route is back", "ip route del 10.10.194.128/26", "ip route", "10.10.194.128/26 via 10.10.194.128"},
		{"the neighbour is back", "ip neigh del 10.10.194.128 dev vxlan.netd", "ip neigh", "10.10.194.128 dev vxlan.netd lladdr"},
		{"the device is back with its route", "ip link del vxlan.netd", "ip route", "10.10.194.128/26 via 10.10.194.128"},
		{"forwarding is back", "sysctl -q -w net.ipv4.conf.ens33.forwarding=0", "sysctl -n net.ipv4.conf.ens33.forwarding", "1"},
		{"the guards are back", "nft delete table inet netd", "nft list table inet netd", "chain spoof"},
		{"the veth is up again", "ip link set netd0668201186e down", "ip -o link show up", "netd0668201186e"},
		{"the container's route is back", "ip link del netd0668201186e", "ip route", "10.10.40.129 dev netd0668201186e"},
	} {
		master.Run(t, x.damage)
		gone(x.what, x.look, x.want)
	}
	master.container.Run(t, "ip addr flush dev eth0")
	l.wait("the container's address is back", func() string {
		if out, _ := master.container.Output("ip", "route"); !strings.Contains(out, "default via 169.254.1.1") {
			return out
		}
		return ""
	})
	l.settled()
	l.reach()

	// One writer.
	if out := master.must(exitLocked, "run"); !strings.Contains(out, fmt.Sprintf("pid %d", master.daemon.Process.Pid)) {
		t.Errorf("a second daemon:\n%s", out)
	}

	// A broken file changes nothing, and is said.
	before := master.Run(t, "ip route")
	if err := os.WriteFile(l.file, []byte("network {"), 0o644); err != nil {
		t.Fatal(err)
	}
	l.wait("the broken file is said", func() string {
		if out, code := master.netd("status"); code != exitDegraded || !strings.Contains(out, "configuration is not taken") {
			return out
		}
		return ""
	})
	master.must(exitConfig, "reload")
	master.must(exitConfig, "apply", "-y")
	master.stop(syscall.SIGTERM)
	if out := master.Run(t, "ip route"); out != before {
		t.Errorf("the routes changed:\n%s\nfrom\n%s", out, before)
	}
	master.start() // with the last good one
	if out := master.Run(t, "ip route"); out != before {
		t.Errorf("the routes changed over a restart:\n%s\nfrom\n%s", out, before)
	}
	master.Run(t, "ip route del 10.10.194.128/26")
	l.wait("a repair by the last good one", func() string {
		out, err := master.Output("ip", "route")
		if err == nil && out == before {
			return ""
		}
		return out + "no repair"
	})
	l.reach()
	l.mode("vxlan")
	l.settled()

	// A container that is made again is attached again.
	if err := l.hosts[1].container.Remove(); err != nil {
		t.Fatal(err)
	}
	again, err := netns.At(l.hosts[1].container.Path())
	if err != nil {
		t.Fatal(err)
	}
	l.hosts[1].container = again
	again.Name = "nginx-node"
	l.reach()

	master.must(0, "destroy", "-y")
	if out := master.must(exitDegraded, "status"); !strings.Contains(out, "Resting") {
		t.Errorf("after destroy:\n%s", out)
	}
	master.must(0, "apply", "-y")
	l.settled()
	l.reach()
}

func TestDaemonBGP(t *testing.T) {
	l := newLab(t, "bgp")
	for _, h := range l.hosts {
		h.start()
	}
	l.settled()
	l.reach()
	master := l.hosts[0]
	route := "10.10.194.128/26 via 192.168.170.138 dev ens33 proto"
	if out := master.Run(t, "ip route"); !strings.Contains(out, route) {
		t.Errorf("want %q in:\n%s", route, out)
	}
	if out := l.captured(); strings.Contains(out, "VXLAN") || !strings.Contains(out, "10.10.40.129 > 10.10.194.134: ICMP") {
		t.Errorf("on the wire:\n%s", out)
	}
	if out := master.Run(t, "ip -o link"); strings.Contains(out, "vxlan") {
		t.Errorf("a tunnel in mode bgp:\n%s", out)
	}
	if out := master.must(0, "show", "peers"); !strings.Contains(out, "established") {
		t.Errorf("peers:\n%s", out)
	}

	// The daemon's end costs the sessions nothing, however it comes: they are the ones that they were.
	before := master.sessions(t)
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		master.stop(sig)
		if out := master.Run(t, "ip route"); !strings.Contains(out, route) {
			t.Errorf("%s: the route went with the daemon:\n%s", sig, out)
		}
		master.start()
		l.settled()
		if out := master.Run(t, "ip route"); !strings.Contains(out, route) {
			t.Errorf("%s: the route went with the restart:\n%s", sig, out)
		}
		if now := master.sessions(t); now != before {
			t.Errorf("%s: the sessions were\n%s\nand are\n%s", sig, before, now)
		}
	}

	// To vxlan and back by the file alone.
	l.mode("vxlan")
	l.wait("the tunnel", func() string {
		for _, h := range l.hosts {
			if out, _ := h.Output("ip", "route"); !strings.Contains(out, "dev vxlan.netd") {
				return out
			}
		}
		return ""
	})
	l.settled()
	l.reach()
	l.mode("bgp")
	l.wait("the session's routes", func() string {
		for _, h := range l.hosts {
			if out, _ := h.Output("ip", "route"); !strings.Contains(out, "dev ens33 proto 142") && !strings.Contains(out, "dev ens33 proto netd") {
				return out
			}
		}
		return ""
	})
	l.settled()
	l.reach()
}

// sessions are the speaker's process and its sessions, each with the time since which it is what it is.
func (h *labHost) sessions(t *testing.T) string {
	t.Helper()
	var v statusView
	if err := json.Unmarshal([]byte(h.must(0, "status", "--json")), &v); err != nil {
		t.Fatal(err)
	}
	out := v.Speaker
	for _, p := range v.Peers {
		out += fmt.Sprintf("\n%s %s since %s", p.Who(), p.State, p.Since)
	}
	return out
}

// TestLab is the story of `netd lab`: up, reach, a changed mode, down, and nothing left.
func TestLab(t *testing.T) {
	l := newLab(t, "vxlan")
	h := l.hosts[0]
	t.Cleanup(func() { h.netd("lab", "down") })
	h.must(exitFailed, "lab", "test")
	h.must(0, "lab", "up", l.file)
	h.must(exitFailed, "lab", "up", l.file) // one at a time
	if out := h.must(0, "lab", "test"); strings.Count(out, "ok") != 2 {
		t.Errorf("the pairs:\n%s", out)
	}
	l.mode("bgp")
	l.wait("the other mode", func() string {
		out, _ := h.netd("lab", "exec", "baihl-master", "ip", "route")
		if strings.Contains(out, "via 192.168.170.138 dev ens33") {
			return ""
		}
		return out
	})
	h.must(0, "lab", "test")
	h.must(exitUsage, "lab", "exec", "nobody", "true")
	h.must(7, "lab", "exec", "nginx-node", "sh", "-c", "exit 7")
	h.must(0, "lab", "down")
	if _, err := os.Stat("/run/netd-lab"); err == nil {
		t.Error("/run/netd-lab is left")
	}
}
