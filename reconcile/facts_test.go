package reconcile_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"netd/reconcile"
)

// TestFacts: of facts that may be others what is wanted is asked for anew, except where it is told that it holds; and it is not
// believed while a pass failed or somebody is in the way, who may be gone.
func TestFacts(t *testing.T) {
	place := reconcile.Key{Kind: fakeKinds[1], Name: "1"}
	for _, x := range []struct {
		name                           string
		told, holds, fails, isInTheWay bool
		asked, compiles                bool
	}{
		{name: "it holds", told: true, holds: true, asked: true},
		{name: "it does not", told: true, asked: true, compiles: true},
		{name: "nobody tells", compiles: true},
		{name: "a pass failed", told: true, holds: true, fails: true, compiles: true},
		{name: "somebody is in the way", told: true, holds: true, isInTheWay: true, compiles: true},
	} {
		t.Run(x.name, func(t *testing.T) {
			reads, compiled, asked, fails := 0, 0, 0, false
			f := &fake{own: map[reconcile.Key]thing{}, foreign: map[reconcile.Key]string{}}
			e := &reconcile.Engine{Kinds: []reconcile.Kind{single{fakeKind{f, fakeKinds[1]}, &reads}}}
			want := reconcile.Want{}
			want.Put(thing{kind: place.Kind, name: place.Name}, reconcile.Cause{})
			if x.isInTheWay {
				f.foreign[place] = "a stranger"
			}
			passes, calls := make(chan reconcile.Report, 10), make(chan func(context.Context))
			l := &reconcile.Loop{Engine: e, Pokes: reconcile.NewPokes(), Calls: calls, Resync: time.Hour, Report: func(r reconcile.Report) { passes <- r },
				Compile: func(context.Context) (reconcile.Want, bool, error) {
					compiled++
					if fails {
						return reconcile.Want{}, false, errors.New("no facts")
					}
					return want, true, nil
				}}
			if x.told {
				l.Holds = func(context.Context) bool { asked++; return x.holds }
			}
			ctx, stop := context.WithCancel(context.Background())
			done := make(chan error)
			go func() { done <- l.Run(ctx) }()
			next(t, passes)
			fails = x.fails
			if fails {
				l.Pokes.Add(reconcile.Poke{Whole: true})
				next(t, passes)
			}
			turn := make(chan struct{})
			calls <- func(context.Context) { compiled = 0; close(turn) }
			<-turn
			l.Pokes.Add(reconcile.Poke{Facts: true, Keys: []reconcile.Key{place}})
			for next(t, passes).Whole { // the places come last
			}
			stop()
			<-done
			if (asked > 0) != x.asked || (compiled > 0) != x.compiles {
				t.Errorf("asked whether it holds: %d times, what is wanted: %d times", asked, compiled)
			}
		})
	}
}
