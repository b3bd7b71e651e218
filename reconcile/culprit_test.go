package reconcile_test

import (
	"testing"
	"time"

	"netd/reconcile"
)

// A repair is told by who made it needful: not by who did so the time before, and, where it was put off, by who did meanwhile.
func TestCulprit(t *testing.T) {
	dune := book{"Dune"}
	key := dune.Key()
	l := &library{wanted: []book{dune}}
	open(t, l)
	change := func(by string) {
		delete(l.holds, key) // between two passes: the loop waits
		p := reconcile.Poke{Keys: []reconcile.Key{key}}
		if by != "" {
			p.By = map[reconcile.Key]string{key: by}
		}
		l.pokes.Add(p)
	}
	repaired := func() string {
		t.Helper()
		for {
			select {
			case r := <-l.passes:
				if len(r.Events) > 0 {
					return r.Events[0].By
				}
			case <-time.After(10 * time.Second):
				t.Fatal("not repaired")
			}
		}
	}
	for i, by := range []string{"alice", "", "bob", ""} {
		change(by)
		if got := repaired(); got != by {
			t.Errorf("change %d: made by %q, told of %q", i, by, got)
		}
	}
	// From here on repairs are put off, for longer each time.
	change("carol")
	if got := repaired(); got != "carol" {
		t.Errorf("put off: made by carol, told of %q", got)
	}
	change("")
	if got := repaired(); got != "" {
		t.Errorf("put off: made by nobody known, told of %q", got)
	}
}
