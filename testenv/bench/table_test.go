package bench

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
	"time"

	"netd/testenv/netns"
)

// TestMain runs the benchmarks in a namespace of their own and prints the table behind them. A child that one side of a
// comparison runs in is this program too.
func TestMain(m *testing.M) {
	if role := os.Getenv(roleVariable); role != "" {
		os.Exit(play(role, os.Args[1:]))
	}
	netns.Main(&figures{M: m})
}

// figure is a line of the table.
type figure struct {
	what       string
	netd, peer string
	ratio      float64 // netd's part of the peer's; 0 where there is no peer
	bar        string
	met        bool
	none       bool // no bar: told for comparison
}

// figures are the lines of a run.
type figures struct {
	*testing.M
	mu    sync.Mutex
	lines []figure
}

var table figures

func (f *figures) add(line figure) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lines = append(f.lines, line)
}

// Run runs the benchmarks and prints the table.
func (f *figures) Run() int {
	code := f.M.Run()
	if len(table.lines) == 0 {
		return code
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "\nwhat\tnetd\tpeer\tratio\tbar\t")
	missed := 0
	for _, l := range table.lines {
		ratio, verdict := "", "met"
		if l.ratio > 0 {
			ratio = fmt.Sprintf("%.2f", l.ratio)
		}
		switch {
		case l.none:
			verdict = ""
		case !l.met:
			verdict = "MISSED"
			missed++
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", l.what, l.netd, l.peer, ratio, l.bar, verdict)
	}
	_ = w.Flush()
	fmt.Printf("\n%d figures, %d below the bar.\n", len(table.lines), missed)
	return code
}

// against adds a line: netd's time as a part of the peer's, medians of runs in turn. most is the largest ratio that clears
// the bar, 0 where there is none.
func against(what string, netd time.Duration, peer time.Duration, peerName string, most float64) {
	l := figure{what: what, netd: show(netd), peer: show(peer) + " " + peerName, ratio: float64(netd) / float64(peer), none: most == 0}
	if most > 0 {
		l.bar, l.met = fmt.Sprintf("≤ %.3g of it", most), l.ratio <= most
	}
	table.add(l)
}

// below adds a line that has to stay below a limit.
func below(what string, got, limit float64, unit string) {
	table.add(figure{what: what, netd: amount(got, unit), bar: "< " + amount(limit, unit), met: got < limit})
}

// within is below for times.
func within(what string, got, limit time.Duration) {
	table.add(figure{what: what, netd: show(got), bar: "< " + show(limit), met: got < limit})
}

func amount(v float64, unit string) string {
	text := fmt.Sprintf("%.3g", v)
	if v >= 1000 {
		text = fmt.Sprintf("%.0f", v)
	}
	return strings.TrimSpace(text + " " + unit)
}

// show is a time to three digits.
func show(d time.Duration) string {
	switch {
	case d >= time.Second:
		return fmt.Sprintf("%.3g s", d.Seconds())
	case d >= time.Millisecond:
		return fmt.Sprintf("%.3g ms", float64(d)/1e6)
	}
	return fmt.Sprintf("%.3g µs", float64(d)/1e3)
}

// median is the middle of several values.
func median[T cmp.Ordered](of []T) T { return quantile(of, 0.5) }

// quantile is the value below which the part q of all lies.
func quantile[T cmp.Ordered](of []T, q float64) T {
	sorted := slices.Sorted(slices.Values(of))
	return sorted[min(int(q*float64(len(sorted))), len(sorted)-1)]
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
