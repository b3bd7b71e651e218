package reconcile_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"netd/reconcile"
)

// telling is a kind of the fake that says what it made.
type telling struct {
	single
	say func(made thing) reconcile.Resource
}

func (k telling) Batch(ctx context.Context, changes []reconcile.Change) []error {
	errs := make([]error, len(changes))
	for i, c := range changes {
		switch {
		case c.Op == reconcile.Create:
			errs[i] = k.Create(ctx, c.Want)
		case c.Op == reconcile.Update:
			errs[i] = k.Update(ctx, c.Have, c.Want)
		case k.f.own[c.Key] == c.Have: // else what is named is absent, which is success
			errs[i] = k.Delete(ctx, c.Have)
		}
	}
	return errs
}

func (k telling) Tell(ctx context.Context, changes []reconcile.Change) ([]error, []reconcile.Resource) {
	errs, made := k.Batch(ctx, changes), make([]reconcile.Resource, len(changes))
	for i, c := range changes {
		switch {
		case c.Op != reconcile.Create:
		case errors.Is(errs[i], errExists):
			errs[i] = fmt.Errorf("%w: %w", reconcile.ErrTaken, errs[i])
		case errs[i] == nil:
			made[i] = k.say(k.f.own[c.Key])
		}
	}
	return errs, made
}

// TestTold has what is wanted change at places of a kind that says what it made: what was not wanted before is made without a look,
// and what it says is the proof. Where it says nothing the place is read, where it says something else the pass fails, and where
// something is in the place that nobody told of it is looked at after all.
func TestTold(t *testing.T) {
	route := func(name string, value int) thing {
		return thing{kind: "route", name: name, value: value, on: [2]reconcile.Key{{Kind: "link", Name: "a"}}}
	}
	as := func(made thing) reconcile.Resource { return made }
	for _, x := range []struct {
		name     string
		say      func(thing) reconcile.Resource
		there    func(*fake) // before what is wanted changes
		next     []thing
		reads    int // of routes
		err      bool
		conflict bool
		value    int // of route 1 in the end; 0: it is gone, or not netd's
	}{
		{name: "made", say: as, next: []thing{route("0", 1), route("1", 1)}, reads: 0, value: 1},
		{name: "it says nothing", say: func(thing) reconcile.Resource { return nil }, next: []thing{route("0", 1), route("1", 1)}, reads: 1, value: 1},
		{name: "it made another", say: func(made thing) reconcile.Resource { made.value++; return made }, next: []thing{route("0", 1), route("1", 1)}, reads: 0, err: true, value: 1},
		{name: "left over there", say: as, there: func(f *fake) { f.own[route("1", 9).Key()] = route("1", 9) },
			next: []thing{route("0", 1), route("1", 1)}, reads: 2, value: 1},
		{name: "a stranger's", say: as, there: func(f *fake) { f.foreign[route("1", 0).Key()] = "a stranger" },
			next: []thing{route("0", 1), route("1", 1)}, reads: 1, conflict: true},
		{name: "a stranger's, and another goes", say: as, there: func(f *fake) { f.foreign[route("1", 0).Key()] = "a stranger" },
			next: []thing{route("1", 1)}, reads: 2, conflict: true},
		{name: "left over there, and another goes", say: as, there: func(f *fake) { f.own[route("1", 9).Key()] = route("1", 9) },
			next: []thing{route("1", 1)}, reads: 3, value: 1},
		{name: "changed", say: as, next: []thing{route("0", 2)}, reads: 2},
		{name: "gone", say: as, next: nil, reads: 1},
		{name: "another is in the place of what goes", say: as, there: func(f *fake) { f.own[route("0", 9).Key()] = route("0", 9) }, next: nil, reads: 1, err: true},
	} {
		t.Run(x.name, func(t *testing.T) {
			f := &fake{own: map[reconcile.Key]thing{}, foreign: map[reconcile.Key]string{}}
			reads, others := 0, 0
			e := &reconcile.Engine{Kinds: []reconcile.Kind{single{fakeKind{f, "link"}, &others}, telling{single{fakeKind{f, "route"}, &reads}, x.say}}}
			link := thing{kind: "link", name: "a"}
			target := []thing{link, route("0", 1)}
			reports, calls := make(chan reconcile.Report, 10), make(chan func(context.Context))
			compile := func() (want reconcile.Want) {
				for _, r := range target {
					want.Put(r, reconcile.Cause{})
				}
				return want
			}
			loop := &reconcile.Loop{Engine: e, Pokes: reconcile.NewPokes(), Calls: calls, Resync: time.Hour,
				Report:  func(r reconcile.Report) { reports <- r },
				Compile: func(context.Context) (reconcile.Want, bool, error) { return compile(), true, nil },
				Amend: func(was reconcile.State) (a reconcile.Amendment, ok bool) {
					now := compile()
					for k, r := range now.State {
						a.Places = append(a.Places, reconcile.Amended{Key: k, Was: was[k], Want: r})
					}
					for k, r := range was {
						if _, wanted := now.State[k]; !wanted {
							a.Places = append(a.Places, reconcile.Amended{Key: k, Was: r})
						}
					}
					return a, true
				}}
			ctx, stop := context.WithCancel(context.Background())
			done := make(chan error)
			go func() { done <- loop.Run(ctx) }()
			defer func() { stop(); <-done }()
			if rep := next(t, reports); rep.Err != nil {
				t.Fatal(rep.Err)
			}
			calls <- func(context.Context) {
				reads = 0
				if x.there != nil {
					x.there(f)
				}
				target = append([]thing{link}, x.next...)
				loop.Pokes.Add(reconcile.Poke{Amend: true})
			}
			rep := next(t, reports)
			failed := rep.Err
			turn := make(chan struct{})
			calls <- func(context.Context) { close(turn) } // after a look at what was taken, which is a pass of its own
			<-turn
			for len(reports) > 0 {
				rep = <-reports
				failed = errors.Join(failed, rep.Err)
			}
			_, stays := f.own[route("0", 1).Key()]
			switch {
			case rep.Whole || (failed != nil) != x.err:
				t.Errorf("%v, %+v", failed, rep)
			case !x.err && stays != slices.ContainsFunc(x.next, func(r thing) bool { return r.name == "0" }):
				t.Errorf("%v", f.own)
			case (len(rep.Conflicts) > 0) != x.conflict:
				t.Errorf("conflicts %+v", rep.Conflicts)
			case reads != x.reads:
				t.Errorf("%d places read, want %d", reads, x.reads)
			case f.own[route("1", 0).Key()].value != x.value:
				t.Errorf("%v", f.own)
			}
			for _, ev := range rep.Events {
				if ev.Change.Drift {
					t.Errorf("taken for drift: %+v", ev)
				}
			}
		})
	}
}
