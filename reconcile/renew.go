package reconcile

import (
	"context"
	"slices"
	"time"
)

// renew leads the host to what is wanted otherwise than before. What is wanted as before is as the last passes left it, or
// its own event tells.
func (l *Loop) renew(ctx context.Context, by map[Key]string) {
	began := time.Now()
	want, ok, err := l.compile(ctx)
	if !ok {
		l.finish(Report{Whole: true, Why: "event", Err: err, Took: time.Since(began)}, time.Time{})
		return
	}
	keys := changed(l.want.State, want.State)
	if len(keys) > pokeMost+len(want.State)/2 || !slices.Equal(want.Foreign, l.want.Foreign) || l.failed || len(l.conflicts) > 0 { // who was in the way may be gone
		_ = l.all(ctx, "event", want, by, began)
		return
	}
	l.at(ctx, Poke{Keys: keys, By: by}, want, began)
}

// holds reports whether what is wanted needs no look although facts may be others.
func (l *Loop) holds(ctx context.Context) bool {
	return l.Holds != nil && !l.failed && len(l.conflicts) == 0 && l.Holds(ctx) // who was in the way may be gone
}

// amend leads the host to what is wanted otherwise than before at single places. It costs what changed, not what is wanted:
// a large table comes in in many such passes, each while the next places become known.
func (l *Loop) amend(ctx context.Context, by map[Key]string) {
	began := time.Now()
	if l.Amend == nil || l.failed {
		l.renew(ctx, by)
		return
	}
	a, ok := l.Amend(l.want.State)
	if !ok {
		l.renew(ctx, by)
		return
	}
	if a.More {
		l.Pokes.Add(Poke{Amend: true})
	}
	if places := l.merge(a.Places); len(places) > 0 {
		l.lead(ctx, Poke{By: by}, l.want, began, places, true, func() { l.unmerge(places) })
	}
}

// changed are the keys at which two states differ.
func changed(a, b State) []Key {
	var keys []Key
	met := 0
	for k, r := range b {
		was, there := a[k]
		if there {
			met++
		}
		if was != r {
			keys = append(keys, k)
		}
	}
	if met < len(a) {
		for k := range a {
			if _, there := b[k]; !there {
				keys = append(keys, k)
			}
		}
	}
	return keys
}
