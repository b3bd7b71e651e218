package desired

import (
	"net/netip"
	"slices"
	"strings"

	"netd/reconcile/object"
)

func (f firewallBuilder) chain(t object.NftTable, name, typ, hook string, priority int, r rules) {
	f.put(object.NftChain{Table: t, Name: name, Type: typ, Hook: hook, Priority: priority, Rules: strings.Join(r, "\n")}, f.why)
}

func (f firewallBuilder) set(t object.NftTable, name, typ string, interval bool) object.NftSet {
	s := object.NftSet{Table: t, Name: name, Type: typ, Interval: interval}
	f.put(s, f.why)
	return s
}

func (f firewallBuilder) elems(s object.NftSet, elems []string) {
	for _, e := range elems {
		f.put(object.NftElem{Set: s, Elem: e}, f.why)
	}
}

func quote(name string) string { return `"` + name + `"` }

func quoted(names []string) []string {
	out := make([]string, len(names))
	for i, n := range names {
		out[i] = quote(n)
	}
	return out
}

// prefixes spells prefixes as nft does: a single address without its length.
func prefixes(ps []netip.Prefix) []string {
	out := make([]string, len(ps))
	for i, p := range ps {
		out[i] = p.String()
		if p.IsSingleIP() {
			out[i] = p.Addr().String()
		}
	}
	return out
}

// Merge returns the fewest prefixes that cover the same addresses, in order: an interval set takes no overlaps.
func Merge(ps []netip.Prefix) []netip.Prefix {
	sorted := slices.Clone(ps)
	slices.SortFunc(sorted, func(a, b netip.Prefix) int {
		if c := a.Addr().Compare(b.Addr()); c != 0 {
			return c
		}
		return a.Bits() - b.Bits()
	})
	var out []netip.Prefix
	for _, p := range sorted {
		if n := len(out); n > 0 && out[n-1].Bits() <= p.Bits() && out[n-1].Contains(p.Addr()) {
			continue
		}
		out = append(out, p)
		for len(out) > 1 { // two halves of one prefix are that prefix
			a, b := out[len(out)-2], out[len(out)-1]
			if a.Bits() != b.Bits() || a.Bits() == 0 {
				break
			}
			whole := netip.PrefixFrom(a.Addr(), a.Bits()-1).Masked()
			if whole.Addr() != a.Addr() || !whole.Contains(b.Addr()) {
				break
			}
			out = append(out[:len(out)-2], whole)
		}
	}
	return out
}
