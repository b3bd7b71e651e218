package bench

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"netd/testenv/netns"
)

// curve is what one side takes for the work of growing sizes: the median of as many runs as a size has.
type curve struct {
	name  string
	sizes []struct{ n, runs int }
	sides []string // netd first, then the peers, in turn
	run   func(b *testing.B, side string, n int) time.Duration
}

// BenchmarkGrowth measures how the work grows with the nodes of the file, the routes and the containers, each beside a peer. What
// it finds goes into the file that NETD_BENCH_GROWTH names, in place of the lines of the curves measured: one may be taken at a time.
//
//	make growth BENCH=routes    measures and draws docs/growth.svg
func BenchmarkGrowth(b *testing.B) {
	netns.Need(b)
	file := os.Getenv("NETD_BENCH_GROWTH")
	if file == "" {
		b.Skip("make growth measures the curves")
	}
	var h *host // that of the containers
	var all []*netns.NS
	for _, c := range []curve{
		{"nodes", []struct{ n, runs int }{{10, 9}, {30, 9}, {100, 9}, {300, 7}, {1_000, 7}, {3_000, 5}, {10_000, 3}}, []string{"netd", "ip and bridge -batch"},
			func(b *testing.B, side string, n int) time.Duration {
				if side != "netd" {
					return batchNodes(b, n)
				}
				h := newHost(b, fileOf(n))
				defer h.Remove()
				return timed(b, h.NS, h.command(b, "apply", "-y"))
			}},
		{"routes", []struct{ n, runs int }{{1_000, 9}, {3_000, 9}, {10_000, 7}, {30_000, 5}, {100_000, 3}, {300_000, 3}, {1_000_000, 1}}, []string{"netd", "ip -batch", "answered + dump"},
			func(b *testing.B, side string, n int) time.Duration {
				role := map[string]string{"netd": "netd", "ip -batch": "ip", "answered + dump": "acked"}[side]
				return seconds(child(b, "routes", role, strconv.Itoa(n))["took"])
			}},
		{"containers", []struct{ n, runs int }{{1, 9}, {3, 9}, {10, 7}, {30, 5}, {100, 3}, {300, 1}, {1_000, 1}}, []string{"netd", "ptp"},
			func(b *testing.B, side string, n int) time.Duration {
				if h == nil {
					h = attachHost(b)
				}
				for len(all) < n {
					all = append(all, netns.New(b, fmt.Sprintf("box%d", len(all))))
				}
				netd, ptp, _ := plugins(b, h)
				took, failed := atOnce(b, h, map[string]plugin{"netd": netd, "ptp": ptp}[side], all[:n])
				if failed > 0 {
					b.Errorf("%s: %d of %d failed", side, failed, n)
				}
				return took
			}},
	} {
		b.Run(c.name, func(b *testing.B) {
			var lines []string
			for _, size := range c.sizes {
				took := map[string][]time.Duration{}
				for range size.runs {
					for _, side := range c.sides {
						took[side] = append(took[side], c.run(b, side, size.n))
					}
				}
				for _, side := range c.sides {
					lines = append(lines, fmt.Sprintf("%s,%s,%d,%d,%.6f", c.name, side, size.n, size.runs, median(took[side]).Seconds()))
				}
				if err := replaceLines(file, c.name+",", lines); err != nil { // so far: a run that is cut short leaves what it has
					b.Fatal(err)
				}
			}
		})
	}
}

// replaceLines puts lines at the end of a file, in place of those that begin so.
func replaceLines(file, beginning string, lines []string) error {
	old, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		old = []byte("curve,side,n,runs,seconds\n")
	} else if err != nil {
		return err
	}
	var all strings.Builder
	for line := range strings.Lines(string(old)) {
		if !strings.HasPrefix(line, beginning) {
			all.WriteString(line)
		}
	}
	all.WriteString(strings.Join(lines, "\n") + "\n")
	return os.WriteFile(file, []byte(all.String()), 0o644)
}
