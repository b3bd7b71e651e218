package reconcile

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"
)

func sortKeys(keys []Key) { slices.SortFunc(keys, Key.Compare) }

// Report tells of one pass.
type Report struct {
	Whole     bool
	Why       string
	Plan      Plan       // what was done; objects in a fight are not in it
	Events    []Event    // what became of each change
	Conflicts []Conflict // all that are known, of this pass and those before
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

	// Holds, where it is set, reports whether Compile would return what it returned last, as far as the host's facts tell: for
	// less than Compile costs. Where it cannot tell, it does not hold.
	Holds func(ctx context.Context) bool

	// Amend, where it is set, returns how the wanted state differs from what Compile, and Amend since, returned: at so few
	// places that what comes meanwhile does not wait long. ok is false where only Compile can tell.
	Amend func(was State) (a Amendment, ok bool)

	// Pokes wake the loop.
	Pokes *Pokes

	// Calls run in Run's goroutine between two passes: what a command asks of the daemon.
	Calls <-chan func(ctx context.Context)

	// Lock, if any, is taken around each pass's changes, so that nobody else writes meanwhile; it does not wait. Where someone
	// has it the pass fails and is made again, from what the host is then.
	Lock func() (release func(), err error)

	Resync time.Duration // between whole passes that nothing asked for
	Report func(Report)

	want      Want
	ready     bool         // want is of a whole pass that succeeded
	wanted    sync.RWMutex // for those who ask Wants: next is read by any goroutine, written by Run's
	next      State        // the wanted state that was asked for last
	footings  map[Key]bool // what that stands on; nil: nobody asked yet
	conflicts map[Key]Conflict
	fights    fights
	alarm     alarm
	rest      *time.Timer // runs while passes that cost much are put off; see woken
	late      *Poke       // what was put off; nil: nothing
	restUntil time.Time
	failed    bool          // the last pass, or one since the last whole one
	backoff   time.Duration // between retries of a pass that fails
}

// alarm fires for what was put off: fights, and passes that failed.
type alarm struct {
	timer *time.Timer
	at    time.Time // zero: not set
}

// by has the alarm fire at t, or before if it was to anyway.
func (a *alarm) by(t time.Time) {
	if a.at.IsZero() || t.Before(a.at) {
		a.at = t
		a.timer.Reset(time.Until(t))
	}
}

// Run makes a whole pass, then one for each poke, until ctx ends. It always returns ctx's cause.
func (l *Loop) Run(ctx context.Context) error {
	l.start()
	resync := time.NewTimer(l.Resync)
	defer resync.Stop()
	defer l.alarm.timer.Stop()
	defer l.rest.Stop()
	l.failed = true // nothing is done yet
	l.alarm.by(time.Now())
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case call := <-l.Calls:
			call(ctx)
		case <-l.Pokes.wake:
			l.woken(ctx, l.Pokes.take())
		case <-l.rest.C:
			l.pass(ctx, l.rested())
		case <-l.alarm.timer.C:
			l.alarm.at = time.Time{}
			l.retry(ctx)
		case <-resync.C:
			resync.Reset(l.Resync)
			_ = l.whole(ctx, "resync", nil)
		}
	}
}

func (l *Loop) start() {
	l.fights, l.conflicts = fights{}, map[Key]Conflict{}
	l.alarm.timer = time.NewTimer(time.Hour)
	l.alarm.timer.Stop()
	l.rest = time.NewTimer(time.Hour)
	l.rest.Stop()
}

// retry makes again what failed, and what was put off and is due.
func (l *Loop) retry(ctx context.Context) {
	if l.failed {
		_ = l.whole(ctx, "retry", nil)
		return
	}
	keys, next := l.fights.due(time.Now())
	if !next.IsZero() {
		l.alarm.by(next)
	}
	if len(keys) > 0 {
		l.narrow(ctx, Poke{Keys: keys})
		l.fights.looked(keys)
	}
}

// pass makes the pass that a poke asks for.
func (l *Loop) pass(ctx context.Context, poke Poke) {
	switch {
	case poke.Whole, !l.ready, poke.All && (poke.Wanted || poke.Facts || l.failed): // what is known may not be what was wanted last
		_ = l.whole(ctx, "event", poke.By)
		return
	case poke.All:
		_ = l.all(ctx, "event", l.want, poke.By, time.Now())
		if poke.Amend {
			l.amend(ctx, poke.By)
		}
		return
	case poke.Wanted, poke.Facts && !l.holds(ctx):
		l.renew(ctx, poke.By)
	case poke.Amend:
		l.amend(ctx, poke.By)
	}
	// What is in a fight is not even looked at before its time, or one who changes an object without pause keeps netd busy.
	now := time.Now()
	poke.Keys = slices.DeleteFunc(poke.Keys, func(k Key) bool {
		until := l.fights.until(k, now)
		if !until.IsZero() {
			l.fights.putOff(k, l.changedBy(k, poke.By))
			l.alarm.by(until)
		}
		return !until.IsZero()
	})
	if len(poke.Keys)+len(poke.Kinds) > 0 {
		l.narrow(ctx, poke)
	}
}

// Whole makes a whole pass now. It is for Calls.
func (l *Loop) Whole(ctx context.Context, why string) error { return l.whole(ctx, why, nil) }

// Wanted is the wanted state of the last pass that asked for it. It is for Calls.
func (l *Loop) Wanted() (Want, bool) { return l.want, l.ready }

// ChangedBy is who changed an object in a fight last, where that is known. It is for Calls.
func (l *Loop) ChangedBy(k Key) string { return l.fights.who(k) }

// Wants reports whether something is wanted at k. Any goroutine may ask.
func (l *Loop) Wants(k Key) bool {
	l.wanted.RLock()
	defer l.wanted.RUnlock()
	_, ok := l.next[k]
	return ok
}

// Bears reports whether something that is wanted says of itself that it stands on k. Any goroutine may ask.
func (l *Loop) Bears(k Key) bool {
	l.wanted.Lock()
	defer l.wanted.Unlock()
	if l.footings == nil {
		l.footings = map[Key]bool{}
		for _, r := range l.next {
			for _, footing := range r.Requires() {
				l.footings[footing] = true
			}
		}
	}
	return l.footings[k]
}

func (l *Loop) whole(ctx context.Context, why string, by map[Key]string) error {
	by = l.covers(by)
	began := time.Now()
	want, ok, err := l.compile(ctx)
	if !ok {
		l.finish(Report{Whole: true, Why: why, Err: err, Took: time.Since(began)}, time.Time{})
		return err
	}
	return l.all(ctx, why, want, by, began)
}

// compile asks for the wanted state. ok is false where there is none, or an error.
func (l *Loop) compile(ctx context.Context) (want Want, ok bool, err error) {
	if want, ok, err = l.Compile(ctx); err != nil {
		return want, false, err
	}
	l.wanted.Lock()
	l.next, l.footings = want.State, nil // before the host is observed: an event after that must be known as news
	l.wanted.Unlock()
	if !ok { // nothing is in force: an event must not bring back what was
		l.want, l.ready, l.fights = Want{}, false, fights{}
		clear(l.conflicts)
	}
	return want, ok, nil
}

// all observes everything and leads the host to want.
func (l *Loop) all(ctx context.Context, why string, want Want, by map[Key]string, began time.Time) error {
	rep := Report{Whole: true, Why: why}
	var err error
	if rep.Plan, err = l.Engine.Plan(ctx, &want, l.want.State); err != nil {
		rep.Err, rep.Took = err, time.Since(began)
		l.finish(rep, time.Time{})
		return err
	}
	l.fights.over(l.want.State, want.State)
	l.want, l.ready = want, true
	clear(l.conflicts)
	for _, c := range rep.Plan.Conflicts {
		l.conflicts[c.Key] = c
	}
	_, err = l.carryOut(ctx, rep, by, began, nil, func([]Key) (Plan, error) { return l.Engine.Plan(ctx, &l.want, l.want.State) })
	return err
}

func (l *Loop) narrow(ctx context.Context, poke Poke) { l.at(ctx, poke, l.want, time.Now()) }

// at leads the places of a poke to what is wanted there, by want.
func (l *Loop) at(ctx context.Context, poke Poke, want Want, began time.Time) {
	l.lead(ctx, poke, want, began, nil, false, func() {})
}

// lead is at for places that were amended too; where believe is set, what is in those is what the last passes left there, for all that
// was heard since. undo is called where nothing came of it.
func (l *Loop) lead(ctx context.Context, poke Poke, want Want, began time.Time, amended []Amended, believe bool, undo func()) {
	n, err := l.Engine.planAt(ctx, &want, amended, believe, poke.Keys, poke.Kinds, l.want.State)
	if err != nil {
		undo()
		l.finish(Report{Why: "event", Err: err, Took: time.Since(began)}, time.Time{})
		return
	}
	news := func(k Key) bool { _, known := l.conflicts[k]; return !known }
	// That a conflict is over is for a whole pass to say: what is in the way may be such that only a listing shows it.
	over := func() bool {
		for k := range l.conflicts {
			if n.asked.has(k) && !slices.ContainsFunc(n.Conflicts, func(c Conflict) bool { return c.Key == k }) {
				return true
			}
		}
		return false
	}
	if n.Wide || slices.ContainsFunc(n.Held, news) || over() {
		undo()
		_ = l.whole(ctx, "event", poke.By)
		return
	}
	l.want = want
	for k := range l.conflicts {
		if n.asked.has(k) {
			delete(l.conflicts, k)
		}
	}
	for _, c := range n.Conflicts {
		if n.asked.has(c.Key) { // else it is known, with all that it costs
			l.conflicts[c.Key] = c
		}
	}
	var believed []Amended
	if believe {
		believed = amended
	}
	taken, _ := l.carryOut(ctx, Report{Why: "event", Plan: n.Plan}, poke.By, began, believed, func(changed []Key) (Plan, error) {
		keys, kinds := slices.Clip(poke.Keys), poke.Kinds
		if believe {
			keys, kinds = changed, nil // where nothing was changed, a look found all as it is wanted
		} else {
			for _, p := range amended {
				keys = append(keys, p.Key)
			}
		}
		if len(keys)+len(kinds) == 0 {
			return Plan{}, nil
		}
		n, err := l.Engine.PlanAt(ctx, &l.want, keys, kinds, l.want.State)
		return n.Plan, err
	})
	if len(taken) > 0 { // something is there after all
		l.lead(ctx, Poke{By: poke.By}, l.want, time.Now(), taken, false, func() {})
	}
}

// carryOut applies what is not in a fight, verifies what was a change of the wanted state or follows a failure by what still says is to be
// done yet, and reports. Of those of believed a change counts as verified whose kind told what it made; still is given the places of the
// others. taken are those of believed whose place is not empty: what is wanted there is not made.
func (l *Loop) carryOut(ctx context.Context, rep Report, by map[Key]string, began time.Time, believed []Amended, still func(changed []Key) (Plan, error)) (taken []Amended, err error) {
	now := time.Now()
	var after time.Time
	if len(l.fights) > 0 {
		rep.Plan.Changes = slices.DeleteFunc(rep.Plan.Changes, func(c Change) bool {
			until := l.fights.until(c.Key, now)
			if !c.Drift || until.IsZero() {
				return false
			}
			l.fights.putOff(c.Key, l.changedBy(c.Key, by))
			if after.IsZero() || until.Before(after) {
				after = until
			}
			return true
		})
	}
	if len(rep.Plan.Changes) > 0 {
		rep.Events, taken, rep.Err = l.apply(ctx, rep.Plan, by, !after.IsZero(), believed, still)
	}
	rep.Took = time.Since(began)
	l.finish(rep, after)
	return taken, rep.Err
}

// apply carries a plan out under the lock. some says that a part of the plan was put off; the rest is carryOut's.
func (l *Loop) apply(ctx context.Context, plan Plan, by map[Key]string, some bool, believed []Amended, still func(changed []Key) (Plan, error)) (events []Event, taken []Amended, err error) {
	if l.Lock != nil {
		release, err := l.Lock()
		if err != nil {
			return nil, nil, err
		}
		defer release()
	}
	events = make([]Event, 0, len(plan.Changes))
	built := l.failed // what a failed pass left may look like drift: it is not believed unread either
	amended := sync.OnceValue(func() map[Key]*Amended {
		at := make(map[Key]*Amended, len(believed))
		for i := range believed {
			at[believed[i].Key] = &believed[i]
		}
		return at
	})
	isTaken := map[Key]bool{}
	var untold []Key
	var otherwise []Change
	out := l.Engine.apply(ctx, plan, believed != nil, func(ev Event) {
		switch c := ev.Change; {
		case ev.Made == nil && errors.Is(ev.Err, ErrTaken):
			if p := amended()[c.Key]; p != nil && p.Was == nil {
				taken = append(taken, *p)
				isTaken[c.Key] = true
				return
			}
			untold = append(untold, c.Key)
		case ev.Made == nil:
			untold = append(untold, c.Key)
		case ev.Made != c.Want:
			otherwise = append(otherwise, Change{Op: Update, Phase: Build, Key: c.Key, Have: ev.Made, Want: c.Want})
		}
		if ev.Change.Drift {
			ev.By = l.changedBy(ev.Change.Key, by)
		}
		events = append(events, ev)
		if ev.Err == nil && ev.Change.Drift {
			l.fights.repaired(ev.Change.Key, ev.By, time.Now())
		}
		built = built || !ev.Change.Drift
	})
	out.Trouble = slices.DeleteFunc(out.Trouble, func(ev Event) bool { return isTaken[ev.Change.Key] })
	if err := out.Err(); err != nil || !built {
		return events, taken, err
	}
	rest, err := still(untold)
	if rest := append(otherwise, rest.Changes...); err == nil && len(rest) > 0 && !some {
		err = &Unsettled{Changes: rest}
	}
	return events, taken, err
}

// changedBy is who changed k, or what k stands on: a link takes along what is on it. By tells of the event that led here, or
// of those that came while k was put off; whoever made an earlier repair needful need not be who did it this time.
func (l *Loop) changedBy(k Key, by map[Key]string) string {
	if len(by) > 0 {
		alone := func(yield func([]Key) bool) {
			if r, wanted := l.want.State[k]; wanted {
				yield(l.want.footing(k, r))
			}
		}
		for _, at := range append([]Key{k}, l.want.below(alone)...) {
			if who := by[at]; who != "" {
				return who
			}
			if who := by[Key{Kind: at.Kind}]; who != "" {
				return who
			}
		}
	}
	return l.fights.owedBy(k)
}

// finish sees to the retry of what failed or was put off, and reports.
func (l *Loop) finish(rep Report, after time.Time) {
	now := time.Now()
	if rep.Took > short {
		l.restUntil = now.Add(rep.Took)
	}
	switch {
	case rep.Err == nil:
		if rep.Whole {
			l.failed, l.backoff = false, 0
		}
	case l.failed && !l.alarm.at.IsZero(): // a retry is due already, and a busy host does not put it off
	default:
		l.failed = true
		l.backoff = min(max(2*l.backoff, fightFirst), fightMost)
		l.alarm.by(now.Add(l.backoff))
	}
	if !after.IsZero() {
		l.alarm.by(after)
	}
	for _, c := range l.conflicts {
		rep.Conflicts = append(rep.Conflicts, c)
	}
	slices.SortFunc(rep.Conflicts, func(a, b Conflict) int { return a.Key.Compare(b.Key) })
	rep.Contested = l.fights.contested(now)
	l.Report(rep)
}
