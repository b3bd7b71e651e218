package reconcile

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Event tells of one change that was carried out, failed or was skipped.
type Event struct {
	Change  *Change
	Err     error         // nil where it succeeded
	Skipped bool          // not tried, for the reason in Err
	Took    time.Duration // of the batch that the change was part of
	Made    Resource      // what the host says that it made, where it was asked and does
	By      string        // who made a repair necessary, where the kernel tells
}

// Outcome is what became of a plan.
type Outcome struct {
	Done    int     // changes carried out
	Trouble []Event // failed and skipped ones, in order
}

// Err joins the errors of what failed; nil where everything succeeded. What was skipped because of a failure is counted,
// not repeated.
func (o Outcome) Err() error {
	var errs []error
	skipped := 0
	for _, t := range o.Trouble {
		if t.Skipped {
			skipped++
		} else {
			errs = append(errs, fmt.Errorf("%s %s: %w", t.Change.Op, t.Change.Key, t.Err))
		}
	}
	if skipped > 0 {
		errs = append(errs, fmt.Errorf("skipped because of that: %d", skipped))
	}
	return errors.Join(errs...)
}

// Apply carries out a plan. A failed change is stepped over and what stands on it or is guarded by it is skipped; if anything failed in
// Teardown or Build, Leftover does not run, so that nothing is taken away for the sake of something that did not come.
// on, which may be nil, hears of every change after it was tried.
func (e *Engine) Apply(ctx context.Context, plan Plan, on func(Event)) Outcome {
	return e.apply(ctx, plan, false, on)
}

// apply is Apply that, where tell is set, asks those kinds that are Tellers to say what they made.
func (e *Engine) apply(ctx context.Context, plan Plan, tell bool, on func(Event)) Outcome {
	run := run{engine: e, plan: plan, tells: tell, on: on, bad: map[Key]bool{}}
	for i := 0; i < len(plan.Changes); {
		first, j := plan.Changes[i], i+1
		kind := e.kind(first.Key.Kind)
		if _, many := kind.(Batcher); many {
			for j < len(plan.Changes) && plan.Changes[j].Key.Kind == first.Key.Kind && plan.Changes[j].Phase == first.Phase && (e.MaxBatch == 0 || j-i < e.MaxBatch) {
				j++
			}
		}
		run.batch(ctx, kind, plan.Changes[i:j])
		i = j
	}
	return run.out
}

type run struct {
	engine *Engine
	plan   Plan
	tells  bool
	on     func(Event)
	bad    map[Key]bool // failed or skipped
	keep   bool         // what is leftover, since something did not come
	failed []Guard      // of which a change in Build failed
	out    Outcome
}

// ErrRolledBack is a Batch's error for a change that was undone, or not begun, because another of its transaction failed.
var ErrRolledBack = errors.New("rolled back with its transaction")

var (
	errBehind   = errors.New("what it stands on is missing")
	errLeftover = errors.New("not removed, since something before it failed")
	errOpen     = errors.New("not built, since its guards were not")
)

// batch carries out one change, or many of a kind that is a Batcher and a phase: a kind that is none may fail at one of two that
// stand on each other.
func (r *run) batch(ctx context.Context, kind Kind, changes []Change) {
	if len(r.bad) > 0 || ctx.Err() != nil {
		changes = r.sift(ctx, changes)
	}
	if len(changes) == 0 {
		return
	}
	began := time.Now()
	errs, made := r.send(ctx, kind, changes)
	took := time.Since(began)
	for i := range changes {
		ev := Event{Change: &changes[i], Err: errs[i], Skipped: errors.Is(errs[i], ErrRolledBack), Took: took}
		if made != nil && ev.Err == nil {
			ev.Made = made[i]
		}
		r.tell(ev)
	}
}

// sift returns the changes that may go ahead and tells of the others.
func (r *run) sift(ctx context.Context, changes []Change) []Change {
	ok := make([]Change, 0, len(changes))
	for i := range changes {
		c := &changes[i]
		switch {
		case ctx.Err() != nil:
			r.tell(Event{Change: c, Err: context.Cause(ctx), Skipped: true})
		case c.Phase == Leftover && r.keep:
			r.tell(Event{Change: c, Err: errLeftover, Skipped: true})
		case c.Phase == Build && c.Op != Delete && r.footless(c):
			r.tell(Event{Change: c, Err: errBehind, Skipped: true})
		case c.Phase == Build && c.Op != Delete && slices.ContainsFunc(r.failed, func(g Guard) bool { return g.Guards(c.Key) }):
			r.tell(Event{Change: c, Err: errOpen, Skipped: true})
		default:
			ok = append(ok, *c)
		}
	}
	return ok
}

func (r *run) footless(c *Change) bool {
	if r.bad[c.Key] { // its teardown failed
		return true
	}
	if holder, ok := r.plan.first[c.Key]; ok && r.bad[holder.Key] {
		return true
	}
	for _, on := range c.Want.Requires() {
		if r.bad[on] {
			return true
		}
	}
	for _, on := range r.plan.stands[c.Key] {
		if r.bad[on] {
			return true
		}
	}
	return false
}

func (r *run) send(ctx context.Context, kind Kind, changes []Change) (errs []error, made []Resource) {
	if t, ok := kind.(Teller); ok && r.tells {
		return t.Tell(ctx, changes)
	}
	if b, ok := kind.(Batcher); ok {
		return b.Batch(ctx, changes), nil
	}
	c := changes[0] // it is alone
	switch {
	case kind == nil:
		return []error{fmt.Errorf("no such kind here: %s", c.Key.Kind)}, nil
	case c.Op == Create:
		return []error{kind.Create(ctx, c.Want)}, nil
	case c.Op == Update:
		return []error{kind.Update(ctx, c.Have, c.Want)}, nil
	}
	return []error{kind.Delete(ctx, c.Have)}, nil
}

func (r *run) tell(ev Event) {
	if ev.Err == nil {
		r.out.Done++
	} else {
		r.bad[ev.Change.Key] = true
		r.keep = r.keep || !r.tells || !errors.Is(ev.Err, ErrTaken) // whose place is taken is looked at yet: it may be a conflict, which holds up nothing
		if g, ok := r.engine.kind(ev.Change.Key.Kind).(Guard); ok && ev.Change.Phase == Build && !slices.Contains(r.failed, g) {
			r.failed = append(r.failed, g)
		}
		r.out.Trouble = append(r.out.Trouble, ev)
	}
	if r.on != nil {
		r.on(ev)
	}
	if r.engine.After != nil {
		r.engine.After()
	}
}
