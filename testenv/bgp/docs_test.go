package bgp

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"netd/testenv/console"
	"netd/testenv/netns"
	"netd/testenv/router"
)

var update = flag.Bool("update", false, "write what the pages on BGP show anew")

// page is the code of a page of the documentation, by language.
func page(t *testing.T, name string) map[string]string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "..", "docs", name))
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, m := range regexp.MustCompile("(?s)```([a-z]+)\n(.*?)```").FindAllStringSubmatch(string(b), -1) {
		out[m[1]] += m[2]
	}
	return out
}

// shell types the commands of a page on a host, as root, with this netd, the lab's file and netd.hcl in its folder the same. Who types
// them says yes to apply.
func (h *host) shell() console.Shell {
	h.lab.t.Helper()
	dir := h.lab.t.TempDir()
	script := fmt.Sprintf("#!/bin/sh\n[ \"$1\" = apply ] && set -- \"$@\" -y\nNETD_CONFIG=%s NETD_STATE_DIR=%s NETD_RUN_DIR=%s NETD_COLOR=never exec %s \"$@\"\n",
		h.lab.file, h.state(), h.run(), h.lab.netd)
	if err := errors.Join(os.WriteFile(filepath.Join(dir, "netd"), []byte(script), 0o755), os.Symlink(h.lab.file, filepath.Join(dir, "netd.hcl"))); err != nil {
		h.lab.t.Fatal(err)
	}
	return console.Shell{Enter: []string{"nsenter", "--net=" + h.Path(), "--", "env", "PATH=" + dir + ":/usr/sbin:/usr/bin:/sbin:/bin"},
		Dir: dir, Env: os.Environ(), Limit: 3 * time.Minute}
}

// TestRackPage runs the three configurations of the page on a rack with two switches as they stand: all sessions come up, the world is
// reached by both switches, and a container from there; the page's commands, and the help's on sessions and routes, print what it says.
func TestRackPage(t *testing.T) {
	p := page(t, "how-to/rack-with-two-switches.md")
	l := newLab(t, p["hcl"]+"\nworkload \"web\" {\n  node    = \"web-1\"\n  address = \"10.10.1.5\"\n  netns   = \"/run/netns/LAB-web\"\n}\n")
	web := l.container("web")
	node, other := l.host("web-1", "192.168.10.11/24"), l.host("web-2", "192.168.10.12/24")
	beyond := "beyond" + l.id
	netns.Run(t, "ip link add "+beyond+" type bridge")
	t.Cleanup(func() { netns.Run(t, "ip link del "+beyond) })
	netns.Run(t, "ip link set "+beyond+" up")
	var tors [2]*host
	for i, name := range []string{"tor-a", "tor-b"} {
		tors[i] = l.host(name, fmt.Sprintf("192.168.10.%d/24", i+1))
		l.attach(tors[i].NS, beyond, name, fmt.Sprintf("172.30.0.%d/24", i+1))
		tors[i].Run(t, "sysctl -q -w net.ipv4.ip_forward=1 net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.eth0.rp_filter=0 net.ipv4.conf.up0.rp_filter=0")
	}
	world := netns.New(t, l.id+"-world")
	l.attach(world, beyond, "world", "172.30.0.9/24")
	world.Run(t, "ip route add 10.10.0.0/16 nexthop via 172.30.0.1 dev up0 nexthop via 172.30.0.2 dev up0")
	router.New(t, router.FRR, tors[0].NS, p["frr"])
	bird := router.New(t, router.BIRD, tors[1].NS, p["bird"])
	node.start()
	other.start()
	node.up(3)
	l.wait("a route with two next hops", func() string {
		return differs(node.routes("172.30.0.0/24"), "172.30.0.0/24 \n\tnexthop via 192.168.10.1 dev eth0 weight 1 \n\tnexthop via 192.168.10.2 dev eth0 weight 1")
	})
	for _, tor := range tors {
		l.wait("the block at "+tor.Name, func() string { return missing(tor.Run(t, "ip route show 10.10.1.0/26"), "via 192.168.10.11") })
	}
	web.Run(t, "ping -q -c 3 -i 0.05 -w20 172.30.0.9")
	world.Run(t, "ping -q -c 3 -i 0.05 -w20 10.10.1.5")
	for _, peer := range []string{"tor-a", "tor-b"} {
		if out := node.must("show", "peers", peer, "--routes", "advertised"); missing(out, "10.10.1.0/26") != "" || strings.Contains(out, "172.30.0.0") {
			t.Errorf("what %s is told:\n%s", peer, out)
		}
	}
	bird.Ask("disable direct1") // of equal paths the oldest is called the best: tor-a's from here on
	l.wait("tor-a's alone", func() string {
		return differs(node.routes("172.30.0.0/24"), "172.30.0.0/24 via 192.168.10.1 dev eth0")
	})
	bird.Ask("enable direct1")
	l.wait("both again", func() string { return missing(node.routes("172.30.0.0/24"), "via 192.168.10.2") })
	shell := node.shell()
	shell.Check(t, *update, "docs/how-to/rack-with-two-switches.md", "Look")
	shell.Check(t, *update, "docs/reference.md", "netd show peers [NAME] [flags]", "netd show routes [flags]")
}

// TestReflectorPage runs two reflectors and two of the 500 nodes of the page's file.
func TestReflectorPage(t *testing.T) {
	l := newLab(t, page(t, "how-to/route-reflectors.md")["hcl"])
	hosts := []*host{l.host("rr-1", "192.168.168.1/22"), l.host("rr-2", "192.168.168.2/22"), l.host("web-000", "192.168.168.10/22"), l.host("web-001", "192.168.168.11/22")}
	for _, h := range hosts {
		h.start()
	}
	l.wait("the other node's block, from both", func() string { return missing(hosts[2].must("show", "routes"), "node rr-1, node rr-2") })
	hosts[2].shell().Check(t, *update, "docs/how-to/route-reflectors.md", "Look")
}

// calico is BIRD's configuration as Calico writes it for one host of two, in the words of BIRD 2.
func calico(own, block, other string, passive bool) string {
	dials := ""
	if passive {
		dials = "  passive on;\n"
	}
	return fmt.Sprintf(`router id %[1]s;
protocol device { scan time 2; }
protocol direct { ipv4; }
protocol static { ipv4; route %[2]s blackhole; }
protocol kernel {
  learn; persist; scan time 2; graceful restart; merge paths on;
  ipv4 { import all; export where source = RTS_BGP; };
}
protocol bgp mesh {
  local %[1]s as 64512;
  neighbor %[3]s as 64512;
  source address %[1]s;
  multihop; graceful restart on;
  connect delay time 2; connect retry time 5; error wait time 5,30;
%[4]s  ipv4 { import all; export where source = RTS_STATIC; gateway recursive; add paths on; };
}
`, own, block, other, dials)
}

// TestCalicoPage takes two hosts from Calico's BIRD to netd, one after the other, by the commands of the page. Each keeps its route to
// the other, but for what the page's own commands remove.
func TestCalicoPage(t *testing.T) {
	l := newLab(t, page(t, "how-to/from-calico-and-bird.md")["hcl"])
	one, two := l.host("host-1", "192.168.170.137/24"), l.host("host-2", "192.168.170.138/24")
	for _, h := range []*host{one, two} {
		h.Run(t, "ip route add blackhole 10.10.99.0/26 proto 80") // what Felix leaves
	}
	birds := []*router.Router{
		router.New(t, router.BIRD, one.NS, calico("192.168.170.137", "10.10.40.128/26", "192.168.170.138", true)),
		router.New(t, router.BIRD, two.NS, calico("192.168.170.138", "10.10.194.128/26", "192.168.170.137", false)),
	}
	reaches := func(h *host, block, by string) {
		t.Helper()
		l.wait(block+" at "+h.Name, func() string { return missing(h.Run(t, "ip route show "+block), "via "+by) })
	}
	reaches(one, "10.10.194.128/26", "192.168.170.138")
	reaches(two, "10.10.40.128/26", "192.168.170.137")

	shell := one.shell()
	shell.Check(t, *update, "docs/how-to/from-calico-and-bird.md", "1. Write the file from what there is")
	birds[0].Kill()
	one.Run(t, "ip route add blackhole 192.0.2.0/24 proto bird") // what else BIRD gave the host
	shell.Check(t, *update, "docs/how-to/from-calico-and-bird.md", "2. Host by host")
	if out := one.Run(t, "ip route show proto bird"); strings.TrimSpace(out) != "blackhole 192.0.2.0/24" {
		t.Errorf("of BIRD's routes stayed: %s", out)
	}
	one.start()
	one.up(1)
	reaches(one, "10.10.194.128/26", "192.168.170.138")
	reaches(two, "10.10.40.128/26", "192.168.170.137 dev eth0 proto bird")
	shell.Check(t, *update, "docs/how-to/from-calico-and-bird.md", "3. Look")
	birds[1].Kill()
	two.shell().Check(t, *update, "docs/how-to/from-calico-and-bird.md", "2. Host by host")
	two.start()
	two.up(1)
	one.up(1)
	reaches(one, "10.10.194.128/26", "192.168.170.138")
	reaches(two, "10.10.40.128/26", "192.168.170.137 dev eth0 proto 142")

	file, err := os.ReadFile(l.file)
	if err != nil {
		t.Fatal(err)
	}
	l.write(regexp.MustCompile(`(?m)^ *ttl_security.*\n`).ReplaceAllString(string(file), ""))
	for _, h := range []*host{one, two} {
		h.shell().Check(t, *update, "docs/how-to/from-calico-and-bird.md", "4. When the last host is done")
	}
	one.up(1)
	two.up(1)
}
