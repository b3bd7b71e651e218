package reconcile

import (
	"context"
	"slices"
	"time"
)

func sortKeys(keys []Key) { slices.SortFunc(keys, Key.Compare) }

// Poke is why a pass is made.
type Poke struct {
	Whole bool   // observe everything, and ask for the wanted state anew
	Keys  []Key  // else: only these places, against the wanted state of the last whole pass
	Who   string // what the kernel tells of who made the change, for the log
}

// Report tells of one pass.
type Report struct {
	Whole     bool
	Why       string
	Plan      Plan    // what was done; objects in a fight are not in it
	Events    []Event // what became of each change
	Err       error
	Contested []Key // objects that someone else keeps changing; repaired more and more slowly
	Took      time.Duration
}

// Loop keeps a host in its wanted state. One goroutine, Run's, owns all of it; everything else pokes.
type Loop struct {
	Engine *Engine

	// Compile returns the state that is wanted now. ok is false where there is nothing to converge to: no valid
	// configuration yet, or the daemon rests. Nothing is touched then.
	Compile func(ctx context.Context) (want Want, ok bool, err error)

	// Pokes delivers; take them all at once. The channel has room for one, sends are non-blocking.
	Pokes <-chan struct{}
	Take  func() Poke

	// Calls run in Run's goroutine between two passes: what a command asks of the daemon.
	Calls <-chan func(ctx context.Context)

	Resync time.Duration // between whole passes that nothing asked for
	Report func(Report)

	want   Want
	ready  bool // want is of a whole pass that succeeded
	fights fights
}

// Run makes a whole pass, then one for each poke, until ctx ends. It always returns ctx's cause.
func (l *Loop) Run(ctx context.Context) error {
	l.fights = fights{}
	resync := time.NewTimer(l.Resync)
	defer resync.Stop()
	retry := time.NewTimer(0) // fires for what was put off: fights, and passes that failed
	defer retry.Stop()
	backoff := time.Duration(0)
	again := func(after time.Time, err error) {
		if err != nil {
			backoff = min(max(2*backoff, fightFirst), fightMost)
			retry.Reset(backoff)
			return
		}
		backoff = 0
		if !after.IsZero() {
			retry.Reset(time.Until(after))
		}
	}
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case call := <-l.Calls:
			call(ctx)
		case <-l.Pokes:
			poke := l.Take()
			if poke.Whole || !l.ready {
				again(l.whole(ctx, "event"))
			} else {
				again(l.narrow(ctx, poke))
			}
		case <-retry.C:
			again(l.whole(ctx, "retry"))
		case <-resync.C:
			resync.Reset(l.Resync)
			again(l.whole(ctx, "resync"))
		}
	}
}

// Whole makes a whole pass now. It is for Calls.
func (l *Loop) Whole(ctx context.Context, why string) error {
	_, err := l.whole(ctx, why)
	return err
}

// Wanted is the wanted state of the last whole pass. It is for Calls.
func (l *Loop) Wanted() (Want, bool) { return l.want, l.ready }

func (l *Loop) whole(ctx context.Context, why string) (time.Time, error) {
	began := time.Now()
	want, ok, err := l.Compile(ctx)
	if err != nil || !ok {
		l.Report(Report{Whole: true, Why: why, Err: err, Took: time.Since(began)})
		return time.Time{}, err
	}
	before := l.want.State
	plan, err := l.Engine.Plan(ctx, want, before)
	if err != nil {
		l.Report(Report{Whole: true, Why: why, Err: err, Took: time.Since(began)})
		return time.Time{}, err
	}
	l.want, l.ready = want, true
	return l.carryOut(ctx, Report{Whole: true, Why: why, Plan: plan}, began)
}

func (l *Loop) narrow(ctx context.Context, poke Poke) (time.Time, error) {
	began := time.Now()
	plan, err := l.Engine.PlanAt(ctx, l.want, poke.Keys, l.want.State)
	if err != nil {
		l.Report(Report{Why: poke.Who, Err: err, Took: time.Since(began)})
		return time.Time{}, err
	}
	return l.carryOut(ctx, Report{Why: poke.Who, Plan: plan}, began)
}

// carryOut applies what is not in a fight, verifies what was a change of the wanted state, and reports.
func (l *Loop) carryOut(ctx context.Context, rep Report, began time.Time) (time.Time, error) {
	now := time.Now()
	var after time.Time
	now0 := rep.Plan.Changes
	rep.Plan.Changes = make([]Change, 0, len(now0))
	for _, c := range now0 {
		if until := l.fights.until(c.Key, now); c.Drift && !until.IsZero() {
			if after.IsZero() || until.Before(after) {
				after = until
			}
			continue
		}
		rep.Plan.Changes = append(rep.Plan.Changes, c)
	}
	built := false
	out := l.Engine.Apply(ctx, rep.Plan, func(ev Event) {
		rep.Events = append(rep.Events, ev)
		if ev.Err == nil && ev.Change.Drift {
			l.fights.repaired(ev.Change.Key, now)
		}
		built = built || !ev.Change.Drift
	})
	rep.Err = out.Err()
	if rep.Err == nil && built && len(rep.Plan.Changes) > 0 {
		left, err := l.Engine.Plan(ctx, l.want, l.want.State)
		switch {
		case err != nil:
			rep.Err = err
		case len(left.Changes) > 0 && after.IsZero():
			rep.Err = &Unsettled{Changes: left.Changes}
		}
	}
	rep.Contested = l.fights.contested(now)
	rep.Took = time.Since(began)
	l.Report(rep)
	return after, rep.Err
}
