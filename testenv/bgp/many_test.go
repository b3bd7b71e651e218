package bgp

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"netd/testenv/netns"
)

// soak reports whether this is a long run (make soak).
func soak() bool { return os.Getenv("NETD_SOAK") != "" }

// many is a lab of n nodes, the first of them reflectors, with a block each, and when the first daemon was started.
func many(t *testing.T, n, reflectors int) (*lab, []*host, time.Time) {
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
	l.acquaint(hosts)
	begin := time.Now()
	for _, h := range hosts {
		h.start()
	}
	t.Cleanup(func() { // all at once: those that are left would look for each other as long as it takes to end one after the other
		for _, h := range hosts {
			h.end()
		}
	})
	return l, hosts, begin
}

// acquaint tells hosts each other's link addresses. Real ones would ask, and have a neighbour table each; all namespaces of a
// machine have one together, of 1,024 entries at most that were asked for (net.ipv4.neigh.default.gc_thresh3), which a mesh of
// more than 32 would fight for. Those that were told are not counted.
func (l *lab) acquaint(hosts []*host) {
	l.t.Helper()
	var all strings.Builder
	for _, h := range hosts {
		if err := h.Do(func() error {
			link, err := net.InterfaceByName("eth0")
			if err == nil {
				fmt.Fprintf(&all, "neigh replace %s lladdr %s dev eth0 nud permanent\n", h.addr, link.HardwareAddr)
			}
			return err
		}); err != nil {
			l.t.Fatal(err)
		}
	}
	file := filepath.Join(l.t.TempDir(), "neighbours")
	if err := os.WriteFile(file, []byte(all.String()), 0o600); err != nil {
		l.t.Fatal(err)
	}
	for _, h := range hosts {
		h.Run(l.t, "ip -batch "+file)
	}
}

// processes are the daemon and its speaker.
func (h *host) processes() []int {
	pids := []int{h.daemon.Process.Pid}
	lists, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pids[0]))
	for _, list := range lists {
		b, _ := os.ReadFile(list)
		for _, word := range strings.Fields(string(b)) {
			if pid, err := strconv.Atoi(word); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

// end kills the daemon and its speaker.
func (h *host) end() {
	pids := h.processes()
	h.kill()
	for _, pid := range pids[1:] {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
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
	l, hosts, begin := many(t, clients+2, 2)
	l.complete(hosts)
	t.Logf("%d clients, %d sessions: complete %s after the first daemon was started", clients, 2*clients+1, time.Since(begin).Round(time.Millisecond))
	for _, h := range hosts[2:] { // with both reflectors, of which one will do then
		h.up(2)
	}
	for _, h := range hosts[:2] {
		h.up(clients + 1)
	}
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
	l, hosts, begin := many(t, n, 0)
	l.complete(hosts)
	var pids []int
	for _, h := range hosts {
		pids = append(pids, h.processes()...)
	}
	t.Logf("a mesh of %d, %d sessions: complete %s after the first daemon was started, for %s of the processor by %d processes",
		n, n*(n-1)/2, time.Since(begin).Round(time.Millisecond), cpu(pids...), len(pids))
	for _, h := range []*host{hosts[0], hosts[n/2], hosts[n-1]} {
		h.up(n - 1)
	}
	before, since := cpu(pids...), time.Now()
	<-time.After(20 * time.Second) // is what is measured
	t.Logf("at rest: a node needs %.1f %% of a processor and %d MB", float64(cpu(pids...)-before)/float64(time.Since(since))*100/float64(n), memory(pids)/n>>20)
}
