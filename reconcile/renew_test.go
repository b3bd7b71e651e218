package reconcile_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"netd/reconcile"
)

// TestRenewed has a loop's wanted state become another random one, and the loop told of no more than that: what it makes of it
// by looking at the differences alone is what a whole pass would have made, with strangers in the way and without.
func TestRenewed(t *testing.T) {
	narrow := 0
	for seed := range uint64(pairs / 4) {
		r := rand.New(rand.NewPCG(seed, 11))
		reads := 0
		f := &fake{own: map[reconcile.Key]thing{}, foreign: map[reconcile.Key]string{}}
		e := &reconcile.Engine{Kinds: []reconcile.Kind{fakeKind{f, "guard"}}}
		for _, name := range fakeKinds[1:] {
			e.Kinds = append(e.Kinds, single{fakeKind{f, name}, &reads})
		}
		want := reconcile.Want{State: random(r)}
		passes := make(chan reconcile.Report, 10)
		calls := make(chan func(context.Context))
		l := &reconcile.Loop{Engine: e, Pokes: reconcile.NewPokes(), Calls: calls, Resync: time.Hour, Report: func(r reconcile.Report) { passes <- r },
			Compile: func(context.Context) (reconcile.Want, bool, error) {
				return reconcile.Want{State: want.State}, true, nil
			}}
		ctx, stop := context.WithCancel(context.Background())
		done := make(chan error)
		go func() { done <- l.Run(ctx) }()
		if p := next(t, passes); p.Err != nil {
			t.Fatalf("seed %d: %v", seed, p.Err)
		}
		for range 1 + r.IntN(3) {
			turn := make(chan struct{})
			calls <- func(context.Context) { // between two passes
				defer close(turn)
				was := want.State
				want = reconcile.Want{State: random(r)}
				if r.IntN(2) == 0 { // a few places, as of an edit
					for _, k := range was.Keys() {
						if r.IntN(4) > 0 {
							want.State[k] = was[k]
						}
					}
				}
				for range r.IntN(3) {
					k := reconcile.Key{Kind: fakeKinds[r.IntN(4)], Name: fmt.Sprint(r.IntN(6))}
					if _, own := f.own[k]; !own {
						f.foreign[k] = "a stranger"
					}
				}
				footless := func(_ reconcile.Key, x reconcile.Resource) bool {
					return slices.ContainsFunc(x.Requires(), func(on reconcile.Key) bool { return want.State[on] == nil })
				}
				for n := -1; n != len(want.State); { // until all that is wanted has its footing
					n = len(want.State)
					maps.DeleteFunc(want.State, footless)
				}
			}
			<-turn
			l.Pokes.Add(reconcile.Poke{Wanted: true})
			p := next(t, passes)
			if !p.Whole {
				narrow++
			}
			checked := make(chan string)
			calls <- func(ctx context.Context) {
				left, err := e.Plan(ctx, &reconcile.Want{State: want.State}, nil)
				if err != nil || len(left.Changes) > 0 {
					checked <- fmt.Sprintf("%v, left to do:\n%s", err, words(left))
				} else {
					checked <- ""
				}
			}
			if text := <-checked; text != "" || p.Err != nil {
				t.Fatalf("seed %d: whole %v: %v: %s\ndone:\n%s", seed, p.Whole, p.Err, text, words(p.Plan))
			}
		}
		stop()
		<-done
	}
	if narrow == 0 {
		t.Error("every pass was a whole one")
	}
}
