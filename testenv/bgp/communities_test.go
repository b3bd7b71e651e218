package bgp

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"netd/testenv/router"
)

// told is the communities of a prefix at a router, in order, the well-known ones as the file has them; "none" where it lacks the prefix.
func told(r *router.Router, prefix string) string {
	var out []string
	there := false
	if r.Program == router.BIRD {
		for _, line := range strings.Split(r.Ask("show route all where net =", prefix), "\n") {
			name, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
			switch there = there || strings.HasPrefix(line, prefix); name {
			case "BGP.community", "BGP.large_community":
				value = strings.NewReplacer(", ", ":", ",", ":", ") (", " ", "(", "", ")", "").Replace(value)
				out = append(out, strings.Fields(value)...)
			}
		}
	} else {
		for _, line := range strings.Split(r.Ask("show bgp ipv4 unicast "+prefix), "\n") {
			name, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
			switch there = there || strings.HasPrefix(line, "Paths: "); name {
			case "Community", "Large Community":
				out = append(out, strings.Fields(strings.Replace(value, "local-AS", "no-export-subconfed", 1))...)
			}
		}
	}
	if !there {
		return "none"
	}
	for i, c := range out {
		if name := map[string]string{"65535:0": "graceful-shutdown", "65535:666": "blackhole", "65535:65281": "no-export", "65535:65282": "no-advertise",
			"65535:65283": "no-export-subconfed", "65535:65284": "no-peer"}[c]; name != "" {
			out[i] = name
		}
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

// TestCommunities has a switch tell prefixes with communities of every kind, which other routers are to be told, of another AS and of
// this one: each gets what the communities let it get (RFC 1997, which BIRD and FRR do too), with the communities as they came. The node's own
// block goes to all of them, with every community that the file can name.
func TestCommunities(t *testing.T) {
	const all = `communities = ["no-export", "no-advertise", "blackhole", "graceful-shutdown", "no-export-subconfed", "no-peer", "65000:1", "4294967295:4294967295:1"]`
	peers := "peer \"source\" {\n  address = \"192.168.170.4\"\n  asn     = 65104\n  import  = [\"172.30.0.0/16 le 24\"]\n}\n"
	to := []struct {
		program router.Program
		as      uint32
		more    string
	}{{router.BIRD, 65101, ""}, {router.FRR, 65102, ""}, {router.BIRD, 64512, `import = ["172.29.0.0/24"]`}, {router.FRR, 65105, all}}
	for i, x := range to {
		peers += fmt.Sprintf("peer \"to-%d\" {\n  address = \"192.168.170.%d\"\n  asn     = %d\n  export  = [\"10.10.0.0/16 le 26\", \"172.30.0.0/16 le 24\"]\n  %s\n}\n", i, i+11, x.as, x.more)
	}
	l := newLab(t, fmt.Sprintf(rackFile, peers))
	l.container("web")
	node, source := l.host("node", "192.168.170.137/24"), l.host("source", "192.168.170.4/24")
	var routers []*router.Router
	for i, x := range to {
		s := session{as: x.as, netdAS: 64512, id: fmt.Sprintf("192.168.170.%d", i+11), netd: "192.168.170.137", passive: true, restart: 60}
		conf := s.conf(x.program)
		if x.as == 64512 { // of this AS, and asks to be left
			s.announce = []string{"172.29.0.0/24"}
			conf = strings.Replace(s.conf(x.program), "export where source = RTS_STATIC;", "export filter { if source != RTS_STATIC then reject; bgp_community.add((65535,0)); accept; };", 1)
		}
		routers = append(routers, router.New(t, x.program, l.host(fmt.Sprintf("to%d", i), s.id+"/24").NS, conf))
	}
	const (
		toAll = iota
		withinAS
		toNobody
	)
	prefixes := []struct {
		has, filter string // what BIRD adds
		to          int
	}{
		{"", "", toAll},
		{"no-export", "bgp_community.add((65535,65281));", withinAS},
		{"no-advertise", "bgp_community.add((65535,65282));", toNobody},
		{"no-export-subconfed", "bgp_community.add((65535,65283));", withinAS},
		{"4200000000:1:2 65000:7 blackhole no-peer", "bgp_community.add((65535,666)); bgp_community.add((65535,65284)); bgp_community.add((65000,7)); bgp_large_community.add((4200000000,1,2));", toAll},
	}
	conf := func(of func(i int) string) string {
		s := session{as: 65104, netdAS: 64512, id: "192.168.170.4", netd: "192.168.170.137", passive: true, restart: 60}
		routes := ""
		for i := range prefixes {
			routes += fmt.Sprintf("route 172.30.%d.0/24 blackhole { %s }; ", i, of(i))
		}
		return strings.Replace(s.conf(router.BIRD), "protocol static own { ipv4; ", "protocol static own { ipv4; "+routes, 1)
	}
	bird := router.New(t, router.BIRD, source.NS, conf(func(i int) string { return prefixes[i].filter }))
	node.start()
	node.up(len(to) + 1)

	right := func(what string, prefix string, has string, whom int) {
		t.Helper()
		for i, r := range routers {
			want := has
			if whom == toNobody || whom == withinAS && to[i].as != 64512 {
				want = "none"
			} else if to[i].more == all {
				want = strings.Join(slices.Sorted(slices.Values(strings.Fields(has+" "+strings.NewReplacer("communities = ", "", "[", "", "]", "", "\"", "", ",", "").Replace(all)))), " ")
			}
			if r.Program == router.FRR && strings.Contains(want, "blackhole") { // which has it go no further (RFC 7999 §3.2)
				want += " no-export"
			}
			want = strings.Join(slices.Compact(slices.Sorted(slices.Values(strings.Fields(want)))), " ")
			l.wait(fmt.Sprintf("%s: %s at to-%d", what, prefix, i), func() string {
				got := told(r, prefix)
				return differs(strings.Join(slices.Compact(strings.Fields(got)), " "), want)
			})
		}
	}
	for i, p := range prefixes {
		prefix := fmt.Sprintf("172.30.%d.0/24", i)
		l.wait(prefix+" in the kernel", func() string { return missing(node.routes(prefix), "via 192.168.170.4 dev eth0") })
		right("at first", prefix, p.has, p.to)
	}
	right("the block", "10.10.40.128/26", "", toAll)
	for _, words := range []string{"path 65104, communities no-export\n", "path 65104, communities 65000:7 blackhole no-peer 4200000000:1:2\n"} {
		if out := node.must("show", "routes", "--bgp"); missing(out, words) != "" {
			t.Errorf("the table in words: no %q in\n%s", words, out)
		}
	}

	// Within the AS a router that asks to be left says itself how little it is to be preferred (RFC 8326 §4.2).
	l.wait("what to-2 tells, as it comes", func() string {
		return missing(strings.Join(strings.Fields(node.must("show", "routes", "--bgp")), " ")+" ", "* 172.29.0.0/24 192.168.170.13 to-2 communities graceful-shutdown ")
	})

	// What was told is told a withdrawal once it asks not to be, and told again.
	for _, x := range []int{1, 2, 0} {
		bird.Configure(conf(func(i int) string {
			if i < 3 {
				i = (i + x) % 3
			}
			return prefixes[i].filter
		}))
		for i := range 3 {
			p := prefixes[(i+x)%3]
			right(fmt.Sprintf("turned by %d", x), fmt.Sprintf("172.30.%d.0/24", i), p.has, p.to)
		}
	}
	if out := node.must("plan"); !strings.Contains(out, "No changes.") {
		t.Errorf("the plan after that:\n%s", out)
	}
}
