package reconcile_test

import (
	"context"
	"testing"
	"time"

	"netd/reconcile"
)

// book is a resource of nothing but a name; shelf is its kind.
type book struct{ title string }

func (b book) Key() reconcile.Key        { return reconcile.Key{Kind: "book", Name: b.title} }
func (b book) Requires() []reconcile.Key { return nil }
func (b book) Fields() []reconcile.Field { return nil }

type shelf struct{ holds reconcile.State }

func (s shelf) Name() string { return "book" }
func (s shelf) List(context.Context, []reconcile.Resource) (own []reconcile.Resource, foreign []reconcile.Holder, err error) {
	for _, r := range s.holds {
		own = append(own, r)
	}
	return own, nil, nil
}
func (s shelf) Create(_ context.Context, want reconcile.Resource) error {
	s.holds.Add(want)
	return nil
}
func (s shelf) Update(context.Context, reconcile.Resource, reconcile.Resource) error { return nil }
func (s shelf) Delete(_ context.Context, have reconcile.Resource) error {
	delete(s.holds, have.Key())
	return nil
}

// Once nothing is in force, after a destroy, an event does not bring back what was.
func TestRestIsRest(t *testing.T) {
	s := shelf{reconcile.State{}}
	dune := book{"Dune"}
	rests := false
	calls := make(chan func(context.Context))
	l := &reconcile.Loop{
		Engine: &reconcile.Engine{Kinds: []reconcile.Kind{s}},
		Compile: func(context.Context) (reconcile.Want, bool, error) {
			want := reconcile.Want{}
			want.Put(dune, reconcile.Cause{})
			return want, !rests, nil
		},
		Pokes: reconcile.NewPokes(), Calls: calls, Resync: time.Hour,
	}
	passes := make(chan reconcile.Report, 100)
	l.Report = func(r reconcile.Report) { passes <- r }
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- l.Run(ctx) }()
	defer func() { stop(); <-done }()
	<-passes
	call := func(f func(context.Context)) {
		finished := make(chan struct{})
		calls <- func(ctx context.Context) { defer close(finished); f(ctx) }
		<-finished
	}
	call(func(ctx context.Context) {
		if len(s.holds) != 1 {
			t.Errorf("the shelf holds %d", len(s.holds))
		}
		rests = true
		clear(s.holds)
		_ = l.Whole(ctx, "destroy")
	})
	<-passes
	l.Pokes.Add(reconcile.Poke{Keys: []reconcile.Key{dune.Key()}})
	<-passes
	call(func(context.Context) {
		if len(s.holds) != 0 {
			t.Error("the event brought back what was")
		}
	})
}
