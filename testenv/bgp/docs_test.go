package bgp

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"netd/testenv/netns"
	"netd/testenv/router"
)

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

// TestPages has netd read every file that a page on BGP shows.
func TestPages(t *testing.T) {
	exe, err := program()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"how-to/rack-with-two-switches.md", "how-to/route-reflectors.md", "how-to/from-calico-and-bird.md"} {
		file := filepath.Join(t.TempDir(), "netd.hcl")
		if err := os.WriteFile(file, []byte(page(t, name)["hcl"]), 0o644); err != nil {
			t.Fatal(err)
		}
		h := &host{NS: netns.New(t, "pages"+strings.Trim(filepath.Base(name), ".md")), lab: &lab{t: t, file: file, netd: exe}, dir: t.TempDir(), log: &log{}}
		h.must("validate", file)
		h.must("fmt", "--check", file)
	}
}

// TestRackPage runs the three configurations of the page on a rack with two switches as they stand: both sessions come up,
// the world is reached by both switches, and a container from there.
func TestRackPage(t *testing.T) {
	p := page(t, "how-to/rack-with-two-switches.md")
	l := newLab(t, p["hcl"]+"\nworkload \"web\" {\n  node    = \"web-1\"\n  address = \"10.10.1.5\"\n  netns   = \"/run/netns/LAB-web\"\n}\n")
	web := l.container("web")
	node := l.host("web-1", "192.168.10.11/24")
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
	router.New(t, router.BIRD, tors[1].NS, p["bird"])
	node.start()
	l.wait("a route with two next hops", func() string {
		return differs(node.routes("172.30.0.0/24"), "172.30.0.0/24 \n\tnexthop via 192.168.10.1 dev eth0 weight 1 \n\tnexthop via 192.168.10.2 dev eth0 weight 1")
	})
	for _, tor := range tors {
		l.wait("the block at "+tor.Name, func() string { return missing(tor.Run(t, "ip route show 10.10.1.0/26"), "via 192.168.10.11") })
	}
	web.Run(t, "ping -q -c 3 -i 0.05 -W 2 172.30.0.9")
	world.Run(t, "ping -q -c 3 -i 0.05 -W 2 10.10.1.5")
	for _, peer := range []string{"tor-a", "tor-b"} {
		if out := node.must("show", "peers", peer, "--routes", "advertised"); missing(out, "10.10.1.0/26") != "" || strings.Contains(out, "172.30.0.0") {
			t.Errorf("what %s is told:\n%s", peer, out)
		}
	}
}
