package bgp

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"netd/testenv/netns"
	"netd/testenv/router"
)

// TestOtherLink is a node whose routers are on another link than its address: one is spoken to by IPv4, the other by a link-local
// address with that link's name. What each tells goes by that link, and the node's blocks come back by it.
func TestOtherLink(t *testing.T) {
	l := newLab(t, `
network "lab" {
  pools         = ["10.10.0.0/16", "fd10::/48"]
  mode          = "bgp"
  nat_outgoing  = false
}
node "a" {
  address  = "192.168.170.137/24"
  address6 = "2001:db8:170::137/64"
  blocks   = ["10.10.40.128/26", "fd10:0:0:1::/64"]
}
peer "four" {
  address = "192.168.200.1"
  asn     = 65101
  import  = ["172.30.0.0/24"]
}
peer "local" {
  address = "fe80::2%up0"
  asn     = 65102
  import  = ["fd30::/64"]
}
`)
	a := l.host("a", "192.168.170.137/24")
	a.dual("2001:db8:170::137/64")
	beyond := "beyond" + l.id
	netns.Run(t, "ip link add "+beyond+" type bridge")
	t.Cleanup(func() { netns.Run(t, "ip link del "+beyond) })
	netns.Run(t, "ip link set "+beyond+" up")
	l.attach(a.NS, beyond, "a", "192.168.200.137/24")
	routers := map[string]*netns.NS{}
	for i, name := range []string{"four", "local"} {
		routers[name] = netns.New(t, l.id+"-"+name)
		l.attach(routers[name], beyond, name, fmt.Sprintf("192.168.200.%d/24", i+1))
		routers[name].Run(t, fmt.Sprintf("ip addr add fe80::%d/64 dev up0 nodad", i+1))
	}
	var own netip.Addr
	l.wait("the link's own address", func() string {
		out := a.Run(t, "ip -6 -o addr show dev up0 scope link -tentative")
		if f := strings.Fields(out); len(f) > 3 {
			own = netip.MustParsePrefix(f[3]).Addr()
			return ""
		}
		return "there is none: " + out
	})
	s := session{as: 65101, netdAS: 64512, id: "192.168.200.1", netd: "192.168.200.137", restart: 60, passive: true, announce: []string{"172.30.0.0/24"}}
	router.New(t, router.FRR, routers["four"], s.conf(router.FRR))
	router.New(t, router.BIRD, routers["local"], fmt.Sprintf(`router id 192.168.200.2;
protocol device { scan time 1; }
protocol kernel { ipv6 { import none; export where source = RTS_BGP; }; }
protocol static { ipv6; route fd30::/64 blackhole; }
protocol bgp netd {
  local fe80::2 as 65102;
  neighbor %s as 64512;
  interface "up0"; direct; passive on; hold time 9; graceful restart on;
  ipv6 { import all; export where source = RTS_STATIC; };
}
`, own))
	a.start()
	a.up(2)
	l.wait("what the one tells", func() string {
		return differs(a.routes("172.30.0.0/24"), "172.30.0.0/24 via 192.168.200.1 dev up0")
	})
	l.wait("what the other tells", func() string { return differs(a.routes6("fd30::/64"), "fd30::/64 via fe80::2 dev up0") })
	l.wait("the block at the one", func() string {
		return missing(routers["four"].Run(t, "ip route show 10.10.40.128/26"), "via 192.168.200.137 dev up0")
	})
	l.wait("the block at the other", func() string {
		return missing(routers["local"].Run(t, "ip -6 route show fd10:0:0:1::/64"), "via "+own.String()+" dev up0")
	})
	if out := a.must("show", "peers"); missing(out, "fe80::2%up0") != "" {
		t.Errorf("show peers:\n%s", out)
	}
	if out := a.must("plan"); !strings.Contains(out, "No changes.") {
		t.Errorf("the plan after that:\n%s", out)
	}
}
