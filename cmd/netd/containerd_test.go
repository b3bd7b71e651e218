package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"netd/testenv/containerd"
	"netd/testenv/netns"
)

// newContainerdLab is two hosts with netd and a containerd each, and the plugin installed as an operator does.
func newContainerdLab(t *testing.T) (*twoHosts, []*containerd.Host) {
	l := newLab(t, "vxlan")
	var hosts []*containerd.Host
	for _, h := range l.hosts {
		c := containerd.New(t, h.NS)
		hosts = append(hosts, c)
		h.enter = c.Enter()
		h.installCNI(c)
	}
	return l, hosts
}

// installCNI installs the plugin on a host with containerd, as an operator does.
func (h *labHost) installCNI(c *containerd.Host) {
	h.lab.t.Helper()
	dir, err := pluginDir()
	if err != nil {
		h.lab.t.Fatal(err)
	}
	// The host's /run is its own: what is to be beside netd goes where the host sees it.
	bin := filepath.Join(h.dir, "bin")
	if err := os.Mkdir(bin, 0o755); err != nil {
		h.lab.t.Fatal(err)
	}
	for _, name := range []string{"netd", "netd-cni"} {
		if out, err := exec.Command("cp", "-L", filepath.Join(dir, name), bin).CombinedOutput(); err != nil {
			h.lab.t.Fatalf("%v: %s", err, out)
		}
	}
	// Runtimes give plugins an environment of their own: netd is found beside the plugin.
	c.Run("sh", "-c", fmt.Sprintf("printf '#!/bin/sh\\nNETD_TEST_PROGRAM=1 exec %s \"$@\"\\n' > /opt/cni/bin/netd && chmod 755 /opt/cni/bin/netd", filepath.Join(bin, "netd")))
	c.Run("env", "NETD_TEST_PROGRAM=1", filepath.Join(bin, "netd"), "-c", h.lab.file, "--state-dir", filepath.Join(h.dir, "state"),
		"--run-dir", filepath.Join(h.dir, "run"), "cni", "install")
}

// TestContainerd starts containers by `ctr run --cni` on two hosts, each with a containerd of its own: they reach each
// other; containerd and netd are restarted and are away, and nothing of it is lost or stays.
func TestContainerd(t *testing.T) {
	l, hosts := newContainerdLab(t)
	for _, h := range l.hosts {
		h.start()
	}
	l.settled()
	run := func(i int, id string) string {
		t.Helper()
		hosts[i].Run("ctr", "run", "-d", "--cni", "--snapshotter", "native", containerd.Image, id, "/bin/sleep", "1000")
		out := hosts[i].Run("ctr", "task", "exec", "--exec-id", "look", id, "/bin/ip", "-o", "-4", "addr", "show", "dev", "eth0")
		_, after, _ := strings.Cut(out, "inet ")
		addr, _, ok := strings.Cut(after, "/")
		if !ok {
			t.Fatalf("%s has no address: %s\n%s", id, out, hosts[i].Run("ctr", "task", "exec", "--exec-id", "all", id, "/bin/ip", "addr"))
		}
		return addr
	}
	ping := func(i int, id, addr string) {
		t.Helper()
		out, err := hosts[i].Output("ctr", "task", "exec", "--exec-id", "ping"+strings.ReplaceAll(addr, ".", ""), id, "/bin/ping", "-c", "3", "-W", "5", "-i", "0.2", addr)
		if err != nil {
			t.Errorf("%s to %s: %v: %s", id, addr, err, out)
		}
	}
	remove := func(i int, id string) {
		t.Helper()
		hosts[i].Run("ctr", "task", "kill", "-s", "KILL", id)
		l.wait(id+" ended", func() string {
			out, _ := hosts[i].Output("ctr", "task", "ls")
			if strings.Contains(out, id) && !strings.Contains(out, "STOPPED") {
				return out
			}
			return ""
		})
	}
	a, b := run(0, "one"), run(1, "two")
	ping(0, "one", b)
	ping(1, "two", a)

	// netd restarted, and killed: the stream of answers has no gap, and the plan nothing to do.
	pings := hosts[1].Command("ctr", "task", "exec", "--exec-id", "stream", "two", "/bin/ping", "-q", "-i", "0.02", "-c", "150", "-W", "5", a)
	var lost strings.Builder
	pings.Stdout = &lost
	if err := l.hosts[1].Start(pings); err != nil {
		t.Fatal(err)
	}
	hosts[0].Stop()
	l.hosts[0].stop(syscall.SIGKILL)
	l.hosts[0].start()
	hosts[0].Start()
	if err := pings.Wait(); err != nil || !strings.Contains(lost.String(), " 0% packet loss") {
		t.Errorf("while both were restarted: %v: %s", err, lost.String())
	}
	l.hosts[0].inSync()

	// Without netd: the plugin does it by itself, and the daemon that comes finds nothing to do.
	l.hosts[0].stop(syscall.SIGTERM)
	c := run(0, "three")
	l.hosts[0].start()
	l.hosts[0].inSync()
	ping(1, "two", c)

	// A container that ends while netd is away is swept: its namespace is gone, and ctr says no DEL for a detached one.
	l.hosts[0].stop(syscall.SIGTERM)
	remove(0, "one")
	if out := l.hosts[0].must(0, "show", "workloads"); !strings.Contains(out, a+" ") {
		t.Errorf("it was told, so that nothing leaks:\n%s", out)
	}
	l.hosts[0].start()
	l.wait("the sweep of "+a, func() string {
		out := l.hosts[0].must(0, "show", "workloads")
		if strings.Contains(out, a+" ") || !strings.Contains(out, c+" ") || !strings.Contains(l.hosts[0].log.String(), "swept: its namespace is gone") {
			return out
		}
		return ""
	})
	if out := l.hosts[0].must(0, "show", "blocks"); !strings.Contains(out, "1 by cni") {
		t.Errorf("show blocks after the sweep:\n%s", out)
	}
	l.hosts[0].inSync()
	hosts[0].Run("ctr", "container", "rm", "one")
	remove(0, "three")
	remove(1, "two")
}

// TestNomad replays what Nomad does of CNI (client/allocrunner/networking_cni.go, plugin fingerprint): the bare binary, up to
// three ADDs with one id, arguments of its own, CHECK after a reboot of the client, DEL with what it had.
func TestNomad(t *testing.T) {
	l := newLab(t, "vxlan")
	h := l.hosts[0]
	h.start()
	out, err := h.cniCommand(pluginCall{}).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "CNI netd plugin") {
		t.Errorf("the fingerprint: %v: %s", err, out)
	}
	const alloc = "5fc98185-17ff-26bc-a802-0c74fa471c99"
	args := "IgnoreUnknown=true;NOMAD_ALLOC_ID=" + alloc + ";NOMAD_GROUP_NAME=web;NOMAD_JOB_ID=shop;NOMAD_NAMESPACE=default;NOMAD_REGION=global"
	path := "/run/netns/" + alloc
	c := pluginCall{id: alloc, netns: path, args: args, version: "1.0.0"}
	h.refused(8, pluginCall{command: "ADD", id: alloc, netns: path, args: args}) // its namespace is late
	box, err := netns.At(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = box.Remove() })
	a := h.add(c)
	for range 2 {
		if again := h.add(c); h.address(again) != h.address(a) {
			t.Errorf("ADD again: %s after %s", h.address(again), h.address(a))
		}
	}
	check := c
	check.command, check.conf = "CHECK", map[string]any{"prevResult": a.raw}
	if out, code := h.cni(check); code != 0 {
		t.Errorf("CHECK: %s", out)
	}
	for round := range 3 { // the client's machine reboots: namespaces are gone, the disk is kept
		h.stop(syscall.SIGKILL)
		if err := box.Remove(); err != nil {
			t.Fatal(err)
		}
		l.wait("the wire is gone", func() string {
			if out := h.Run(t, "ip -o link"); strings.Contains(out, linkOf(alloc)) {
				return out
			}
			return ""
		})
		h.start()
		if box, err = netns.At(path); err != nil {
			t.Fatal(err)
		}
		h.refused(3, check) // so that Nomad sets the network up again
		if again := h.add(c); h.address(again) != h.address(a) {
			t.Errorf("after reboot %d: %s, before %s", round, h.address(again), h.address(a))
		}
		if out, code := h.cni(check); code != 0 {
			t.Errorf("CHECK after reboot %d: %s", round, out)
		}
		h.Run(t, "ping -c1 -w20 "+h.address(a))
	}
	h.del(c)
	h.inSync()
}

// TestNerdctl runs nerdctl on two hosts: it calls DEL before every ADD, asks for addresses by CNI_ARGS and publishes ports by
// portmap. It is no package of Debian's: `make nerdctl` builds it.
func TestNerdctl(t *testing.T) {
	nerdctl := os.Getenv("NETD_NERDCTL")
	if nerdctl == "" {
		t.Skip("needs nerdctl, which make nerdctl builds and runs this with")
	}
	l, hosts := newContainerdLab(t)
	for _, h := range l.hosts {
		h.start()
		h.Run(t, "sysctl -q -w net.ipv4.ip_forward=1")
	}
	l.settled()
	run := func(i int, args ...string) {
		t.Helper()
		hosts[i].Run(append([]string{nerdctl, "--snapshotter", "native", "--cgroup-manager", "cgroupfs"}, args...)...)
	}
	run(0, "run", "-d", "--net", "netd", "--name", "one", "--ip", "10.10.40.150", "-p", "8080:80", containerd.Image, "/bin/sh", "-c", "while true; do echo hello | nc -l -p 80; done")
	run(1, "run", "-d", "--net", "netd", "--name", "two", containerd.Image, "/bin/sleep", "1000")
	run(1, "exec", "two", "/bin/ping", "-c", "3", "-W", "1", "10.10.40.150")
	if out := l.hosts[0].must(0, "show", "workloads"); !strings.Contains(out, "10.10.40.150") {
		t.Errorf("show workloads:\n%s", out)
	}
	out, err := l.hosts[1].Output("socat", "-u", "TCP:192.168.170.137:8080,connect-timeout=2", "STDOUT")
	if err != nil || strings.TrimSpace(out) == "" {
		t.Errorf("the published port: %v: %q", err, out)
	}
	run(0, "stop", "-t", "0", "one")
	run(0, "start", "one")
	run(1, "exec", "two", "/bin/ping", "-c", "3", "-W", "1", "10.10.40.150")
	run(0, "rm", "-f", "one")
	run(1, "rm", "-f", "two")

	// The page, with images of its names that sleep.
	run(0, "run", "--name", "made", "--net", "none", containerd.Image, "/bin/sleep", "0")
	for _, image := range []string{"nginx", "postgres"} {
		run(0, "commit", "--change", `CMD ["/bin/sleep", "1000"]`, "made", image)
	}
	l.hosts[0].typesNerdctl(hosts[0], nerdctl)
	run(0, "exec", "web", "/bin/ping", "-c", "1", "-W", "5", "10.10.40.150")
	run(0, "rm", "-f", "web", "db", "made")
	l.wait("no container holds an address", func() string {
		for _, h := range l.hosts {
			if out := h.must(0, "show", "blocks"); strings.Contains(out, "by cni") {
				return out
			}
		}
		return ""
	})
}
