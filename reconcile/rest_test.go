package reconcile_test

import (
	"cmp"
	"context"
	"slices"
	"testing"
	"time"

	"netd/reconcile"
)

// library is a loop over one shelf that tells how often it was asked what is wanted, and how often everything was read.
type library struct {
	shelf
	wanted   []book
	compiled int
	listed   int
	reading  time.Duration // of everything
	resync   time.Duration // 0: never
	refuses  int           // so many creations
	passes   chan reconcile.Report
	pokes    *reconcile.Pokes
}

func (l *library) List(ctx context.Context, want []reconcile.Resource) ([]reconcile.Resource, []reconcile.Holder, error) {
	l.listed++
	end := time.Now().Add(l.reading)
	for time.Now().Before(end) {
	}
	return l.shelf.List(ctx, want)
}

func (l *library) Get(ctx context.Context, keys []reconcile.Key, _ []reconcile.Resource) (own []reconcile.Resource, foreign []reconcile.Holder, err error) {
	for _, k := range keys {
		if r, ok := l.holds[k]; ok {
			own = append(own, r)
		}
	}
	return own, nil, nil
}

func (l *library) Create(ctx context.Context, want reconcile.Resource) error {
	if l.refuses > 0 {
		l.refuses--
		return errFault
	}
	return l.shelf.Create(ctx, want)
}

// open runs a library until the test ends, and waits for its first pass.
func open(t *testing.T, l *library, early ...reconcile.Poke) {
	t.Helper()
	l.shelf, l.passes, l.pokes = shelf{reconcile.State{}}, make(chan reconcile.Report, 1000), reconcile.NewPokes()
	for _, p := range early {
		l.pokes.Add(p)
	}
	loop := &reconcile.Loop{
		Engine: &reconcile.Engine{Kinds: []reconcile.Kind{l}},
		Compile: func(context.Context) (want reconcile.Want, ok bool, err error) {
			l.compiled++
			for _, b := range l.wanted {
				want.Put(b, reconcile.Cause{})
			}
			return want, true, nil
		},
		Pokes: l.pokes, Resync: cmp.Or(l.resync, time.Hour), Report: func(r reconcile.Report) { l.passes <- r },
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- loop.Run(ctx) }()
	t.Cleanup(func() { stop(); <-done })
	<-l.passes
}

// What was asked for before a pass over everything begins is a part of it.
func TestCovered(t *testing.T) {
	for range 20 { // the loop takes what is ready in any order
		l := &library{wanted: []book{{"Dune"}}}
		open(t, l, reconcile.Poke{Whole: true}, reconcile.Poke{Keys: []reconcile.Key{book{"Emma"}.Key()}})
		l.pokes.Add(reconcile.Poke{Keys: []reconcile.Key{book{"Dune"}.Key()}})
		r := <-l.passes
		for ; r.Whole; r = <-l.passes {
			t.Errorf("a pass over everything: %s", r.Why)
		}
		if l.compiled != 1 {
			t.Errorf("it was asked %d times what is wanted", l.compiled)
		}
	}
}

// What is wanted otherwise than before is made and removed without reading anything else.
func TestRenew(t *testing.T) {
	l := &library{wanted: []book{{"Dune"}, {"Emma"}}}
	open(t, l)
	listed := l.listed
	l.wanted = []book{{"Emma"}, {"Ulysses"}}
	l.pokes.Add(reconcile.Poke{Wanted: true})
	if r := <-l.passes; r.Err != nil || r.Whole || len(r.Plan.Changes) != 2 {
		t.Errorf("the pass: %+v", r)
	}
	if l.listed != listed {
		t.Errorf("everything was read %d times", l.listed-listed)
	}
	if _, ok := l.holds[book{"Ulysses"}.Key()]; !ok || len(l.holds) != 2 {
		t.Errorf("the shelf holds %v", l.holds.Keys())
	}
}

// More places than a narrow pass looks at are repaired by a look at everything, against what is wanted already.
func TestManyPlaces(t *testing.T) {
	l := &library{wanted: []book{{"Dune"}}}
	open(t, l)
	clear(l.holds)
	var keys []reconcile.Key
	for i := range 5000 {
		keys = append(keys, book{string(rune(0x4e00 + i))}.Key())
	}
	l.pokes.Add(reconcile.Poke{Keys: keys})
	if r := <-l.passes; r.Err != nil || len(r.Plan.Changes) != 1 || !r.Plan.Changes[0].Drift {
		t.Errorf("the pass: %+v", r)
	}
	if l.compiled != 1 {
		t.Errorf("asked %d times what is wanted", l.compiled)
	}
}

// While a pass over everything is put off, a single place is looked at all the same.
func TestPauseIsForWholePasses(t *testing.T) {
	l := &library{wanted: []book{{"Dune"}}, reading: 300 * time.Millisecond}
	open(t, l)
	l.pokes.Whole()
	l.pokes.Add(reconcile.Poke{Keys: []reconcile.Key{book{"Dune"}.Key()}})
	if r := <-l.passes; r.Whole {
		t.Error("the whole pass came first")
	}
	if r := <-l.passes; !r.Whole {
		t.Error("the whole pass did not come")
	}
}

// next is the report that comes next.
func next(t *testing.T, passes <-chan reconcile.Report) reconcile.Report {
	t.Helper()
	select {
	case r := <-passes:
		return r
	case <-time.After(20 * time.Second):
		t.Fatal("no pass comes")
	}
	return reconcile.Report{}
}

// A pass that failed is made again without anyone's asking, and again with a growing pause.
func TestRetry(t *testing.T) {
	l := &library{wanted: []book{{"Dune"}}, refuses: 3}
	open(t, l)
	for range 2 {
		if r := next(t, l.passes); r.Err == nil {
			t.Error("what is refused is no error")
		}
	}
	if r := next(t, l.passes); r.Err != nil || !r.Whole || r.Why != "retry" {
		t.Errorf("the last pass: %+v", r)
	}
	if len(l.holds) != 1 {
		t.Errorf("the shelf holds %v", l.holds.Keys())
	}
}

// What no event tells of is found by the look at everything that comes by itself.
func TestResync(t *testing.T) {
	l := &library{wanted: []book{{"Dune"}}, resync: 5 * time.Millisecond}
	open(t, l)
	if r := next(t, l.passes); r.Err != nil || !r.Whole || r.Why != "resync" {
		t.Errorf("the pass: %+v", r)
	}
}

// Who undoes every repair meets a pause, whether single places are looked at or everything, and is named. What else differs is
// repaired meanwhile.
func TestFights(t *testing.T) {
	for name, poke := range map[string]func(*library){
		"a place":    func(l *library) { l.pokes.Add(reconcile.Poke{Keys: []reconcile.Key{book{"Dune"}.Key()}}) },
		"everything": func(l *library) { l.pokes.Whole() },
	} {
		t.Run(name, func(t *testing.T) {
			l := &library{wanted: []book{{"Dune"}, {"Emma"}}}
			open(t, l)
			began, repairs := time.Now(), 0
			var last reconcile.Report
			for repairs < 7 { // the last three wait for 100, 200 and 400 ms
				delete(l.holds, book{"Dune"}.Key())
				poke(l)
				for last = next(t, l.passes); len(last.Events) == 0; last = next(t, l.passes) {
				}
				repairs++
			}
			if took := time.Since(began); took < 700*time.Millisecond {
				t.Errorf("7 repairs in %s", took)
			}
			if !slices.Equal(last.Contested, []reconcile.Key{book{"Dune"}.Key()}) {
				t.Errorf("contested: %v", last.Contested)
			}
			delete(l.holds, book{"Dune"}.Key())
			delete(l.holds, book{"Emma"}.Key())
			l.pokes.Whole()
			for last = next(t, l.passes); len(last.Events) == 0; last = next(t, l.passes) {
			}
			if len(last.Events) != 1 || last.Events[0].Change.Key != (book{"Emma"}.Key()) {
				t.Errorf("the other one was not repaired at once: %+v", last.Events)
			}
			// What is wanted no more is in no fight, nor is what comes in its place later.
			l.wanted = []book{{"Emma"}}
			l.pokes.Whole()
			for last = next(t, l.passes); !last.Whole || len(last.Plan.Changes) > 0; last = next(t, l.passes) {
			}
			if len(last.Contested) != 0 {
				t.Errorf("wanted no more, and contested: %v", last.Contested)
			}
		})
	}
}

// What was put off and is covered by a pass that came for a reason of its own is not asked for again.
func TestPutOffAndCovered(t *testing.T) {
	l := &library{wanted: []book{{"Dune"}}, reading: 15 * time.Millisecond, resync: 5 * time.Millisecond}
	open(t, l)
	for range 20 { // the loop takes what is ready in any order
		l.pokes.Add(reconcile.Poke{All: true})
		<-l.passes
	}
}
