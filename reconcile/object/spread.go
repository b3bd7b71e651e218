package object

import "slices"

// How several next hops share flows. The kernel hashes a flow to a number and gives each next hop of a route a stretch of the
// numbers, in the route's order and as long as its weight says. Of three next hops that become two, the stretches of those
// that stay begin elsewhere, and flows move that nothing happened to:
//
//	a, b, c                          aaaaaabbbbbbcccccc
//	a, b                             aaaaaaaaabbbbbbbbb     three of b's are a's now
//
// So a route names a next hop more than once. Everyone who may give the prefix has a stretch of his own, whether he gives it
// now or not, and that of one who does not is shared by the others:
//
//	a 2, b 2, a, b      without c    aaaaaabbbbbbaaabbb     none of b's moved
//	b, c, b 2, c 2      without a    bbbcccbbbbbbcccccc
//
// A share that falls to one who is away too is shared on by those who are left, and so on. In that way all who are there have
// equal parts, whoever is away; whoever goes moves his own flows alone, whoever went before; and whoever comes back takes his
// own stretch and nothing else.

// mostShares bounds the entries of a route, and the kernel the weight of one.
const (
	mostShares = 64
	mostWeight = 256
)

// Spread is the next hops of a route in the kernel's order and with their weights: there are those that the route goes by,
// all are those and the ones that may come. With many away, a share of a share of a share … is no more shared by all but by
// those who are there, which then moves a few flows.
func Spread(all, there []Hop) []Hop {
	all, there = slices.SortedFunc(slices.Values(all), Hop.compare), slices.SortedFunc(slices.Values(there), Hop.compare)
	best := there
	home := len(there) // what each has of his own; a share is a part of it
	for levels := range max(len(all)-len(there), 0) {
		if levels > 0 {
			home *= len(all) - levels
		}
		if home > mostWeight {
			break
		}
		if s := (spread{all: all, there: there, levels: levels}).shares(home); len(s) <= mostShares {
			best = s
		}
	}
	return best
}

type spread struct {
	all, there []Hop
	levels     int // so often a share of one who is away is shared by all others
}

func (s spread) shares(home int) (out []Hop) {
	divisor := 0
	var give func(h Hop, weight int, tried []Hop)
	give = func(h Hop, weight int, tried []Hop) {
		if slices.Contains(s.there, h) {
			if n := len(out); n > 0 && out[n-1].same(h) && out[n-1].Weight+weight <= mostWeight {
				out[n-1].Weight += weight
				return
			}
			h.Weight = weight
			out = append(out, h)
			return
		}
		tried = append(slices.Clip(tried), h)
		heirs := s.there
		if len(tried) <= s.levels {
			heirs = slices.DeleteFunc(slices.Clone(s.all), func(o Hop) bool { return slices.Contains(tried, o) })
		}
		for _, o := range heirs {
			give(o, weight/len(heirs), tried)
		}
	}
	for _, h := range s.all {
		give(h, home, nil)
	}
	for _, h := range out {
		divisor = gcd(divisor, h.Weight)
	}
	for i := range out {
		out[i].Weight /= divisor
	}
	return out
}

// same reports whether two are one way, whatever their weights.
func (h Hop) same(o Hop) bool { h.Weight = o.Weight; return h == o }

func gcd(a, b int) int {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}
