package bgp

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"netd/testenv/netns"
	"netd/testenv/router"
	"netd/testenv/stream"
)

// reflected is two reflectors with blocks of their own or none, and clients.
const reflected = `network "lab" {
  pools = ["10.10.0.0/16"]
  mode  = "bgp"
}

node "rr1" {
  address         = "192.168.170.1/24"
  blocks          = []
  route_reflector = "192.168.170.1"
}

node "rr2" {
  address         = "192.168.170.2/24"
  blocks          = ["10.10.2.0/24"]
  route_reflector = "192.168.170.2"
}

node "one" {
  address = "192.168.170.137/24"
  blocks  = ["10.10.40.128/26"]
}

node "two" {
  address = "192.168.170.138/24"
  blocks  = ["10.10.194.128/26"]
}

node "three" {
  address = "192.168.170.139/24"
  blocks  = ["10.10.3.0/24"]
}

node "four" {
  address = "192.168.170.140/24"
  blocks  = ["10.10.4.0/24"]
}

workload "web" {
  node    = "one"
  address = "10.10.40.129"
  netns   = "/run/netns/LAB-web"
}

workload "app" {
  node    = "two"
  address = "10.10.194.134"
  netns   = "/run/netns/LAB-app"
}
`

// client is a router that is a client of both reflectors.
func client(p router.Program, id, block string) string {
	s := session{as: 64512, netdAS: 64512, id: id, netd: "192.168.170.1", announce: []string{block}, ttlSecurity: true, restart: 120}
	conf := s.conf(p)
	if p == router.FRR {
		return conf + strings.NewReplacer("router bgp 64512\n", "router bgp 64512\n", "192.168.170.1\n", "192.168.170.2\n", "192.168.170.1 ", "192.168.170.2 ").Replace(conf)
	}
	second := conf[strings.Index(conf, "protocol bgp netd {"):]
	return conf + strings.NewReplacer("protocol bgp netd {", "protocol bgp netd2 {", "192.168.170.1 as", "192.168.170.2 as").Replace(second)
}

// streams are both ways between the containers of one and two.
func (l *lab) streams(web1, app1 *netns.NS) []*stream.Stream {
	l.t.Helper()
	out := []*stream.Stream{stream.Start(l.t, web1, web, app1, app, time.Millisecond), stream.Start(l.t, app1, app, web1, web, time.Millisecond)}
	for _, s := range out {
		s.Flowing(l.t)
	}
	return out
}

func (l *lab) unharmed(streams []*stream.Stream) {
	l.t.Helper()
	for _, s := range streams {
		if r := s.Stop(); r.Lost != 0 || r.Sent < 1000 {
			l.t.Errorf("the stream: %s", r)
		} else {
			l.t.Log(r)
		}
	}
}

// TestReflectors has two reflectors and clients of netd, BIRD and FRR. Clients have sessions with reflectors alone and every
// block by way of its own node. A reflector that dies, and then falls silent, costs nothing; a client that tells what is
// another's is refused by the reflectors.
func TestReflectors(t *testing.T) {
	l := newLab(t, reflected)
	rr1, rr2 := l.host("rr1", "192.168.170.1/24"), l.host("rr2", "192.168.170.2/24")
	one, two := l.host("one", "192.168.170.137/24"), l.host("two", "192.168.170.138/24")
	three, four := l.host("three", "192.168.170.139/24"), l.host("four", "192.168.170.140/24")
	c, d := l.container("web"), l.container("app")
	for _, h := range []*host{rr1, rr2, one, two} {
		h.start()
	}
	bird := router.New(t, router.BIRD, three.NS, client(router.BIRD, "192.168.170.139", "10.10.3.0/24"))
	frr := router.New(t, router.FRR, four.NS, client(router.FRR, "192.168.170.140", "10.10.4.0/24"))
	one.up(2)
	two.up(2)
	rr1.up(5)
	rr2.up(5)
	via := map[string]string{"10.10.2.0/24": "192.168.170.2", "10.10.194.128/26": "192.168.170.138", "10.10.3.0/24": "192.168.170.139", "10.10.4.0/24": "192.168.170.140"}
	for prefix, hop := range via {
		l.wait("one's route to "+prefix, func() string { return missing(one.routes(prefix), "via "+hop+" ") })
	}
	for h, ns := range map[string]*host{"BIRD": three, "FRR": four} {
		l.wait(h+"'s route to one's block", func() string { return missing(ns.Run(t, "ip route show 10.10.40.128/26"), "via 192.168.170.137") })
	}
	// What a client takes back is gone everywhere: were reflectors to tell one another what clients tell, each would keep the
	// other's copy.
	for range 3 {
		frr.Ask("configure terminal", "router bgp 64512", "address-family ipv4 unicast", "no network 10.10.4.0/24")
		for _, h := range []*host{rr1, rr2, one, two} {
			l.wait(h.Name+" to lose four's block", func() string { return h.routes("10.10.4.0/24") })
		}
		frr.Ask("configure terminal", "router bgp 64512", "address-family ipv4 unicast", "network 10.10.4.0/24")
		for _, h := range []*host{rr1, rr2, one, two} {
			l.wait(h.Name+" to have four's block", func() string { return missing(h.routes("10.10.4.0/24"), "via 192.168.170.140 ") })
		}
	}
	l.wait("the table of a client to name clusters and originators", func() string {
		out := one.must("show", "routes", "--bgp")
		return missing(out, "originator 192.168.170.138, clusters 192.168.170.1\n") + missing(out, "originator 192.168.170.138, clusters 192.168.170.2\n")
	})
	if out := one.must("plan"); missing(out, "No changes.") != "" {
		t.Errorf("a plan after that:\n%s", out)
	}

	streams := l.streams(c, d)
	rr1.killSpeaker() // comes back
	rr1.up(5)
	rr1.Run(t, "ip link set eth0 down") // gone: the hold time passes
	l.wait("one to notice", func() string { return missing(one.degraded("status"), "BGP session with rr1 (192.168.170.1) is") })
	for prefix, hop := range via {
		if out := one.routes(prefix); missing(out, "via "+hop+" ") != "" {
			t.Errorf("with one reflector gone, the route to %s: %s", prefix, out)
		}
	}
	rr1.Run(t, "ip link set eth0 up")
	one.up(2)
	l.unharmed(streams)

	// A client that lies: three, by a socket in BIRD's place.
	bird.Kill()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	var liar *router.Raw
	for liar == nil {
		r, err := router.End{NS: three.NS, Local: three.addr, Remote: rr2.addr, TTL: 255}.Dial(ctx)
		if err == nil {
			if err = r.Establish(ctx, router.Open{ASN: 64512, ID: three.addr, HoldTime: 9 * time.Second, Restart: 10 * time.Second}); err == nil {
				liar = r
				break
			}
			r.Close()
		}
		if ctx.Err() != nil {
			t.Fatal(err)
		}
	}
	defer liar.Close()
	l.say(liar, router.Announce(three.addr, nil, prefixes("10.10.3.0/24", "10.10.194.128/26", "10.10.4.0/25", "10.10.0.0/16", "0.0.0.0/0")...),
		router.Announce(two.addr, nil, prefixes("10.10.4.0/24")...), router.EndOfRIB())
	l.wait("the reflector to have it", func() string {
		return missing(rr2.must("show", "peers", "three", "--routes", "rejected"), "it is of node two, and node three is no reflector")
	})
	if out := one.must("show", "routes", "--bgp"); strings.Contains(out, "10.10.4.0/25") || strings.Contains(out, "10.10.0.0/16") || strings.Contains(out, "0.0.0.0/0") {
		t.Errorf("a client was told:\n%s", out)
	}
	for prefix, hop := range via {
		if prefix != "10.10.3.0/24" {
			if out := one.routes(prefix); missing(out, "via "+hop+" ") != "" || strings.Contains(out, "192.168.170.139") {
				t.Errorf("the route to %s: %s", prefix, out)
			}
		}
	}
}

// TestForeignReflectors has BIRD and FRR reflect, as nodes of the file or as routers outside it, and netd's nodes be their clients. One of
// them falls silent: nothing is lost. One that tells a client a block by way of another node is not believed.
func TestForeignReflectors(t *testing.T) {
	t.Run("nodes", func(t *testing.T) { foreignReflectors(t, reflected, "node rr1, node rr2", true) })
	peer := func(name, address string) string {
		return fmt.Sprintf("peer %q {\n  address      = %q\n  asn          = 64512\n  ttl_security = true\n  hold_time    = \"9s\"\n}\n", name, address)
	}
	_, rest, _ := strings.Cut(reflected, "node \"one\"")
	network, _, _ := strings.Cut(reflected, "node \"rr1\"")
	outside := network + "bgp {\n  mesh = false\n}\n" + peer("rr1", "192.168.170.1") + peer("rr2", "192.168.170.2") + "node \"one\"" + rest
	t.Run("peers", func(t *testing.T) { foreignReflectors(t, outside, "peer rr1, peer rr2", soak()) })
}

func foreignReflectors(t *testing.T, file, from string, silence bool) {
	l := newLab(t, file)
	rr1, rr2 := l.host("rr1", "192.168.170.1/24"), l.host("rr2", "192.168.170.2/24")
	one, two := l.host("one", "192.168.170.137/24"), l.host("two", "192.168.170.138/24")
	c, d := l.container("web"), l.container("app")
	one.start()
	two.start()
	bird := `router id 192.168.170.1;
protocol device { scan time 1; }
protocol static own { ipv4; route 10.10.3.0/24 via 192.168.170.138; }
template bgp clients {
  local 192.168.170.1 as 64512;
  hold time 9; connect delay time 1; connect retry time 1; error wait time 1, 4;
  ttl security on; direct; graceful restart on; passive on;
  rr client; rr cluster id 192.168.170.1;
  ipv4 { import all; export all; };
}
protocol bgp peer1 from clients { neighbor 192.168.170.137 as 64512; }
protocol bgp peer2 from clients { neighbor 192.168.170.138 as 64512; }
`
	frr := "router bgp 64512\n bgp router-id 192.168.170.2\n bgp cluster-id 192.168.170.2\n bgp graceful-restart\n no bgp network import-check\n"
	for _, n := range []string{"192.168.170.137", "192.168.170.138"} {
		frr += fmt.Sprintf(" neighbor %[1]s remote-as 64512\n neighbor %[1]s timers 3 9\n neighbor %[1]s timers connect 1\n neighbor %[1]s ttl-security hops 1\n neighbor %[1]s passive\n"+
			" address-family ipv4 unicast\n  neighbor %[1]s route-reflector-client\n exit-address-family\n", n)
	}
	first, second := router.New(t, router.BIRD, rr1.NS, bird), router.New(t, router.FRR, rr2.NS, frr)
	right := func() string { return missing(one.routes("10.10.194.128/26"), "via 192.168.170.138 ") }
	l.wait("one's route to two", right)
	l.wait("two's route to one", func() string { return missing(two.routes("10.10.40.128/26"), "via 192.168.170.137 ") })
	l.wait("the lie to be judged", func() string {
		return missing(one.must("show", "peers", "rr1", "--routes", "rejected"), "its next hop 192.168.170.138 is ") // not node three, in words that depend on who tells it
	})
	if out := one.routes("10.10.3.0/24"); out != "" {
		t.Errorf("one believes that three's block is two's: %s", out)
	}
	sessions := func() { // with a route from either, of which one will do
		t.Helper()
		for _, h := range []*host{one, two} {
			l.wait("both sessions of "+h.Name, func() string {
				up := 0
				for _, p := range h.status().Peers {
					if p.State == "established" && p.Synced && (p.Addr == rr1.addr || p.Addr == rr2.addr) {
						up++
					}
				}
				if up != 2 {
					return h.must("show", "peers")
				}
				return missing(h.must("show", "routes"), from)
			})
		}
	}
	sessions()
	if !silence { // the hold time of each
		return
	}
	streams := l.streams(c, d)
	for i, r := range []*router.Router{first, second} {
		silent := []*host{rr1, rr2}[i]
		r.Freeze()
		l.wait("one to notice", func() string { // why, TestSilence asks
			s := one.status()
			for _, p := range s.Peers {
				if p.Addr == silent.addr && p.State != "established" {
					return ""
				}
			}
			return fmt.Sprintf("%+v", s)
		})
		if out := right(); out != "" {
			t.Error(out)
		}
		r.Thaw()
		sessions()
	}
	l.unharmed(streams)
}

// TestMeshToReflectors goes from a mesh to reflectors and back, by way of both at once: nothing is lost on the way.
func TestMeshToReflectors(t *testing.T) {
	node := func(i int, more string) string {
		return fmt.Sprintf("\nnode \"n%d\" {\n  address = \"192.168.170.%d/24\"\n  blocks  = [\"10.10.%d.0/24\"]\n%s}\n", i, i, i, more)
	}
	file := func(bgp, more string) string {
		return "network \"lab\" {\n  pools = [\"10.10.0.0/16\"]\n  mode  = \"bgp\"\n}\n" + bgp + node(1, more) + node(2, more) + node(3, "") + node(4, "") +
			"workload \"web\" {\n  node    = \"n3\"\n  address = \"10.10.3.1\"\n  netns   = \"/run/netns/LAB-web\"\n}\n" +
			"workload \"app\" {\n  node    = \"n4\"\n  address = \"10.10.4.1\"\n  netns   = \"/run/netns/LAB-app\"\n}\n"
	}
	mesh, reflect := "", "  route_reflector = \"192.0.2.1\"\n"
	l := newLab(t, file(mesh, ""))
	var hosts []*host
	for i := 1; i <= 4; i++ {
		hosts = append(hosts, l.host(fmt.Sprintf("n%d", i), fmt.Sprintf("192.168.170.%d/24", i)))
	}
	c, d := l.container("web"), l.container("app")
	for _, h := range hosts {
		h.start()
	}
	up := func(reflectors, clients int) {
		t.Helper()
		for i, h := range hosts {
			h.up(map[bool]int{true: reflectors, false: clients}[i < 2])
		}
	}
	up(3, 3)
	a, b := netip.MustParseAddr("10.10.3.1"), netip.MustParseAddr("10.10.4.1")
	streams := []*stream.Stream{stream.Start(t, c, a, d, b, time.Millisecond), stream.Start(t, d, b, c, a, time.Millisecond)}
	for _, s := range streams {
		s.Flowing(t)
	}
	both := "\nbgp {\n  mesh = true\n}\n"
	for _, step := range []struct {
		file                string
		reflectors, clients int
	}{
		{file(both, reflect), 3, 3}, {file("", reflect), 3, 2}, {file(both, reflect), 3, 3}, {file(mesh, ""), 3, 3},
	} {
		l.write(step.file)
		for _, h := range hosts {
			h.must("reload")
		}
		up(step.reflectors, step.clients)
	}
	l.unharmed(streams)
}
