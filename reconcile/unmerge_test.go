package reconcile_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"netd/reconcile"
)

// unread is a shelf of which single places cannot be read for a while.
type unread struct {
	shelf
	fails int // so often
}

func (u *unread) Get(_ context.Context, keys []reconcile.Key, _ []reconcile.Resource) (own []reconcile.Resource, _ []reconcile.Holder, err error) {
	if u.fails > 0 {
		u.fails--
		return nil, nil, errFault
	}
	for _, k := range keys {
		if r, ok := u.holds[k]; ok {
			own = append(own, r)
		}
	}
	return own, nil, nil
}

// tome is a resource that may change in place.
type tome struct {
	title   string
	edition int
}

func (t tome) Key() reconcile.Key        { return reconcile.Key{Kind: "book", Name: t.title} }
func (t tome) Requires() []reconcile.Key { return nil }
func (t tome) Fields() []reconcile.Field { return nil }

// TestNothingCame has what is wanted change at single places, of which nothing comes, since they cannot be read. Until that is tried
// again all is wanted as before: for the same reasons, and standing on the same.
func TestNothingCame(t *testing.T) {
	key := func(title string) reconcile.Key { return tome{title: title}.Key() }
	text := func(w reconcile.Want) (out []string) {
		for _, title := range []string{"Dune", "Emma", "Ivanhoe", "Ulysses", "Walden"} {
			out = append(out, fmt.Sprint(title, w.State[key(title)], w.Because(key(title)), w.Stands[key(title)]))
		}
		return out
	}
	shelfOf := func(n string) []reconcile.Key { return []reconcile.Key{{Kind: "board", Name: n}} }
	u := &unread{shelf: shelf{reconcile.State{}}}
	var loop *reconcile.Loop
	was := []string{}
	passes := make(chan reconcile.Report, 100)
	loop = &reconcile.Loop{
		Engine: &reconcile.Engine{Kinds: []reconcile.Kind{u}},
		Compile: func(context.Context) (want reconcile.Want, ok bool, err error) {
			why := reconcile.Cause{Text: "from the first"}
			want.Put(tome{"Dune", 1}, why, shelfOf("1")...)
			want.Put(tome{"Emma", 1}, why, shelfOf("1")...)
			want.Put(tome{"Ivanhoe", 1}, why)
			want.Put(tome{"Walden", 1}, why, shelfOf("1")...)
			return want, true, nil
		},
		Amend: func(state reconcile.State) (reconcile.Amendment, bool) {
			why := reconcile.Cause{Text: "from what did not come"}
			places := []reconcile.Amended{
				{Key: key("Dune"), Want: tome{"Dune", 2}, Why: why, Stands: shelfOf("2")},
				{Key: key("Emma")},
				{Key: key("Ivanhoe"), Want: tome{"Ivanhoe", 2}, Why: why, Stands: shelfOf("2")},
				{Key: key("Ulysses"), Want: tome{"Ulysses", 1}, Why: why, Stands: shelfOf("2")},
				{Key: key("Walden"), Want: tome{"Walden", 2}, Why: why},
			}
			for i := range places {
				places[i].Was = state[places[i].Key]
			}
			return reconcile.Amendment{Places: places}, true
		},
		Pokes: reconcile.NewPokes(), Resync: time.Hour,
		Report: func(r reconcile.Report) { // on Run's goroutine, before it is tried again
			switch want, _ := loop.Wanted(); {
			case r.Err != nil:
				if is := text(want); !slices.Equal(is, was) {
					t.Errorf("wanted after what did not come:\n%q\nand before that:\n%q", is, was)
				}
			case len(was) == 0:
				was = text(want)
				u.fails = 1
				loop.Pokes.Add(reconcile.Poke{Amend: true})
			}
			passes <- r
		},
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- loop.Run(ctx) }()
	defer func() { stop(); <-done }()
	<-passes
	if r := next(t, passes); r.Err == nil {
		t.Error("what cannot be read is no error")
	}
	if r := next(t, passes); r.Err != nil || r.Why != "retry" {
		t.Errorf("the last pass: %+v", r)
	}
}

// TestNothingWent is TestNothingCame with a state that has no reasons, and of which a place is given up.
func TestNothingWent(t *testing.T) {
	u := &unread{shelf: shelf{reconcile.State{}}}
	passes := make(chan reconcile.Report, 100)
	loop := &reconcile.Loop{
		Engine: &reconcile.Engine{Kinds: []reconcile.Kind{u}},
		Compile: func(context.Context) (want reconcile.Want, ok bool, err error) {
			want.State = reconcile.State{}
			want.State.Add(book{"Dune"})
			return want, true, nil
		},
		Amend: func(state reconcile.State) (reconcile.Amendment, bool) {
			k := book{"Dune"}.Key()
			return reconcile.Amendment{Places: []reconcile.Amended{{Key: k, Was: state[k]}}}, true
		},
		Pokes: reconcile.NewPokes(), Resync: time.Hour,
	}
	ready := false
	loop.Report = func(r reconcile.Report) {
		if want, _ := loop.Wanted(); r.Err != nil && len(want.State) != 1 {
			t.Errorf("wanted after what did not go: %v", want.State)
		} else if !ready {
			ready, u.fails = true, 1
			loop.Pokes.Add(reconcile.Poke{Amend: true})
		}
		passes <- r
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- loop.Run(ctx) }()
	defer func() { stop(); <-done }()
	<-passes
	if r := next(t, passes); r.Err == nil {
		t.Error("what cannot be read is no error")
	}
}

// TestFailedIsAskedAgain has what is wanted change and a place of it not be readable, and then so many events come that all is looked
// at: what was not done then is done, though that look finds no fault in what was wanted before.
func TestFailedIsAskedAgain(t *testing.T) {
	u := &unread{shelf: shelf{reconcile.State{}}}
	wanted := []book{{"Dune"}}
	passes, ready := make(chan reconcile.Report, 100), false
	loop := &reconcile.Loop{
		Engine: &reconcile.Engine{Kinds: []reconcile.Kind{u}},
		Compile: func(context.Context) (want reconcile.Want, ok bool, err error) {
			for _, b := range wanted {
				want.Put(b, reconcile.Cause{})
			}
			return want, true, nil
		},
		Pokes: reconcile.NewPokes(), Resync: time.Hour,
	}
	loop.Report = func(r reconcile.Report) {
		switch {
		case r.Err != nil:
			loop.Pokes.Add(reconcile.Poke{All: true}) // before the retry
		case !ready:
			ready, wanted, u.fails = true, append(wanted, book{"Emma"}), 1
			loop.Pokes.Add(reconcile.Poke{Wanted: true})
		}
		passes <- r
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- loop.Run(ctx) }()
	defer func() { stop(); <-done }()
	<-passes
	if r := next(t, passes); r.Err == nil {
		t.Error("what cannot be read is no error")
	}
	if r := next(t, passes); r.Err != nil || len(r.Plan.Changes) != 1 {
		t.Errorf("the pass after that: %+v", r)
	}
}
