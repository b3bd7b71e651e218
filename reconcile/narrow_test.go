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

// single is a kind of the fake that reads single places. It counts them.
type single struct {
	fakeKind
	reads *int
}

func (k single) Get(_ context.Context, keys []reconcile.Key, want []reconcile.Resource) (own []reconcile.Resource, foreign []reconcile.Holder, err error) {
	*k.reads += len(keys)
	for _, key := range keys {
		if x, ok := k.f.own[key]; ok {
			own = append(own, x)
		}
	}
	for _, w := range want {
		if who, ok := k.f.foreign[w.Key()]; ok {
			foreign = append(foreign, reconcile.Holder{Key: w.Key(), What: "a thing", Who: who})
		}
	}
	return own, foreign, nil
}

// damage changes one thing behind netd's back, and returns the one event that a kernel would tell of it: what goes with
// what it stands on goes in silence.
func (f *fake) damage(r *rand.Rand, want reconcile.State) reconcile.Key {
	k := reconcile.Key{Kind: fakeKinds[1+r.IntN(3)], Name: fmt.Sprint(r.IntN(6))}
	f.meddle(r, k)
	return k
}

// meddle is damage at one place.
func (f *fake) meddle(r *rand.Rand, k reconcile.Key) {
	x, there := f.own[k]
	_, taken := f.foreign[k]
	switch n := r.IntN(5); {
	case taken:
		delete(f.foreign, k)
	case there && n == 0:
		x.value++
		f.own[k] = x
	case there && n == 1:
		x.fixed++
		f.own[k] = x
	case there:
		_ = fakeKind{f: f, name: k.Kind}.Delete(context.Background(), x)
		if n == 4 {
			f.foreign[k] = "a stranger"
		}
	case n == 0:
		f.foreign[k] = "a stranger"
	default:
		f.own[k] = thing{kind: k.Kind, name: k.Name, value: 9}
	}
}

// TestEventsMayBeLost damages hosts at random while narrow passes follow the events: where all of them come, in whatever
// order and however many at once, they alone lead home, and a whole pass finds nothing left to do. Where any of them is
// lost, nothing wrong is made of the others, and the next whole pass leads to the same end.
func TestEventsMayBeLost(t *testing.T) {
	ctx := context.Background()
	wide, narrow := 0, 0
	for seed := range uint64(pairs) {
		r := rand.New(rand.NewPCG(seed, 7))
		reads := 0
		f := &fake{own: map[reconcile.Key]thing{}, foreign: map[reconcile.Key]string{}}
		e := &reconcile.Engine{Kinds: []reconcile.Kind{fakeKind{f, "guard"}}}
		for _, name := range fakeKinds[1:] {
			e.Kinds = append(e.Kinds, single{fakeKind{f, name}, &reads})
		}
		want := reconcile.Want{State: random(r)}
		if _, _, err := e.Converge(ctx, want, nil, nil); err != nil {
			t.Fatal(err)
		}
		lossy := r.IntN(2) == 0
		for range 1 + r.IntN(4) {
			var events []reconcile.Key
			for range 1 + r.IntN(4) {
				events = append(events, f.damage(r, want.State))
			}
			if lossy {
				events = slices.DeleteFunc(events, func(reconcile.Key) bool { return r.IntN(2) == 0 })
			}
			r.Shuffle(len(events), func(i, j int) { events[i], events[j] = events[j], events[i] })
			for len(events) > 0 {
				n := 1 + r.IntN(len(events))
				p, err := e.PlanAt(ctx, &want, events[:n], nil, want.State)
				if err != nil {
					t.Fatal(err)
				}
				plan := p.Plan
				if narrow++; p.Wide || len(p.Held) > 0 {
					wide++
					if plan, err = e.Plan(ctx, &want, want.State); err != nil {
						t.Fatal(err)
					}
				}
				if out := e.Apply(ctx, plan, nil); out.Err() != nil && !lossy {
					t.Fatalf("seed %d: %v: %v\n%s", seed, events[:n], out.Err(), words(plan))
				}
				events = events[n:]
			}
		}
		plan, err := e.Plan(ctx, &want, want.State)
		if err != nil {
			t.Fatal(err)
		}
		if !lossy && len(plan.Changes) > 0 {
			t.Fatalf("seed %d: no event was lost, and yet:\n%s", seed, words(plan))
		}
		if _, err := e.Execute(ctx, want, plan, nil); err != nil {
			t.Fatalf("seed %d: %v\n%s", seed, err, words(plan))
		}
		home := maps.Clone(want.State)
		for _, c := range plan.Conflicts {
			delete(home, c.Key)
			for _, k := range c.Without {
				delete(home, k)
			}
		}
		for k, x := range home {
			if f.own[k] != x {
				t.Fatalf("seed %d: %s is not home:\n%s", seed, k, words(plan))
			}
		}
		if left, _ := e.Plan(ctx, &want, want.State); len(left.Changes) > 0 {
			t.Fatalf("seed %d: after the whole pass:\n%s", seed, words(left))
		}
	}
	if wide == 0 || wide > narrow/2 {
		t.Errorf("%d of %d narrow passes had to be whole ones", wide, narrow)
	}
}

// watched is a loop over a fake with a link and two routes on it, that hears of single places alone.
func watched(t *testing.T) (*fake, func(...reconcile.Key) reconcile.Report) {
	t.Helper()
	reads := 0
	f := &fake{own: map[reconcile.Key]thing{}, foreign: map[reconcile.Key]string{}}
	want := reconcile.Want{}
	want.Put(thing{kind: "link", name: "0"}, reconcile.Cause{})
	for _, name := range []string{"0", "1"} {
		want.Put(thing{kind: "route", name: name, on: [2]reconcile.Key{{Kind: "link", Name: "0"}}}, reconcile.Cause{})
	}
	l := &reconcile.Loop{Engine: &reconcile.Engine{Kinds: []reconcile.Kind{single{fakeKind{f, "link"}, &reads}, single{fakeKind{f, "route"}, &reads}}},
		Pokes: reconcile.NewPokes(), Resync: time.Hour, Compile: func(context.Context) (reconcile.Want, bool, error) { return want, true, nil }}
	passes := make(chan reconcile.Report, 100)
	l.Report = func(r reconcile.Report) { passes <- r }
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- l.Run(ctx) }()
	t.Cleanup(func() { stop(); <-done })
	if r := next(t, passes); len(f.own) != 3 {
		t.Fatalf("%+v", r)
	}
	return f, func(keys ...reconcile.Key) reconcile.Report {
		if len(keys) > 0 {
			l.Pokes.Add(reconcile.Poke{Keys: keys})
		}
		return next(t, passes)
	}
}

// TestHeldBelow has a stranger in the place of what others stand on, and events of those alone: who has it is told, whether it
// is there now or was there before.
func TestHeldBelow(t *testing.T) {
	f, after := watched(t)
	link, route, other := reconcile.Key{Kind: "link", Name: "0"}, reconcile.Key{Kind: "route", Name: "0"}, reconcile.Key{Kind: "route", Name: "1"}
	clear(f.own)
	f.foreign[link] = "a stranger"
	r := after(route)
	if len(r.Conflicts) != 1 || r.Conflicts[0].Key != link || !slices.Equal(r.Conflicts[0].Without, []reconcile.Key{route, other}) {
		t.Errorf("conflicts: %+v", r.Conflicts)
	}
	clear(f.foreign)
	for r = after(route); len(r.Conflicts) > 0; r = after() {
	}
	if len(f.own) != 3 {
		t.Errorf("not home: %v", f.state().Keys())
	}
}

// TestWrongBelow has what others stand on replaced, and the event of one of those alone: all that goes with it is put back with it.
func TestWrongBelow(t *testing.T) {
	f, after := watched(t)
	route := reconcile.Key{Kind: "route", Name: "0"}
	x := f.own[reconcile.Key{Kind: "link", Name: "0"}]
	x.fixed++
	f.own[x.Key()] = x
	delete(f.own, route)
	if r := after(route); r.Err != nil || !r.Whole {
		t.Errorf("the pass: %+v", r)
	}
	if len(f.own) != 3 || f.own[x.Key()].fixed != 0 {
		t.Errorf("not home: %v", f.own)
	}
}

// TestNarrowPrunesNothing has an event of one object of a kind that can only be listed: what else of it is not wanted waits for a
// whole pass.
func TestNarrowPrunesNothing(t *testing.T) {
	f := &fake{own: map[reconcile.Key]thing{}, foreign: map[reconcile.Key]string{}}
	e := &reconcile.Engine{Kinds: []reconcile.Kind{fakeKind{f, "guard"}}}
	wanted, other := thing{kind: "guard", name: "0", value: 1}, thing{kind: "guard", name: "1"}
	want := reconcile.Want{}
	want.Put(wanted, reconcile.Cause{})
	f.own[wanted.Key()], f.own[other.Key()] = thing{kind: "guard", name: "0"}, other
	n, err := e.PlanAt(context.Background(), &want, []reconcile.Key{wanted.Key()}, nil, nil)
	if err != nil || len(n.Changes) != 1 || n.Changes[0].Key != wanted.Key() {
		t.Errorf("%v:\n%s", err, words(n.Plan))
	}
}
