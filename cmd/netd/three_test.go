package main

import (
	"fmt"
	"strings"
	"testing"

	"netd/testenv/containerd"
	"netd/testenv/docker"
)

// TestDockerThreeHosts has three hosts in two subnets, each with a dockerd that drops what it does not know to forward: containers of
// Docker's driver reach each other, bare in one subnet and by the tunnel between two, and what one host publishes is there for all.
func TestDockerThreeHosts(t *testing.T) {
	file, _, _ := strings.Cut(fmt.Sprintf(threeSites, "vxlan", "cross-subnet"), "workload ")
	l, _, _ := newSites(t, file)
	var hosts []*docker.Host
	var addrs []string
	for i, h := range l.hosts {
		d := docker.New(t, containerd.New(t, h.NS))
		hosts, h.enter = append(hosts, d), d.Enter()
		if out := d.Run("iptables-save", "-t", "filter"); !strings.Contains(out, ":FORWARD DROP") {
			t.Fatalf("this dockerd does not drop, so this lab shows nothing:\n%s", out)
		}
		h.runArgs = []string{"--docker-socket", "/run/docker/plugins/netd.sock"}
		h.start()
		h.must(0, "docker", "install")
		name := fmt.Sprint("web-", i)
		d.Docker("run", "-d", "--network", "lab", "--name", name, "-p", "8080:80", docker.Image, "/bin/sh", "-c", "echo "+name+" >/index.html; httpd -f -p 80 -h /")
		addrs = append(addrs, addressIn(t, d, name, "lab"))
	}
	for i, d := range hosts {
		for j, to := range addrs {
			from := fmt.Sprint("web-", i)
			l.reaches(d, from, to)
			for _, at := range []string{to + " 80", []string{"192.168.1.1", "192.168.1.2", "192.168.2.1"}[j] + " 8080"} {
				l.wait(from+" asks "+at, func() string {
					out, err := d.TryDocker("exec", from, "sh", "-c", "printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 5 "+at)
					if err != nil || !strings.Contains(out, fmt.Sprint("web-", j)) {
						return fmt.Sprint(out, err)
					}
					return ""
				})
			}
		}
	}
	l.hosts[0].has("ip route", "10.10.2.0/24 via 192.168.1.2 dev eth0 proto 142")
	l.hosts[0].has("ip route", "10.10.3.0/24 via 10.10.3.0 dev vxlan.netd proto 142 onlink")
	for i, h := range l.hosts {
		h.taken("1 by docker")
		hosts[i].Docker("rm", "-f", fmt.Sprint("web-", i))
		h.taken("1 by tunnel")
	}
}
