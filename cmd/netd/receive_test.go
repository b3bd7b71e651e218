package main

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"netd/testenv/netns"
	"netd/testenv/stream"
)

// TestReceive leads two hosts from one mode to another and back, by the three steps of the file: each host receives both
// ways before any sends the new one. The hosts take each step one after the other, and a stream each way loses nothing.
func TestReceive(t *testing.T) {
	for _, x := range []struct{ from, to string }{{"vxlan", "bgp"}, {"ipip", "bgp"}, {"ipip", "vxlan"}} {
		t.Run(x.from+" to "+x.to, func(t *testing.T) {
			if x.from == "ipip" {
				needIPIP(t)
			}
			step := func(mode, receive string) string {
				file := fmt.Sprintf(twoSites, mode)
				if receive != "" {
					file = strings.Replace(file, `  mode  =`, fmt.Sprintf("  receive = [%q]\n  mode  =", receive), 1)
				}
				return file
			}
			l := newUnderlay(t, step(x.from, ""), "a", "b")
			l.wire("a eth0 192.168.1.1/24", "b eth0 192.168.1.2/24")
			dir := t.TempDir()
			write := func(h *labHost, file string) {
				if err := os.WriteFile(h.file+".new", []byte(file), 0o644); err != nil {
					t.Fatal(err)
				}
				if err := os.Rename(h.file+".new", h.file); err != nil {
					t.Fatal(err)
				}
			}
			for _, h := range l.hosts {
				h.Run(t, "sysctl -q -w net.ipv4.conf.all.rp_filter=1")
				h.file = filepath.Join(dir, h.Name+".hcl")
				write(h, step(x.from, ""))
				h.start()
			}
			l.settled()
			a, b := l.hosts[0], l.hosts[1]
			ends := map[*netns.NS]netip.Addr{a.container: netip.MustParseAddr("10.10.1.10"), b.container: netip.MustParseAddr("10.10.2.10")}
			there := stream.Start(t, a.container, ends[a.container], b.container, ends[b.container], time.Millisecond)
			back := stream.Start(t, b.container, ends[b.container], a.container, ends[a.container], time.Millisecond)
			there.Flowing(t)
			back.Flowing(t)

			way := func(mode, receive string) { // which way the hosts send
				t.Helper()
				dev := map[string]string{"vxlan": "dev vxlan.netd", "ipip": "dev tunl0", "bgp": "dev eth0"}[mode]
				for _, h := range l.hosts {
					write(h, step(mode, receive))
					l.wait(fmt.Sprintf("%s in mode %s receiving %q", h.Name, mode, receive), func() string {
						if out, _ := h.netd("show", "routes"); !strings.Contains(out, dev) {
							return "the routes are:\n" + out
						}
						if plan, _ := h.netd("plan"); !strings.Contains(plan, "No changes.") {
							return plan
						}
						return ""
					})
				}
				l.settled()
			}
			way(x.from, x.to)
			way(x.to, x.from)
			way(x.to, "")
			way(x.to, x.from)
			way(x.from, x.to)
			way(x.from, "")
			for _, s := range []*stream.Stream{there, back} {
				r := s.Stop()
				t.Log(r)
				if r.Lost > 0 {
					t.Errorf("the change of mode lost packets: %s", r)
				}
			}
		})
	}
}
