package main

import (
	"bytes"
	"context"
	"encoding/json"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

// commands are all of the command line by their words, without those that are not built yet.
func commands() map[string]*cobra.Command {
	out := map[string]*cobra.Command{}
	var walk func(*cobra.Command)
	walk = func(c *cobra.Command) {
		out[strings.TrimPrefix(strings.TrimPrefix(c.CommandPath(), "netd"), " ")] = c
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	root := (&app{in: os.Stdin, out: &output{file: os.Stdout}, talk: os.Stderr}).root()
	walk(root)
	delete(out, "")
	for _, name := range laterCommands {
		delete(out, name)
	}
	return out
}

// TestJSON: every command prints JSON of schema 1 with --json, or is in the table of those that print none, and why.
func TestJSON(t *testing.T) {
	const (
		group = "it is a group of commands"
		quiet = "it prints no data"
	)
	without := map[string]string{
		"cni":            "its answers are those of the CNI specification, JSON of their own",
		"cni install":    "it prints the paths of two files",
		"cni uninstall":  quiet,
		"completion":     "it prints a program of the shell",
		"docker":         group,
		"docker install": "it prints a name",
		"fmt":            "it prints the file",
		"lab":            group,
		"lab down":       quiet,
		"lab exec":       "the output is the command's",
		"lab hold":       quiet,
		"lab up":         quiet,
		"run":            "it writes a log, of JSON with --log-format json",
		"show":           group,
		"speaker":        quiet,
	}
	l := newLab(t, "bgp")
	for _, h := range l.hosts {
		h.start()
	}
	l.settled()
	h := l.hosts[0]
	all, seen := commands(), map[string]bool{}
	run := func(code int, args ...string) {
		t.Helper()
		cmd := h.command(append(args, "--json")...)
		var out, talk bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &talk
		if err := h.Start(cmd); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
		if got := cmd.ProcessState.ExitCode(); got != code {
			t.Errorf("netd %s: exit code %d, want %d:\n%s%s", strings.Join(args, " "), got, code, &out, &talk)
		}
		var v struct {
			Schema int `json:"schema_version"`
		}
		if err := json.Unmarshal(out.Bytes(), &v); err != nil || v.Schema != 1 {
			t.Errorf("netd %s --json: schema_version %d, %v:\n%s%s", strings.Join(args, " "), v.Schema, err, &out, &talk)
		}
		for n := len(args); n > 0; n-- {
			if name := strings.Join(args[:n], " "); all[name] != nil {
				seen[name] = true
				break
			}
		}
	}
	for _, line := range []string{
		"validate", "version", "plan", "plan --node baihl-node --offline", "reload", "status", "drift", "show state", "show routes", "show routes --bgp",
		"show links", "show blocks", "show peers", "show workloads", "test", "test 192.168.170.137", "doctor", "apply -y",
	} {
		run(0, strings.Fields(line)...)
	}
	run(exitDegraded, "test", "10.10.40.131") // an address that nobody has
	bad := filepath.Join(t.TempDir(), "bad.hcl")
	if err := os.WriteFile(bad, []byte("network {"), 0o644); err != nil {
		t.Fatal(err)
	}
	run(exitConfig, "validate", bad)
	run(0, "destroy", "-y")
	run(exitDegraded, "status") // it rests
	h.stop(syscall.SIGTERM)
	for _, line := range []string{"plan", "show state", "show routes", "show links", "show blocks", "show workloads"} {
		run(0, strings.Fields(line)...)
	}
	run(exitNoDaemon, "status")
	run(0, "apply", "-y")
	run(0, "drift")
	run(0, "destroy", "-y")
	t.Cleanup(func() { h.netd("lab", "down") })
	h.must(0, "lab", "up", l.file)
	l.wait("the lab's first answers", func() string { // BGP's routes come after the rest is in sync
		if out, code := h.netd("lab", "test"); code != 0 {
			return out
		}
		return ""
	})
	run(0, "lab", "test")
	for _, name := range slices.Sorted(maps.Keys(all)) {
		has := all[name].Flags().Lookup("json") != nil || all[name].InheritedFlags().Lookup("json") != nil
		switch why := without[name]; {
		case why == group && all[name].HasSubCommands():
		case has == (why != ""):
			t.Errorf("netd %s: --json: %v; why not: %q", name, has, why)
		case has && !seen[name]:
			t.Errorf("netd %s --json is not tried", name)
		}
		delete(without, name)
	}
	for name := range without {
		t.Errorf("there is no netd %s", name)
	}
}

// TestRights is the exit codes of every command: of a user without rights where no daemon runs and where one does, of root where
// none runs, and of root where someone else holds the host's lock.
func TestRights(t *testing.T) {
	l := newLab(t, "vxlan")
	h := l.hosts[0]
	for _, dir := range []string{h.dir, filepath.Dir(l.file)} {
		for ; dir != os.TempDir(); dir = filepath.Dir(dir) {
			if err := os.Chmod(dir, 0o755); err != nil {
				t.Fatal(err)
			}
		}
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	program := "/run/netd.test" // the test's binary lies where only root gets to
	if err := os.WriteFile(program, nil, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount(exe, program, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(program, 0); _ = os.Remove(program) })
	h.must(0, "apply", "-y")
	h.Run(t, "ip route del 10.10.194.128/26") // there is something to do
	free := t.TempDir()                       // root's
	for _, name := range []string{"/run/" + cniPlugin, filepath.Join(free, cniPlugin), filepath.Join(free, cniConflist)} {
		if err := os.WriteFile(name, nil, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { _ = os.Remove("/run/" + cniPlugin) })
	const never = -1 // it is not tried: it would do it, or not end
	table := []struct {
		line                           string
		nobody, unserved, root, locked int // nobody with and without a daemon; root without a daemon, and with the lock held
	}{
		{"validate", 0, 0, 0, 0},
		{"version", 0, 0, 0, 0},
		{"fmt", 0, 0, 0, 0},
		{"completion bash", 0, 0, 0, 0},
		{"plan --node baihl-node --offline", 0, 0, 0, 0},
		{"show blocks", 0, 0, 0, 0},
		{"show workloads", 0, 0, 0, 0},
		{"plan", exitNoPerm, exitNoPerm, 0, 0},
		{"apply -y", exitNoPerm, exitNoPerm, never, exitLocked},
		{"destroy -y", exitNoPerm, exitNoPerm, never, exitLocked},
		{"run", exitNoPerm, exitNoPerm, never, never},
		{"status", exitNoPerm, exitNoPerm, exitNoDaemon, exitNoDaemon},
		{"drift", exitNoPerm, exitNoPerm, exitDegraded, exitDegraded},
		{"show state", exitNoPerm, exitNoPerm, 0, 0},
		{"show routes", exitNoPerm, exitNoPerm, 0, 0},
		{"show links", exitNoPerm, exitNoPerm, 0, 0},
		{"reload", exitNoPerm, exitNoDaemon, exitNoDaemon, exitNoDaemon},
		{"show peers", exitNoPerm, exitNoDaemon, exitNoDaemon, exitNoDaemon},
		{"show routes --bgp", exitNoPerm, exitNoDaemon, exitNoDaemon, exitNoDaemon},
		{"docker install", exitNoPerm, exitNoDaemon, exitNoDaemon, exitNoDaemon},
		{"test", exitNoPerm, exitNoPerm, never, never},
		{"test 192.168.170.137", exitNoPerm, exitNoPerm, 0, 0},
		{"doctor", exitNoPerm, exitNoPerm, never, never},
		{"speaker", exitFailed, exitFailed, exitFailed, exitFailed}, // it has no rights, and the daemon starts it
		{"cni install --bin-dir " + free + " --conf-dir " + free, exitNoPerm, exitNoPerm, never, never},
		{"cni uninstall --bin-dir " + free + " --conf-dir " + free, exitNoPerm, exitNoPerm, never, never},
		{"lab up " + l.file, exitNoPerm, exitNoPerm, never, never},
		{"lab exec baihl-node true", exitNoPerm, exitNoPerm, exitFailed, never},
		{"lab test", exitNoPerm, exitNoPerm, exitFailed, never},
		{"lab down", exitNoPerm, exitNoPerm, 0, never},
	}
	has := func(what, line string, nobody bool, want int) {
		t.Helper()
		if want == never {
			return
		}
		cmd := h.command(strings.Fields(line)...)
		if cmd.Path, cmd.Args[0] = program, program; nobody {
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		}
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		if err := h.Start(cmd); err != nil {
			t.Fatal(err)
		}
		if _ = cmd.Wait(); cmd.ProcessState.ExitCode() != want {
			t.Errorf("%s: netd %s: exit code %d, want %d:\n%s", what, line, cmd.ProcessState.ExitCode(), want, &out)
		}
	}
	for _, x := range table {
		has("nobody, no daemon", x.line, true, x.unserved)
		has("no daemon", x.line, false, x.root)
	}
	holder := exec.Command("flock", "--no-fork", filepath.Join(h.dir, "run/lock"), "sleep", "600")
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = holder.Process.Kill(); _ = holder.Wait() }()
	l.wait("the lock is held", func() string {
		if exec.Command("flock", "-n", filepath.Join(h.dir, "run/lock"), "true").Run() == nil {
			return "it is free"
		}
		return ""
	})
	for _, x := range table {
		has("the lock is held", x.line, false, x.locked)
	}
	_ = holder.Process.Kill()
	_ = holder.Wait()
	h.start()
	for _, x := range table {
		has("nobody, a daemon", x.line, true, x.nobody)
	}
	for name, c := range commands() {
		tried := slices.ContainsFunc(table, func(x struct {
			line                           string
			nobody, unserved, root, locked int
		}) bool {
			return x.line == name || strings.HasPrefix(x.line, name+" ")
		})
		if !tried && !c.Hidden && !strings.HasPrefix(name, "completion") {
			t.Errorf("netd %s is not in the table", name)
		}
	}
}

// TestInterruptedQuestion: who is asked and interrupts has said no, without an Enter.
func TestInterruptedQuestion(t *testing.T) {
	in, silent, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close() // after which the reader ends
	talk, err := os.Create(filepath.Join(t.TempDir(), "talk"))
	if err != nil {
		t.Fatal(err)
	}
	defer talk.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if (&app{in: in, talk: talk}).agrees(ctx) {
		t.Error("it is a yes")
	}
}

// TestWaits: what takes longer than 2 s says what it waits for, also where that is no daemon.
func TestWaits(t *testing.T) {
	l := newLab(t, "bgp")
	h := l.hosts[0]
	for _, h := range l.hosts {
		h.start()
	}
	l.settled()
	says := func(what, want string, free func(), args ...string) {
		t.Helper()
		cmd := h.command(args...)
		out := &said{}
		cmd.Stdout, cmd.Stderr = out, out
		if err := h.Start(cmd); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- cmd.Wait() }()
		l.wait(what+" says "+want, func() string {
			if !strings.Contains(out.String(), "netd: waiting for "+want) {
				return "it says: " + out.String()
			}
			return ""
		})
		free()
		if err := <-ended; err != nil {
			t.Errorf("%s: %v\n%s", what, err, out)
		}
	}
	signal := func(pid int, s syscall.Signal) {
		t.Helper()
		if err := syscall.Kill(pid, s); err != nil {
			t.Fatal(err)
		}
	}
	daemon := h.daemon.Process.Pid
	signal(daemon, syscall.SIGSTOP)
	says("status", "the daemon's answer", func() { signal(daemon, syscall.SIGCONT) }, "status")
	h.stop(syscall.SIGTERM)
	started := regexp.MustCompile(`started the speaker.*"pid": ?([0-9]+)`).FindStringSubmatch(h.log.String())
	if started == nil {
		t.Fatal("the log names no speaker:\n", h.log)
	}
	bgp, err := strconv.Atoi(started[1])
	if err != nil {
		t.Fatal(err)
	}
	signal(bgp, syscall.SIGSTOP)
	says("destroy", "the speaker to close its sessions", func() { signal(bgp, syscall.SIGCONT) }, "destroy", "-y")

	pause := filepath.Join(t.TempDir(), "pause")
	if err := os.WriteFile(pause, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	h.env = append(h.env, "NETD_TEST_PAUSE="+pause)
	says("apply", "the kernel to take the changes", func() { _ = os.Remove(pause) }, "apply", "-y")

	db := filepath.Join(h.dir, "state/netd.db")
	holder := exec.Command("flock", "--no-fork", db, "sleep", "600")
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	end := func() { _ = holder.Process.Kill(); _ = holder.Wait() }
	t.Cleanup(end)
	l.wait("the state is held", func() string {
		if exec.Command("flock", "-n", db, "true").Run() == nil {
			return "it is free"
		}
		return ""
	})
	says("show", "whoever has the state in "+filepath.Dir(db)+" open", end, "show", "state")
}
