package main

import (
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"netd/testenv/docker"
)

// TestDockerPluginFaults kills and restarts everything around containers of Docker's: they keep or regain address and network,
// and nothing is left of those that went.
func TestDockerPluginFaults(t *testing.T) {
	l, hosts := newPluginLab(t, "vxlan")
	d, h, other := hosts[0], l.hosts[0], l.hosts[1]
	runs(t, d, "kept", "lab", "-p", "9090:90")
	back := runs(t, hosts[1], "back", "lab", "--restart", "always", "--ip", "10.10.194.150")
	runs(t, hosts[1], "again", "lab", "--restart", "always", "-p", "8080:80") // it comes back with another address, and the port that it had
	l.reaches(d, "kept", back)
	other.taken("2 by docker")

	// On the other host all die, and Docker starts while netd is away: it gives up on its containers, and never tells netd that
	// those of before are gone. That takes Docker's own time-outs; the rest is done meanwhile.
	other.stop(syscall.SIGKILL)
	hosts[1].Kill()
	away := make(chan error, 1)
	go func() { away <- hosts[1].TryStart() }()

	publishes := func(h *labHost, ports ...string) {
		t.Helper()
		l.wait(h.Name+" publishes "+strings.Join(ports, ", "), func() string {
			out := h.must(0, "show", "workloads")
			if strings.Count(out, "->") != len(ports) || slices.ContainsFunc(ports, func(p string) bool { return !strings.Contains(out, p) }) {
				return out
			}
			return ""
		})
	}

	// With live-restore the container goes on, whether dockerd is told to end or is killed.
	d.With("--live-restore")
	d.Stop() // still without: it ends with dockerd
	h.taken("1 by file")
	if out := h.must(exitFailed, "docker", "install"); !strings.Contains(out, "Docker does not run here, or listens elsewhere than at /run/docker.sock") {
		t.Error(out)
	}
	d.Start()
	d.Docker("start", "kept")
	kept := addressIn(t, d, "kept", "lab")
	for _, end := range []func(){d.Stop, d.Kill} {
		end()
		d.Start()
		if got := addressIn(t, d, "kept", "lab"); got != kept {
			t.Errorf("dockerd started again: %s after %s", got, kept)
		}
		h.taken("1 by docker")
		publishes(h, "9090->90/tcp")
	}

	// netd dies before each of Docker's calls is answered, and is started again as systemd does.
	run := []string{"run", "-d", "--name", "new", "--network", "lab", "--ip", "10.10.40.170", "-p", "8080:80", docker.Image, "/bin/sleep", "1000"}
	create := []string{"network", "create", "-d", "netd", "--ipam-driver", "netd", "more"}
	// A command may fail then, since Docker repeats a call that it has sent without its content; nothing of it is left, and it can
	// be done again.
	again := func(out string, args []string) {
		t.Helper()
		if !strings.Contains(out, "do it again") {
			t.Errorf("docker %s: %s", strings.Join(args, " "), out)
		}
		if args[0] == "run" {
			d.Docker("rm", "-f", "new")
			h.taken("1 by docker")
		}
		d.Docker(args...)
	}
	for _, x := range []struct {
		call         string
		before, args []string
		undo         []string
	}{
		{"IpamDriver.RequestPool", nil, create, []string{"network", "rm", "more"}},
		{"NetworkDriver.CreateNetwork", nil, create, []string{"network", "rm", "more"}},
		{"NetworkDriver.DeleteNetwork", create, []string{"network", "rm", "more"}, nil},
		{"IpamDriver.RequestAddress", nil, run, []string{"rm", "-f", "new"}},
		{"NetworkDriver.CreateEndpoint", nil, run, []string{"rm", "-f", "new"}},
		{"NetworkDriver.Join", nil, run, []string{"rm", "-f", "new"}},
		{"NetworkDriver.ProgramExternalConnectivity", nil, run, []string{"rm", "-f", "new"}},
		{"NetworkDriver.RevokeExternalConnectivity", run, []string{"rm", "-f", "new"}, nil},
		{"NetworkDriver.Leave", run, []string{"rm", "-f", "new"}, nil},
		{"NetworkDriver.DeleteEndpoint", run, []string{"rm", "-f", "new"}, nil},
		{"IpamDriver.ReleaseAddress", run, []string{"rm", "-f", "new"}, nil},
	} {
		if x.before != nil {
			d.Docker(x.before...)
		}
		h.stop(syscall.SIGTERM)
		h.env = []string{"NETD_TEST_KILL_CALL=" + x.call}
		h.start()
		h.env = nil
		done := make(chan string, 1)
		go func() {
			out, err := d.TryDocker(x.args...)
			if err == nil {
				out = ""
			}
			done <- out
		}()
		_ = h.daemon.Wait()
		if how := h.daemon.ProcessState.String(); how != "signal: killed" {
			t.Fatalf("%s: the daemon ends with %s", x.call, how)
		}
		h.daemon = nil
		h.start()
		if out := <-done; out != "" {
			again(out, x.args)
		}
		if x.args[0] == "run" {
			l.reaches(d, "kept", "10.10.40.170")
			h.taken("2 by docker")
			publishes(h, "8080->80/tcp", "9090->90/tcp")
		}
		if x.undo != nil {
			d.Docker(x.undo...)
		}
		h.taken("1 by docker")
	}

	// And after some of the writes to the kernel that a container needs.
	for n := 1; ; n *= 2 {
		h.stop(syscall.SIGTERM)
		h.env = []string{fmt.Sprintf("NETD_TEST_KILL=%d", n)}
		h.start()
		h.env = nil
		ended := make(chan struct{})
		go func(daemon *exec.Cmd) { _ = daemon.Wait(); close(ended) }(h.daemon)
		done := make(chan string, 1)
		go func() {
			out, err := d.TryDocker(run...)
			if err == nil {
				out = ""
			}
			done <- out
		}()
		killed := false
		select {
		case <-ended:
			killed = true
			h.daemon = nil
			h.start()
			if out := <-done; out != "" {
				again(out, run)
			}
		case out := <-done:
			if out != "" {
				t.Errorf("docker run: %s", out)
			}
		}
		if !killed {
			_ = h.daemon.Process.Kill()
			<-ended
			h.daemon = nil
			h.start()
		}
		l.reaches(d, "kept", "10.10.40.170")
		h.taken("2 by docker")
		d.Docker("rm", "-f", "new")
		h.taken("1 by docker")
		if !killed {
			if n < 8 {
				t.Errorf("a container needs less than %d writes", n)
			}
			break
		}
	}

	// dockerd dies between two calls. What it began it ends when it is there again, and netd keeps none of it.
	for _, x := range []struct {
		call         string
		before, args []string
	}{
		{"IpamDriver.RequestAddress", nil, run},
		{"NetworkDriver.CreateEndpoint", nil, run},
		{"NetworkDriver.Join", nil, run},
		{"NetworkDriver.ProgramExternalConnectivity", nil, run},
		{"NetworkDriver.RevokeExternalConnectivity", run, []string{"stop", "-t", "0", "new"}},
		{"NetworkDriver.Leave", run, []string{"stop", "-t", "0", "new"}},
	} {
		if x.before != nil {
			d.Docker(x.before...)
		}
		h.stop(syscall.SIGTERM)
		h.env = []string{"NETD_TEST_KILL_CALL=" + x.call, fmt.Sprint("NETD_TEST_KILL_PID=", d.PID())}
		h.start()
		h.env = nil
		if out, err := d.TryDocker(x.args...); err == nil && x.before == nil { // one that stops may be said to have before its network is left
			t.Fatalf("%s: docker %s: %s", x.call, strings.Join(x.args, " "), out)
		}
		d.Ended()
		d.Start()
		d.Docker("rm", "-f", "new")
		d.Docker(run...) // with the address that it was to have
		l.reaches(d, "kept", "10.10.40.170")
		publishes(h, "8080->80/tcp", "9090->90/tcp")
		d.Docker("rm", "-f", "new")
		h.taken("1 by docker")
	}

	// A container goes from its network and comes back, is renamed, dies at once, again and again.
	d.Docker(run...)
	d.Docker("network", "disconnect", "lab", "new")
	h.taken("1 by docker")
	publishes(h, "9090->90/tcp")
	d.Docker("network", "connect", "lab", "new")
	publishes(h, "8080->80/tcp", "9090->90/tcp")
	d.Docker("rename", "new", "other")
	d.Docker("restart", "-t", "0", "other")
	publishes(h, "8080->80/tcp", "9090->90/tcp")
	d.Docker("rm", "-f", "other")
	for range 3 {
		d.Docker("run", "--rm", "--network", "lab", "-p", "8080:80", docker.Image, "/bin/sh", "-c", "exit 0")
	}
	refusedBy(t, d, "no such file", "run", "--rm", "--network", "lab", "-p", "8080:80", docker.Image, "/bin/none")
	d.Docker("run", "-d", "--restart", "always", "--name", "new", "--network", "lab", "-p", "8080:80", docker.Image, "/bin/sh", "-c", "exit 1")
	l.wait("a container that ends again and again", func() string {
		if out := d.Docker("inspect", "-f", "{{.RestartCount}}", "new"); out == "0" {
			return out
		}
		return ""
	})
	d.Docker("rm", "-f", "new")
	h.taken("1 by docker")
	publishes(h, "9090->90/tcp")

	if err := <-away; err != nil {
		t.Fatal(err)
	}
	if out := hosts[1].Docker("ps", "-q"); out != "" {
		t.Errorf("Docker did not give up: %s", out)
	}
	other.start()
	l.wait("Docker's containers started again", func() string {
		if out := hosts[1].Docker("ps", "-q"); len(strings.Fields(out)) < 2 {
			return hosts[1].Docker("ps", "-a") + other.log.String()
		}
		return ""
	})
	if got := addressIn(t, hosts[1], "back", "lab"); got != back {
		t.Errorf("it has %s after %s", got, back)
	}
	other.taken("2 by docker")
	publishes(other, "8080->80/tcp")
	l.reaches(d, "kept", back)
	l.reaches(hosts[1], "back", kept)
}

// TestDockerWithoutNetd has commands of Docker's meet a netd that is away: none takes longer than Docker's own time-outs for what it
// calls, 15 s each, and what was removed meanwhile holds nothing once netd is there.
func TestDockerWithoutNetd(t *testing.T) {
	if !soak() {
		t.Skip("takes minutes: make soak")
	}
	l, hosts := newPluginLab(t, "vxlan")
	d, h := hosts[0], l.hosts[0]
	for _, name := range []string{"stopped", "left"} {
		runs(t, d, name, "lab")
	}
	runs(t, d, "web", "lab", "--ip", "10.10.40.150", "-p", "8080:80")
	h.taken("3 by docker")
	h.stop(syscall.SIGKILL)
	for _, x := range []struct {
		calls int
		works bool
		args  string
	}{
		{4, true, "rm -f web"}, {4, true, "stop -t 0 stopped"}, {4, true, "network disconnect lab left"},
		{1, false, "run --rm --network lab " + docker.Image + " /bin/sleep 0"}, {1, false, "network create -d netd --ipam-driver netd other"},
		{0, true, "ps"}, {0, true, "run --rm --network none " + docker.Image + " /bin/sleep 0"},
	} {
		began := time.Now()
		out, err := d.TryDocker(strings.Fields(x.args)...)
		took := time.Since(began)
		t.Logf("docker %s: %v after %v: %s", x.args, err, took, out)
		if (err == nil) != x.works || took > time.Duration(x.calls)*16*time.Second+3*time.Second {
			t.Errorf("docker %s: %v after %v: %s", x.args, err, took, out)
		}
	}
	h.start()
	h.taken("1 by file")
	if out := d.Docker("exec", "left", "ip", "-o", "link"); strings.Contains(out, "eth0") {
		t.Errorf("it was taken out of the network:\n%s", out)
	}
	runs(t, d, "again", "lab", "--ip", "10.10.40.150", "-p", "8080:80")
	h.taken("1 by docker")
}
