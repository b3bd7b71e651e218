package reconcile

import (
	"net/netip"
	"slices"
)

// inTheWay is what keeps something that is to be made from being there until it is gone: leftover, or replaced itself. By the
// key of what is to be made.
func (d *differ) inTheWay(create, replace, leftover []placed) map[Key]placed {
	var room map[Key]placed // what goes, by what it claims
	for _, going := range [][]placed{replace, leftover} {
		for _, p := range going {
			if what, ok := claims(p.r); ok {
				if room == nil {
					room = map[Key]placed{}
				}
				room[what] = p
			}
		}
	}
	if room == nil {
		return nil
	}
	found := map[Key]placed{}
	for _, making := range [][]placed{create, replace} {
		for _, p := range making {
			w := p.r
			if p.known == nil {
				w = d.want.State[p.Key]
			}
			if what, ok := claims(w); ok {
				if holder, taken := room[what]; taken && holder.Key != p.Key {
					found[p.Key] = holder
				}
			}
		}
	}
	return found
}

func claims(r Resource) (what Key, ok bool) {
	if s, sole := r.(Sole); sole {
		return s.Claims()
	}
	return what, false
}

// makeRoom finds, for each resource that is to come, those that are to go and hold a part of its span.
func makeRoom(create, leftover []placed) map[Key][]placed {
	type held struct {
		placed
		first, last netip.Addr
	}
	var spans map[Key][]held
	for _, p := range leftover {
		if s, ok := p.r.(Spanner); ok {
			if group, first, last, ok := s.Span(); ok {
				if spans == nil {
					spans = map[Key][]held{}
				}
				spans[group] = append(spans[group], held{p, first, last})
			}
		}
	}
	if spans == nil {
		return nil
	}
	for _, s := range spans { // the spans that are there do not overlap: in the order of their beginnings they are in that of their ends
		slices.SortFunc(s, func(a, b held) int { return a.first.Compare(b.first) })
	}
	room := map[Key][]placed{}
	for _, p := range create {
		s, ok := p.r.(Spanner)
		if !ok {
			continue
		}
		group, first, last, ok := s.Span()
		if !ok {
			continue
		}
		in := spans[group]
		i, _ := slices.BinarySearchFunc(in, first, func(h held, first netip.Addr) int { return h.last.Compare(first) })
		for ; i < len(in) && in[i].first.Compare(last) <= 0; i++ {
			room[p.Key] = append(room[p.Key], in[i].placed)
		}
	}
	return room
}
