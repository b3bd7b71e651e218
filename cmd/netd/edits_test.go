package main

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"netd/testenv/stream"
)

// TestEditsUnderTraffic edits a host's file again and again, well and badly, under a stream each way: what is good is taken,
// what is not changes nothing and is told, and no packet is lost.
func TestEditsUnderTraffic(t *testing.T) {
	l := newLab(t, "vxlan")
	good := fmt.Sprintf(walkthrough, "vxlan")
	for _, h := range l.hosts {
		h.file = filepath.Join(h.dir, "netd.hcl")
		if err := os.WriteFile(h.file, []byte(good), 0o644); err != nil {
			t.Fatal(err)
		}
		h.start()
	}
	l.settled()
	l.reach()
	h := l.hosts[0]
	a, b := netip.MustParseAddr("10.10.40.129"), netip.MustParseAddr("10.10.194.134")
	there := stream.Start(t, l.hosts[0].container, a, l.hosts[1].container, b, time.Millisecond)
	back := stream.Start(t, l.hosts[1].container, b, l.hosts[0].container, a, time.Millisecond)
	there.Flowing(t)
	back.Flowing(t)

	third := "node \"third\" {\n  address = \"192.168.170.139/24\"\n  blocks  = [\"10.10.77.0/26\"]\n}\n"
	with := func(attribute string) string { return strings.Replace(good, "  mode ", "  "+attribute+"\n  mode ", 1) }
	nobody := strings.NewReplacer("baihl-master", "other", "192.168.170.137", "192.168.170.150").Replace(good)
	edits := []struct{ what, file, says string }{ // says: of a file that is not taken
		{"a comment", "# hosts\n" + good, ""},
		{"cut in half", good[:len(good)/2], "not taken"},
		{"a node more", good + third, ""},
		{"empty", "", "no network"},
		{"two nodes with one block", good + strings.Replace(third, "10.10.77.0", "10.10.194.128", 1), "block overlaps"},
		{"a node less", good, ""},
		{"without this host", nobody, "no longer has this host"},
		{"no NAT", with("nat_outgoing = false"), ""},
		{"no text", "\x00\x01\x02", "not a text file"},
		{"NAT again", good, ""},
		{"deleted", "", "no such file"},
		{"there again", good, ""},
		{"an unknown mode", strings.Replace(good, `"vxlan"`, `"gre"`, 1), `"gre" is unknown`},
		{"smaller packets", with("mtu = 1300"), ""},
		{"an open bracket", good + "locals { a = [", "not taken"},
		{"larger packets", good, ""},
		{"a range without end", good + "locals {\n  a = range(100000000)\n}\n", "more than 65536 numbers"},
		{"a workload elsewhere", strings.Replace(good, `"10.10.40.129"`, `"10.10.194.129"`, 1), "outside its node's blocks"},
		{"several nodes more", good + third + strings.NewReplacer("third", "fourth", "139", "140", "77", "78").Replace(third), ""},
		{"as it was", good, ""},
	}
	for _, e := range edits {
		var err error
		if e.what == "deleted" {
			err = os.Remove(h.file)
		} else {
			err = os.WriteFile(h.file, []byte(e.file), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
		l.wait(e.what, func() string {
			out, code := h.netd("status")
			switch {
			case e.says == "" && code == 0 && strings.Contains(out, "Config "+digestOf(t, h)):
				return ""
			case e.says != "" && code == exitDegraded && strings.Contains(out, e.says):
				return ""
			}
			return out
		})
		routes := h.Run(t, "ip route")
		if e.says == "" && strings.Contains(e.file, "10.10.77.0") != strings.Contains(routes, "10.10.77.0/26 via") || !strings.Contains(routes, "10.10.194.128/26 via") {
			t.Errorf("%s: the routes are\n%s", e.what, routes)
		}
		if e.says != "" {
			h.must(exitConfig, "apply", "-y")
		}
	}
	for _, s := range []*stream.Stream{there, back} {
		r := s.Stop()
		t.Log(r)
		if r.Lost > 0 {
			t.Errorf("edits lost packets: %s", r)
		}
	}
}

// digestOf is how a host's file is called in its status.
func digestOf(t *testing.T, h *labHost) string {
	t.Helper()
	out := h.must(0, "plan", "--offline", "--node", "baihl-master")
	_, rest, _ := strings.Cut(out, "Config ")
	return strings.Fields(rest)[0]
}
