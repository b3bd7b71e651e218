package reconcile

// Merge adds to what is wanted until the next whole pass compiles it anew, so that narrow passes know what a Call made. It is
// for Calls.
func (l *Loop) Merge(want Want) {
	l.wanted.Lock()
	defer l.wanted.Unlock()
	for k, r := range want.State {
		delete(l.want.Stands, k)
		l.want.Put(r, want.Why[k], want.Stands[k]...)
	}
	l.want.above, l.want.listings, l.footings = nil, nil, nil
}

// Drop is Merge's opposite.
func (l *Loop) Drop(keys []Key) {
	l.wanted.Lock()
	defer l.wanted.Unlock()
	for _, k := range keys {
		delete(l.want.State, k)
		delete(l.want.Why, k)
		delete(l.want.Stands, k)
	}
	l.want.above, l.want.listings, l.footings = nil, nil, nil
}
