package reconcile

import "slices"

// Amendment is how a wanted state differs from what it was, at single places.
type Amendment struct {
	Places []Amended // each place once
	More   bool      // there are further ones, for the next pass
}

// Amended is what is wanted at one place.
type Amended struct {
	Key    Key
	Was    Resource // what was wanted there until now; nil: nothing
	Want   Resource // what is wanted there now; nil: nothing
	Why    Cause
	Stands []Key // what it stands on besides what it says itself; see Want.Stands

	whyWas *Cause // of Was, once it is amended
	stood  []Key  // Was, likewise
}

// footing is all that what is wanted stands on.
func (p *Amended) footing() []Key {
	on := p.Want.Requires()
	if len(p.Stands) > 0 {
		on = append(on[:len(on):len(on)], p.Stands...)
	}
	return on
}

// amend changes w where places say so, and returns those of them that are other than before. It costs what changes, whatever else
// is wanted: of what stands on what, entries that are over stay until they are many.
func (w *Want) amend(places []Amended) []Amended {
	places = slices.DeleteFunc(places, func(p Amended) bool {
		return p.Was == p.Want && (p.Was == nil || slices.Equal(w.Stands[p.Key], p.Stands))
	})
	if len(places) == 0 {
		return nil
	}
	w.listings = nil
	var footed footed
	for i := range places {
		p := &places[i]
		if p.Was != nil {
			w.stale++
			p.whyWas, p.stood = w.why[p.Key], w.Stands[p.Key]
		}
		if p.Was != nil || len(p.Stands) > 0 {
			delete(w.Stands, p.Key)
		}
		if p.Want == nil {
			delete(w.State, p.Key)
			delete(w.why, p.Key)
			continue
		}
		w.put(p.Key, p.Want, p.Why)
		if len(p.Stands) > 0 {
			w.Stand(p.Key, p.Stands)
		}
		if w.on != nil {
			footed.add(p.Key, p.footing())
		}
	}
	w.bear(footed)
	if w.stale > 1024+len(w.State) {
		w.on = nil
	}
	return places
}

// merge amends what is wanted, for those who ask Wants and Bears too.
func (l *Loop) merge(places []Amended) []Amended {
	l.wanted.Lock()
	defer l.wanted.Unlock()
	places = l.want.amend(places)
	if l.footings != nil { // of what is gone they stay: an event more is passed on
		for i := range places {
			if r := places[i].Want; r != nil {
				for _, footing := range r.Requires() {
					l.footings[footing] = true
				}
			}
		}
	}
	return places
}

// unmerge puts back what was before merge, so that what was not done is not taken for somebody else's change later, nor what is there
// as before for something that nobody gave a reason for.
func (l *Loop) unmerge(places []Amended) {
	l.wanted.Lock()
	defer l.wanted.Unlock()
	for i := range places {
		p := &places[i]
		if len(p.Stands) > 0 {
			delete(l.want.Stands, p.Key)
		}
		if p.Was == nil {
			delete(l.want.State, p.Key)
			delete(l.want.why, p.Key)
			continue
		}
		l.want.State[p.Key] = p.Was
		if delete(l.want.why, p.Key); p.whyWas != nil { // else nobody gave one, and there may be no why
			l.want.why[p.Key] = p.whyWas
		}
		if len(p.stood) > 0 {
			l.want.Stand(p.Key, p.stood)
		}
	}
	l.want.on, l.want.listings = nil, nil
}

// Merge adds to what is wanted until the next whole pass compiles it anew, so that narrow passes know what a Call made. It is
// for Calls.
func (l *Loop) Merge(want Want) {
	places := make([]Amended, 0, len(want.State))
	for k, r := range want.State {
		places = append(places, Amended{Key: k, Was: l.want.State[k], Want: r, Why: want.Because(k), Stands: want.Stands[k]})
	}
	l.merge(places)
}

// Drop is Merge's opposite.
func (l *Loop) Drop(keys []Key) {
	places := make([]Amended, 0, len(keys))
	for _, k := range keys {
		places = append(places, Amended{Key: k, Was: l.want.State[k]})
	}
	l.merge(places)
}
