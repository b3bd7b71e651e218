package reconcile

import (
	"context"
	"fmt"
	"iter"
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
	asked asked

	// What the places stand on: Wide where that is not as wanted either, so that only a whole pass is right; Held what
	// foreigners hold of it.
	Wide bool
	Held []Key
}

// asked is what a narrow pass is about: what was amended, the places asked for besides, and what stands on those.
type asked struct {
	amended []Amended
	others  map[Key]bool
	set     map[Key]bool // of amended; nil: nobody asked for one of its kinds yet
}

func (a *asked) has(k Key) bool {
	if a.others[k] {
		return true
	}
	if a.set == nil {
		kind := false // most ask about a link on which thousands of routes stand, and no set of the routes is needed for that
		for i := range a.amended {
			kind = kind || a.amended[i].Key.Kind == k.Kind
		}
		if !kind {
			return false
		}
		a.set = make(map[Key]bool, len(a.amended))
		for i := range a.amended {
			a.set[a.amended[i].Key] = true
		}
	}
	return a.set[k]
}

// PlanAt observes and compares only the places of keys and what stands on them, and kinds as a whole. It prunes nothing
// that it did not read, so it is right whatever else is on the host, and costs what it looks at.
//
// What the places stand on is read too, as far as its kind can read single places: nothing may be built on what is gone or
// foreign. Kinds that can only be listed have their own events.
func (e *Engine) PlanAt(ctx context.Context, want *Want, keys []Key, kinds []string, before State) (Narrow, error) {
	return e.planAt(ctx, want, nil, false, keys, kinds, before)
}

// planAt is PlanAt of places that were amended too. Where believe is set it takes for what is in those what was wanted there before,
// and does not read it, as far as a wrong guess shows: where something is created that a Teller refuses, or something is deleted and
// the place read afterwards.
func (e *Engine) planAt(ctx context.Context, want *Want, amended []Amended, believe bool, keys []Key, kinds []string, before State) (Narrow, error) {
	n := Narrow{asked: asked{amended: amended}}
	at := map[string][]Key{}
	d := differ{want: Want{State: State{}, why: want.why, Stands: want.Stands, Gone: want.Gone, Foreign: want.Foreign}, before: before}
	look := func(k Key) {
		if w, wanted := want.State[k]; wanted {
			d.want.State[k] = w
		}
		at[k.Kind] = append(at[k.Kind], k)
	}
	d.known = make([]*Amended, 0, len(amended))
	tells := e.teller()
	for i := range amended {
		if p := &amended[i]; believe && (p.Was == nil || p.Want == nil) && tells(p.Key.Kind) {
			d.known = append(d.known, p)
			continue
		}
		look(amended[i].Key)
		if d.was == nil {
			d.was = State{}
		}
		d.was[amended[i].Key] = amended[i].Was
	}
	var all []Key
	all, n.asked.others = want.above(amended, keys)
	for _, k := range all {
		look(k)
	}
	for k, r := range want.State {
		if len(kinds) == 0 {
			break
		}
		if slices.Contains(kinds, k.Kind) && !n.asked.has(k) {
			n.asked.others[k] = true
			d.want.State[k] = r
		}
	}
	under := map[Key]bool{}
	for _, k := range want.below(d.footings) {
		if _, single := e.kind(k.Kind).(Getter); single && !n.asked.has(k) {
			under[k] = true
			look(k)
		}
	}
	var err error
	if d.have, err = e.read(ctx, listings(d.want.State, nil), at, kinds); err != nil {
		return n, err
	}
	n.Plan = d.plan(e.Order())
	for _, c := range n.Changes {
		n.Wide = n.Wide || len(under) > 0 && under[c.Key]
	}
	for _, c := range n.Conflicts {
		if under[c.Key] {
			n.Held = append(n.Held, c.Key)
		}
	}
	return n, nil
}

// teller returns what tells whether a kind is a Teller, which is quick where the same is asked for again and again.
func (e *Engine) teller() func(kind string) bool {
	last, is := "", false
	return func(kind string) bool {
		if kind != last {
			last = kind
			_, is = e.kind(kind).(Teller)
		}
		return is
	}
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

// above is keys, and everything wanted that stands on them or on what was amended, directly or not, and was not amended itself, in
// the order in which that is met and as a set.
func (w *Want) above(amended []Amended, keys []Key) (all []Key, set map[Key]bool) {
	w.index()
	keys = slices.Clip(keys)
	for i := range amended {
		if k := amended[i].Key; w.bearing[k.Kind] {
			keys = append(keys, w.on[k]...)
		}
	}
	all, set = reach(keys, func(k Key) []Key { return w.on[k] })
	if len(all) == 0 || len(amended) == 0 {
		return all, set
	}
	for i := range amended {
		delete(set, amended[i].Key)
	}
	return slices.DeleteFunc(all, func(k Key) bool { return !set[k] }), set
}

// below is all that what stands on each of footings stands on, directly or not, as far as that is wanted.
func (w *Want) below(footings iter.Seq[[]Key]) []Key {
	met := map[Key]bool{} // few, whatever stands on them
	var out []Key
	var last Key
	meet := func(on []Key) {
		for _, footing := range on {
			if footing == last || met[footing] { // most follow one that stands on the same
				continue
			}
			last, met[footing] = footing, true
			if _, wanted := w.State[footing]; wanted {
				out = append(out, footing)
			}
		}
	}
	footings(func(on []Key) bool { meet(on); return true })
	for i := 0; i < len(out); i++ {
		meet(w.footing(out[i], w.State[out[i]]))
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
	w.on, w.bearing, w.stale = map[Key][]Key{}, map[string]bool{}, 0
	f := footed{}
	for k, r := range w.State {
		f.add(k, w.footing(k, r))
	}
	w.bear(f)
}

// footed is what stands on few, gathered by footing.
type footed struct {
	of    map[Key]*[]Key
	last  Key
	above *[]Key // of last: most follow one that stands on the same
}

func (f *footed) add(k Key, on []Key) {
	for _, footing := range on {
		if f.above == nil || footing != f.last {
			if f.last, f.above = footing, f.of[footing]; f.above == nil {
				if f.of == nil {
					f.of = map[Key]*[]Key{}
				}
				f.above = new([]Key)
				f.of[footing] = f.above
			}
		}
		*f.above = append(*f.above, k)
	}
}

func (w *Want) bear(f footed) {
	for footing, above := range f.of {
		w.on[footing] = append(w.on[footing], *above...)
		w.bearing[footing.Kind] = true
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
