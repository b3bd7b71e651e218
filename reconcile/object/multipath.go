package object

import (
	"cmp"
	"fmt"
	"iter"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Hop is one way of a multipath route.
type Hop struct {
	Via    netip.Addr
	Dev    string
	Onlink bool
	Weight int // 0 and 1 are the same share; netd wants equal ones
}

func (h Hop) String() string {
	s := "via " + addrText(h.Via) + " dev " + h.Dev
	if h.Onlink {
		s += " onlink"
	}
	if h.Weight > 1 {
		s += " weight " + strconv.Itoa(h.Weight)
	}
	return s
}

func (a Hop) compare(b Hop) int {
	return cmp.Or(a.Via.Compare(b.Via), cmp.Compare(a.Dev, b.Dev), cmp.Compare(a.Weight, b.Weight), cmp.Compare(a.String(), b.String()))
}

// Hops is the canonical text of a set of ways: in order, each once.
func Hops(ways []Hop) string {
	return HopList(slices.Compact(slices.SortedFunc(slices.Values(ways), Hop.compare)))
}

// HopList is the text of ways in the order that they have: that of an IPv4 route says which flow takes which (Spread), and
// one may come more than once. Of an IPv6 route the kernel takes each once, and keeps them in an order of its own.
func HopList(ways []Hop) string {
	words := make([]string, len(ways))
	for i, h := range ways {
		words[i] = h.String()
	}
	return strings.Join(words, ", ")
}

// hopLinks are the links of Hops, without reading the rest: a table of 100,000 is asked for what it stands on.
func hopLinks(text string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for {
			_, rest, found := strings.Cut(text, " dev ")
			if !found {
				return
			}
			end := strings.IndexAny(rest, " ,")
			if end < 0 {
				end = len(rest)
			}
			if !yield(rest[:end]) {
				return
			}
			text = rest[end:]
		}
	}
}

// ParseHops is the inverse of HopList.
func ParseHops(text string) ([]Hop, error) {
	var out []Hop
	for _, entry := range strings.Split(text, ", ") {
		words := strings.Fields(entry)
		if len(words) < 4 || words[0] != "via" || words[2] != "dev" {
			return nil, fmt.Errorf("reading next hops: %q", entry)
		}
		h := Hop{Dev: words[3]}
		var err error
		if h.Via, err = netip.ParseAddr(words[1]); err != nil {
			return nil, fmt.Errorf("reading next hops: %w", err)
		}
		for rest := words[4:]; len(rest) > 0; {
			switch {
			case rest[0] == "onlink":
				h.Onlink, rest = true, rest[1:]
			case rest[0] == "weight" && len(rest) > 1:
				if h.Weight, err = strconv.Atoi(rest[1]); err != nil {
					return nil, fmt.Errorf("reading next hops: %w", err)
				}
				rest = rest[2:]
			default:
				return nil, fmt.Errorf("reading next hops: %q", entry)
			}
		}
		out = append(out, h)
	}
	return out, nil
}
