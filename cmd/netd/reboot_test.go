package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"netd/testenv/docker"
)

// off has a host with Docker lose its power: all that runs ends at once, and what is in the kernel and under /run is gone.
func (h *labHost) off(d *docker.Host) {
	t := h.lab.t
	t.Helper()
	h.stop(syscall.SIGKILL)
	d.Off()
	for line := range strings.Lines(h.Run(t, "ip -br link")) {
		if name, _, _ := strings.Cut(strings.Fields(line)[0], "@"); name != "lo" && name != "ens33" {
			_, _ = h.Output("ip", "link", "del", name) // a veth takes its twin along
		}
	}
	h.Run(t, "nft flush ruleset")
	h.Run(t, "ip route flush proto 142")
	h.Run(t, "sysctl -qw net.ipv4.ip_forward=0 net.ipv4.conf.all.forwarding=0 net.ipv4.conf.ens33.forwarding=0")
	if err := os.RemoveAll(filepath.Join(h.dir, "run")); err != nil {
		t.Fatal(err)
	}
}

// TestDockerReboot has a host lose its power three times, and start dockerd before netd or after it: what is to run runs again,
// with its address, its ports and its way to the other host; what is not to run holds nothing.
func TestDockerReboot(t *testing.T) {
	l, hosts := newPluginLab(t, "vxlan")
	d, h, far := hosts[0], l.hosts[0], l.hosts[1]
	other := runs(t, hosts[1], "other", "lab")
	serve := func(name string, more ...string) {
		t.Helper()
		d.Docker(append(append([]string{"run", "-d", "--network", "lab", "--name", name}, more...), docker.Image,
			"/bin/sh", "-c", "echo "+name+" >/index.html; httpd -f -p 80 -h /")...)
	}
	serve("always", "--restart", "always", "--ip", "10.10.40.150", "-p", "8080:80")
	serve("unless", "--restart", "unless-stopped", "-p", "8081:80")
	serve("failure", "--restart", "on-failure", "-p", "8082:80")
	serve("stopped", "--restart", "unless-stopped", "--ip", "10.10.40.151")
	serve("once", "--ip", "10.10.40.152", "-p", "8083:80")
	d.Docker("stop", "-t", "0", "stopped")
	back := map[string]string{"always": "8080", "unless": "8081", "failure": "8082"}
	well := func(when string) {
		t.Helper()
		for name, port := range back {
			l.wait(when+": "+name, func() string {
				out, err := far.Output("wget", "-q", "-T", "1", "-t", "1", "-O", "-", "http://192.168.170.137:"+port+"/")
				if err != nil || strings.TrimSpace(out) != name {
					return fmt.Sprint(out, err, "\n", d.Log(), h.log)
				}
				return ""
			})
			l.reaches(d, name, other)
			l.reaches(hosts[1], "other", addressIn(t, d, name, "lab"))
		}
		if got := addressIn(t, d, "always", "lab"); got != "10.10.40.150" {
			t.Errorf("%s: %s", when, got)
		}
	}
	well("at first")
	h.taken("4 by docker")
	for _, first := range []string{"netd", "dockerd", "netd"} {
		when := "booted with " + first + " first"
		h.off(d)
		if out := h.Run(t, "ip -br link"); strings.Count(out, "\n") != 2 {
			t.Errorf("without power there are\n%s", out)
		}
		d.Boot()
		if first == "netd" {
			h.start()
			d.Start()
		} else { // which waits for it
			up := make(chan error, 1)
			go func() { up <- d.TryStart() }()
			l.wait("dockerd to be there", func() string {
				if out, err := d.Output("sh", "-c", "test -s /run/docker.pid"); err != nil {
					return out
				}
				return ""
			})
			h.start()
			if err := <-up; err != nil {
				t.Fatal(err)
			}
		}
		well(when)
		h.taken("3 by docker")
		if out := d.Docker("ps", "--format", "{{.Names}}"); len(strings.Fields(out)) != len(back) {
			t.Errorf("%s: there run %q", when, out)
		}
		if out := h.must(0, "show", "workloads"); strings.Count(out, "->80/tcp") != len(back) {
			t.Errorf("%s:\n%s", when, out)
		}
	}
	// What was not to run has its address and port when somebody starts it.
	d.Docker("start", "stopped", "once")
	back["once"] = "8083"
	well("at last")
	h.taken("5 by docker")
}
