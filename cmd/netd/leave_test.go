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

// TestModeAlone changes the mode by its own line alone, without `receive`, on both hosts at once and with seconds between
// them, under a stream each way. Where the new mode is bgp nothing is lost: the tunnel stays until a session gives the way,
// and a while longer, and then it goes. Any other change loses what is sent while the two differ, which is said.
func TestModeAlone(t *testing.T) {
	devs := map[string]string{"vxlan": "vxlan.netd", "ipip": "tunl0", "bgp": "eth0"}
	for _, change := range []string{"vxlan bgp", "bgp vxlan", "ipip bgp", "bgp ipip", "ipip vxlan", "vxlan ipip"} {
		for _, apart := range []time.Duration{0, 3 * time.Second} {
			from, to, _ := strings.Cut(change, " ")
			t.Run(fmt.Sprintf("%s to %s, %s apart", from, to, apart), func(t *testing.T) {
				if strings.Contains(change, "ipip") {
					needIPIP(t)
				} else if os.Getenv("NETD_GUEST") != "" {
					t.Skip("it runs outside the guest, and faster")
				}
				l := newUnderlay(t, fmt.Sprintf(twoSites, from), "a", "b")
				l.wire("a eth0 192.168.1.1/24", "b eth0 192.168.1.2/24")
				dir := t.TempDir()
				for _, h := range l.hosts {
					h.Run(t, "sysctl -q -w net.ipv4.conf.all.rp_filter=1")
					h.file = filepath.Join(dir, h.Name+".hcl")
					h.mode(from)
					h.start()
				}
				l.settled()
				a, b := l.hosts[0], l.hosts[1]
				every := time.Millisecond
				if os.Getenv("NETD_GUEST") != "" { // an emulated processor has no time for more
					every = 20 * time.Millisecond
				}
				there := stream.Start(t, a.container, netip.MustParseAddr("10.10.1.10"), b.container, netip.MustParseAddr("10.10.2.10"), every)
				back := stream.Start(t, b.container, netip.MustParseAddr("10.10.2.10"), a.container, netip.MustParseAddr("10.10.1.10"), every)
				there.Flowing(t)
				back.Flowing(t)

				a.mode(to)
				time.Sleep(apart) // the difference that is looked at
				b.mode(to)
				for n, h := range l.hosts {
					l.wait(h.Name+" goes the new way", func() string {
						if out, err := h.Output("ip", "route", "show", fmt.Sprintf("10.10.%d.0/24", 2-n)); err != nil || !strings.Contains(out, "dev "+devs[to]) {
							return "the route is: " + out
						}
						return ""
					})
				}
				if to == "bgp" { // the old way goes too, in its time
					for _, h := range l.hosts {
						l.wait(h.Name+" leaves the tunnel", func() string {
							link, addr := h.Run(t, "ip -o link show group 142"), h.Run(t, "ip -o -4 addr show label tunl0*")
							if strings.Contains(link, devs[from]) || strings.Contains(addr, "10.10.") { // tunl0 itself is the kernel's
								return link + addr
							}
							return ""
						})
					}
				}
				l.settled()
				for _, s := range []*stream.Stream{there, back} {
					r := s.Stop()
					t.Log(r)
					if to == "bgp" && r.Lost > 0 {
						t.Errorf("the change of mode lost packets: %s", r)
					}
				}
			})
		}
	}
}

// mode writes a host's file anew, in that mode.
func (h *labHost) mode(mode string) {
	h.lab.t.Helper()
	if err := os.WriteFile(h.file+".new", []byte(fmt.Sprintf(twoSites, mode)), 0o644); err != nil {
		h.lab.t.Fatal(err)
	}
	if err := os.Rename(h.file+".new", h.file); err != nil {
		h.lab.t.Fatal(err)
	}
}
