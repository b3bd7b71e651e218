package reconcile

import (
	"cmp"
	"encoding/binary"
	"slices"
)

// ordered sorts by the soft order and by name, and puts everything behind what it stands on.
func (d *differ) ordered(ps []placed, requires func(placed) []Key) []placed {
	sorted := d.sorted(ps)
	// Many stand on few: only the few are looked for.
	at := map[Key]int{}
	among := map[string]bool{} // kinds
	var last Key
	for _, p := range sorted {
		for _, footing := range requires(p) {
			if footing != last {
				last, at[footing], among[footing.Kind] = footing, -1, true
			}
		}
	}
	found := false
	for i, p := range sorted {
		if !among[p.Kind] {
			continue
		}
		if _, isFooting := at[p.Key]; isFooting {
			at[p.Key], found = i, true
		}
	}
	if !found {
		return sorted
	}
	out := make([]placed, 0, len(ps))
	done := make([]bool, len(sorted))
	var visit func(i int)
	visit = func(i int) {
		if done[i] {
			return
		}
		done[i] = true // before the footing: a cycle must not hang, and no order would satisfy it
		for _, footing := range requires(sorted[i]) {
			if j := at[footing]; j >= 0 {
				visit(j)
			}
		}
		out = append(out, sorted[i])
	}
	for i := range sorted {
		visit(i)
	}
	return out
}

// rank is where a resource comes in a plan, as numbers: those of a million routes are compared by their numbers alone.
type rank struct {
	kind       int
	head, tail uint64 // the name's first bytes
	at         int
}

// sorted sorts by the soft order and by name. What no kind of the engine answers for comes first.
func (d *differ) sorted(ps []placed) []placed {
	ranks := make([]rank, len(ps))
	for i, p := range ps {
		r := rank{kind: -1, at: i}
		if kind, known := d.rank[p.Kind]; known {
			r.kind = kind
		}
		var name [16]byte
		copy(name[:], p.Name)
		r.head, r.tail = binary.BigEndian.Uint64(name[:8]), binary.BigEndian.Uint64(name[8:])
		ranks[i] = r
	}
	slices.SortFunc(ranks, func(a, b rank) int {
		switch {
		case a.kind != b.kind:
			return a.kind - b.kind
		case a.head != b.head:
			return cmp.Compare(a.head, b.head)
		case a.tail != b.tail:
			return cmp.Compare(a.tail, b.tail)
		}
		return ps[a.at].Compare(ps[b.at].Key)
	})
	sorted := make([]placed, len(ps))
	for i, r := range ranks {
		sorted[i] = ps[r.at]
	}
	return sorted
}

// reversed is ordered backwards: what stands on something comes before it.
func (d *differ) reversed(ps []placed) []placed {
	out := d.ordered(ps, func(p placed) []Key { return d.want.requires(p.Key, p.r) })
	slices.Reverse(out)
	return out
}
