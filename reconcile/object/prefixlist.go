package object

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// PrefixRange is an entry of a prefix list: the prefixes within Prefix whose length is from Min to Max.
type PrefixRange struct {
	Prefix   netip.Prefix
	Min, Max int
}

// Exactly is the range that holds one prefix.
func Exactly(p netip.Prefix) PrefixRange { return PrefixRange{p, p.Bits(), p.Bits()} }

// Within is the range that holds a prefix and all that is more specific.
func Within(p netip.Prefix) PrefixRange { return PrefixRange{p, p.Bits(), p.Addr().BitLen()} }

// Match reports whether a prefix is in the range.
func (r PrefixRange) Match(p netip.Prefix) bool {
	return p.Bits() >= r.Min && p.Bits() <= r.Max && r.Prefix.Bits() <= p.Bits() && r.Prefix.Contains(p.Addr())
}

// Covers reports whether all of o is in the range.
func (r PrefixRange) Covers(o PrefixRange) bool {
	return r.Prefix.Bits() <= o.Prefix.Bits() && r.Prefix.Contains(o.Prefix.Addr()) && r.Min <= o.Min && o.Max <= r.Max
}

// Meets reports whether some prefix is in both ranges.
func (r PrefixRange) Meets(o PrefixRange) bool {
	return r.Prefix.Overlaps(o.Prefix) && max(r.Min, o.Min, r.Prefix.Bits(), o.Prefix.Bits()) <= min(r.Max, o.Max)
}

// String is the range as the configuration spells it: "10.0.0.0/8 ge 16 le 24".
func (r PrefixRange) String() string {
	s := r.Prefix.String()
	if r.Min != r.Prefix.Bits() {
		s += " ge " + strconv.Itoa(r.Min)
	}
	if r.Max != r.Prefix.Bits() {
		s += " le " + strconv.Itoa(r.Max)
	}
	return s
}

func (r PrefixRange) compare(o PrefixRange) int {
	return cmp.Or(r.Prefix.Compare(o.Prefix), cmp.Compare(r.Min, o.Min), cmp.Compare(r.Max, o.Max))
}

// MatchAny reports whether a prefix is in one of the ranges.
func MatchAny(ranges []PrefixRange, p netip.Prefix) bool {
	return slices.ContainsFunc(ranges, func(r PrefixRange) bool { return r.Match(p) })
}

// PrefixRanges is the canonical text of a set of ranges: in order, without those that another one covers.
func PrefixRanges(ranges []PrefixRange) string {
	sorted := slices.Clone(ranges)
	slices.SortFunc(sorted, PrefixRange.compare)
	sorted = slices.Compact(sorted)
	words := make([]string, 0, len(sorted))
	if len(sorted) > 256 { // blocks of many nodes, which do not overlap: not worth a square
		for _, r := range sorted {
			words = append(words, r.String())
		}
		return strings.Join(words, ", ")
	}
	for i, r := range sorted {
		covered := false
		for j, o := range sorted {
			covered = covered || i != j && o.Covers(r)
		}
		if !covered {
			words = append(words, r.String())
		}
	}
	return strings.Join(words, ", ")
}

// PrefixList is the canonical text of a set of prefixes, each of them exactly.
func PrefixList(prefixes []netip.Prefix) string {
	ranges := make([]PrefixRange, len(prefixes))
	for i, p := range prefixes {
		ranges[i] = Exactly(p)
	}
	return PrefixRanges(ranges)
}

// ParsePrefixRanges is the inverse of PrefixRanges.
func ParsePrefixRanges(list string) ([]PrefixRange, error) {
	if list == "" {
		return nil, nil
	}
	var out []PrefixRange
	for _, entry := range strings.Split(list, ", ") {
		words := strings.Fields(entry)
		if len(words)%2 == 0 {
			return nil, fmt.Errorf("reading a prefix list: %q is no entry", entry)
		}
		p, err := netip.ParsePrefix(words[0])
		if err != nil {
			return nil, fmt.Errorf("reading a prefix list: %w", err)
		}
		r := Exactly(p)
		for i := 1; i < len(words); i += 2 {
			n, err := strconv.Atoi(words[i+1])
			if err != nil || n < p.Bits() || n > p.Addr().BitLen() {
				return nil, fmt.Errorf("reading a prefix list: %q is no entry", entry)
			}
			switch words[i] {
			case "ge":
				r.Min = n
			case "le":
				r.Max = n
			default:
				return nil, fmt.Errorf("reading a prefix list: %q is no entry", entry)
			}
		}
		if r.Min > r.Max {
			return nil, fmt.Errorf("reading a prefix list: %q is no entry", entry)
		}
		out = append(out, r)
	}
	return out, nil
}

// AddrList is the canonical text of a set of addresses.
func AddrList(addrs []netip.Addr) string {
	sorted := slices.Clone(addrs)
	slices.SortFunc(sorted, netip.Addr.Compare)
	words := make([]string, 0, len(sorted))
	for _, a := range slices.Compact(sorted) {
		words = append(words, a.String())
	}
	return strings.Join(words, " ")
}

// ParseAddrList is the inverse of AddrList.
func ParseAddrList(list string) ([]netip.Addr, error) {
	var out []netip.Addr
	for _, w := range strings.Fields(list) {
		a, err := netip.ParseAddr(w)
		if err != nil {
			return nil, fmt.Errorf("reading a list of addresses: %w", err)
		}
		out = append(out, a)
	}
	return out, nil
}
