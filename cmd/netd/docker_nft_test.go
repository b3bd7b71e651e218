package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"netd/reconcile/doctor"
	"netd/testenv/netns"
)

// TestDockerNftables has Docker 29 guard its bridges by nftables: neither its tables nor netd's close the other's containers,
// and doctor says so. `make docker-nftables` builds that dockerd and runs this.
func TestDockerNftables(t *testing.T) {
	program := os.Getenv("NETD_DOCKERD")
	if program == "" {
		t.Skip("needs Docker 29, which make docker-nftables builds and runs this with")
	}
	dir := t.TempDir()
	if err := os.Symlink(program, filepath.Join(dir, "dockerd")); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	t.Setenv("DOCKER_MIN_API_VERSION", "1.24") // Debian's client speaks an older one
	l, hosts := newDockerLab(t, func(file string) string {
		for _, host := range []string{"baihl-master", "baihl-node"} { // this Docker does not do that itself
			netns.Open("/run/netns/"+host).Run(t, "sysctl -qw net.ipv4.ip_forward=1")
		}
		return file
	}, "--firewall-backend=nftables")
	a := l.hosts[0]
	rules := a.Run(t, "nft list ruleset")
	if !strings.Contains(rules, "table ip docker-bridges") || strings.Contains(rules, "table ip filter") {
		t.Fatalf("this dockerd does not guard by nftables:\n%s", rules)
	}
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
