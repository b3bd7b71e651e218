package main

import (
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"

	"netd/reconcile/object"
	"netd/testenv/docker"
	"netd/testenv/netns"
)

// TestDockerNetworks has a container on two networks of the file, and beside Docker's bridge: whichever has its default route has its
// ports too, whether Docker says so or not. What is refused says what to do.
func TestDockerNetworks(t *testing.T) {
	l, hosts := newDockerLab(t, func(file string) string {
		return strings.NewReplacer(`["10.10.40.128/26"]`, `["10.10.40.128/26", "10.20.1.0/28"]`, `["10.10.194.128/26"]`, `["10.10.194.128/26", "10.20.2.0/28"]`).Replace(file) + `
network "back" {
  pools = ["10.20.0.0/16"]
  mode  = "bgp"
}
`
	})
	for _, h := range l.hosts {
		h.runArgs = []string{"--docker-socket", "/run/docker/plugins/netd.sock"}
		h.start()
		h.must(0, "docker", "install", "--network", "lab")
		h.must(0, "docker", "install", "--network", "back")
	}
	d, h, far := hosts[0], l.hosts[0], l.hosts[1]
	for _, x := range []struct{ words, args string }{
		{"the file has several networks, lab, back: say which one (--subnet POOL or --ipam-opt network=NAME chooses a network; netd docker install --network NAME does all of this)", "-o network=lab"},
		{`the file has no network "other"; it has lab, back`, "--ipam-opt network=other"},
		{"10.99.0.0/16 is in no pool of the file, which has 10.10.0.0/16 (lab), 10.20.0.0/16 (back)", "--subnet 10.99.0.0/16"},
		{`--subnet 10.10.0.0/16, of network "lab": the addresses are those of network "back"`, "--subnet 10.10.0.0/16 --subnet 10.20.0.0/16"},
		{"--subnet 10.10.0.1/16 is an address in a subnet; the subnet is 10.10.0.0/16", "--subnet 10.10.0.1/16"},
	} {
		refusedBy(t, d, x.words, append(append([]string{"network", "create", "-d", "netd", "--ipam-driver", "netd"}, strings.Fields(x.args)...), "refused")...)
	}
	d.Docker("network", "create", "-d", "netd", "--ipam-driver", "netd", "--subnet", "10.10.0.0/16", "lab-again")

	d.Docker("run", "-d", "--network", "lab", "--ip", "10.10.40.150", "--name", "web", "-p", "8080:80", docker.Image, "/bin/sh", "-c", "echo web >/index.html; httpd -f -p 80 -h /")
	d.Docker("network", "connect", "--ip", "10.20.1.5", "back", "web")
	other, remote := runs(t, hosts[1], "other", "back"), runs(t, hosts[1], "remote", "lab")
	l.wait("netd knows its name", func() string {
		if out := h.must(0, "show", "workloads"); strings.Count(out, "\nweb ") != 2 {
			return out
		}
		return ""
	})
	refusedBy(t, d, "the address 10.10.40.150 is web (docker/", "run", "--rm", "--network", "lab", "--ip", "10.10.40.150", docker.Image, "/bin/sleep", "0")

	has := func(when, route string, at ...string) { // the default route, and which of these addresses publishes
		t.Helper()
		l.wait(when, func() string {
			routes, err := d.TryDocker("exec", "web", "ip", "route")
			if err != nil || !strings.Contains(routes, "default via "+route) || strings.Count(routes, "default") != 1 {
				return fmt.Sprint(routes, err)
			}
			if out, err := far.Output("wget", "-q", "-T", "1", "-t", "1", "-O", "-", "http://192.168.170.137:8080/"); err != nil || out != "web\n" {
				return fmt.Sprint(out, err, "\n", h.log)
			}
			shown, publish := h.must(0, "show", "workloads"), 0
			for line := range strings.Lines(shown) {
				if strings.Contains(line, "8080->80/tcp") {
					publish++
					if !slices.ContainsFunc(at, func(a string) bool { return strings.Contains(line, " "+a+" ") }) {
						return shown
					}
				}
			}
			if publish != min(len(at), 1) {
				return shown
			}
			return ""
		})
		h.inSync()
	}
	has("on both", "169.254.1.1 dev eth0", "10.10.40.150")
	d.Docker("network", "disconnect", "lab", "web")
	has("on the second alone", "169.254.1.1 dev eth1", "10.20.1.5")
	l.reaches(d, "web", other)
	d.Docker("network", "connect", "--ip", "10.10.40.150", "lab", "web")
	has("on the first again", "169.254.1.1 dev eth1", "10.20.1.5")
	l.reaches(d, "web", remote)
	h.stop(syscall.SIGKILL)
	h.start()
	has("after netd was killed", "169.254.1.1 dev eth1", "10.20.1.5")

	// Docker's bridge has what it is given.
	d.Docker("network", "connect", "bridge", "web")
	has("on the bridge too", "172.17.0.1 dev eth")
	l.reaches(d, "web", other)
	l.reaches(d, "web", remote)
	d.Docker("network", "disconnect", "bridge", "web")
	has("off the bridge", "169.254.1.1 dev eth", "10.20.1.5")
	d.Docker("network", "disconnect", "back", "web")
	has("on the first alone", "169.254.1.1 dev eth", "10.10.40.150")
	d.Docker("network", "connect", "--ip", "10.20.1.5", "back", "web")
	// Docker remembers what netd refused, and the container does not start any more: the words say how it does.
	refusedBy(t, d, `this container is in network "lab" already, by eth`, "network", "connect", "lab-again", "web")
	refusedBy(t, d, "docker network disconnect -f NETWORK CONTAINER takes it out of one", "restart", "-t", "0", "web")
	d.Docker("network", "disconnect", "-f", "lab-again", "web")
	d.Docker("start", "web")
	has("started again", "169.254.1.1 dev eth", "10.10.40.150", "10.20.1.5") // in which order Docker joins them is its own affair

	// Taken out of its network while netd is away, of which nobody tells it: the address is free, and it is not put back.
	runs(t, d, "left", "lab", "--ip", "10.10.40.151")
	inside := netns.Open("/proc/" + d.Docker("inspect", "-f", "{{.State.Pid}}", "left") + "/ns/net")
	end := object.PeerName("docker/" + d.Docker("inspect", "-f", "{{.NetworkSettings.Networks.lab.EndpointID}}", "left"))
	h.stop(syscall.SIGKILL)
	inside.Run(t, "ip link set eth0 down")
	inside.Run(t, "ip link set eth0 name "+end+" netns "+h.Name) // as Docker does it
	h.start()
	l.wait("the address of one that left", func() string {
		if out := h.must(0, "show", "workloads"); strings.Contains(out, "10.10.40.151") {
			return out
		}
		return ""
	})
	if out := inside.Run(t, "ip -o link"); strings.Contains(out, "eth0") {
		t.Errorf("it is back in its network:\n%s", out)
	}
	d.Docker("rm", "-f", "left")

	// Renamed, it is known by its new name.
	d.Docker("rename", "web", "shop")
	l.wait("the new name", func() string {
		if out := h.must(0, "show", "workloads"); strings.Count(out, "\nshop ") != 2 || strings.Contains(out, "\nweb ") {
			return out
		}
		return ""
	})
	l.wait("links of the new name", func() string {
		if out := h.must(0, "show", "links"); !strings.Contains(out, "workload shop (docker/") {
			return out
		}
		return ""
	})
	d.Docker("rm", "-f", "shop")
	h.taken("1 by file")
	if out := h.Run(t, "nft list ruleset"); strings.Contains(out, "publish") {
		t.Errorf("it stays:\n%s", out)
	}
}
