package main

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"netd/testenv/containerd"
	"netd/testenv/docker"
)

// newDockerLab is two hosts with netd, a containerd and a dockerd each. edit changes the file before netd sees it.
func newDockerLab(t *testing.T, edit func(string) string, args ...string) (*twoHosts, []*docker.Host) {
	t.Helper()
	l := newLab(t, "vxlan")
	b, err := os.ReadFile(l.file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(l.file, []byte(edit(string(b))), 0o644); err != nil {
		t.Fatal(err)
	}
	var hosts []*docker.Host
	for _, h := range l.hosts {
		d := docker.New(t, containerd.New(t, h.NS), args...)
		hosts, h.enter = append(hosts, d), d.Enter()
	}
	return l, hosts
}

// reaches waits until a container of Docker reaches an address.
func (l *twoHosts) reaches(d *docker.Host, container, addr string) {
	l.t.Helper()
	l.wait(container+" reaches "+addr, func() string {
		out, err := d.TryDocker("exec", container, "ping", "-c", "1", "-W", "1", addr)
		if err != nil {
			return out
		}
		return ""
	})
}

// TestDockerDeclared has the file declare containers of Docker and of containerd on two hosts: each is attached when it
// starts and detached when it ends, by Docker's event alone: no other look at everything comes for an hour.
func TestDockerDeclared(t *testing.T) {
	l, hosts := newDockerLab(t, func(file string) string {
		return strings.NewReplacer(`netns   = "/run/netns/nginx-master"`, `docker  = "web-0"`, `netns   = "/run/netns/nginx-node"`, `docker  = "web-1"`).Replace(file) + `
workload "task" {
  node       = "baihl-node"
  address    = "10.10.194.135"
  containerd = "default/task"
}

workload "base" {
  node    = "baihl-master"
  address = "10.10.40.136"
  docker  = "base"
}
`
	})
	addrs := []string{"10.10.40.129", "10.10.194.134", "10.10.194.135"}
	run := func(i int, name string, more ...string) {
		t.Helper()
		hosts[i].Docker(append(append([]string{"run", "-d", "--name", name}, more...), docker.Image, "/bin/sleep", "1000")...)
	}
	run(0, "web-0", "--network", "none") // there before netd is
	for _, h := range l.hosts {
		h.env = []string{"NETD_TEST_RESYNC=1h"}
		h.start()
	}
	l.hosts[0].inSync()
	if out := l.hosts[1].must(0, "plan"); !strings.Contains(out, "Pending: 2 workloads (nginx-node: no container \"web-1\"; task: no container \"default/task\")") {
		t.Errorf("what is pending:\n%s", out)
	}
	run(1, "web-1", "--network", "none")
	hosts[1].Run("ctr", "run", "-d", "--snapshotter", "native", containerd.Image, "task", "/bin/sleep", "1000")
	l.reaches(hosts[0], "web-0", addrs[1])
	l.reaches(hosts[0], "web-0", addrs[2])
	l.reaches(hosts[1], "web-1", addrs[0])
	l.hosts[1].inSync()

	attached := func(h *labHost, addr string) bool {
		return strings.Contains(h.Run(t, "ip -4 route show "+addr), "dev netd")
	}
	// Restarted: it has its address again.
	hosts[1].Docker("restart", "-t", "0", "web-1")
	began := time.Now()
	l.wait("the address after a restart", func() string {
		out, err := hosts[1].TryDocker("exec", "web-1", "ip", "-o", "-4", "addr", "show", "dev", "eth0")
		if err != nil || !strings.Contains(out, addrs[1]) {
			return out
		}
		return ""
	})
	took := time.Since(began)
	t.Logf("the address came %v after the restart", took)
	if took >= time.Second {
		t.Error("its first second was over")
	}
	l.reaches(hosts[0], "web-0", addrs[1])

	// netd restarted, and dockerd killed and started again: what was attached stays so.
	l.hosts[0].stop(syscall.SIGKILL)
	hosts[0].Kill()
	l.hosts[0].start() // it cannot ask Docker
	l.wait("a whole pass without Docker", func() string {
		out, _ := l.hosts[0].netd("status")
		if !strings.Contains(out, "In sync") {
			return out
		}
		return ""
	})
	if !attached(l.hosts[0], addrs[0]) {
		t.Errorf("detached because Docker is away:\n%s", l.hosts[0].log)
	}
	hosts[0].Start()
	hosts[0].Docker("rm", "-f", "web-0") // without live-restore it ended with dockerd's start
	l.wait("detached", func() string {
		if attached(l.hosts[0], addrs[0]) {
			return l.hosts[0].log.String()
		}
		return ""
	})

	// What is in the way is refused, and said.
	for _, x := range []struct{ args, reason string }{
		{"--network host", `container "web-0" is in the host's own network namespace`},
		{"--network bridge", `container "web-0" has an interface eth0 already, which is not netd's`},
	} {
		run(0, "web-0", strings.Fields(x.args)...)
		l.wait(x.args+" is refused", func() string {
			out, code := l.hosts[0].netd("status")
			if code != exitDegraded || !strings.Contains(out, x.reason) {
				return fmt.Sprintf("exit code %d:\n%s", code, out)
			}
			return ""
		})
		hosts[0].Docker("rm", "-f", "web-0")
	}
	run(0, "base", "--network", "none")
	l.wait("the other declared one", func() string {
		if !attached(l.hosts[0], "10.10.40.136") {
			return l.hosts[0].log.String()
		}
		return ""
	})
	run(0, "web-0", "--network", "container:base")
	l.wait("another's namespace is refused", func() string {
		out, code := l.hosts[0].netd("status")
		if code != exitDegraded || !strings.Contains(out, `container "web-0" is in the network namespace of file/base`) {
			return fmt.Sprintf("exit code %d:\n%s", code, out)
		}
		return ""
	})
	if !attached(l.hosts[0], "10.10.40.136") || attached(l.hosts[0], addrs[0]) {
		t.Error("the other one lost its namespace")
	}

	// A name that no container has, and that an id begins with, is nobody's; as docker ps shows it the id is the container's.
	hosts[0].Docker("rm", "-f", "web-0")
	id := hosts[0].Docker("inspect", "-f", "{{.Id}}", "base")
	file, err := os.ReadFile(l.file)
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct {
		as    string
		there bool
	}{{id[:3], false}, {id[:12], true}, {id[:4], false}} {
		l.write(strings.Replace(string(file), `"base"`+"\n}", `"`+x.as+`"`+"\n}", 1))
		l.hosts[0].must(0, "reload")
		l.wait("the container called "+x.as, func() string {
			out, _ := l.hosts[0].netd("status")
			if attached(l.hosts[0], "10.10.40.136") != x.there || strings.Contains(out, `base: no container "`+x.as+`"`) == x.there {
				return out
			}
			return ""
		})
	}
	hosts[1].Run("ctr", "task", "kill", "-s", "KILL", "task")
	l.wait("the task detached", func() string {
		if attached(l.hosts[1], addrs[2]) {
			return l.hosts[1].log.String()
		}
		return ""
	})
}
