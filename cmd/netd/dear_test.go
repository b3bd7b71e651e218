package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// TestDearFile gives a daemon a file that no bound of the parser refuses and whose evaluation would fill its memory: the process
// of its own that parses it ends, the daemon does not grow, what it took last is in force, and status says why.
func TestDearFile(t *testing.T) {
	l := newLab(t, "vxlan")
	h := l.hosts[0]
	good := fmt.Sprintf(walkthrough, "vxlan")
	h.file = filepath.Join(h.dir, "netd.hcl")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(h.file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write(good)
	h.start()
	h.inSync()
	// Half as much again as the bound, and not more: a daemon that evaluated it itself would live to be told by this test.
	write(good + "locals {\n  a = \"" + strings.Repeat("x", 32<<10) + "\"\n  b = [for x in range(30000): \"${local.a}${x}\"]\n}\n")
	l.wait("the file refused", func() string {
		out, code := h.netd("status")
		if code == exitDegraded && strings.Contains(out, "evaluating it takes more than 600 MiB of memory") {
			return ""
		}
		return out
	})
	if most := mostMemory(t, h.daemon.Process.Pid); most >= parseHeap>>10 {
		t.Errorf("the daemon itself took %d KiB", most)
	}
	h.Run(t, "ip route del 10.10.194.128/26")
	l.wait("the route back", func() string {
		if out := h.Run(t, "ip route"); !strings.Contains(out, "10.10.194.128/26 via") {
			return out
		}
		return ""
	})
	write(good)
	h.inSync()
}

// mostMemory is the most that a process has had resident, in KiB.
func mostMemory(t *testing.T, pid int) int {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`VmHWM:\s+(\d+) kB`).FindSubmatch(b)
	if m == nil {
		t.Fatalf("no VmHWM in\n%s", b)
	}
	n, err := strconv.Atoi(string(m[1]))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestOtherVersion: a command that meets a daemon of another version says so, and answers all the same.
func TestOtherVersion(t *testing.T) {
	l := newLab(t, "vxlan")
	h := l.hosts[0]
	h.env = []string{"NETD_TEST_VERSION=0.0.1"}
	h.start()
	h.inSync()
	if out := h.must(0, "status"); strings.Contains(out, "of version") {
		t.Errorf("a daemon of the same version:\n%s", out)
	}
	h.env = []string{"NETD_TEST_VERSION=0.0.2"}
	for _, args := range [][]string{{"status"}, {"plan"}, {"apply", "-y"}} {
		out := h.must(0, args...)
		if want := "netd: the daemon is of version 0.0.1, this netd of 0.0.2: restart the daemon\n"; strings.Count(out, want) != 1 {
			t.Errorf("%s: want %q in:\n%s", args[0], want, out)
		}
	}
	h.env = nil
}

// TestDriftNames has a program that lives, and one that does not, undo netd's work until netd gives it time: drift names them.
func TestDriftNames(t *testing.T) {
	l := newLab(t, "vxlan")
	h := l.hosts[0]
	h.start()
	h.inSync()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	ip := exec.Command("ip", "-force", "-batch", "-")
	ip.Stdin = r
	if err := h.Start(ip); err != nil {
		t.Fatal(err)
	}
	_ = r.Close()
	defer func() {
		_ = w.Close()
		_ = ip.Wait()
	}()
	by := fmt.Sprintf("route 10.10.194.128/26 was changed last by pid %d (ip)", ip.Process.Pid)
	l.wait("the fighter's name", func() string {
		if _, err := fmt.Fprintln(w, "route del 10.10.194.128/26 proto 142"); err != nil {
			t.Fatal(err)
		}
		out, code := h.netd("drift")
		if code == exitDegraded && strings.Contains(out, by) {
			return ""
		}
		return out
	})
	rules := regexp.MustCompile(`(?m)^nft inet netd .* was changed last by pid \d+ \(nft\)$`)
	l.wait("the name of one who is gone", func() string {
		_, _ = h.Output("nft", "flush", "set", "inet", "netd", "pools") // it may be flushed still
		out, code := h.netd("drift")
		if code == exitDegraded && rules.MatchString(out) {
			return ""
		}
		return out
	})
}
