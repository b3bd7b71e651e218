package bench

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"netd/reconcile/object"
	"netd/testenv/netns"
)

// program is the netd that was built: its own start, its stripped binary and its collector are part of what is measured.
func program(b testing.TB) string {
	b.Helper()
	path := os.Getenv("NETD_BENCH_PROGRAM")
	if path == "" {
		b.Fatal("NETD_BENCH_PROGRAM names no netd: make bench builds one")
	}
	return path
}

// The nodes of these files: one /26 each of 10.0.0.0/8, in one subnet.
func nodeAddress(i int) netip.Addr {
	return netip.AddrFrom4([4]byte{172, 16, byte((i + 10) >> 8), byte(i + 10)})
}
func nodeBlock(i int) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 10), byte(i >> 2), byte(i << 6)}), 26)
}

// fileOf is a file of n nodes in mode vxlan, written out node by node as a generator would.
func fileOf(n int) []byte {
	var f bytes.Buffer
	f.WriteString("network \"lab\" {\n  pools = [\"10.0.0.0/8\"]\n  mode  = \"vxlan\"\n}\n")
	for i := range n {
		fmt.Fprintf(&f, "\nnode \"web-%05d\" {\n  address = \"%s/16\"\n  blocks  = [\"%s\"]\n}\n", i, nodeAddress(i), nodeBlock(i))
	}
	return f.Bytes()
}

// host is the network namespace of the first node of such a file, with folders of its own.
type host struct {
	*netns.NS
	dir string
}

func newHost(b testing.TB, file []byte) *host {
	b.Helper()
	h := &host{netns.New(b, "web"), b.TempDir()}
	if err := os.WriteFile(h.file("netd.hcl"), file, 0o644); err != nil {
		b.Fatal(err)
	}
	h.Run(b, "ip link add ens33 type veth peer name wire")
	h.Run(b, "ip link set ens33 up")
	h.Run(b, "ip link set wire up")
	h.Run(b, fmt.Sprintf("ip addr add %s/16 dev ens33", nodeAddress(0)))
	return h
}

func (h *host) file(name string) string { return filepath.Join(h.dir, name) }

func (h *host) command(b testing.TB, args ...string) *exec.Cmd {
	return exec.Command(program(b), append([]string{"-c", h.file("netd.hcl"), "--state-dir", h.file("state"), "--run-dir", h.file("run"), "--color", "never"}, args...)...)
}

// timed runs a command in a namespace and says how long it took, from its start to its end.
func timed(b testing.TB, ns *netns.NS, cmd *exec.Cmd) time.Duration {
	b.Helper()
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	began := time.Now()
	var err error
	if ns != nil {
		err = ns.Start(cmd)
	} else {
		err = cmd.Start()
	}
	if err == nil {
		err = cmd.Wait()
	}
	took := time.Since(began)
	if err != nil {
		b.Fatalf("%v: %v: %s", cmd.Args, err, said.Bytes())
	}
	return took
}

// BenchmarkNodes brings up VXLAN to many nodes, a route, a neighbour and an FDB entry each: from the file to verified, as
// an operator types it, beside ip -batch and bridge -batch with the same objects.
func BenchmarkNodes(b *testing.B) {
	netns.Need(b)
	for _, size := range []struct {
		n, runs int
		most    float64
	}{{1_000, 7, 0}, {10_000, 5, 0.7}} {
		var apply, batch, again []time.Duration
		for range size.runs {
			batch = append(batch, batchNodes(b, size.n))
			func() {
				h := newHost(b, fileOf(size.n))
				defer h.Remove()
				apply = append(apply, timed(b, h.NS, h.command(b, "apply", "-y")))
				again = append(again, timed(b, h.NS, h.command(b, "plan", "--detailed-exitcode")))
			}()
		}
		what := fmt.Sprintf("vxlan: apply of %d nodes, from the file to verified", size.n)
		against(what, median(apply), median(batch), "ip and bridge -batch", size.most)
		table.add(figure{what: fmt.Sprintf("vxlan: plan of %d nodes in sync", size.n), netd: show(median(again)), none: true})
	}
}

// batchNodes is the same by commands.
func batchNodes(b testing.TB, n int) time.Duration {
	dir := b.TempDir()
	var ip, bridge bytes.Buffer
	for i := 1; i < n; i++ {
		block := nodeBlock(i)
		mac := object.VTEPMAC(4096, block.Addr())
		fmt.Fprintf(&ip, "neigh add %s lladdr %s dev vx nud permanent\nroute add %s via %s dev vx onlink\n", block.Addr(), mac, block, block.Addr())
		fmt.Fprintf(&bridge, "fdb append %s dev vx dst %s\n", mac, nodeAddress(i))
	}
	for name, text := range map[string][]byte{"ip": ip.Bytes(), "bridge": bridge.Bytes()} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			b.Fatal(err)
		}
	}
	h := newHost(b, nil)
	defer h.Remove()
	h.Run(b, fmt.Sprintf("ip link add vx type vxlan id 4096 dstport 4789 local %s dev ens33 nolearning", nodeAddress(0)))
	h.Run(b, fmt.Sprintf("ip addr add %s/32 dev vx", nodeBlock(0).Addr()))
	h.Run(b, "ip link set vx up")
	return timed(b, h.NS, exec.Command("ip", "-batch", filepath.Join(dir, "ip"))) +
		timed(b, h.NS, exec.Command("bridge", "-batch", filepath.Join(dir, "bridge")))
}

// BenchmarkProgram is the program itself: its start, what its parser takes, its size.
func BenchmarkProgram(b *testing.B) {
	netns.Need(b)
	netd := program(b)
	if info, err := os.Stat(netd); err != nil {
		b.Fatal(err)
	} else {
		below("program: the binary, stripped and static", float64(info.Size())/1e6, 30, "MB")
	}
	several := func(n int, command func() *exec.Cmd) (took time.Duration, memory float64) {
		var all []time.Duration
		for range n {
			cmd := command()
			all = append(all, timed(b, nil, cmd))
			memory = max(memory, peak(cmd))
		}
		return median(all), memory
	}
	took, _ := several(15, func() *exec.Cmd { return exec.Command(netd, "version") })
	within("program: netd version", took, 30*time.Millisecond)
	for _, size := range []struct {
		n, runs int
		most    time.Duration
	}{{2, 15, 30 * time.Millisecond}, {1_000, 7, 300 * time.Millisecond}, {10_000, 5, 3 * time.Second}} {
		file := filepath.Join(b.TempDir(), "netd.hcl")
		if err := os.WriteFile(file, fileOf(size.n), 0o644); err != nil {
			b.Fatal(err)
		}
		took, memory := several(size.runs, func() *exec.Cmd { return exec.Command(netd, "validate", file) })
		within(fmt.Sprintf("program: validate of %d nodes", size.n), took, size.most)
		if size.n == 10_000 {
			below("program: memory of validate of 10000 nodes", memory, 500, "MB")
		}
	}
	h := newHost(b, fileOf(2))
	timed(b, h.NS, h.command(b, "apply", "-y"))
	var plans []time.Duration
	for range 15 {
		plans = append(plans, timed(b, h.NS, h.command(b, "plan", "--detailed-exitcode")))
	}
	within("program: plan in sync, 2 nodes", median(plans), 50*time.Millisecond)
}

// BenchmarkTest is `netd test` of 100 nodes: 20 are behind a path that carries less than the link, and 20 are not there.
func BenchmarkTest(b *testing.B) {
	netns.Need(b)
	const targets = 100
	file := bytes.ReplaceAll(fileOf(targets+1), []byte(`"vxlan"`), []byte(`"bgp"`)) // one target a node
	h, far := newHost(b, file), netns.New(b, "far")
	h.Run(b, "ip link set wire netns far")
	far.Run(b, "ip link set wire up")
	for i := 1; i <= 80; i++ {
		far.Run(b, fmt.Sprintf("ip addr add %s/16 dev wire", nodeAddress(i)))
	}
	far.Run(b, "nft add table inet lab")
	far.Run(b, "nft add chain inet lab in { type filter hook prerouting priority -400 ; }")
	far.Run(b, fmt.Sprintf("nft add rule inet lab in ip daddr %s-%s ip length gt 1337 drop", nodeAddress(1), nodeAddress(20)))
	h.Run(b, "ping -q -c 1 -w 10 "+nodeAddress(1).String())
	var all []time.Duration
	for range 5 {
		cmd := h.command(b, "test", "--json")
		var out bytes.Buffer
		cmd.Stdout = &out
		began := time.Now()
		if err := h.Start(cmd); err != nil {
			b.Fatal(err)
		}
		err := cmd.Wait()
		all = append(all, time.Since(began))
		found := fmt.Sprint(bytes.Count(out.Bytes(), []byte(`"result": "ok"`)), bytes.Count(out.Bytes(), []byte(`"result": "narrow"`)), bytes.Count(out.Bytes(), []byte(`"result": "lost"`)))
		if cmd.ProcessState.ExitCode() != 3 || found != "60 20 20" {
			b.Fatalf("%v, ok, narrow and lost: %s\n%s", err, found, out.Bytes())
		}
	}
	within(fmt.Sprintf("program: test of %d targets, of which 20 are behind a smaller path and 20 are not there", targets), median(all), 3*time.Second)
}
