package reconcile

import (
	"context"
	"maps"
	"time"
)

// A pass over everything takes as long as a host has objects, whatever asked for it. While a table of 100,000 prefixes
// comes in, or links come and go, each would be asked for again before it is done. So after one that took long the next waits
// until nobody asks any more, at most as long as that one took, and what is asked for meanwhile becomes one. Single places
// are looked at without any delay.

// short is how long a pass may take without a pause after it.
const short = 10 * time.Millisecond

// quiet is how long nobody has to ask for the pause to end.
const quiet = 20 * time.Millisecond

// woken makes the pass that a poke asks for, or the part of it that costs little, and the rest after the pause.
func (l *Loop) woken(ctx context.Context, poke Poke) {
	pause := time.Until(l.restUntil)
	if !poke.wide() || !l.ready || pause <= 0 && l.late == nil {
		l.pass(ctx, poke)
		return
	}
	if l.late == nil {
		l.late = &Poke{By: map[Key]string{}}
	}
	l.rest.Reset(min(pause, quiet))
	l.late.Whole, l.late.All = l.late.Whole || poke.Whole, l.late.All || poke.All
	l.late.Wanted, l.late.Facts = l.late.Wanted || poke.Wanted, l.late.Facts || poke.Facts
	if len(l.late.By)+len(poke.By) <= pokeMost {
		maps.Copy(l.late.By, poke.By)
	}
	if now := (Poke{Amend: poke.Amend, Keys: poke.Keys, Kinds: poke.Kinds, By: poke.By}); !now.Empty() {
		l.pass(ctx, now)
	}
}

// rested is what was put off, which has no pause to wait for any more.
func (l *Loop) rested() Poke {
	poke := *l.late
	l.late = nil
	l.rest.Stop()
	return poke
}

// covers takes what is asked for when a pass over everything begins, which will see to all of it. It returns who made those
// changes besides those of by.
func (l *Loop) covers(by map[Key]string) map[Key]string {
	also := l.Pokes.take().By
	if l.late != nil {
		maps.Copy(also, l.rested().By)
	}
	maps.Copy(also, by)
	return also
}
