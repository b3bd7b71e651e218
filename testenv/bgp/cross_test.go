package bgp

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"netd/testenv/netns"
	"netd/testenv/router"
)

// role is what a router is beside netd.
type role string

const (
	asToR       role = "ToR"       // of another AS, a peer block of the file
	asClient    role = "client"    // a node of the file, whose reflector is netd
	asReflector role = "reflector" // of two nodes that are netd
)

// crossing is a lab of two or three hosts: one and three are netd, the other is a router.
type crossing struct {
	program router.Program
	role    role
	six
	md5, gtsm, back bool // back: graceful restart
	netdFirst       bool
}

func (x crossing) String() string {
	words := []string{string(x.program), string(x.role), x.family("IPv4", "IPv6")}
	for i, on := range []bool{x.md5, x.gtsm, x.back, x.netdFirst} {
		if on {
			words = append(words, []string{"MD5", "GTSM", "GR", "netd first"}[i])
		}
	}
	return strings.Join(words, " ")
}

// six says whether all of a lab is of IPv6.
type six bool

// addr is the address of host n, and block is its block.
func (x six) addr(n int) string { return x.family("192.168.170.", "2001:db8:170::") + strconv.Itoa(n) }
func (x six) block(n int) string {
	return x.family(fmt.Sprintf("10.10.%d.0/24", n), fmt.Sprintf("fd10:0:0:%x::/64", n))
}

// inside is an address in a prefix.
func (x six) inside(prefix string) netip.Addr {
	p, err := netip.ParsePrefix(prefix)
	if err != nil {
		panic(err)
	}
	at := p.Addr().AsSlice()
	at[len(at)-1] = 9
	a, _ := netip.AddrFromSlice(at)
	return a
}

// family is how the family is called in iproute2, BIRD and FRR, and what else is of one of both.
func (x six) family(v4, v6 string) string {
	if x {
		return v6
	}
	return v4
}

// Hosts' numbers, from which their addresses are made. The higher address of two nodes dials.
const (
	numRouter = 138
	numOne    = 137
	numThree  = 139
)

// file is the configuration of those that are netd.
func (x crossing) file(secret string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "network \"lab\" {\n  pools        = [%q]\n  mode         = \"bgp\"\n  nat_outgoing%s = false\n}\nbgp {\n  hold_time = \"9s\"\n", x.family("10.10.0.0/16", "fd10::/48"), x.family("", "6"))
	if !x.back {
		b.WriteString("  graceful_restart = \"0s\"\n")
	}
	nodes := fmt.Sprintf("  ttl_security = %v\n", x.gtsm)
	if x.md5 {
		nodes += fmt.Sprintf("  password_file = %q\n", secret)
	}
	if x.role != asToR {
		b.WriteString(nodes)
	}
	b.WriteString("}\n")
	node := func(name string, n int, reflects bool) {
		fmt.Fprintf(&b, "node %q {\n  address%s = \"%s/%s\"\n  router_id = \"10.255.0.%d\"\n  blocks = [%q]\n", name, x.family("", "6"), x.addr(n), x.family("24", "64"), n, x.block(n))
		if reflects {
			fmt.Fprintf(&b, "  route_reflector = \"10.255.0.%d\"\n", n)
		}
		b.WriteString("}\n")
		if n != numRouter {
			fmt.Fprintf(&b, "workload %q {\n  node = %q\n  address = %q\n  netns = \"/run/netns/LAB-c%d\"\n}\n", name, name, x.inside(x.block(n)), n)
		}
	}
	node("one", numOne, x.role == asClient)
	switch x.role {
	case asToR:
		fmt.Fprintf(&b, "peer \"tor\" {\n  address = %q\n  asn     = 65101\n  import  = [%q]\n  hold_time = \"9s\"\n%s}\n", x.addr(numRouter), x.family("172.30.0.0/24", "fd30::/64"), nodes)
	case asClient, asReflector:
		node("two", numRouter, x.role == asReflector)
		node("three", numThree, false)
	}
	return b.String()
}

// tells is what the router announces of its own.
func (x crossing) tells() string {
	if x.role == asToR {
		return x.family("172.30.0.0/24", "fd30::/64")
	}
	return x.block(numRouter)
}

// conf is the router's configuration.
func (x crossing) conf(password string) string {
	as, neighbours := 64512, []int{numOne}
	switch x.role {
	case asToR:
		as = 65101
	case asReflector:
		neighbours = append(neighbours, numThree)
	}
	// Who dials: netd dials a ToR; of nodes the one with the higher address.
	passive := func(n int) bool { return x.role == asToR || n == numThree }
	var b strings.Builder
	if x.program == router.BIRD {
		family := x.family("ipv4", "ipv6")
		option := func(on bool, text string) {
			if on {
				b.WriteString("  " + text + ";\n")
			}
		}
		fmt.Fprintf(&b, "router id 10.255.0.%d;\nprotocol device { scan time 1; }\nprotocol kernel {\n", numRouter)
		option(x.back, "graceful restart on")
		fmt.Fprintf(&b, "  %s { import none; export all; };\n}\nprotocol static own { %s; route %s blackhole; }\n", family, family, x.tells())
		for i, n := range neighbours {
			fmt.Fprintf(&b, "protocol bgp netd%d {\n  local %s as %d;\n  neighbor %s as 64512;\n  direct; hold time 9; connect delay time 1; connect retry time 1; error wait time 1, 4;\n", i, x.addr(numRouter), as, x.addr(n))
			fmt.Fprintf(&b, "  graceful restart %s;\n", map[bool]string{true: "on", false: "off"}[x.back])
			option(x.md5, fmt.Sprintf("password %q", password))
			option(x.gtsm, "ttl security on")
			option(passive(n), "passive on")
			option(x.role == asReflector, fmt.Sprintf("rr client; rr cluster id 10.255.0.%d", numRouter))
			next := "next hop self"
			if x.role == asReflector {
				next = "next hop self ebgp" // which clients are not: what one tells keeps its next hop
			}
			fmt.Fprintf(&b, "  %s { import all; export where source = RTS_STATIC || proto ~ \"netd*\"; %s; };\n}\n", family, next)
		}
		return b.String()
	}
	fmt.Fprintf(&b, "router bgp %d\n bgp router-id 10.255.0.%d\n no bgp ebgp-requires-policy\n no bgp network import-check\n no bgp default ipv4-unicast\n", as, numRouter)
	if x.back {
		b.WriteString(" bgp graceful-restart\n bgp graceful-restart preserve-fw-state\n")
	} else {
		b.WriteString(" bgp graceful-restart-disable\n")
	}
	if x.role == asReflector {
		fmt.Fprintf(&b, " bgp cluster-id 10.255.0.%d\n", numRouter)
	}
	unicast := fmt.Sprintf(" address-family %s unicast\n  network %s\n", x.family("ipv4", "ipv6"), x.tells())
	for _, n := range neighbours {
		line := func(on bool, text string) {
			if on {
				fmt.Fprintf(&b, " neighbor %s %s\n", x.addr(n), text)
			}
		}
		line(true, "remote-as 64512")
		line(true, "timers 3 9")
		line(true, "timers connect 1")
		line(x.md5, "password "+password)
		line(x.gtsm, "ttl-security hops 1")
		line(passive(n), "passive")
		unicast += fmt.Sprintf("  neighbor %s activate\n", x.addr(n))
		if x.role == asReflector {
			unicast += fmt.Sprintf("  neighbor %s route-reflector-client\n", x.addr(n))
		} else {
			unicast += fmt.Sprintf("  neighbor %s next-hop-self\n", x.addr(n))
		}
	}
	return b.String() + unicast + " exit-address-family\n"
}

// TestCross has netd beside BIRD and FRR in each role and over either family, with and without MD5, GTSM and graceful restart, either
// end first, in combinations that have every pair of these. Everyone learns what the others have, each by way of its own host. Then netd's
// speaker is killed and the router is, under streams between all of them: everything is back, with graceful restart no route was gone
// and no packet lost in between, and without it for no longer than both ends took to find each other again.
func TestCross(t *testing.T) {
	netns.Need(t)
	for _, x := range []crossing{
		{router.BIRD, asToR, true, true, true, true, true},
		{router.BIRD, asToR, false, false, true, false, false},
		{router.BIRD, asClient, true, true, false, false, true},
		{router.BIRD, asClient, false, false, true, true, false},
		{router.BIRD, asReflector, true, false, true, false, false},
		{router.BIRD, asReflector, false, true, false, true, true},
		{router.FRR, asToR, true, true, false, false, false},
		{router.FRR, asToR, true, false, true, true, true},
		{router.FRR, asClient, true, false, true, true, true},
		{router.FRR, asClient, false, false, false, false, false},
		{router.FRR, asReflector, true, true, false, true, true},
		{router.FRR, asReflector, false, false, true, false, false},
	} {
		t.Run(strings.ReplaceAll(x.String(), " ", ","), func(t *testing.T) { cross(t, x) })
	}
}

func cross(t *testing.T, x crossing) {
	const password = "between_us"
	secret := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(secret, []byte(password+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	l := newLab(t, x.file(secret))
	hosts, inside := map[int]*host{}, map[int]*netns.NS{}
	join := func(name string, n int) *host {
		h := l.host(name, fmt.Sprintf("192.168.170.%d/24", n))
		if x.six {
			h.dual(x.addr(n) + "/64")
		}
		hosts[n], inside[n] = h, h.NS
		if n != numRouter {
			inside[n] = l.container(fmt.Sprintf("c%d", n))
		}
		return h
	}
	one, two := join("one", numOne), join("two", numRouter)
	far := map[int]netip.Addr{numOne: x.inside(x.block(numOne)), numRouter: x.inside(x.tells()), numThree: x.inside(x.block(numThree))}
	two.Run(t, "ip addr add "+far[numRouter].String()+" dev lo")
	netds := []*host{one}
	if x.role != asToR {
		netds = append(netds, join("three", numThree))
	}
	var r *router.Router
	begin := func() { r = router.New(t, x.program, two.NS, x.conf(password)) }
	if !x.netdFirst {
		begin()
	}
	for _, h := range netds {
		h.start()
	}
	if x.netdFirst {
		begin()
	}
	sessions := map[role]int{asToR: 1, asClient: 2, asReflector: 1}[x.role] // of one
	ip := x.family("ip -4", "ip -6")
	lacks := func(at int, what string, via int) string {
		return missing(hosts[at].Run(t, ip+" route show "+what), "via "+x.addr(via)+" dev eth0")
	}
	right := func() string {
		wrong := lacks(numOne, x.tells(), numRouter) + lacks(numRouter, x.block(numOne), numOne)
		if x.role != asToR {
			wrong += lacks(numThree, x.tells(), numRouter) + lacks(numThree, x.block(numOne), numOne) + lacks(numRouter, x.block(numThree), numThree) + lacks(numOne, x.block(numThree), numThree)
		}
		return wrong
	}
	one.up(sessions)
	l.wait("every route by way of its own host", right)
	for _, h := range netds {
		if out := h.must("plan"); !strings.Contains(out, "No changes.") {
			t.Errorf("%s: the plan after that:\n%s", h.Name, out)
		}
	}

	restart := func(what string, die func()) {
		t.Helper()
		heard := make([]func() string, len(netds))
		for i, h := range netds {
			heard[i] = h.deleted(ip)
		}
		took := two.deleted(ip) // of itself a router takes routes out, too
		flows := x.flows(t, inside, far)
		begin := time.Now()
		die()
		for _, h := range netds {
			if h != one && x.role == asClient { // it has no session with the router
				continue
			}
			l.wait("a new session of "+h.Name+" with the router", func() string {
				s := h.status()
				for _, p := range s.Peers {
					// Who says no End-of-RIB is waited for 20 s by a new speaker: not here, where nothing comes after it.
					if p.Addr.String() == x.addr(numRouter) && p.State == "established" && (p.Synced || !x.back && what == "netd") && p.Since.After(begin) {
						return ""
					}
				}
				return fmt.Sprintf("%+v", s)
			})
			if what == "netd" {
				break // it was one's speaker
			}
		}
		l.wait("every route again", right)
		flows.ended(t, what, took())
		for i, gone := range heard {
			switch out := gone(); {
			case x.back && what == "frr" && x.role == asReflector: // it tells the first that comes back an End-of-RIB before it has heard the other
			case x.back && x.program == router.FRR && x.role == asClient: // for 120 s after its start it says that it restarts, and is not waited for (RFC 4724 §4.1)
			case x.back && out != "":
				t.Errorf("%s restarted: %s lost routes:\n%s", what, netds[i].Name, out)
			case !x.back && what != "netd" && i == 0 && out == "":
				t.Errorf("%s ended without graceful restart, and %s kept its routes", what, netds[i].Name)
			}
		}
	}
	ours := func() {
		if x.role != asClient || !x.back || x.program == router.FRR {
			one.killSpeaker()
			return
		}
		// The reflector has to wait for the client that comes back last.
		r.Freeze()
		begin := time.Now()
		one.killSpeaker()
		l.wait("three's new session", func() string {
			if s := hosts[numThree].status(); len(s.Peers) != 1 || s.Peers[0].State != "established" || !s.Peers[0].Since.After(begin) {
				return fmt.Sprintf("%+v", s)
			}
			return ""
		})
		r.Thaw()
	}
	theirs := func() { r.Kill(); r.Start() }
	if x.back {
		restart("netd", ours)
	}
	restart(string(x.program), theirs)
	if !x.back {
		restart("netd", ours)
	}
}

// deleted hears of routes of a routing program that go, until it is asked for them.
func (h *host) deleted(ip string) func() string {
	h.lab.t.Helper()
	words := append([]string{"-ts"}, append(strings.Fields(ip)[1:], "monitor", "route")...)
	cmd := exec.Command("ip", words...)
	var out log
	cmd.Stdout = &out
	if err := h.Start(cmd); err != nil {
		h.lab.t.Fatal(err)
	}
	ended := false
	end := func() {
		if !ended {
			ended = true
			_ = cmd.Process.Signal(syscall.SIGTERM)
			_ = cmd.Wait()
		}
	}
	h.lab.t.Cleanup(end)
	h.lab.wait("ip monitor in "+h.Name+" hears", func() string {
		sockets, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/netlink", cmd.Process.Pid))
		if err != nil {
			return err.Error()
		}
		for line := range strings.Lines(string(sockets)) { // sk Eth Pid Groups …
			if f := strings.Fields(line); len(f) > 3 && f[2] == strconv.Itoa(cmd.Process.Pid) && strings.Trim(f[3], "0") != "" {
				return ""
			}
		}
		return string(sockets)
	})
	return func() string {
		mark := "198.51.100.77" // of nobody: what went before it was heard before it
		if strings.Contains(ip, "-6") {
			mark = "2001:db8:77::77"
		}
		h.Run(h.lab.t, ip+" route add blackhole "+mark)
		h.Run(h.lab.t, ip+" route del blackhole "+mark)
		h.lab.wait("ip monitor in "+h.Name+" to hear all", func() string { return missing(out.String(), "Deleted blackhole "+mark) })
		end()
		var gone []string
		for _, line := range strings.Split(out.String(), "\n") {
			if strings.Contains(line, "Deleted") && (strings.Contains(line, " via ") || strings.Contains(line, " nhid ")) {
				gone = append(gone, line)
			}
		}
		return strings.Join(gone, "\n")
	}
}
