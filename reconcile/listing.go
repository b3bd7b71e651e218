package reconcile

import (
	"context"
	"iter"
	"maps"
)

// listing is what is wanted of one kind as passes ask for it, made once for a wanted state.
type listing struct {
	keys  []Key
	want  []Resource
	index Index // nil: of a kind that can only be listed
}

// list makes the listings of what is wanted, unless they are made.
func (w *Want) list(kinds []Kind) {
	if w.listings == nil {
		w.listings = listings(w.State, kinds)
	}
}

func listings(want State, kinds []Kind) map[string]*listing {
	count := make(map[string]int, len(kinds))
	for k := range want {
		count[k.Kind]++
	}
	of := make(map[string]*listing, len(count))
	for kind, n := range count {
		of[kind] = &listing{keys: make([]Key, 0, n), want: make([]Resource, 0, n)}
	}
	for k, r := range want {
		l := of[k.Kind]
		l.keys, l.want = append(l.keys, k), append(l.want, r)
	}
	for _, kind := range kinds {
		l := of[kind.Name()]
		if l == nil {
			l = &listing{}
			of[kind.Name()] = l
		}
		if x, ok := kind.(Indexer); ok {
			l.index = x.Index(l.want)
		}
	}
	return of
}

// read is what a kind has, as Index.Compare tells of it.
func (l *listing) read(ctx context.Context, kind Kind) (same []bool, own []Resource, foreign []Holder, err error) {
	if l.index != nil {
		return l.index.Compare(ctx)
	}
	own, foreign, err = kind.List(ctx, l.want)
	return nil, own, foreign, err
}

// same is what was found to be as wanted while it was read.
type same struct {
	*listing
	is []bool
}

// equal yields what is as it is wanted and therefore not in Own.
func (h *Have) equal() iter.Seq2[Key, Resource] { return h.compared(true) }

// open yields what is wanted and has still to be compared with Own.
func (h *Have) open(want State) iter.Seq2[Key, Resource] {
	if h.same == nil {
		return maps.All(want)
	}
	return h.compared(false)
}

// missing is how many of the wanted resources are not there, at least: of a large table that does not exist yet, all.
func (h *Have) missing() int {
	n := -len(h.Own)
	for _, s := range h.same {
		for i := range s.want {
			if s.is == nil || !s.is[i] {
				n++
			}
		}
	}
	return max(n, 0)
}

func (h *Have) compared(equal bool) iter.Seq2[Key, Resource] {
	return func(yield func(Key, Resource) bool) {
		for _, s := range h.same {
			for i, r := range s.want {
				if is := s.is != nil && s.is[i]; is == equal && !yield(s.keys[i], r) {
					return
				}
			}
		}
	}
}
