package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"netd/testenv/netns"
)

// TestKilled kills netd after each of its changes: `apply` on a fresh host and on one with another mode, and the daemon in its
// first pass. The next apply leads home, and destroy leaves nothing. Several hosts share the work.
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

// killedAfterEach kills a command after each change of its plan. An emulated processor has time only for those of the tunnel's
// device, after which nothing else is like in the other modes.
func killedAfterEach(t *testing.T, from, mode, command string) {
	work := make(chan int)
	var done sync.WaitGroup
	hosts := make([]*killed, 3)
	for i := range hosts {
		hosts[i] = newKilled(t, i)
	}
	changes := hosts[0].changes(t, from, mode)
	if len(changes) < 10 {
		t.Fatalf("%d changes only", len(changes))
	}
	for _, h := range hosts {
		done.Go(func() {
			for n := range work {
				if err := h.story(n, from, mode, command); err != nil {
					t.Errorf("killed after %d of %d changes: %v", n, len(changes), err)
				}
			}
		})
	}
	killed := 0
	for i, text := range changes {
		if os.Getenv("NETD_GUEST") != "" && !strings.Contains(text, "tunl0") || t.Failed() {
			continue
		}
		work <- i + 1
		killed++
	}
	close(work)
	done.Wait()
	if killed < 5 {
		t.Errorf("killed %d times only", killed)
	}
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

// netd runs netd in a mode, killed after so many changes where that is not 0.
func (k *killed) netd(mode string, after int, args ...string) (string, int, error) {
	if err := os.WriteFile(k.h.lab.file, fmt.Appendf(nil, k.text, mode), 0o644); err != nil {
		return "", 0, err
	}
	cmd := k.h.command(args...)
	if after > 0 {
		cmd.Env = append(cmd.Env, fmt.Sprintf("NETD_TEST_KILL=%d", after))
	}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := k.h.Start(cmd); err != nil {
		return "", 0, err
	}
	stuck := time.AfterFunc(time.Minute, func() { _ = cmd.Process.Kill() })
	_ = cmd.Wait()
	if !stuck.Stop() {
		return out.String(), 0, fmt.Errorf("netd %s does not end:\n%s", strings.Join(args, " "), out.String())
	}
	return out.String(), cmd.ProcessState.ExitCode(), nil
}

func (k *killed) must(mode string, args ...string) (string, error) {
	out, code, err := k.netd(mode, 0, args...)
	if err == nil && code != 0 {
		err = fmt.Errorf("netd %s: exit code %d:\n%s", strings.Join(args, " "), code, out)
	}
	return out, err
}

// changes are those that lead from one mode to another.
func (k *killed) changes(t *testing.T, from, mode string) []string {
	t.Helper()
	if from != "" {
		if _, err := k.must(from, "apply", "-y"); err != nil {
			t.Fatal(err)
		}
	}
	out, err := k.must(mode, "plan", "--json")
	if err != nil {
		t.Fatal(err)
	}
	var v struct{ Changes []struct{ Key, Text string } }
	if err := json.Unmarshal([]byte(out), &v); err != nil {
		t.Fatal(err)
	}
	if _, err := k.must(mode, "destroy", "-y"); err != nil {
		t.Fatal(err)
	}
	var texts []string
	for _, c := range v.Changes {
		texts = append(texts, c.Key+" "+c.Text)
	}
	return texts
}

// story is one kill and what comes after it.
func (k *killed) story(n int, from, mode, command string) error {
	if from != "" {
		if _, err := k.must(from, "apply", "-y"); err != nil {
			return err
		}
	}
	out, code, err := k.netd(mode, n, strings.Fields(command)...)
	if err != nil {
		return err
	}
	if code != -1 {
		return fmt.Errorf("it was not killed: exit code %d:\n%s", code, out)
	}
	out, code, err = k.netd(mode, 0, "apply", "-y")
	for code == exitNoDaemon && err == nil { // a child that the daemon had just forked holds its socket until it executes
		out, code, err = k.netd(mode, 0, "apply", "-y")
	}
	if err != nil || code != 0 {
		return fmt.Errorf("the apply after it: exit code %d, %v:\n%s", code, err, out)
	}
	if out, err := k.must(mode, "plan", "--detailed-exitcode"); err != nil {
		return fmt.Errorf("not home: %w\n%s", err, out)
	}
	if _, err := k.must(mode, "destroy", "-y"); err != nil {
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
