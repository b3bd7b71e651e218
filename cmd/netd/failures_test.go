package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"netd/reconcile"
	"netd/reconcile/object"
	"netd/testenv/netns"
)

// TestUnderlayDown takes the link below away and gives it back: the daemon says once that routes wait for it, however many
// and however often it tries, and they are back when it is.
func TestUnderlayDown(t *testing.T) {
	l := newLab(t, "vxlan")
	h := l.hosts[0]
	h.file = filepath.Join(h.dir, "netd.hcl")
	var nodes strings.Builder // in the subnet: their routes go by the link itself
	for i := range 50 {
		fmt.Fprintf(&nodes, "node \"n%d\" {\n  address = \"192.168.170.%d/24\"\n  blocks  = [\"10.10.%d.0/26\"]\n}\n", i, 150+i, 100+i)
	}
	text := strings.Replace(fmt.Sprintf(walkthrough, "vxlan"), "  mode ", "  encapsulate = \"cross-subnet\"\n  mode ", 1) + nodes.String()
	if err := os.WriteFile(h.file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	h.start()
	h.synced()
	by := func() int { return strings.Count(h.Run(t, "ip route show dev ens33 proto 142"), "\n") }
	if n := by(); n != 51 {
		t.Fatalf("%d routes by ens33", n)
	}
	h.Run(t, "ip link set ens33 down")
	l.wait("it is said", func() string {
		if log := h.log.String(); !strings.Contains(log, "link ens33 is down, and routes wait for it") {
			return log
		}
		return ""
	})
	l.wait("the status says it", func() string {
		if out, code := h.netd("status"); code != exitDegraded || !strings.Contains(out, "\n  link ens33, by which packets of other nodes come, is down\n") || !strings.Contains(out, "wait for it") || !strings.Contains(out, "and 50 more of kind route") {
			return out
		}
		return ""
	})
	for range 5 { // and tries again
		_, _ = h.netd("reload")
	}
	if log := h.log.String(); strings.Count(log, "\terror\t") != 1 || !strings.Contains(log, `"more": 50`) {
		t.Errorf("the log:\n%s", log)
	}
	h.Run(t, "ip link set ens33 up")
	l.wait("the routes are back", func() string {
		if n := by(); n != 51 {
			return fmt.Sprint(n, " routes by ens33")
		}
		return ""
	})
	h.synced()

	// The wire itself: nothing on this host waits for it, and no other node is reached.
	netns.Run(t, "ip link set "+h.wire+" down")
	l.wait("the status says that too", func() string {
		if out, code := h.netd("status"); code != exitDegraded || !strings.Contains(out, "\n  link ens33, by which packets of other nodes come, has no carrier: ") {
			return out
		}
		return ""
	})
	if out := h.must(0, "plan"); !strings.Contains(out, "Note: link ens33, by which packets of other nodes come, has no carrier") {
		t.Errorf("the plan:\n%s", out)
	}
	netns.Run(t, "ip link set "+h.wire+" up")
	h.synced()
}

// TestEnded is what a pass's failures come to: those of containers that ended are none, and what was not as it had been set is
// told when it is so twice.
func TestEnded(t *testing.T) {
	core, logs := observer.New(zapcore.DebugLevel)
	failed := func(name string) reconcile.Event {
		want := object.IPIP{Name: name}
		return reconcile.Event{Change: &reconcile.Change{Op: reconcile.Create, Key: want.Key(), Want: want}, Err: errors.New("no " + name)}
	}
	f := failures{ended: func(e reconcile.Event) bool { return e.Change.Key.Name == "gone" }}
	for _, x := range []struct {
		names, told string
		none        bool
	}{
		{"gone", "", true},
		{"gone there", "create link there: no there", false},
		{"gone", "", true},
	} {
		var r reconcile.Report
		for name := range strings.FieldsSeq(x.names) {
			r.Events = append(r.Events, failed(name))
		}
		if told, none := f.tell(zap.New(core), r); told != x.told || none != x.none {
			t.Errorf("%s: %q, %t; want %q, %t", x.names, told, none, x.told, x.none)
		}
	}
	if n := logs.FilterLevelExact(zapcore.ErrorLevel).Len(); n != 1 {
		t.Errorf("%d errors in the log, want 1: %v", n, logs.All())
	}
	unsettled, fine := reconcile.Report{Err: &reconcile.Unsettled{}}, reconcile.Report{Whole: true}
	for i, x := range []struct {
		r     reconcile.Report
		quiet bool
	}{{unsettled, true}, {unsettled, false}, {reconcile.Report{}, false}, {unsettled, false}, {fine, false}, {unsettled, true}} {
		if got := f.unsettled(x.r); got != x.quiet {
			t.Errorf("pass %d: quiet %t, want %t", i, got, x.quiet)
		}
	}
}
