package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"netd/reconcile/doctor"
	"netd/testenv/docker"
	"netd/testenv/netns"
)

// newNftablesLab is two hosts with netd and Docker 29, which guards its bridges by nftables.
func newNftablesLab(t *testing.T) (*twoHosts, []*docker.Host) {
	program := os.Getenv("NETD_DOCKERD")
	if program == "" {
		t.Skip("needs Docker 29, which make docker-nftables builds and runs this with")
	}
	dir := t.TempDir()
	for _, name := range []string{"dockerd", "docker-proxy", "runc"} {
		if err := os.Symlink(filepath.Join(filepath.Dir(program), name), filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	t.Setenv("DOCKER_MIN_API_VERSION", "1.24") // Debian's client speaks an older one
	l, hosts := newDockerLab(t, func(file string) string {
		for _, host := range []string{"baihl-master", "baihl-node"} { // this Docker does not do that itself
			netns.Open("/run/netns/"+host).Run(t, "sysctl -qw net.ipv4.ip_forward=1")
		}
		return file
	}, "--firewall-backend=nftables", "--seccomp-profile=unconfined") // the runc is built without it
	rules := l.hosts[0].Run(t, "nft list ruleset")
	if !strings.Contains(rules, "table ip docker-bridges") || strings.Contains(rules, "table ip filter") {
		t.Fatalf("this dockerd does not guard by nftables:\n%s", rules)
	}
	return l, hosts
}

// TestDockerNftables has Docker 29 guard its bridges by nftables: neither its tables nor netd's close the other's containers,
// and doctor says so. `make docker-nftables` builds that dockerd and runs this.
func TestDockerNftables(t *testing.T) {
	l, hosts := newNftablesLab(t)
	a := l.hosts[0]
	for _, h := range l.hosts {
		h.enter = nil // the containers are namespaces that netd finds where the test sees them
		h.start()
	}
	l.settled()
	open := func(when string) {
		t.Helper()
		l.wait("traffic "+when, l.flows)
		found, _ := a.examined()
		for _, name := range []string{"firewall", "forward-policy", "raw-drops", "legacy-iptables"} {
			if c := found[name]; c.Level != doctor.OK {
				t.Errorf("%s: %s: %+v", when, name, c)
			}
		}
	}
	open("beside Docker")
	hosts[0].Docker("network", "create", "another")
	open("beside another network of Docker's")

	// Who wants its forwarding closed gives its chain a policy, as Docker's iptables have one.
	a.Run(t, "nft add chain ip docker-bridges filter-FORWARD { policy drop ; }")
	if l.flows() == "" {
		t.Error("traffic flows past a policy of drop")
	}
	found, code := a.examined()
	c := found["firewall"]
	if c.Level != doctor.Fail || code != exitDegraded || !strings.Contains(c.Evidence, "ip docker-bridges filter-FORWARD rejects what is forwarded by its policy (drop)") {
		t.Fatalf("%d: %+v", code, c)
	}
	if out, err := a.Output("sh", "-ec", c.Fix); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	open("after the fix")
	hosts[0].Stop()
	hosts[0].Start()
	open("after Docker was restarted")
}

// TestDockerNftablesPublished has netd as the network driver of Docker 29: containers reach each other, published ports are, beside the
// bridge's and at its side, and go.
func TestDockerNftablesPublished(t *testing.T) {
	l, hosts := newNftablesLab(t)
	for _, h := range l.hosts {
		h.runArgs = []string{"--docker-socket", "/run/docker/plugins/netd.sock"}
		h.start()
		h.must(0, "docker", "install")
	}
	d, h, far := hosts[0], l.hosts[0], l.hosts[1]
	says := func(from *netns.NS, to, name string) {
		t.Helper()
		l.wait(from.Name+" to "+to, func() string {
			out, err := from.Output("wget", "-q", "-T", "1", "-t", "1", "-O", "-", "http://"+to+"/")
			if name == "" && err != nil {
				return ""
			}
			if err != nil || strings.TrimSpace(out) != name {
				return fmt.Sprint(out, err, "\n", h.Run(t, "nft list ruleset"), h.log)
			}
			return ""
		})
	}
	serve := func(name, network string, more ...string) {
		t.Helper()
		d.Docker(append(append([]string{"run", "-d", "--network", network, "--name", name}, more...), docker.Image,
			"/bin/sh", "-c", "echo "+name+" >/index.html; httpd -f -p 80 -h /")...)
	}
	other := runs(t, hosts[1], "other", "lab")
	serve("web", "lab", "--ip", "10.10.40.150", "-p", "8080:80", "-p", "127.0.0.1:8082:80")
	serve("bridged", "bridge", "-p", "8081:80")
	l.reaches(d, "web", other)
	l.reaches(hosts[1], "other", "10.10.40.150")
	for _, x := range []struct {
		from     *netns.NS
		to, name string
	}{
		{far.NS, "192.168.170.137:8080", "web"}, {h.NS, "192.168.170.137:8080", "web"}, {h.NS, "127.0.0.1:8080", "web"}, {h.NS, "127.0.0.1:8082", "web"},
		{far.NS, "192.168.170.137:8082", ""}, {far.NS, "192.168.170.137:8081", "bridged"}, {far.NS, "10.10.40.150", "web"},
	} {
		says(x.from, x.to, x.name)
	}
	refusedBy(t, d, "port 8080/tcp of this host is published for ", "run", "--rm", "--network", "lab", "-p", "8080:80", docker.Image, "/bin/sleep", "0")
	h.taken("1 by docker")

	// With the bridge's default route the ports are the bridge's; without it netd's again.
	d.Docker("network", "connect", "bridge", "web")
	l.reaches(d, "web", other)
	says(far.NS, "192.168.170.137:8080", "web")
	d.Docker("network", "disconnect", "bridge", "web")
	says(far.NS, "192.168.170.137:8080", "web")
	l.wait("netd publishes", func() string {
		if out := h.must(0, "show", "workloads"); !strings.Contains(out, "8080->80/tcp") {
			return out
		}
		return ""
	})
	d.Docker("restart", "-t", "0", "web")
	says(far.NS, "192.168.170.137:8080", "web")
	hosts[0].Stop()
	hosts[0].Start()
	d.Docker("start", "web")
	says(far.NS, "192.168.170.137:8080", "web")
	d.Docker("rm", "-f", "web", "bridged")
	says(far.NS, "192.168.170.137:8080", "")
	h.taken("1 by file")
	if out := h.Run(t, "nft list ruleset"); strings.Contains(out, "publish") {
		t.Errorf("it stays:\n%s", out)
	}
}
