package reconcile_test

import (
	"context"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"netd/reconcile"
)

// TestAmended has what is wanted change at some places at a time, which the loop asks for in parts. Where nothing stands on
// what changes, narrow passes lead there alone, a stranger or something left over in those places or not; where anything changes in
// any order, whatever is destroyed and whoever comes in the way meanwhile, the host is as a whole pass alone would have left it. Of
// some hosts routes are of a kind that says what it made.
func TestAmended(t *testing.T) {
	ctx := context.Background()
	amended, whole := 0, 0
	for seed := range uint64(400) {
		r := rand.New(rand.NewPCG(seed, 11))
		leaves := seed%8 > 0             // only what nothing stands on changes, and nobody interferes
		meddled := leaves && seed%5 == 0 // but in the places of what changes
		reads := 0
		f := &fake{own: map[reconcile.Key]thing{}, foreign: map[reconcile.Key]string{}}
		e := &reconcile.Engine{Kinds: []reconcile.Kind{fakeKind{f, "guard"}}}
		for _, name := range fakeKinds[1:] {
			kind := single{fakeKind{f, name}, &reads}
			if name == "route" && seed%3 > 0 {
				e.Kinds = append(e.Kinds, telling{kind, func(made thing) reconcile.Resource {
					if seed%3 == 1 && made.value%2 == 0 {
						return nil
					}
					return made
				}})
				continue
			}
			e.Kinds = append(e.Kinds, kind)
		}
		target := random(r)
		if leaves {
			maps.DeleteFunc(target, func(k reconcile.Key, _ reconcile.Resource) bool { return k.Kind == "route" })
		}
		var reports []reconcile.Report
		calls := make(chan func(context.Context))
		loop := &reconcile.Loop{
			Engine: e, Pokes: reconcile.NewPokes(), Calls: calls, Resync: time.Hour,
			Report: func(r reconcile.Report) { reports = append(reports, r) },
			Compile: func(context.Context) (want reconcile.Want, ok bool, err error) {
				for _, x := range target {
					want.Put(x, reconcile.Cause{})
				}
				return want, true, nil
			},
			Amend: func(was reconcile.State) (a reconcile.Amendment, ok bool) {
				for k, x := range target {
					if was[k] != x {
						a.Places = append(a.Places, reconcile.Amended{Key: k, Was: was[k], Want: x})
					}
					if a.More = len(a.Places) == 2; a.More {
						return a, true
					}
				}
				for k, x := range was {
					if _, wanted := target[k]; !wanted {
						a.Places = append(a.Places, reconcile.Amended{Key: k, Was: x})
					}
				}
				return a, leaves || r.IntN(5) > 0
			},
		}
		ctx, stop := context.WithCancel(ctx)
		done := make(chan error)
		go func() { done <- loop.Run(ctx) }()
		call := func(g func()) {
			finished := make(chan struct{})
			calls <- func(context.Context) { defer close(finished); g() }
			<-finished
		}
		// home reports whether all is there that is wanted and not in a stranger's place, or on something that is.
		home := func() bool {
			want := reconcile.Want{State: target}
			p, err := e.Plan(ctx, &want, nil)
			return err == nil && len(p.Changes) == 0
		}
		until := func(what string) {
			t.Helper()
			for deadline, there := time.Now().Add(10*time.Second), false; !there; {
				call(func() { there = home() })
				if time.Now().After(deadline) {
					t.Fatalf("seed %d: not home %s: %v", seed, what, reports[len(reports)-1])
				}
			}
		}
		until("at first")
		call(func() { reports = nil })
		for range 3 {
			call(func() {
				next := random(r)
				if leaves {
					now := maps.Clone(target)
					maps.DeleteFunc(now, func(k reconcile.Key, _ reconcile.Resource) bool { return k.Kind == "route" })
					for k, x := range next {
						ok := k.Kind == "route"
						for _, on := range x.Requires() {
							_, there := now[on]
							ok = ok && there && on.Kind != "route"
						}
						if ok {
							now[k] = x
						}
					}
					next = now
					for k := range next {
						if meddled && next[k] != target[k] {
							f.meddle(r, k)
						}
					}
					for k := range target {
						if _, stays := next[k]; meddled && !stays {
							f.meddle(r, k)
						}
					}
				} else {
					f.damage(r, target)
				}
				target = next
				loop.Pokes.Add(reconcile.Poke{Amend: true, Whole: !leaves && r.IntN(2) == 0})
			})
			if !leaves {
				continue
			}
			until("by what was amended")
			call(func() {
				for _, rep := range reports {
					if meddled {
						continue
					}
					if rep.Whole || rep.Err != nil || slices.ContainsFunc(rep.Plan.Changes, func(c reconcile.Change) bool { return c.Drift }) {
						t.Errorf("seed %d: a pass: %+v", seed, rep)
					}
					amended++
				}
				reports = nil
				for k, x := range f.own { // what goes takes what was amended along, and one event tells of all
					if k.Kind == "addr" {
						_ = fakeKind{f: f, name: k.Kind}.Delete(ctx, x)
						loop.Pokes.Add(reconcile.Poke{Keys: []reconcile.Key{k}})
						break
					}
				}
			})
			until("after something went")
			call(func() {
				if !meddled && slices.ContainsFunc(reports, func(r reconcile.Report) bool { return r.Whole }) {
					t.Errorf("seed %d: by looking at everything: %+v", seed, reports)
				}
				reports = nil
			})
		}
		if !leaves {
			call(loop.Pokes.Whole)
		}
		until("in the end")
		call(func() {
			for _, rep := range reports {
				if rep.Whole {
					whole++
				}
			}
		})
		stop()
		<-done
	}
	if amended < 500 || whole < 50 {
		t.Errorf("%d narrow passes, %d whole ones", amended, whole)
	}
}
