package bench

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"netd/reconcile"
	"netd/reconcile/kernel"
	"netd/reconcile/object"
	"netd/reconcile/store"
	"netd/testenv/netns"
)

// The routes of these benchmarks go by way of one gateway on one link, as those of a host behind one router.
var gateway = netip.MustParseAddr("192.168.170.138")

const underlay = `
ip link set lo up
ip link add ens33 type veth peer name wire
ip link set ens33 up
ip link set wire up
ip addr add 192.168.170.137/24 dev ens33`

func destination(i int) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 32)
}

// engine is netd's engine on the kernel of this namespace.
func engine(dir string) (*reconcile.Engine, func(), error) {
	db, err := store.Open(dir, false)
	if err != nil {
		return nil, nil, err
	}
	k, err := kernel.New(db)
	if err != nil {
		return nil, nil, err
	}
	return &reconcile.Engine{Kinds: k.Kinds()}, func() { k.Close(); _ = db.Close() }, nil
}

func wantRoutes(n int) reconcile.Want {
	want := reconcile.Want{}
	want.Grow(n)
	why := reconcile.Cause{Text: "peer tor"}
	for i := range n {
		want.Put(object.Route{Dst: destination(i), Table: object.MainTable, Type: object.Unicast, Via: gateway, Dev: "ens33"}, why)
	}
	return want
}

// routesRole brings n routes into the kernel in one of several ways, and says how long that took.
func routesRole(args []string) (measured, error) {
	who := args[0]
	n, err := strconv.Atoi(args[1])
	if err != nil {
		return nil, err
	}
	if err := shell(underlay); err != nil {
		return nil, err
	}
	link, err := net.InterfaceByName("ens33")
	if err != nil {
		return nil, err
	}
	w, err := openWire(0)
	if err != nil {
		return nil, err
	}
	defer w.close()
	add := func(ack bool) error {
		return w.send(n, 512, ack, func(b []byte, flags uint16, seq uint32, i int) []byte {
			return route(b, unix.RTM_NEWROUTE, flags|unix.NLM_F_CREATE|unix.NLM_F_EXCL, seq, destination(i), gateway, link.Index, 0)
		})
	}
	dir, err := os.MkdirTemp("", "bench")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	m := measured{}
	var began time.Time
	used := cpu()
	switch who {
	case "netd":
		e, end, err := engine(dir)
		if err != nil {
			return nil, err
		}
		defer end()
		want := wantRoutes(n)
		began, used = time.Now(), cpu()
		if _, _, err := e.Converge(context.Background(), want, nil, nil); err != nil {
			return nil, err
		}
	case "raw":
		began = time.Now()
		if err := add(false); err != nil {
			return nil, err
		}
	case "acked": // and read back
		began = time.Now()
		if err := add(true); err != nil {
			return nil, err
		}
		if _, err := w.dump(); err != nil {
			return nil, err
		}
	case "ip":
		file := filepath.Join(dir, "batch")
		text := make([]byte, 0, 64*n)
		for i := range n {
			text = fmt.Appendf(text, "route add %s via %s dev ens33 proto 142\n", destination(i), gateway)
		}
		if err := os.WriteFile(file, text, 0o600); err != nil {
			return nil, err
		}
		cmd := exec.Command("ip", "-batch", file)
		began, used = time.Now(), cpu()
		if out, err := cmd.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("ip -batch: %w: %s", err, out)
		}
		m["ip memory"] = peak(cmd)
	}
	m["took"], m["cpu"] = time.Since(began).Seconds(), cpu()-used
	got, err := w.dump()
	if err == nil && got != n {
		err = fmt.Errorf("%d of %d routes are in the kernel", got, n)
	}
	return m, err
}

// cpu is the processor time of this process and its children, in seconds: what a busy machine distorts least.
func cpu() (all float64) {
	for _, who := range []int{unix.RUSAGE_SELF, unix.RUSAGE_CHILDREN} {
		var u unix.Rusage
		if unix.Getrusage(who, &u) == nil {
			all += float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9
		}
	}
	return all
}

// BenchmarkRoutes brings routes into the kernel: from the wanted state to verified by reading back, beside the same objects
// in messages of one's own without an answer to each, the same with an answer to each and one dump behind, and ip -batch.
func BenchmarkRoutes(b *testing.B) {
	netns.Need(b)
	whole := map[int]time.Duration{}
	for _, size := range []struct{ n, runs int }{{10_000, 7}, {100_000, 5}, {1_000_000, 3}} {
		took := map[string][]float64{}
		memory, ip := 0.0, 0.0
		for range size.runs {
			for _, who := range []string{"netd", "raw", "acked", "ip"} {
				m := child(b, "routes", who, strconv.Itoa(size.n))
				took[who] = append(took[who], m["took"])
				if who == "netd" {
					memory = max(memory, m["memory"])
				}
				took[who+" cpu"] = append(took[who+" cpu"], m["cpu"])
				ip = max(ip, m["ip memory"])
			}
		}
		of := func(who string) time.Duration { return seconds(median(took[who])) }
		whole[size.n] = of("netd")
		what := fmt.Sprintf("routes: %d into the kernel, verified", size.n)
		against(what, of("netd"), of("raw"), "raw, unanswered", 0)
		against(what, of("netd"), of("acked"), "answered + dump", 1.3)
		against(what+", processor", of("netd cpu"), of("acked cpu"), "answered + dump", 0)
		switch size.n {
		case 100_000:
			against(what, of("netd"), of("ip"), "ip -batch", 1)
			below(fmt.Sprintf("routes: memory at %d (ip: %s)", size.n, amount(ip, "MB")), memory, 150, "MB")
		case 1_000_000:
			against(what, of("netd"), of("ip"), "ip -batch", 1/2.5)
		default:
			against(what, of("netd"), of("ip"), "ip -batch", 0)
		}
	}
	per := func(n int) float64 { return whole[n].Seconds() / float64(n) }
	table.add(figure{what: "routes: one of 1000000 as a part of one of 100000", netd: amount(per(1_000_000)*1e6, "µs"), peer: amount(per(100_000)*1e6, "µs"),
		ratio: per(1_000_000) / per(100_000), bar: "≤ 1.5: in line", met: per(1_000_000) <= 1.5*per(100_000)})
}

// nothingRole has n routes in the kernel already and makes passes that find nothing to do, each beside a bare dump.
func nothingRole(args []string) (measured, error) {
	n, err := strconv.Atoi(args[0])
	if err != nil {
		return nil, err
	}
	if err := shell(underlay); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "bench")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	e, end, err := engine(dir)
	if err != nil {
		return nil, err
	}
	defer end()
	want, ctx := wantRoutes(n), context.Background()
	if _, _, err := e.Converge(ctx, want, nil, nil); err != nil {
		return nil, err
	}
	w, err := openWire(0)
	if err != nil {
		return nil, err
	}
	defer w.close()
	library, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, err
	}
	defer library.Close()
	var passes, dumps, decoded, passCPU, dumpCPU, decodedCPU []float64
	var before, after runtime.MemStats
	var mallocs, allocated uint64
	const runs = 9
	for range runs {
		runtime.ReadMemStats(&before)
		began, used := time.Now(), cpu()
		plan, err := e.Plan(ctx, &want, want.State)
		if err != nil {
			return nil, err
		}
		passes, passCPU = append(passes, time.Since(began).Seconds()), append(passCPU, cpu()-used)
		runtime.ReadMemStats(&after)
		mallocs, allocated = mallocs+after.Mallocs-before.Mallocs, allocated+after.TotalAlloc-before.TotalAlloc
		if len(plan.Changes) > 0 {
			return nil, fmt.Errorf("the plan has %d changes", len(plan.Changes))
		}
		began, used = time.Now(), cpu()
		if _, err := w.dump(); err != nil {
			return nil, err
		}
		dumps, dumpCPU = append(dumps, time.Since(began).Seconds()), append(dumpCPU, cpu()-used)
		began, used = time.Now(), cpu()
		all, err := library.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{Protocol: object.Protocol}, netlink.RT_FILTER_PROTOCOL)
		if err != nil || len(all) != n {
			return nil, fmt.Errorf("the library reads %d routes: %w", len(all), err)
		}
		decoded, decodedCPU = append(decoded, time.Since(began).Seconds()), append(decodedCPU, cpu()-used)
	}
	return measured{"pass": median(passes), "dump": median(dumps), "pass cpu": median(passCPU), "dump cpu": median(dumpCPU),
		"decoded": median(decoded), "decoded cpu": median(decodedCPU),
		"allocations": float64(mallocs) / runs / float64(n), "allocated": float64(allocated) / runs / 1e6}, nil
}

// BenchmarkNothing is a pass over 65,536 routes that are as they should be, beside the bare dump of them and one that the
// netlink library decodes.
func BenchmarkNothing(b *testing.B) {
	netns.Need(b)
	m := child(b, "nothing", "65536")
	against("nothing to do: 65536 routes read and compared", seconds(m["pass"]), seconds(m["dump"]), "bare dump", 1.5)
	against("nothing to do: 65536 routes, processor", seconds(m["pass cpu"]), seconds(m["dump cpu"]), "bare dump", 0)
	against("nothing to do: 65536 routes read and compared", seconds(m["pass"]), seconds(m["decoded"]), "decoded dump", 0)
	against("nothing to do: 65536 routes, processor", seconds(m["pass cpu"]), seconds(m["decoded cpu"]), "decoded dump", 0)
	below(fmt.Sprintf("nothing to do: allocations an object (%s in all)", amount(m["allocated"], "MB")), m["allocations"], 10, "")
}

// BenchmarkDiff compares 100,000 equal objects.
func BenchmarkDiff(b *testing.B) {
	want := wantRoutes(100_000)
	have := reconcile.Have{Own: make(reconcile.State, len(want.State))}
	for k, r := range want.State {
		have.Own[k] = r
	}
	var took []time.Duration
	for range 15 {
		began := time.Now()
		if plan := reconcile.Diff(want, have, []string{object.KindRoute}, want.State); len(plan.Changes) > 0 {
			b.Fatalf("%d changes", len(plan.Changes))
		}
		took = append(took, time.Since(began))
	}
	within("nothing to do: Diff alone of 100000 equal objects", median(took), 30*time.Millisecond)
}
