package reconcile_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"netd/reconcile"
)

// thing is a resource of the strict fake. It stands on what its two names say.
type thing struct {
	kind, name string
	on         [2]reconcile.Key
	value      int
	fixed      int // cannot be changed in place
}

func (x thing) Key() reconcile.Key { return reconcile.Key{Kind: x.kind, Name: x.name} }

func (x thing) Requires() []reconcile.Key {
	var keys []reconcile.Key
	for _, k := range x.on {
		if k != (reconcile.Key{}) {
			keys = append(keys, k)
		}
	}
	return keys
}

func (x thing) Fields() []reconcile.Field {
	return []reconcile.Field{{Name: "on", Value: fmt.Sprint(x.on)}, {Name: "value", Value: fmt.Sprint(x.value)}, {Name: "fixed", Value: fmt.Sprint(x.fixed)}}
}

func (x thing) Replaces(have reconcile.Resource) bool { return have.(thing).fixed != x.fixed }

// fake is an abstract kernel, stricter than any real one: nothing is made twice or without its footing, nothing that is not there
// is changed, and what loses its footing goes with it. It stands beside testenv/fakehost, which is Linux, because Linux forgives:
// its objects stand on each other in some fixed ways, it takes a deletion in a wrong order, and it leaves standing what netd
// might forget. Here anything stands on anything, in every kind and within one, so that the order of the three phases and what is
// skipped after a failure are tried on graphs that no host has today and the next kind may bring.
type fake struct {
	own     map[reconcile.Key]thing
	foreign map[reconcile.Key]string
	fault   func() error // nil: none
}

var (
	errExists = errors.New("file exists")
	errAbsent = errors.New("no such object")
	errFixed  = errors.New("cannot be changed in place")
	errFault  = errors.New("injected")
)

type fakeKind struct {
	f    *fake
	name string
}

func (k fakeKind) Name() string { return k.name }

func (k fakeKind) List(_ context.Context, want []reconcile.Resource) (own []reconcile.Resource, foreign []reconcile.Holder, err error) {
	for key, x := range k.f.own {
		if key.Kind == k.name {
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

func (k fakeKind) ready(x thing) error {
	if k.f.fault != nil {
		if err := k.f.fault(); err != nil {
			return err
		}
	}
	for _, on := range x.Requires() {
		if _, ok := k.f.own[on]; !ok {
			return fmt.Errorf("%s: %w", on, errAbsent)
		}
	}
	return nil
}

func (k fakeKind) Create(_ context.Context, want reconcile.Resource) error {
	x := want.(thing)
	if err := k.ready(x); err != nil {
		return err
	}
	_, taken := k.f.foreign[x.Key()]
	if _, there := k.f.own[x.Key()]; there || taken {
		return errExists
	}
	k.f.own[x.Key()] = x
	return nil
}

func (k fakeKind) Update(_ context.Context, have, want reconcile.Resource) error {
	x := want.(thing)
	if err := k.ready(x); err != nil {
		return err
	}
	was, there := k.f.own[x.Key()]
	switch {
	case !there:
		return errAbsent
	case was != have.(thing):
		return errors.New("it is not what it was said to be")
	case was.fixed != x.fixed:
		return errFixed
	}
	k.f.own[x.Key()] = x
	return nil
}

func (k fakeKind) Delete(_ context.Context, have reconcile.Resource) error {
	if k.f.fault != nil {
		if err := k.f.fault(); err != nil {
			return err
		}
	}
	gone := []reconcile.Key{have.Key()}
	for i := 0; i < len(gone); i++ {
		delete(k.f.own, gone[i])
		for key, x := range k.f.own {
			if slices.Contains(x.Requires(), gone[i]) {
				gone = append(gone, key)
			}
		}
	}
	return nil
}

// many is a kind that takes many changes at a time, as nft does: what stands on one that failed is not begun.
type many struct{ fakeKind }

func (k many) Batch(ctx context.Context, changes []reconcile.Change) []error {
	errs := make([]error, len(changes))
	for i, c := range changes {
		switch c.Op {
		case reconcile.Create:
			errs[i] = k.Create(ctx, c.Want)
		case reconcile.Update:
			errs[i] = k.Update(ctx, c.Have, c.Want)
		case reconcile.Delete:
			errs[i] = k.Delete(ctx, c.Have)
		}
		failed := slices.ContainsFunc(errs[:i], func(err error) bool { return err != nil })
		if failed && errs[i] != nil && !errors.Is(errs[i], errFault) {
			errs[i] = reconcile.ErrRolledBack
		}
	}
	return errs
}

var fakeKinds = []string{"guard", "link", "addr", "route"}

func (f *fake) engine() *reconcile.Engine {
	e := &reconcile.Engine{}
	for i, name := range fakeKinds {
		k := fakeKind{f, name}
		if i%2 == 1 { // the last one too, whose building and removing follow each other
			e.Kinds = append(e.Kinds, many{k})
		} else {
			e.Kinds = append(e.Kinds, k)
		}
	}
	return e
}

// random is a state of up to 24 things, each on things of kinds before its own, or of its own with a smaller name.
func random(r *rand.Rand) reconcile.State {
	s := reconcile.State{}
	var below []reconcile.Key
	for _, kind := range fakeKinds {
		for i := range 6 {
			if r.IntN(3) == 0 {
				continue
			}
			x := thing{kind: kind, name: fmt.Sprint(i), value: r.IntN(3), fixed: r.IntN(4) / 3}
			for j := range x.on {
				if len(below) > 0 && r.IntN(2) == 0 {
					x.on[j] = below[r.IntN(len(below))]
				}
			}
			s.Add(x)
			below = append(below, x.Key())
		}
	}
	return s
}

func (f *fake) state() reconcile.State {
	s := reconcile.State{}
	for _, x := range f.own {
		s.Add(x)
	}
	return s
}

func words(p reconcile.Plan) string {
	var b strings.Builder
	for _, c := range p.Changes {
		fmt.Fprintf(&b, "%s %s %s\n", c.Op.Symbol(), c.Key, c.Text())
	}
	for _, c := range p.Conflicts {
		fmt.Fprintf(&b, "! %s %v\n", c.Key, c.Without)
	}
	return b.String()
}

const pairs = 10_000

// TestOnePass leads 10,000 random hosts from one random state to another: in one pass, after which the plan is empty; what is
// foreign stays, and what stands on it is left out.
func TestOnePass(t *testing.T) {
	ctx := context.Background()
	for seed := range uint64(pairs) {
		r := rand.New(rand.NewPCG(seed, 1))
		f := &fake{own: map[reconcile.Key]thing{}, foreign: map[reconcile.Key]string{}}
		e := f.engine()
		a, b := reconcile.Want{State: random(r)}, reconcile.Want{State: random(r)}
		if _, _, err := e.Converge(ctx, a, nil, nil); err != nil {
			t.Fatalf("seed %d: from nothing: %v", seed, err)
		}
		if !maps.Equal(f.state(), a.State) {
			t.Fatalf("seed %d: from nothing: not as wanted", seed)
		}
		for range r.IntN(3) {
			k := reconcile.Key{Kind: fakeKinds[r.IntN(4)], Name: fmt.Sprint(r.IntN(6))}
			if _, own := f.own[k]; !own {
				f.foreign[k] = "a stranger"
			}
		}
		strangers := maps.Clone(f.foreign)
		plan, err := e.Plan(ctx, &b, nil)
		if err != nil {
			t.Fatal(err)
		}
		if again, _ := e.Plan(ctx, &b, nil); words(again) != words(plan) {
			t.Fatalf("seed %d: the same host and the same wish give two plans:\n%s\n%s", seed, words(plan), words(again))
		}
		if _, err := e.Execute(ctx, b, plan, nil); err != nil {
			t.Fatalf("seed %d: %v\n%s", seed, err, words(plan))
		}
		want := maps.Clone(b.State)
		for _, c := range plan.Conflicts {
			delete(want, c.Key)
			for _, k := range c.Without {
				delete(want, k)
			}
		}
		for k, x := range f.state() { // what was there before and is left out now may stay as it was
			if _, ok := want[k]; !ok && b.State[k] != nil && a.State[k] == x {
				want[k] = x
			}
		}
		if !maps.Equal(f.state(), want) {
			t.Fatalf("seed %d: one pass does not lead there:\n%s", seed, words(plan))
		}
		if left, _ := e.Plan(ctx, &b, nil); len(left.Changes) > 0 {
			t.Fatalf("seed %d: the second plan is not empty:\n%s", seed, words(left))
		}
		if !maps.Equal(strangers, f.foreign) {
			t.Fatalf("seed %d: something foreign changed", seed)
		}
	}
}

// faulty makes a pass in which operations fail, and says where it was not careful: nothing is built after what it needs has
// failed, nothing is taken away once something has, and the error tells of it.
func faulty(e *reconcile.Engine, w reconcile.Want) error {
	trouble, early := false, false
	var careless error
	_, out, err := e.Converge(context.Background(), w, nil, func(ev reconcile.Event) {
		switch {
		case ev.Err == nil && early && ev.Change.Phase == reconcile.Leftover:
			careless = fmt.Errorf("%s %s, after something failed", ev.Change.Op, ev.Change.Key)
		case ev.Err != nil && !ev.Skipped && ev.Change.Op != reconcile.Delete && !errors.Is(ev.Err, errFault):
			careless = fmt.Errorf("%s %s: %w", ev.Change.Op, ev.Change.Key, ev.Err)
		}
		trouble = trouble || ev.Err != nil
		early = early || ev.Err != nil && ev.Change.Phase != reconcile.Leftover
	})
	switch {
	case careless != nil:
		return careless
	case trouble != errors.Is(err, errFault):
		return fmt.Errorf("the fault is not in the error: %w", err)
	}
	if skipped := len(slices.DeleteFunc(out.Trouble, func(ev reconcile.Event) bool { return !ev.Skipped })); skipped > 0 &&
		!strings.Contains(err.Error(), fmt.Sprintf("skipped because of that: %d", skipped)) {
		return fmt.Errorf("the %d skipped are not in the error: %w", skipped, err)
	}
	return nil
}

// TestFaultsHeal has operations fail at random: nothing that is wanted is lost for it, and passes without faults lead home.
func TestFaultsHeal(t *testing.T) {
	ctx := context.Background()
	for seed := range uint64(pairs / 5) {
		r := rand.New(rand.NewPCG(seed, 2))
		f := &fake{own: map[reconcile.Key]thing{}, foreign: map[reconcile.Key]string{}}
		e := f.engine()
		a, b := reconcile.Want{State: random(r)}, reconcile.Want{State: random(r)}
		if _, _, err := e.Converge(ctx, a, nil, nil); err != nil {
			t.Fatal(err)
		}
		f.fault = func() error {
			if r.IntN(4) == 0 {
				return errFault
			}
			return nil
		}
		if err := faulty(e, b); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		f.fault = nil
		if _, _, err := e.Converge(ctx, b, nil, nil); err != nil {
			t.Fatalf("seed %d: without faults: %v", seed, err)
		}
		if !maps.Equal(f.state(), b.State) {
			t.Fatalf("seed %d: not healed", seed)
		}
	}
}
