package bench

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"netd/testenv/netns"
)

// reference is where Debian has the reference plugins.
const reference = "/usr/lib/cni"

// plugin is a CNI plugin with its configuration.
type plugin struct {
	path string
	conf []byte
}

func (p plugin) call(command, id string, ns *netns.NS) *exec.Cmd {
	cmd := exec.Command(p.path)
	cmd.Stdin = bytes.NewReader(p.conf)
	cmd.Env = append(os.Environ(), "CNI_COMMAND="+command, "CNI_CONTAINERID="+id, "CNI_NETNS="+ns.Path(), "CNI_IFNAME=eth0", "CNI_PATH="+reference)
	return cmd
}

// plugins are netd-cni with a daemon, and ptp and bridge with host-local, each with 4,000 addresses.
func plugins(b testing.TB, h *host) (netd, ptp, bridge plugin) {
	b.Helper()
	encode := func(v map[string]any) []byte {
		v["cniVersion"], v["name"] = "1.0.0", "bench"
		out, err := json.Marshal(v)
		if err != nil {
			b.Fatal(err)
		}
		return out
	}
	netd = plugin{filepath.Join(filepath.Dir(program(b)), "netd-cni"), encode(map[string]any{"type": "netd-cni", "run_dir": h.file("run"), "state_dir": h.file("state"), "config": h.file("netd.hcl")})}
	ptp = plugin{reference + "/ptp", encode(map[string]any{"type": "ptp", "mtu": 1450, "ipam": map[string]any{
		"type": "host-local", "subnet": "10.99.0.0/20", "dataDir": h.file("host-local"), "routes": []map[string]string{{"dst": "0.0.0.0/0"}}}})}
	bridge = plugin{reference + "/bridge", encode(map[string]any{"type": "bridge", "bridge": "cni0", "isGateway": true, "mtu": 1450, "ipam": map[string]any{
		"type": "host-local", "subnet": "10.98.0.0/20", "dataDir": h.file("host-local"), "routes": []map[string]string{{"dst": "0.0.0.0/0"}}}})}
	for _, p := range []plugin{netd, ptp, bridge} {
		if _, err := os.Stat(p.path); err != nil {
			b.Fatalf("needs %s: %v", p.path, err)
		}
	}
	return netd, ptp, bridge
}

// attachHost is a host with a daemon that has 4,000 addresses to hand out.
func attachHost(b testing.TB) *host {
	file := []byte("network \"lab\" {\n  pools = [\"10.0.0.0/8\"]\n  mode  = \"vxlan\"\n}\n\nnode \"web-00000\" {\n  address = \"" + nodeAddress(0).String() + "/16\"\n  blocks  = [\"10.10.0.0/20\"]\n}\n")
	h := newHost(b, file)
	h.start(b)
	return h
}

// BenchmarkAttach is a container attached and detached by the plugin, beside ptp with host-local and, told for comparison, bridge: one
// at a time, and many at once.
func BenchmarkAttach(b *testing.B) {
	netns.Need(b)
	h := attachHost(b)
	netd, ptp, bridge := plugins(b, h)
	b.Run("one", func(b *testing.B) {
		times := map[string][]time.Duration{}
		for i, box := range boxes(b, 60) {
			for _, side := range []struct {
				name string
				p    plugin
			}{{"netd", netd}, {"ptp", ptp}, {"bridge", bridge}} {
				id := fmt.Sprintf("%s%d", side.name, i)
				add := timed(b, h.NS, side.p.call("ADD", id, box))
				del := timed(b, h.NS, side.p.call("DEL", id, box))
				left(b, box)
				times[side.name+" ADD"], times[side.name+" DEL"] = append(times[side.name+" ADD"], add), append(times[side.name+" DEL"], del)
			}
		}
		for _, what := range []string{"ADD", "DEL"} {
			n, p, br := times["netd "+what], times["ptp "+what], times["bridge "+what]
			against("attach: CNI "+what+", p50", median(n), median(p), "ptp", 0.5)
			against("attach: CNI "+what+", p95", quantile(n, 0.95), quantile(p, 0.95), "ptp", 0)
			against("attach: CNI "+what+", p50", median(n), median(br), "bridge", 0)
		}
	})
	b.Run("many", func(b *testing.B) {
		const many = 1000
		all := boxes(b, many)
		var took [2]time.Duration
		for side, p := range []plugin{netd, ptp} {
			var failed int
			took[side], failed = atOnce(b, h, p, all)
			if side == 0 && failed > 0 {
				b.Errorf("%d of %d failed", failed, many)
			}
		}
		against(fmt.Sprintf("attach: %d at once", many), took[0], took[1], "ptp", 1)
	})
}

// BenchmarkCrowd is a container attached where many are, beside ptp with host-local where as many are: what it costs must
// not grow with them.
func BenchmarkCrowd(b *testing.B) {
	netns.Need(b)
	const crowd, more = 300, 40
	h := attachHost(b)
	netd, ptp, _ := plugins(b, h)
	other := netns.New(b, "other") // neither has the other's links to go through
	times := map[string][]time.Duration{}
	for i, box := range boxes(b, 2*(crowd+more)) { // they are detached by their end
		name, p, on := "netd", netd, h.NS
		if i%2 == 1 {
			name, p, on = "ptp", ptp, other
		}
		times[name] = append(times[name], timed(b, on, p.call("ADD", fmt.Sprintf("%s%d", name, i), box)))
	}
	against(fmt.Sprintf("attach: CNI ADD where %d are attached, p50", crowd), median(times["netd"][crowd:]), median(times["ptp"][crowd:]), "ptp", 0.5)
	for name, all := range times { // the kernel itself takes longer with many namespaces
		against(fmt.Sprintf("attach: %s ADD where %d are attached, p50", name, crowd), median(all[crowd:]), median(all[:more]), fmt.Sprintf("the first %d", more), 0)
	}
}

// boxes are network namespaces of n containers.
func boxes(b testing.TB, n int) (out []*netns.NS) {
	for i := range n {
		out = append(out, netns.New(b, fmt.Sprintf("box%d", i)))
	}
	return out
}

// atOnce attaches all the boxes at the same time and says how long that took and how many failed, then detaches them.
func atOnce(b testing.TB, h *host, p plugin, boxes []*netns.NS) (took time.Duration, failed int) {
	b.Helper()
	addrs := map[netip.Prefix]string{}
	var mu sync.Mutex
	var wait sync.WaitGroup
	began := time.Now()
	for i, box := range boxes {
		wait.Go(func() {
			cmd := p.call("ADD", fmt.Sprintf("many%d", i), box)
			var out bytes.Buffer
			cmd.Stdout, cmd.Stderr = &out, &out
			err := h.Start(cmd)
			if err == nil {
				err = cmd.Wait()
			}
			var r struct {
				IPs []struct{ Address netip.Prefix }
			}
			_ = json.Unmarshal(out.Bytes(), &r)
			mu.Lock()
			defer mu.Unlock()
			if err != nil || len(r.IPs) != 1 {
				if failed++; failed == 1 {
					b.Logf("%s: %v: %s", p.path, err, out.Bytes())
				}
				return
			}
			if other, twice := addrs[r.IPs[0].Address]; twice {
				b.Errorf("%s has %s and %s has", box.Name, r.IPs[0].Address, other)
			}
			addrs[r.IPs[0].Address] = box.Name
		})
	}
	wait.Wait()
	took = time.Since(began)
	for i, box := range boxes {
		timed(b, h.NS, p.call("DEL", fmt.Sprintf("many%d", i), box))
	}
	for _, box := range boxes {
		left(b, box)
	}
	return took, failed
}

// left waits until a container's link is gone: netd's goes after its answer, and that is neither to be in the next one's way nor its cost.
func left(b testing.TB, box *netns.NS) {
	b.Helper()
	if err := box.Do(func() error {
		for _, err := net.InterfaceByName("eth0"); err == nil; _, err = net.InterfaceByName("eth0") {
			time.Sleep(time.Millisecond)
		}
		return nil
	}); err != nil {
		b.Fatal(err)
	}
}
