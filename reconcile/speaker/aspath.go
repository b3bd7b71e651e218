package speaker

import (
	"encoding/binary"
	"slices"

	"github.com/osrg/gobgp/v3/pkg/packet/bgp"
)

// A neighbour that knows no ASes of four octets has two for each in AS_PATH, 23456 in place of what does not fit, and sends what AS4_PATH holds on
// (RFC 6793). gobgp takes an AS_PATH for one of four octets wherever it can be read as such, and "1 2 {3}" of two can; what it makes of an AS4_PATH
// that begins with a set has a segment without ASes, which it tells on; one that is malformed costs it the whole path, where §6 has it passed over.
// So gobgp is told an AS_PATH of four octets, and no AS4_PATH.

// pathSegment is one of an AS_PATH, with four octets for each AS.
type pathSegment struct {
	kind byte
	as   []byte
}

// counts is how much it adds to the length of a path (RFC 4271 §9.1.2.2, RFC 5065 §5.3).
func (p pathSegment) counts() int {
	switch p.kind {
	case bgp.BGP_ASPATH_ATTR_TYPE_SEQ:
		return len(p.as) / 4
	case bgp.BGP_ASPATH_ATTR_TYPE_SET:
		return 1
	}
	return 0
}

func (p pathSegment) confederation() bool {
	return p.kind == bgp.BGP_ASPATH_ATTR_TYPE_CONFED_SEQ || p.kind == bgp.BGP_ASPATH_ATTR_TYPE_CONFED_SET
}

func length(path []pathSegment) (n int) {
	for _, p := range path {
		n += p.counts()
	}
	return n
}

// isPath reports whether a value is an AS_PATH with so many octets for each AS (RFC 7606 §7.2), none of which is AS 0 (RFC 7607 §2).
func isPath(v []byte, octets int) bool {
	for len(v) > 0 {
		if len(v) < 2 || v[0] < bgp.BGP_ASPATH_ATTR_TYPE_SET || v[0] > bgp.BGP_ASPATH_ATTR_TYPE_CONFED_SET || v[1] == 0 || len(v) < 2+octets*int(v[1]) {
			return false
		}
		for as := range slices.Chunk(v[2:2+octets*int(v[1])], octets) {
			if isZero(as) {
				return false
			}
		}
		v = v[2+octets*int(v[1]):]
	}
	return true
}

func isZero(b []byte) bool {
	return !slices.ContainsFunc(b, func(x byte) bool { return x != 0 })
}

// byNobody reports whether an AGGREGATOR or AS4_AGGREGATOR is that of AS 0, which is malformed (RFC 7607 §2).
func byNobody(v []byte) bool {
	return (len(v) == 6 || len(v) == 8) && isZero(v[:len(v)-4])
}

// pathSegments are those of a value that isPath.
func pathSegments(v []byte, octets int) (path []pathSegment) {
	for len(v) > 0 {
		n := octets * int(v[1])
		as := v[2 : 2+n]
		if octets == 2 {
			as = nil
			for i := 2; i < 2+n; i += 2 {
				as = append(as, 0, 0, v[i], v[i+1])
			}
		}
		path, v = append(path, pathSegment{v[0], as}), v[2+n:]
	}
	return path
}

// merged is a path whose last ASes are those of AS4_PATH (RFC 6793 §4.2.3).
func merged(path, four []pathSegment) (out []pathSegment) {
	keep := length(path) - length(four)
	if keep < 0 {
		return path
	}
	for _, p := range path {
		switch {
		case p.confederation(): // first, or beside what is kept
		case keep == 0:
			return append(out, four...)
		case p.counts() > keep: // a sequence
			p.as = p.as[:4*keep]
		}
		keep -= p.counts()
		out = append(out, p)
	}
	return append(out, four...)
}

const leftOut = "it sent malformed attributes, which are left out: "

// wide are attributes of a neighbour that knows no ASes of four octets as one that does would send them, with the path that is in them, and
// what there is to say of it. Its AS_PATH must be one.
func (u update) wide() (attributes, path []byte, remark string) {
	omitted := ""
	transAS := len(u.aggregator) == 6 && binary.BigEndian.Uint16(u.aggregator) == bgp.AS_TRANS
	four, aggregator := u.four, u.aggregator4
	switch {
	case aggregator != nil && u.aggregator == nil:
		omitted, aggregator = "AS4_AGGREGATOR without AGGREGATOR", nil
	case aggregator != nil && (len(aggregator) != 8 || byNobody(aggregator)):
		omitted, aggregator = "AS4_AGGREGATOR", nil
	case aggregator != nil && !transAS: // who aggregated knew nothing of either (§4.2.3)
		four, aggregator = nil, nil
	}
	var last []pathSegment
	if len(four) > 0 && isPath(four, 4) {
		last = pathSegments(four, 4)
	} else if four != nil {
		omitted = "AS4_PATH"
	}
	if n := len(last); n > 0 {
		if last = slices.DeleteFunc(last, pathSegment.confederation); len(last) < n {
			omitted = "confederations in AS4_PATH"
		}
	}
	if byNobody(u.aggregator) {
		omitted = "AGGREGATOR"
	}
	if omitted != "" {
		remark = leftOut + omitted
	}
	whole := pathSegments(u.path, 2)
	if len(last) > 0 {
		whole = merged(whole, last)
	}
	for _, p := range whole {
		path = append(append(path, p.kind, byte(len(p.as)/4)), p.as...)
	}
	for rest := u.attributes; len(rest) > 0; {
		var a attribute
		a, rest, _ = cutAttribute(rest)
		switch {
		case a.kind == attrAS4Path || a.kind == attrAS4Aggregator || a.kind == attrAggregator && byNobody(a.value):
		case a.kind == attrASPath:
			attributes = append(attributes, a.whole[0]|byte(bgp.BGP_ATTR_FLAG_EXTENDED_LENGTH), a.kind, byte(len(path)>>8), byte(len(path)))
			attributes = append(attributes, path...)
		case a.kind == attrAggregator && len(a.value) == 6:
			value := aggregator
			if value == nil {
				value = slices.Concat([]byte{0, 0}, a.value)
			}
			attributes = append(append(attributes, a.whole[0]&^byte(bgp.BGP_ATTR_FLAG_EXTENDED_LENGTH), a.kind, 8), value...)
		default:
			attributes = append(attributes, a.whole...)
		}
	}
	return attributes, path, remark
}

// times is how often an AS is in a path of four octets.
func times(asn uint32, path []byte) (n int) {
	for ; len(path) > 0; path = path[2+4*int(path[1]):] {
		for i := range int(path[1]) {
			if binary.BigEndian.Uint32(path[2+4*i:]) == asn {
				n++
			}
		}
	}
	return n
}
