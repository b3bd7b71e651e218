package reconcile

import (
	"context"
	"fmt"
	"maps"
	"slices"
)

// Engine leads one host to a wanted state through its kinds.
type Engine struct {
	Kinds    []Kind // in their soft order: build goes through it forwards, deletion backwards
	MaxBatch int    // changes in one batch at most; 0: no limit

	// Reading, where it is set, is called before places are read for a narrow pass, and done after: what several kinds need to
	// know is read once between them.
	Reading func() (done func())

	// After, where it is set, is called after each change of any pass that was tried.
	After func()
}

func (e *Engine) kind(name string) Kind {
	for _, k := range e.Kinds {
		if k.Name() == name {
			return k
		}
	}
	return nil
}

// Order is the soft order of the kinds by name.
func (e *Engine) Order() []string {
	names := make([]string, len(e.Kinds))
	for i, k := range e.Kinds {
		names[i] = k.Name()
	}
	return names
}

// Observe reads everything of netd's on the host, and what foreigners hold where want has something. It succeeds whole
// or not at all: on half a picture nothing may be pruned.
func (e *Engine) Observe(ctx context.Context, want State) (Have, error) {
	have, err := e.observe(ctx, listings(want, e.Kinds))
	if err != nil {
		return have, err
	}
	for k, r := range have.equal() {
		have.Own[k] = r
	}
	have.same = nil
	return have, nil
}

// observe is Observe that leaves out of Own what it found to be as it is wanted.
func (e *Engine) observe(ctx context.Context, want map[string]*listing) (Have, error) {
	have := Have{same: make([]same, 0, len(want))}
	lists, n := make([][]Resource, len(e.Kinds)), 0
	for i, kind := range e.Kinds {
		is, own, foreign, err := want[kind.Name()].read(ctx, kind)
		if err != nil {
			return Have{}, fmt.Errorf("reading %s objects: %w", kind.Name(), err)
		}
		have.same = append(have.same, same{want[kind.Name()], is})
		lists[i], n = own, n+len(own)
		have.Foreign = append(have.Foreign, foreign...)
	}
	for name, l := range want {
		if e.kind(name) == nil { // what no kind answers for is wanted all the same, and fails
			have.same = append(have.same, same{l, nil})
		}
	}
	have.Own = make(State, n) // of what is there: a large table that is wanted and not there yet costs nothing here
	for i := range lists {
		for _, r := range lists[i] {
			have.Own[r.Key()] = r
		}
		lists[i] = nil
	}
	return have, nil
}

// Plan observes the whole host and compares.
func (e *Engine) Plan(ctx context.Context, want *Want, before State) (Plan, error) {
	want.list(e.Kinds)
	have, err := e.observe(ctx, want.listings)
	if err != nil {
		return Plan{}, err
	}
	return Diff(*want, have, e.Order(), before), nil
}

// Narrow is a plan for single places.
type Narrow struct {
	Plan
	Asked map[Key]bool // what was looked at: the places asked for, and what stands on them

	// What the places stand on: Wide where that is not as wanted either, so that only a whole pass is right; Held what
	// foreigners hold of it.
	Wide bool
	Held []Key
}

// PlanAt observes and compares only the places of keys and what stands on them, and kinds as a whole. It prunes nothing
// that it did not read, so it is right whatever else is on the host, and costs what it looks at.
//
// What the places stand on is read too, as far as its kind can read single places: nothing may be built on what is gone or
// foreign. Kinds that can only be listed have their own events.
func (e *Engine) PlanAt(ctx context.Context, want *Want, keys []Key, kinds []string, before State) (Narrow, error) {
	return e.planAt(ctx, want, keys, kinds, nil, func(State) State { return before })
}

// planAt is PlanAt that asks what was wanted before at the places that it looks at, given what is wanted there now. What is in those
// of left it takes for what is there, nil for nothing, and does not read it, as far as a wrong guess shows: where something is
// created that a Teller refuses, or something is deleted and the place read afterwards.
func (e *Engine) planAt(ctx context.Context, want *Want, keys []Key, kinds []string, left State, before func(State) State) (Narrow, error) {
	all, asked := want.above(keys)
	n := Narrow{Asked: asked}
	at := map[string][]Key{}
	part := Want{State: make(State, len(all)), Why: want.Why, Stands: want.Stands, Gone: want.Gone, Foreign: want.Foreign}
	var known []Resource
	look := func(k Key) {
		w, wanted := want.State[k]
		if wanted {
			part.State[k] = w
		}
		if was, ok := left[k]; ok && (was == nil || !wanted) {
			if _, tells := e.kind(k.Kind).(Teller); tells {
				if was != nil {
					known = append(known, was)
				}
				return
			}
		}
		if at[k.Kind] == nil {
			at[k.Kind] = make([]Key, 0, len(all))
		}
		at[k.Kind] = append(at[k.Kind], k)
	}
	for _, k := range all {
		look(k)
	}
	for k, r := range want.State {
		if len(kinds) == 0 {
			break
		}
		if slices.Contains(kinds, k.Kind) && !n.Asked[k] {
			n.Asked[k] = true
			part.State[k] = r
		}
	}
	under := map[Key]bool{}
	for _, k := range want.below(part.State) {
		if _, single := e.kind(k.Kind).(Getter); single && !n.Asked[k] {
			under[k] = true
			look(k)
		}
	}
	have, err := e.read(ctx, listings(part.State, nil), at, kinds)
	if err != nil {
		return n, err
	}
	for _, r := range known {
		have.Own[r.Key()] = r
	}
	n.Plan = Diff(part, have, e.Order(), before(part.State))
	for _, c := range n.Changes {
		n.Wide = n.Wide || under[c.Key]
	}
	for _, c := range n.Conflicts {
		if under[c.Key] {
			n.Held = append(n.Held, c.Key)
		}
	}
	return n, nil
}

// read reads single places, and kinds as a whole.
func (e *Engine) read(ctx context.Context, want map[string]*listing, at map[string][]Key, kinds []string) (Have, error) {
	if e.Reading != nil {
		defer e.Reading()()
	}
	have := Have{Own: State{}}
	for _, kind := range e.Kinds {
		name := kind.Name()
		var own []Resource
		var foreign []Holder
		var err error
		var asked []Resource
		if l := want[name]; l != nil {
			asked = l.want
		}
		switch {
		case slices.Contains(kinds, name):
			own, foreign, err = kind.List(ctx, asked)
		case len(at[name]) > 0:
			own, foreign, err = get(ctx, kind, at[name], asked)
		}
		if err != nil {
			return have, fmt.Errorf("reading %s objects: %w", name, err)
		}
		if len(own) > len(have.Own) { // many at once: a map that grows is copied again and again
			more := make(State, len(have.Own)+len(own))
			maps.Copy(more, have.Own)
			have.Own = more
		}
		for _, r := range own {
			have.Own[r.Key()] = r
		}
		have.Foreign = append(have.Foreign, foreign...)
	}
	return have, nil
}

// get reads single places, of a kind that can only list by listing.
func get(ctx context.Context, kind Kind, at []Key, want []Resource) (own []Resource, foreign []Holder, err error) {
	if g, ok := kind.(Getter); ok {
		return g.Get(ctx, at, want)
	}
	all, foreign, err := kind.List(ctx, want)
	if err != nil {
		return nil, nil, err
	}
	asked := make(map[Key]bool, len(at))
	for _, k := range at {
		asked[k] = true
	}
	for _, r := range all {
		if asked[r.Key()] {
			own = append(own, r)
		}
	}
	return own, foreign, nil
}

// above is keys and everything wanted that stands on them, directly or not, in the order in which that is met and as a set.
func (w *Want) above(keys []Key) (all []Key, set map[Key]bool) {
	w.index()
	return reach(keys, func(k Key) []Key { return w.on[k] })
}

// below is what the resources of a part of what is wanted stand on, directly or not, as far as that is wanted too.
func (w *Want) below(part State) []Key {
	met := map[Key]bool{} // few, whatever stands on them
	var out []Key
	look := func(k Key, r Resource) {
		for _, footing := range w.footing(k, r) {
			if !met[footing] {
				met[footing] = true
				if _, wanted := w.State[footing]; wanted {
					out = append(out, footing)
				}
			}
		}
	}
	for k, r := range part {
		look(k, r)
	}
	for i := 0; i < len(out); i++ {
		look(out[i], w.State[out[i]])
	}
	return out
}

// reach is keys, and all that next leads to from them, in the order in which that is met and as a set.
func reach(keys []Key, next func(Key) []Key) (out []Key, seen map[Key]bool) {
	seen = make(map[Key]bool, len(keys))
	out = make([]Key, 0, len(keys))
	visit := func(ks []Key) {
		for _, k := range ks {
			if !seen[k] {
				seen[k] = true
				out = append(out, k)
			}
		}
	}
	visit(keys)
	for i := 0; i < len(out); i++ {
		visit(next(out[i]))
	}
	return out, seen
}

// index computes what stands on what, once for a desired state.
func (w *Want) index() {
	if w.on != nil {
		return
	}
	w.on, w.stale = map[Key][]Key{}, 0
	for k, r := range w.State {
		for _, footing := range w.footing(k, r) {
			w.on[footing] = append(w.on[footing], k)
		}
	}
}

// Converge leads the host to want and proves it: observe, compare, apply, observe and compare again. The error names
// what failed, or what did not hold although every call succeeded.
func (e *Engine) Converge(ctx context.Context, want Want, before State, on func(Event)) (Plan, Outcome, error) {
	plan, err := e.Plan(ctx, &want, before)
	if err != nil {
		return plan, Outcome{}, err
	}
	out, err := e.Execute(ctx, want, plan, on)
	return plan, out, err
}

// Execute applies a plan and verifies it by reading back.
func (e *Engine) Execute(ctx context.Context, want Want, plan Plan, on func(Event)) (Outcome, error) {
	if len(plan.Changes) == 0 {
		return Outcome{}, nil
	}
	out := e.Apply(ctx, plan, on)
	if err := out.Err(); err != nil {
		return out, err
	}
	left, err := e.Plan(ctx, &want, want.State)
	if err != nil {
		return out, fmt.Errorf("verifying: %w", err)
	}
	if len(left.Changes) > 0 {
		return out, &Unsettled{Changes: left.Changes}
	}
	return out, nil
}

// Unsettled is the error of a pass after which the host still differs although every call succeeded.
type Unsettled struct{ Changes []Change }

func (u *Unsettled) Error() string {
	c := u.Changes[0]
	text := fmt.Sprintf("verifying: %s is not as it was set: %s", c.Key, Difference(c.Have, c.Want))
	if n := len(u.Changes) - 1; n > 0 {
		text += fmt.Sprintf(" (and %d more)", n)
	}
	return text
}
