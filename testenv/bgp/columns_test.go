package bgp

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"netd/testenv/router"
)

// TestLookAtRouters is what somebody sees who is called at night: of several ways which are used, since when a session is down that is tried
// again and again, why a router's routes are not there, and the same as JSON with all keys that a program may rely on.
func TestLookAtRouters(t *testing.T) {
	peers := ""
	for i, asn := range []int{65101, 65102, 65103, 64512, 65105, 65106} {
		peers += fmt.Sprintf("peer \"r%d\" {\n  address = \"192.168.170.%d\"\n  asn     = %d\n", i+1, i+1, asn)
		if i < 3 {
			peers += "  import  = [\"172.30.0.0/16 le 24\"]\n"
		}
		peers += "}\n"
	}
	peers += "node \"other\" {\n  address = \"192.168.170.138/24\"\n  blocks  = [\"10.10.194.128/26\"]\n}\n" // it is not there either
	l := newLab(t, fmt.Sprintf(rackFile, peers))
	l.container("web")
	node := l.host("node", "192.168.170.137/24")
	for i, as := range []uint32{65101, 65102, 65103, 64512, 65999} { // the fifth says another AS than the file, the sixth is not there
		s := session{as: as, netdAS: 64512, id: fmt.Sprintf("192.168.170.%d", i+1), netd: "192.168.170.137", restart: 60, announce: []string{"172.30.0.0/24"}}
		conf := s.conf(router.BIRD)
		if i == 2 {
			conf = strings.Replace(conf, "export where source = RTS_STATIC;", "export filter { if source != RTS_STATIC then reject; bgp_path.prepend(65103); accept; };", 1)
		}
		router.New(t, router.BIRD, l.host(fmt.Sprintf("r%d", i+1), s.id+"/24").NS, conf)
	}
	node.start()
	l.wait("the table", func() string {
		out, code := node.ask("show", "routes", "--bgp")
		if code != 0 && code != 69 && missing(out, "the BGP speaker has only just started, and has no sessions yet") != "" && missing(out, "no BGP speaker answers") != "" {
			t.Fatalf("exit code %d: %s", code, out)
		}
		var got []string
		for _, line := range strings.Split(out, "\n") {
			if strings.Contains(line, "172.30.0.0/24") {
				got = append(got, line[:2]+strings.Join(strings.Fields(line[2:]), " "))
			}
		}
		if slices.Sort(got); len(got) != 3 {
			return out
		}
		return differs(strings.Join(got, "\n"), "  172.30.0.0/24 192.168.170.3 r3 path 65103 65103\n* 172.30.0.0/24 192.168.170.1 r1 path 65101\n* 172.30.0.0/24 192.168.170.2 r2 path 65102")
	})
	l.wait("those ways in the kernel", func() string {
		out := node.routes("172.30.0.0/24")
		if strings.Contains(out, "192.168.170.3") {
			return out
		}
		return missing(out, "via 192.168.170.1 ") + missing(out, "via 192.168.170.2 ")
	})
	if out := node.must("show", "routes"); missing(out, "50 % via 192.168.170.1 dev eth0, 50 % via 192.168.170.2 dev eth0  peer r1, peer r2\n") != "" {
		t.Errorf("the route by two of three routers:\n%s", out)
	}
	l.wait("words of a router of this AS", func() string {
		return missing(node.must("show", "peers", "r4", "--routes", "rejected"), "import is not written, and it is no block of a node in a network of mode bgp")
	})

	// One that is refused again and again is down since it was first, whatever state it is in.
	states, since := map[string]bool{}, map[string]bool{}
	l.wait("it to be tried again", func() string {
		for _, p := range node.status().Peers {
			if p.Addr.String() == "192.168.170.5" && p.Error != "" {
				states[p.State], since[p.Since.String()] = true, true
			}
		}
		if len(states) < 2 {
			return fmt.Sprint(states)
		}
		return ""
	})
	if len(since) != 1 {
		t.Errorf("it is down since %v", slices.Collect(maps.Keys(since)))
	}
	for peer, why := range map[string]string{"r5": "AS 65999 offered, 65105 expected", "r6": "no route to 192.168.170.6, or it does not answer on the link"} {
		l.wait("words of "+peer, func() string {
			out := node.must("show", "peers", peer, "--routes", "received")
			return missing(out, "netd: the session with "+peer+" (192.168.170."+peer[1:]+") is ") + missing(out, why) + missing(out, "No routes.\n")
		})
	}

	keys := func(what string, list any, i int, always string, may ...string) {
		t.Helper()
		items, ok := list.([]any)
		if !ok || len(items) <= i {
			t.Fatalf("%s: %v", what, list)
		}
		got := slices.Sorted(maps.Keys(items[i].(map[string]any)))
		got = slices.DeleteFunc(got, func(k string) bool { return slices.Contains(may, k) })
		if strings.Join(got, " ") != always {
			t.Errorf("%s has the keys %v, want %s", what, got, always)
		}
	}
	read := func(args ...string) map[string]any {
		t.Helper()
		out, _ := node.ask(append(args, "--json")...)
		var v map[string]any
		if err := json.Unmarshal([]byte(out), &v); err != nil || v["schema_version"] != 1.0 {
			t.Fatalf("%v: %v: %s", args, err, out)
		}
		return v
	}
	keys("a peer", read("show", "peers")["peers"], 0, "accepted addr advertised asn name received rejected since state synced", "error", "error_at")
	keys("a peer that is down", read("show", "peers")["peers"], 4, "accepted addr advertised asn error error_at name received rejected since state synced")
	keys("a route", read("show", "peers", "r1", "--routes", "received")["routes"], 0, "as_path attributes best from next_hop origin peer prefix since", "med")
	keys("a rejected one", read("show", "peers", "r4", "--routes", "rejected")["routes"], 0, "as_path attributes best from local_pref next_hop origin peer prefix reason since")
	keys("one of the table", read("show", "routes", "--bgp")["routes"], 1, "as_path attributes best from local_pref next_hop origin peer prefix since", "med")
	keys("a session of status", read("status")["peers"], 3, "addr name rejected since state synced", "error", "error_at")
	down := read("show", "peers", "r6", "--routes", "received")
	if list, ok := down["down"].([]any); !ok || len(list) != 1 || len(down["routes"].([]any)) != 0 {
		t.Errorf("of one that is down: %v", down)
	}
}
