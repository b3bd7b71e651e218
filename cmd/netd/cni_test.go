package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"netd/reconcile/object"
	"netd/testenv/netns"
)

// pluginDir has netd-cni, and netd beside it.
var pluginDir = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("/run", "cni") // of the test's own mount namespace: it goes with it
	if err != nil {
		return "", err
	}
	exe, err := os.Executable()
	if err != nil {
		return "", err
	}
	if err := os.Symlink(exe, filepath.Join(dir, "netd")); err != nil {
		return "", err
	}
	if os.Getenv("NETD_GUEST") != "" { // which has no Go: netd cni, which netd-cni falls back on, speaks to the daemon just so
		script := "#!/bin/sh\nexec " + filepath.Join(dir, "netd") + " cni\n"
		return dir, os.WriteFile(filepath.Join(dir, "netd-cni"), []byte(script), 0o755)
	}
	build := exec.Command("go", "build", "-o", filepath.Join(dir, "netd-cni"), "netd/cmd/netd-cni")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := build.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%w: %s", err, out)
	}
	return dir, err
})

// pluginCall is one call of the plugin as a runtime makes it.
type pluginCall struct {
	command, id, netns, args string
	ifname                   string // "": eth0
	version                  string // "": 1.1.0
	conf                     map[string]any
	raw                      string // instead of a configuration
}

// cni calls the plugin on a host, and returns its output and exit code.
func (h *labHost) cni(c pluginCall) (string, int) {
	h.lab.t.Helper()
	cmd := h.cniCommand(c)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := h.Start(cmd); err != nil {
		h.lab.t.Fatal(err)
	}
	_ = cmd.Wait()
	return waits.ReplaceAllString(out.String(), ""), cmd.ProcessState.ExitCode()
}

func (h *labHost) cniCommand(c pluginCall) *exec.Cmd {
	h.lab.t.Helper()
	dir, err := pluginDir()
	if err != nil {
		h.lab.t.Fatal(err)
	}
	conf := map[string]any{"cniVersion": "1.1.0", "name": "lab", "type": "netd-cni",
		"config": h.lab.file, "state_dir": filepath.Join(h.dir, "state"), "run_dir": filepath.Join(h.dir, "run")}
	if c.version != "" {
		conf["cniVersion"] = c.version
	}
	for k, v := range c.conf {
		conf[k] = v
	}
	stdin, err := json.Marshal(conf)
	if err != nil {
		h.lab.t.Fatal(err)
	}
	if c.raw != "" {
		stdin = []byte(c.raw)
	}
	if c.ifname == "" {
		c.ifname = "eth0"
	}
	cmd := exec.Command(filepath.Join(dir, "netd-cni"))
	cmd.Stdin = bytes.NewReader(stdin)
	cmd.Env = append(append(os.Environ(), "NETD_TEST_PROGRAM=1", "CNI_PATH="+dir), h.env...)
	for _, v := range [][2]string{{"COMMAND", c.command}, {"CONTAINERID", c.id}, {"NETNS", c.netns}, {"IFNAME", c.ifname}, {"ARGS", c.args}} {
		if v[1] != "" {
			cmd.Env = append(cmd.Env, "CNI_"+v[0]+"="+v[1])
		}
	}
	return cmd
}

// added is a result of ADD as far as tests look at it.
type added struct {
	CNIVersion string `json:"cniVersion"`
	Interfaces []struct{ Name, Mac, Sandbox string }
	IPs        []struct {
		Address, Gateway string
		Interface        int
	}
	Code int
	Msg  string
	raw  map[string]any
}

func (h *labHost) add(c pluginCall) added {
	h.lab.t.Helper()
	c.command = "ADD"
	out, code := h.cni(c)
	var a added
	if err := json.Unmarshal([]byte(out), &a); err != nil {
		h.lab.t.Fatalf("ADD %s: %v:\n%s\n%s", c.id, err, out, h.log)
	}
	_ = json.Unmarshal([]byte(out), &a.raw)
	if code != 0 || len(a.IPs) == 0 {
		h.lab.t.Fatalf("ADD %s: exit code %d:\n%s\n%s", c.id, code, out, h.log)
	}
	return a
}

// refused makes a call that has to fail with an error of that code, and returns its words.
func (h *labHost) refused(code int, c pluginCall) string {
	h.lab.t.Helper()
	out, exit := h.cni(c)
	var e added
	if err := json.Unmarshal([]byte(out), &e); err != nil || exit == 0 || e.Code != code || e.CNIVersion == "" {
		h.lab.t.Errorf("%s %s: exit code %d, want one of failure with code %d: %v:\n%s", c.command, c.id, exit, code, err, out)
	}
	return e.Msg
}

func (h *labHost) del(c pluginCall) {
	h.lab.t.Helper()
	c.command = "DEL"
	if out, code := h.cni(c); code != 0 {
		h.lab.t.Errorf("DEL %s: exit code %d:\n%s\n%s", c.id, code, out, h.log)
	}
}

func (h *labHost) address(a added) string {
	addr, _, _ := strings.Cut(a.IPs[0].Address, "/")
	return addr
}

// inSync waits until a host is as it should be, and the plan has nothing to do.
func (h *labHost) inSync() {
	h.lab.t.Helper()
	h.lab.wait(h.Name+": nothing to do", func() string {
		if out, _ := h.netd("plan"); !strings.Contains(out, "No changes.") {
			return out
		}
		return ""
	})
}

// TestCNI attaches a container on each of two hosts by the plugin, with a daemon and without one: they reach each other, the
// daemon that comes later finds nothing to do, and nothing of them stays.
func TestCNI(t *testing.T) {
	for _, x := range []struct {
		name, mode string
		with       bool // a daemon
	}{{"daemon", "vxlan", true}, {"no daemon", "vxlan", false}, {"bgp", "bgp", true}, {"bgp, no daemon", "bgp", false}, {"ipip", "ipip", true}} {
		t.Run(x.name, func(t *testing.T) {
			if x.mode == "ipip" {
				needIPIP(t)
			}
			l, with := newLab(t, x.mode), x.with
			var boxes []*netns.NS
			var addrs []string
			for i, h := range l.hosts {
				if with {
					h.start()
				}
				box := netns.New(t, fmt.Sprintf("box%d", i))
				c := pluginCall{id: "c1", netns: box.Path()}
				h.del(c) // nerdctl does so before every ADD
				a := h.add(c)
				if a.Interfaces[0].Name != object.VethName("cni/c1/eth0") || a.Interfaces[1].Sandbox != box.Path() || a.IPs[0].Interface != 1 {
					t.Errorf("the result: %+v", a)
				}
				if again := h.add(c); h.address(again) != h.address(a) {
					t.Errorf("ADD again gives %s after %s", h.address(again), h.address(a))
				}
				boxes, addrs = append(boxes, box), append(addrs, h.address(a))
			}
			if addrs[0] != "10.10.40.130" || addrs[1] != "10.10.194.129" { // after the tunnel's, and the declared one
				t.Errorf("addresses %v", addrs)
			}
			if !with {
				for _, h := range l.hosts {
					h.start()
					for _, done := range []string{"converged", "repaired"} {
						// Sessions come with the daemon, and so do their neighbours and paths.
						if x.mode == "vxlan" && strings.Contains(h.log.String(), done) && !strings.Contains(h.log.String(), "file/nginx") {
							t.Errorf("the daemon found something to do:\n%s", h.log)
						}
					}
				}
			}
			for _, h := range l.hosts {
				h.inSync()
			}
			boxes[0].Run(t, "ping -c2 -i0.05 -w20 "+addrs[1])
			boxes[1].Run(t, "ping -c2 -i0.05 -w20 "+addrs[0])
			boxes[0].Run(t, "ping -c2 -i0.05 -w20 10.10.194.134") // one that the file declares
			for i, h := range l.hosts {
				if out := h.must(0, "show", "workloads"); !strings.Contains(out, "c1            "+h.Name) || !strings.Contains(out, addrs[i]) ||
					!strings.Contains(out, "cni      "+object.VethName("cni/c1/eth0")) || !strings.Contains(out, time.Now().UTC().Format("2006-")) {
					t.Errorf("show workloads:\n%s", out)
				}
				if out := h.must(0, "show", "blocks"); !strings.Contains(out, "lab      3     61    1 by cni, 1 by file, 1 by tunnel") {
					t.Errorf("show blocks:\n%s", out)
				}
				if out := h.must(0, "status"); !strings.Contains(out, "3 of 64 taken: the tunnel's and 2 workloads") {
					t.Errorf("status:\n%s", out)
				}
				c := pluginCall{id: "c1", netns: boxes[i].Path()}
				c.conf = map[string]any{"prevResult": h.add(c).raw}
				c.command = "CHECK"
				if out, code := h.cni(c); code != 0 {
					t.Errorf("CHECK: %s", out)
				}
				h.del(pluginCall{id: "c1"}) // without its namespace
				h.del(pluginCall{id: "c1", netns: boxes[i].Path()})
				h.inSync()
				if out := h.Run(t, "ip -o link"); strings.Contains(out, object.VethName("cni/c1/eth0")) {
					t.Errorf("the link stays:\n%s", out)
				}
				h.refused(3, c)
			}
		})
	}
}

// smallDisk has the state of a host, which is not started yet, on a disk of its own that can be filled and emptied again.
func (h *labHost) smallDisk() (fill, empty func()) {
	t, state := h.lab.t, filepath.Join(h.dir, "state")
	if err := os.MkdirAll(state, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", state, "tmpfs", 0, "size=512k"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(state, syscall.MNT_DETACH) })
	filler := filepath.Join(state, "filler")
	fill = func() {
		f, err := os.Create(filler)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		for err == nil {
			_, err = f.Write(make([]byte, 4096))
		}
	}
	return fill, func() {
		if err := os.Remove(filler); err != nil {
			t.Fatal(err)
		}
	}
}

// TestCNIKilled has the daemon die while a container is attached; the plugin's next calls go on by themselves.
func TestCNIKilled(t *testing.T) {
	l := newLab(t, "vxlan")
	h := l.hosts[0]
	fill, empty := h.smallDisk()
	h.start()
	box := netns.New(t, "box")
	c := pluginCall{id: "c1", netns: box.Path()}
	a := h.add(c)

	// A full disk: an error that says so, nothing handed out, nothing taken away, and who is attached is not concerned.
	wordy := func(id string) pluginCall { // so much to write down
		return pluginCall{command: "ADD", id: id, netns: "/run/netns/" + strings.Repeat("./", 2000) + netns.New(t, id).Name}
	}
	var old []string
	for i := range 8 {
		old = append(old, fmt.Sprintf("old%d", i))
		h.add(wordy(old[i]))
	}
	fill()
	code, next := 0, pluginCall{}
	for i := 0; code == 0; i++ { // the first may find room that the database has
		if i == 20 {
			t.Fatal("the disk never was full")
		}
		next = wordy(fmt.Sprintf("next%d", i))
		_, code = h.cni(next)
	}
	if says := h.refused(5, next); !strings.Contains(says, "no space left on device") {
		t.Errorf("ADD on a full disk: %q", says)
	}
	if out := h.Run(t, "ip -o link") + h.must(0, "show", "workloads"); strings.Contains(out, linkOf(next.id)) || strings.Contains(out, next.id) {
		t.Errorf("after an ADD on a full disk:\n%s", out)
	}
	gc := pluginCall{command: "GC", conf: map[string]any{"cni.dev/valid-attachments": []map[string]string{{"containerID": "c1", "ifname": "eth0"}}}}
	if says := h.refused(5, gc); !strings.Contains(says, "no space left on device") {
		t.Errorf("GC on a full disk: %q", says)
	}
	there := func() (n int) {
		out := h.Run(t, "ip -o link")
		for _, id := range old {
			if strings.Contains(out, linkOf(id)) && strings.Contains(h.must(0, "show", "workloads"), id) {
				n++
			}
		}
		return n
	}
	if n := there(); n != len(old) {
		t.Errorf("after GC on a full disk %d of %d are there", n, len(old))
	}
	h.Run(t, "ping -c1 -w20 "+h.address(a))
	empty()
	h.inSync()
	if out, code := h.cni(gc); code != 0 {
		t.Errorf("GC: %s", out)
	}
	l.wait("all that GC took is gone", func() string { // the answer does not wait for the kernel
		if n := there(); n != 0 {
			return fmt.Sprintf("%d of %d are there", n, len(old))
		}
		return ""
	})
	h.add(next)
	h.inSync()

	h.stop(syscall.SIGKILL)
	h.del(pluginCall{id: "other"})
	if again := h.add(c); h.address(again) != h.address(a) {
		t.Errorf("%s after %s", h.address(again), h.address(a))
	}
	h.must(0, "plan", "--detailed-exitcode")
	h.start()
	h.inSync()
	h.del(c)
}
