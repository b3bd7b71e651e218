package reconcile

import "slices"

// Amendment is how a wanted state differs from what it was, at single places.
type Amendment struct {
	Want Want  // what is wanted there now, with its reasons
	Gone []Key // the places where nothing is any more
	More bool  // there are further ones, for the next pass
}

// amend changes w where a says so. It returns what was wanted at the places that are other than before: nil where nothing
// was. It costs what changes, whatever else is wanted: of what stands on what, entries that are over stay until they are many.
func (w *Want) amend(a Amendment) (was State) {
	was = make(State, len(a.Want.State)+len(a.Gone))
	footed := map[Key][]Key{} // what comes to stand on few, put there at once
	for k, r := range a.Want.State {
		old, there := w.State[k]
		if there && old == r && slices.Equal(w.Stands[k], a.Want.Stands[k]) {
			continue
		}
		was[k] = old
		delete(w.Stands, k)
		w.put(k, r, a.Want.Why[k])
		if on := a.Want.Stands[k]; len(on) > 0 {
			w.Stand(k, on)
		}
		if there {
			w.stale++
		}
		if w.on != nil {
			for _, footing := range w.footing(k, r) {
				footed[footing] = append(footed[footing], k)
			}
		}
	}
	for footing, above := range footed {
		w.on[footing] = append(w.on[footing], above...)
	}
	for _, k := range a.Gone {
		if old, there := w.State[k]; there {
			was[k] = old
			w.stale++
			delete(w.State, k)
			delete(w.Why, k)
			delete(w.Stands, k)
		}
	}
	if w.stale > 1024+len(w.State) {
		w.on = nil
	}
	if len(was) > 0 {
		w.listings = nil
	}
	return was
}

// merge amends what is wanted, for those who ask Wants and Bears too.
func (l *Loop) merge(a Amendment) State {
	l.wanted.Lock()
	defer l.wanted.Unlock()
	was := l.want.amend(a)
	if l.footings != nil { // of what is gone they stay: an event more is passed on
		for k, r := range a.Want.State {
			if _, changed := was[k]; changed {
				for _, footing := range r.Requires() {
					l.footings[footing] = true
				}
			}
		}
	}
	return was
}

// unmerge puts back what merge found, so that what was not done is not taken for somebody else's change later.
func (l *Loop) unmerge(was State) {
	l.wanted.Lock()
	defer l.wanted.Unlock()
	for k, r := range was {
		if r == nil {
			delete(l.want.State, k)
		} else {
			l.want.State[k] = r
		}
	}
	l.want.on, l.want.listings = nil, nil
}

// Merge adds to what is wanted until the next whole pass compiles it anew, so that narrow passes know what a Call made. It is
// for Calls.
func (l *Loop) Merge(want Want) { l.merge(Amendment{Want: want}) }

// Drop is Merge's opposite.
func (l *Loop) Drop(keys []Key) { l.merge(Amendment{Gone: keys}) }
