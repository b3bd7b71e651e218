package main

import (
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"netd/testenv/docker"
)

// TestDockerPluginFaults kills and restarts everything around containers of Docker's: they keep or regain address and network,
// and nothing is left of those that went.
func TestDockerPluginFaults(t *testing.T) {
	l, hosts := newPluginLab(t, "vxlan")
	d, h, other := hosts[0], l.hosts[0], l.hosts[1]
	runs(t, d, "kept", "lab")
	back := runs(t, hosts[1], "back", "lab", "--restart", "always", "--ip", "10.10.194.150")
	runs(t, hosts[1], "again", "lab", "--restart", "always", "-p", "8080:80") // it gets another address, and the port that it had
	runs(t, hosts[1], "gone", "lab")
	l.reaches(d, "kept", back)
	other.taken("3 by docker")

	// On the other host all die, and Docker starts while netd is away: it gives up on its containers, and never tells netd that
	// those of before are gone. That takes Docker's own time-outs; the rest is done meanwhile.
	other.stop(syscall.SIGKILL)
	hosts[1].Kill()
	away := make(chan error, 1)
	go func() { away <- hosts[1].TryStart() }()

	// With live-restore the container goes on, whether dockerd is told to end or is killed.
	d.With("--live-restore")
	d.Stop() // still without: it ends with dockerd
	h.taken("1 by file")
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
	if out := other.must(0, "show", "workloads"); strings.Count(out, "8080->80/tcp") != 1 {
		t.Errorf("the port is not published again:\n%s", out)
	}
	l.reaches(d, "kept", back)
	l.reaches(hosts[1], "back", kept)
}
