package config

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// ranges reads a prefix list: "10.0.0.0/8", "10.0.0.0/8 le 24", "10.0.0.0/8 ge 16 le 24".
func (b *block) ranges(name string) []PrefixRange {
	var out []PrefixRange
	for _, s := range b.list(name) {
		r, err := parseRange(s)
		if err != nil {
			b.fail(name, "%q: %v. Write \"10.0.0.0/8\", \"10.0.0.0/8 le 24\" or \"10.0.0.0/8 ge 16 le 24\".", s, err)
			continue
		}
		out = append(out, r)
	}
	return out
}

func parseRange(s string) (PrefixRange, error) {
	words := strings.Fields(s)
	if len(words) == 0 || len(words)%2 == 0 {
		return PrefixRange{}, fmt.Errorf("not a prefix with ge and le")
	}
	p, err := netip.ParsePrefix(words[0])
	if err != nil {
		return PrefixRange{}, fmt.Errorf("%s is no prefix", words[0])
	}
	if p.Masked() != p {
		return PrefixRange{}, fmt.Errorf("%s has bits set behind its length, %s has not", p, p.Masked())
	}
	r := PrefixRange{Prefix: p, Min: p.Bits(), Max: p.Bits()}
	seen := map[string]bool{}
	for i := 1; i < len(words); i += 2 {
		n, err := strconv.Atoi(words[i+1])
		if err != nil || n < p.Bits() || n > p.Addr().BitLen() || seen[words[i]] {
			return r, fmt.Errorf("%s %s is not possible for %s", words[i], words[i+1], p)
		}
		seen[words[i]] = true
		switch words[i] {
		case "ge":
			r.Min = n
			if !seen["le"] {
				r.Max = p.Addr().BitLen()
			}
		case "le":
			r.Max = n
		default:
			return r, fmt.Errorf("%q is neither ge nor le", words[i])
		}
	}
	if r.Min > r.Max {
		return r, fmt.Errorf("ge is larger than le")
	}
	return r, nil
}
