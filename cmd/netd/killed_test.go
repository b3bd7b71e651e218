package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"netd/reconcile/kernel"
	"netd/testenv/netns"
)

// stepping has netd die after so many steps as NETD_TEST_KILL says, or write how many it took to the file NETD_TEST_STEPS. A
// step is a write to the kernel, of which a change may need several, or a change that is none of the kernel's. Kernel and engine
// are asked one change at a time. With NETD_TEST_PAUSE it stands still after a write as long as that file is there.
func stepping() (done func()) {
	if pause := os.Getenv("NETD_TEST_PAUSE"); pause != "" {
		kernel.AfterWrite = func() {
			for _, err := os.Stat(pause); err == nil; _, err = os.Stat(pause) {
				time.Sleep(10 * time.Millisecond)
			}
		}
	}
	kill, _ := strconv.Atoi(os.Getenv("NETD_TEST_KILL"))
	file := os.Getenv("NETD_TEST_STEPS")
	if kill == 0 && file == "" {
		return func() {}
	}
	maxBatch = 1
	taken, written := 0, false
	step := func() {
		if taken++; taken == kill {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		}
	}
	kernel.AfterWrite = func() { written = true; step() }
	afterChange = func() {
		if !written {
			step()
		}
		written = false
	}
	return func() {
		if file != "" {
			_ = os.WriteFile(file, []byte(strconv.Itoa(taken)), 0o644)
		}
	}
}

// TestKilled kills netd after each of its steps: `apply` on a fresh host and on one with another mode, and the daemon in its
// first passes. The next apply leads home, and destroy leaves nothing. Several hosts share the work.
func TestKilled(t *testing.T) {
	for _, mode := range []string{"vxlan", "bgp", "ipip"} {
		t.Run(mode, func(t *testing.T) {
			if mode == "ipip" {
				needIPIP(t)
			}
			for _, x := range []struct{ name, from, command string }{
				{"apply on a fresh host", "", "apply -y"},
				{"apply of another mode", map[string]string{"vxlan": "bgp", "bgp": "vxlan", "ipip": "vxlan"}[mode], "apply -y"},
				{"the daemon's first pass", "", "run"},
			} {
				t.Run(x.name, func(t *testing.T) { killedAfterEach(t, x.from, mode, x.command) })
			}
		})
	}
}

// killedAfterEach kills a command after each of its steps. An emulated processor has time for all of them in a soak only.
func killedAfterEach(t *testing.T, from, mode, command string) {
	work := make(chan int)
	var done sync.WaitGroup
	hosts := make([]*killed, 3)
	for i := range hosts {
		hosts[i] = newKilled(t, i)
	}
	steps, err := hosts[0].steps(from, mode, command)
	if err != nil {
		t.Fatal(err)
	}
	if steps < 10 { // from vxlan to bgp there are 11: without a session the tunnel stays
		t.Fatalf("%d steps only", steps)
	}
	for _, h := range hosts {
		done.Go(func() {
			for n := range work {
				if err := h.story(n, from, mode, command); err != nil {
					t.Errorf("killed after step %d of %d: %v", n, steps, err)
				}
			}
		})
	}
	began, every := time.Now(), 1
	if os.Getenv("NETD_GUEST") != "" && os.Getenv("NETD_SOAK") == "" {
		every = 7
	}
	for n := 1; n <= steps && !t.Failed(); n += every {
		work <- n
	}
	close(work)
	done.Wait()
	t.Logf("killed after 1 of %d of %d steps, %s", every, steps, time.Since(began).Round(time.Second))
}

// killed is a host with a container, alone.
type killed struct {
	h    *labHost
	text string // the file, less its mode
}

func newKilled(t *testing.T, i int) *killed {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	box := netns.New(t, fmt.Sprintf("box-%d", i))
	k := &killed{h: &labHost{NS: netns.New(t, fmt.Sprintf("killed-%d", i)), dir: dir, lab: &twoHosts{t: t, file: filepath.Join(dir, "netd.hcl")}}}
	k.text = strings.Replace(walkthrough, "/run/netns/nginx-master", box.Path(), 1)
	for _, command := range []string{
		"ip link add ens33 type veth peer name far", "ip addr add 192.168.170.137/24 dev ens33", "ip link set far up", "ip link set ens33 up",
	} {
		k.h.Run(t, command)
	}
	return k
}

// start starts netd in a mode. What it says is read once it has ended.
func (k *killed) start(mode, env string, args ...string) (*exec.Cmd, *bytes.Buffer, error) {
	if err := os.WriteFile(k.h.lab.file, fmt.Appendf(nil, k.text, mode), 0o644); err != nil {
		return nil, nil, err
	}
	cmd := k.h.command(args...)
	cmd.Env = append(cmd.Env, env)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	return cmd, &out, k.h.Start(cmd)
}

// netd runs netd in a mode, with a variable more.
func (k *killed) netd(mode, env string, args ...string) (string, int, error) {
	cmd, out, err := k.start(mode, env, args...)
	if err != nil {
		return "", 0, err
	}
	stuck := time.AfterFunc(5*time.Minute, func() { _ = cmd.Process.Kill() })
	_ = cmd.Wait()
	if !stuck.Stop() {
		return out.String(), 0, fmt.Errorf("netd %s does not end:\n%s", strings.Join(args, " "), out)
	}
	return out.String(), cmd.ProcessState.ExitCode(), nil
}

func (k *killed) must(mode, env string, args ...string) error {
	out, code, err := k.netd(mode, env, args...)
	if err == nil && code != 0 {
		err = fmt.Errorf("netd %s: exit code %d:\n%s", strings.Join(args, " "), code, out)
	}
	return err
}

// steps is how many a command takes from one mode to another.
func (k *killed) steps(from, mode, command string) (int, error) {
	if from != "" {
		if err := k.must(from, "", "apply", "-y"); err != nil {
			return 0, err
		}
	}
	file := filepath.Join(k.h.dir, "steps")
	count := "NETD_TEST_STEPS=" + file
	var err error
	if command == "run" {
		err = k.firstPasses(mode, count)
	} else {
		err = k.must(mode, count, strings.Fields(command)...)
	}
	if err != nil {
		return 0, err
	}
	if err := k.must(mode, "", "destroy", "-y"); err != nil {
		return 0, err
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(string(b))
}

// firstPasses has the daemon run until it has nothing to do, sessions included.
func (k *killed) firstPasses(mode, env string) error {
	cmd, out, err := k.start(mode, env, "run")
	if err != nil {
		return err
	}
	deadline := time.Now().Add(5 * time.Minute)
	for {
		status, _, err := k.netd(mode, "", "status", "--json")
		if err == nil && strings.Contains(status, `"daemon": true`) && (mode != "bgp" || strings.Contains(status, "192.168.170.138")) {
			if _, code, err := k.netd(mode, "", "plan", "--detailed-exitcode"); err == nil && code == 0 {
				break
			}
		}
		if time.Now().After(deadline) {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
			return fmt.Errorf("the daemon is not done:\n%s\n%s", status, out)
		}
		time.Sleep(20 * time.Millisecond)
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	return cmd.Wait()
}

// story is one kill and what comes after it.
func (k *killed) story(n int, from, mode, command string) error {
	if from != "" {
		if err := k.must(from, "", "apply", "-y"); err != nil {
			return err
		}
	}
	if command == "run" { // it would rest: the destroy before is remembered
		if err := os.RemoveAll(filepath.Join(k.h.dir, "state")); err != nil {
			return err
		}
	}
	out, code, err := k.netd(mode, fmt.Sprintf("NETD_TEST_KILL=%d", n), strings.Fields(command)...)
	if err != nil {
		return err
	}
	if code != -1 {
		return fmt.Errorf("it was not killed: exit code %d:\n%s", code, out)
	}
	out, code, err = k.netd(mode, "", "apply", "-y")
	for code == exitNoDaemon && err == nil { // a child that the daemon had just forked holds its socket until it executes
		out, code, err = k.netd(mode, "", "apply", "-y")
	}
	if err != nil || code != 0 {
		return fmt.Errorf("the apply after it: exit code %d, %v:\n%s", code, err, out)
	}
	if err := k.must(mode, "", "plan", "--detailed-exitcode"); err != nil {
		return fmt.Errorf("not home: %w", err)
	}
	if err := k.must(mode, "", "destroy", "-y"); err != nil {
		return err
	}
	for _, command := range []string{"ip route show table all proto 142", "nft list tables", "ip -o link show group 142", "ip nexthop"} {
		f := strings.Fields(command)
		out, err := k.h.Output(f[0], f[1:]...)
		if err != nil {
			return err
		}
		if out != "" {
			return fmt.Errorf("left, %s:\n%s", command, out)
		}
	}
	return nil
}
