package main

import (
	"bytes"
	"net/netip"
	"strings"
	"testing"

	"netd/config"
	"netd/reconcile/desired"
	"netd/reconcile/object"
	"netd/reconcile/speaker"
)

// TestRejected: of all that a neighbour tells and is not taken, status has one line with the most telling reason. What a router
// tells besides its import list is as it should be; what a node tells that is not its own is not.
func TestRejected(t *testing.T) {
	l := &looker{
		config: &config.Config{Nodes: []config.Node{{Name: "two", Address: netip.MustParsePrefix("192.168.170.138/24")}}},
		node:   config.Node{ASN: 64512, RouterID: netip.MustParseAddr("192.168.170.137")},
		judge: func(p object.BestPath) desired.Verdict {
			switch p.Prefix.Addr().As4()[0] {
			case 10:
				return desired.Verdict{Why: "it is no block of that node"}
			case 11:
				return desired.Verdict{Why: "its next hop is another host"}
			case 172:
				return desired.Verdict{Why: "its import list does not have it", Unlisted: true}
			}
			return desired.Verdict{}
		},
	}
	node, router := netip.MustParseAddr("192.168.170.138"), netip.MustParseAddr("192.168.170.1")
	loop := []uint32{65101, 64512}
	for _, x := range []struct {
		name  string
		from  netip.Addr
		tells []speaker.Route
		want  string // "" for no line at all
		bad   bool   // DEGRADED
	}{
		{"all is taken", node, []speaker.Route{{}}, "", false},
		{"a loop alone, of a node", node, []speaker.Route{{ASPath: loop}}, "1 route rejected, 8.0.0.0/24: a loop: this node's AS 64512 is in its path", false},
		{"an own path that comes back", node, []speaker.Route{{Originator: "192.168.170.137"}}, "1 route rejected, 8.0.0.0/24: a loop: this node is its originator", false},
		{"a node's lie", node, routesTo("10.1.0.0/24"), "1 route rejected, 10.1.0.0/24: it is no block of that node", true},
		{"a lie among loops", node, append([]speaker.Route{{ASPath: loop}, {ASPath: loop}}, routesTo("10.1.0.0/24")...),
			"3 routes rejected, such as 10.1.0.0/24: it is no block of that node", true},
		{"the reason that most have", node, routesTo("10.1.0.0/24", "11.2.0.0/24", "11.1.0.0/24"), "3 routes rejected, such as 11.1.0.0/24: its next hop is another host", true},
		{"of as many the first", node, routesTo("11.1.0.0/24", "10.2.0.0/24", "10.1.0.0/24", "11.2.0.0/24"), "4 routes rejected, such as 10.1.0.0/24: it is no block of that node", true},
		{"what a list is for", router, routesTo("172.16.2.0/24", "172.16.1.0/24"), "2 routes rejected, such as 172.16.1.0/24: its import list does not have it", false},
		{"a loop besides", router, append([]speaker.Route{{ASPath: loop}, {ASPath: loop}}, routesTo("172.16.1.0/24")...),
			"3 routes rejected, such as 172.16.1.0/24: its import list does not have it", false},
		{"what no list would let in besides", router, routesTo("172.16.1.0/24", "172.16.2.0/24", "10.1.0.0/24"), "3 routes rejected, such as 10.1.0.0/24: it is no block of that node", false},
	} {
		var not rejects
		for _, r := range x.tells {
			if r.Peer = x.from; !r.Prefix.IsValid() {
				r.Prefix = netip.MustParsePrefix("8.0.0.0/24")
			}
			if g, why := l.weigh(r); why != "" {
				not.add(r.Prefix, g, why)
			}
		}
		name := map[netip.Addr]string{node: "two", router: "tor"}[x.from]
		v := statusView{Config: "7f3c21a", Peers: []sessionView{{speaker.Neighbour{Name: name, Addr: x.from, State: "established"}, not.view(l.isNode(x.from))}}}
		v.judge()
		var out bytes.Buffer
		v.write(page{&out, false, 0})
		line := ""
		for s := range strings.Lines(out.String()) {
			if strings.Contains(s, "rejected, ") {
				line += s
			}
		}
		if x.want == "" && line != "" || x.want != "" && (strings.Count(line, "\n") != 1 || !strings.Contains(line, x.want) || !strings.Contains(line, "(netd show peers "+name+" --routes rejected)")) {
			t.Errorf("%s: status says\n%swant %q", x.name, out.String(), x.want)
		}
		if (v.Verdict == "DEGRADED") != x.bad {
			t.Errorf("%s: the verdict is %s", x.name, v.Verdict)
		}
	}
}

func routesTo(prefixes ...string) (out []speaker.Route) {
	for _, p := range prefixes {
		out = append(out, speaker.Route{Prefix: netip.MustParsePrefix(p)})
	}
	return out
}
