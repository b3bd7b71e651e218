package reconcile_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"netd/reconcile"
)

// liar is a kind that says that it did what it did not do.
type liar struct{ shelf }

func (l liar) Create(context.Context, reconcile.Resource) error { return nil }

// TestReadBack has every operation succeed and nothing come of it: that is an error that names the object, in a pass of one
// who asks once, and in a whole and a narrow pass of the loop.
func TestReadBack(t *testing.T) {
	ctx, stop := context.WithCancel(context.Background())
	k := liar{shelf{reconcile.State{}}}
	e := &reconcile.Engine{Kinds: []reconcile.Kind{k}}
	want := reconcile.Want{}
	want.Put(book{"Dune"}, reconcile.Cause{})
	named := func(what string, err error) {
		t.Helper()
		var u *reconcile.Unsettled
		if !errors.As(err, &u) || len(u.Changes) != 1 || !strings.Contains(err.Error(), "book Dune") {
			t.Errorf("%s: %v", what, err)
		}
	}
	_, out, err := e.Converge(ctx, want, nil, nil)
	named("once", err)
	if out.Done != 1 {
		t.Errorf("%d changes done, want 1", out.Done)
	}

	asked := 0
	l := &reconcile.Loop{Engine: e, Pokes: reconcile.NewPokes(), Calls: make(chan func(context.Context)), Resync: time.Hour,
		Compile: func(context.Context) (reconcile.Want, bool, error) {
			if asked++; asked == 1 {
				return reconcile.Want{}, true, nil
			}
			return want, true, nil
		}}
	passes := make(chan reconcile.Report, 100)
	l.Report = func(r reconcile.Report) { passes <- r }
	done := make(chan error)
	go func() { done <- l.Run(ctx) }()
	defer func() { stop(); <-done }()
	if r := next(t, passes); r.Err != nil {
		t.Fatal(r.Err)
	}
	l.Pokes.Add(reconcile.Poke{Wanted: true}) // what is wanted otherwise is led to by a narrow pass
	r := next(t, passes)
	named("a narrow pass", r.Err)
	if r.Whole {
		t.Error("the narrow pass was a whole one")
	}
	for r = next(t, passes); !r.Whole; r = next(t, passes) { // the retry
	}
	named("a whole pass", r.Err)
}
