package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
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
