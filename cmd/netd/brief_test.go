package main

import (
	"strings"
	"sync"
	"testing"

	"netd/testenv/docker"
)

// TestBrief has containers end before they are attached, or while they are: of the file, of Docker's driver, and namespaces that
// the file names. Nobody did anything wrong, and no line of the log says so.
func TestBrief(t *testing.T) {
	l, hosts := newDockerLab(t, func(file string) string {
		return strings.NewReplacer(`netns   = "/run/netns/nginx-master"`, `docker  = "brief"`).Replace(file) + `
workload "passing" {
  node    = "baihl-master"
  address = "10.10.40.135"
  netns   = "/run/netns/passing"
}
`
	})
	d, h := hosts[0], l.hosts[0]
	h.runArgs = []string{"--docker-socket", "/run/docker/plugins/netd.sock"}
	h.start()
	h.must(0, "docker", "install")
	const times = 15
	var wait sync.WaitGroup
	for _, args := range [][]string{
		{docker.CLI, "run", "--rm", "--network", "none", "--name", "brief", docker.Image, "/bin/busybox", "true"},
		{docker.CLI, "run", "--rm", "--network", "lab", docker.Image, "/bin/busybox", "true"},
		{"sh", "-c", "ip netns add passing && ip netns del passing"},
	} {
		wait.Go(func() {
			for range times {
				if out, err := d.Output(args...); err != nil {
					t.Errorf("%s: %v: %s", strings.Join(args, " "), err, out)
				}
			}
		})
	}
	wait.Wait()
	h.inSync()
	for line := range strings.Lines(h.log.String()) {
		if strings.Contains(line, "\terror\t") || strings.Contains(line, "\twarn\t") {
			t.Errorf("%s", line)
		}
	}
	if out, code := h.netd("status"); code != 0 {
		t.Errorf("exit code %d:\n%s", code, out)
	}
}
