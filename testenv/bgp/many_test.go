package bgp

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"netd/testenv/netns"
)

// soak reports whether this is a long run (make soak).
func soak() bool { return os.Getenv("NETD_SOAK") != "" }

// many is a lab of n nodes, the first of them reflectors, with a block each.
func many(t *testing.T, n, reflectors int) (*lab, []*host) {
	var b strings.Builder
	b.WriteString("network \"lab\" {\n  pools = [\"10.10.0.0/16\"]\n  mode  = \"bgp\"\n}\n\nbgp {\n  hold_time = \"30s\"\n}\n")
	for i := range n {
		fmt.Fprintf(&b, "\nnode \"n%d\" {\n  address = \"192.168.170.%d/24\"\n  blocks  = [\"10.10.%d.0/24\"]\n", i, i+1, i)
		if i < reflectors {
			fmt.Fprintf(&b, "  route_reflector = \"192.168.170.%d\"\n", i+1)
		}
		b.WriteString("}\n")
	}
	l := newLab(t, b.String())
	hosts := make([]*host, n)
	for i := range hosts {
		hosts[i] = l.host(fmt.Sprintf("n%d", i), fmt.Sprintf("192.168.170.%d/24", i+1))
	}
	for _, h := range hosts {
		h.start()
	}
	return l, hosts
}

// complete waits until every host has a route to every other's block, by way of that host.
func (l *lab) complete(hosts []*host) {
	l.t.Helper()
	var all sync.WaitGroup
	wrong := make([]string, len(hosts))
	for i, h := range hosts {
		all.Add(1)
		go func() {
			defer all.Done()
			for deadline := time.Now().Add(10 * time.Minute); time.Now().Before(deadline); time.Sleep(200 * time.Millisecond) {
				if wrong[i] = h.lacks(hosts, nil); wrong[i] == "" {
					return
				}
			}
		}()
	}
	all.Wait()
	for i, w := range wrong {
		if w != "" {
			l.t.Fatalf("%s: %s", hosts[i].Name, w)
		}
	}
}

// lacks names a route to another host's block, but for one, that is not as it should be.
func (h *host) lacks(hosts []*host, but *host) string {
	out, err := h.Output("ip", "route", "show", "proto", "142", "type", "unicast")
	if err != nil {
		return err.Error()
	}
	for i, o := range hosts {
		if want := fmt.Sprintf("10.10.%d.0/24 via %s ", i, o.addr); o != h && o != but && !strings.Contains(out, want) {
			return "no route " + want
		}
	}
	return ""
}

// memory is what processes have resident, in bytes.
func memory(pids []int) (sum int) {
	for _, pid := range pids {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
		var size, resident int
		if n, _ := fmt.Sscan(string(b), &size, &resident); err == nil && n == 2 {
			sum += resident * os.Getpagesize()
		}
	}
	return sum
}

// TestFiftyClients has 50 clients and two reflectors, a daemon and a speaker each: all blocks are known everywhere, and stay
// so when a reflector is gone.
func TestFiftyClients(t *testing.T) {
	netns.Need(t)
	clients := 50
	if !soak() {
		clients = 8
	}
	begin := time.Now()
	l, hosts := many(t, clients+2, 2)
	l.complete(hosts)
	t.Logf("%d clients, %d sessions: complete %s after the first daemon was started", clients, 2*clients+1, time.Since(begin).Round(time.Millisecond))
	for _, h := range hosts[2:4] {
		h.up(2)
	}
	hosts[0].up(clients + 1)
	var pids []int
	for _, h := range hosts[:4] {
		pids = append(pids, h.speaker(), h.daemon.Process.Pid)
	}
	t.Logf("a reflector: speaker %d MB, daemon %d MB; a client: %d and %d MB", memory(pids[:1])>>20, memory(pids[1:2])>>20, memory(pids[4:5])>>20, memory(pids[5:6])>>20)
	hosts[0].Run(t, "ip link set eth0 down") // the hold time passes
	l.wait("the clients to notice", func() string { return missing(hosts[3].degraded("status"), "BGP session with n0 (192.168.170.1) is") })
	for _, h := range hosts[1:] {
		if w := h.lacks(hosts, hosts[0]); w != "" {
			t.Fatal(w)
		}
	}
	begin = time.Now()
	hosts[0].Run(t, "ip link set eth0 up")
	l.complete(hosts)
	t.Logf("complete again %s after the reflector came back", time.Since(begin).Round(time.Millisecond))
}

// TestMeshOfMany is a full mesh, as many nodes as a machine of two cores holds: make soak has it, and its size in NETD_MESH.
func TestMeshOfMany(t *testing.T) {
	if !soak() {
		t.Skip("a long run: make soak")
	}
	n := 100
	if v := os.Getenv("NETD_MESH"); v != "" {
		if _, err := fmt.Sscan(v, &n); err != nil {
			t.Fatal(err)
		}
	}
	begin := time.Now()
	l, hosts := many(t, n, 0)
	l.complete(hosts)
	t.Logf("a mesh of %d, %d sessions: complete %s after the first daemon was started", n, n*(n-1)/2, time.Since(begin).Round(time.Millisecond))
	for _, h := range []*host{hosts[0], hosts[n/2], hosts[n-1]} {
		h.up(n - 1)
	}
}
