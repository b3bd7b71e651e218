package speaker

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"

	"github.com/osrg/gobgp/v3/pkg/packet/bgp"
)

// pathMost is how many bytes of attributes a path may have, those of AS_PATH counted as the most that they may become: four octets for each
// AS, and for a neighbour that knows no such ones two more (RFC 6793). The rest of a message is for what is added when the path
// is told on: this AS and prepends, communities (the file may have 64 for a peer), ORIGINATOR_ID, CLUSTER_LIST, next hop, prefix. What does not
// fit gobgp does not tell, and leaves what it told before; where the attributes alone do not, it dies.
const pathMost = messageMax - 1024

// update is an UPDATE in its parts, as they came (RFC 4271 §4.3).
type update struct {
	withdrawn, attributes, nlri []byte

	reach, unreach []byte // values of MP_REACH_NLRI and MP_UNREACH_NLRI (RFC 4760)
	size           int    // of the other attributes
	rare           bool   // it has attributes or families that gobgp is tried with before it gets them
	foreign        []byte // … the first with prefixes of such families
	astray         []byte // the MP_REACH_NLRI whose next hop no address has the length of

	// Values, nil where there is none.
	originator, path, four, aggregator, aggregator4 []byte
}

const (
	attrASPath        = byte(bgp.BGP_ATTR_TYPE_AS_PATH)
	attrAggregator    = byte(bgp.BGP_ATTR_TYPE_AGGREGATOR)
	attrOriginator    = byte(bgp.BGP_ATTR_TYPE_ORIGINATOR_ID)
	attrReach         = byte(bgp.BGP_ATTR_TYPE_MP_REACH_NLRI)
	attrUnreach       = byte(bgp.BGP_ATTR_TYPE_MP_UNREACH_NLRI)
	attrAS4Path       = byte(bgp.BGP_ATTR_TYPE_AS4_PATH)
	attrAS4Aggregator = byte(bgp.BGP_ATTR_TYPE_AS4_AGGREGATOR)
)

// plain are the attributes that gobgp was never seen to die of reading (FuzzSift).
var plain = func() (p [256]bool) {
	for _, t := range []bgp.BGPAttrType{bgp.BGP_ATTR_TYPE_ORIGIN, bgp.BGP_ATTR_TYPE_AS_PATH, bgp.BGP_ATTR_TYPE_NEXT_HOP, bgp.BGP_ATTR_TYPE_MULTI_EXIT_DISC,
		bgp.BGP_ATTR_TYPE_LOCAL_PREF, bgp.BGP_ATTR_TYPE_ATOMIC_AGGREGATE, bgp.BGP_ATTR_TYPE_AGGREGATOR, bgp.BGP_ATTR_TYPE_COMMUNITIES,
		bgp.BGP_ATTR_TYPE_ORIGINATOR_ID, bgp.BGP_ATTR_TYPE_CLUSTER_LIST, bgp.BGP_ATTR_TYPE_EXTENDED_COMMUNITIES, bgp.BGP_ATTR_TYPE_AS4_PATH,
		bgp.BGP_ATTR_TYPE_AS4_AGGREGATOR, bgp.BGP_ATTR_TYPE_LARGE_COMMUNITY} {
		p[t] = true
	}
	return p
}()

// ours reports whether the value of an MP_REACH_NLRI or MP_UNREACH_NLRI is of a family that netd speaks.
func ours(v []byte) bool {
	return len(v) >= 3 && v[0] == 0 && (v[1] == bgp.AFI_IP || v[1] == bgp.AFI_IP6) && v[2] == bgp.SAFI_UNICAST
}

// hopFits reports whether the next hop of an MP_REACH_NLRI has a length of its family's: an IPv6 one, with or without a link-local one, is
// for IPv4 too (RFC 2545 §3, RFC 8950). gobgp takes any of these for either, and none at all. Where another begins what comes after it nobody knows (RFC 7606 §7.11).
func hopFits(v []byte) bool {
	switch v[3] {
	case 4:
		return v[1] == bgp.AFI_IP
	case 16, 32:
		return true
	}
	return false
}

// cutUpdate is not ok where lengths do not fit: what becomes of such a one gobgp knows (RFC 7606).
func cutUpdate(body []byte) (u update, ok bool) {
	if u.withdrawn, body, ok = cutPart(body); !ok {
		return u, false
	}
	if u.attributes, u.nlri, ok = cutPart(body); !ok {
		return u, false
	}
	var seen [256]bool
	for rest := u.attributes; len(rest) > 0; {
		var a attribute
		if a, rest, ok = cutAttribute(rest); !ok {
			return u, false
		}
		switch {
		case a.kind == attrReach:
			switch mine := len(a.value) > 3 && ours(a.value); {
			case !mine && u.foreign == nil:
				u.foreign = a.whole
			case mine && u.astray == nil && !hopFits(a.value):
				u.astray = a.whole
			}
		case a.kind == attrUnreach:
			if u.foreign == nil && !ours(a.value) {
				u.foreign = a.whole
			}
		case !plain[a.kind]:
			u.rare = true
		}
		if seen[a.kind] { // gobgp goes by the first
			continue
		}
		seen[a.kind] = true
		u.size += len(a.whole)
		switch a.kind {
		case attrReach:
			u.reach, u.size = a.value, u.size-len(a.whole)
		case attrUnreach:
			u.unreach, u.size = a.value, u.size-len(a.whole)
		case attrOriginator:
			u.originator = a.value
		case attrASPath:
			u.path = a.value
		case attrAggregator:
			u.aggregator = a.value
		case attrAS4Path:
			u.four = a.value
		case attrAS4Aggregator:
			u.aggregator4 = a.value
		}
	}
	u.rare = u.rare || u.foreign != nil
	return u, true
}

func cutPart(b []byte) (part, rest []byte, ok bool) {
	if len(b) < 2 {
		return nil, nil, false
	}
	n := int(binary.BigEndian.Uint16(b))
	if b = b[2:]; len(b) < n {
		return nil, nil, false
	}
	return b[:n], b[n:], true
}

type attribute struct {
	kind         byte
	value, whole []byte
}

func cutAttribute(b []byte) (a attribute, rest []byte, ok bool) {
	if len(b) < 3 {
		return a, nil, false
	}
	head, n := 3, int(b[2])
	if b[0]&byte(bgp.BGP_ATTR_FLAG_EXTENDED_LENGTH) != 0 {
		if len(b) < 4 {
			return a, nil, false
		}
		head, n = 4, int(binary.BigEndian.Uint16(b[2:]))
	}
	if len(b) < head+n {
		return a, nil, false
	}
	return attribute{b[1], b[head : head+n], b[:head+n]}, b[head+n:], true
}

// sift appends what gobgp is told in place of an UPDATE, and says what there is to say of it. It is not taken where it must not be told at all.
func (v *sieve) sift(out, msg []byte) (told []byte, remark string, taken bool) {
	u, ok := cutUpdate(msg[headerLen:])
	if ok && u.astray != nil {
		return out, "", false
	}
	if (!ok || u.rare) && !survived(msg) {
		if !ok || u.foreign != nil {
			return out, "", false
		}
		return u.withdraw(out, true), "it sent attributes which gobgp does not survive: taken for a withdrawal", true
	}
	if _, _, whole := reached(u.reach); !ok || u.reach != nil && !whole {
		return append(out, msg...), "", true
	}
	v.ended(u)
	v.vain.Add(uint64(len(u.withdrawn) + len(u.unreach)))
	announces := len(u.nlri) > 0 || u.reach != nil
	attributes, path, changed := u.attributes, u.path, true
	switch {
	case announces && !isPath(path, v.octets()):
		return u.withdraw(out, true), malformedPath, true
	case announces && !v.four:
		attributes, path, remark = u.wide()
	case u.four == nil && u.aggregator4 == nil && !byNobody(u.aggregator):
		changed = false
	default: // gobgp dies of some where they stand, and of one that knows four octets they hide the way (RFC 6793 §4.1)
		attributes = only(attributes, func(a attribute) bool {
			return a.kind != attrAS4Path && a.kind != attrAS4Aggregator && (a.kind != attrAggregator || !byNobody(a.value))
		})
		if byNobody(u.aggregator) {
			remark = leftOut + "AGGREGATOR"
		}
	}
	size := u.size
	if len(path) > 0 {
		size += len(path) - len(u.path) + len(path)/2 + 3 // AS4_PATH is an attribute of its own
	}
	if size > pathMost && announces {
		return u.withdraw(out, true), fmt.Sprintf("it sent a path with %d bytes of attributes, which is taken for a withdrawal: %d leave room to tell it on", size, pathMost), true
	}
	if announces && len(path) > 4*ownASMost && times(v.s.asn.Load(), path) > ownASMost {
		return u.withdraw(out, true), "", true // as the import policy does with fewer
	}
	if v.inside && len(u.originator) == 4 && v.s.is(netip.AddrFrom4([4]byte(u.originator))) {
		out = u.withdraw(out, false) // gobgp refuses what comes now, as RFC 4456 §8 has it, but leaves what was told before where it was
	}
	switch {
	case announces && (len(u.withdrawn) > 0 || u.unreach != nil):
		u.withdrawn, attributes = u.once(attributes)
	case !changed:
		return append(out, msg...), remark, true
	}
	return frame(out, u.withdrawn, attributes, u.nlri), remark, true
}

// malformedPath is what gobgp's other malformed UPDATEs are said to be (inWords).
var malformedPath = "it sent a malformed UPDATE, which is taken for a withdrawal: " +
	bgp.NewNotificationErrorCode(bgp.BGP_ERROR_UPDATE_MESSAGE_ERROR, bgp.BGP_ERROR_SUB_MALFORMED_AS_PATH).String()

// octets are those of each AS in the neighbour's AS_PATH.
func (v *sieve) octets() int {
	if v.four {
		return 4
	}
	return 2
}

// only are the attributes that are to stay.
func only(attributes []byte, stays func(attribute) bool) (out []byte) {
	for rest := attributes; len(rest) > 0; {
		var a attribute
		if a, rest, _ = cutAttribute(rest); stays(a) {
			out = append(out, a.whole...)
		}
	}
	return out
}

// frame appends an UPDATE.
func frame(out, withdrawn, attributes, nlri []byte) []byte {
	out = append(out, marker[:]...)
	out = binary.BigEndian.AppendUint16(out, uint16(headerLen+2+len(withdrawn)+2+len(attributes)+len(nlri)))
	out = append(out, bgp.BGP_MSG_UPDATE)
	out = append(binary.BigEndian.AppendUint16(out, uint16(len(withdrawn))), withdrawn...)
	out = append(binary.BigEndian.AppendUint16(out, uint16(len(attributes))), attributes...)
	return append(out, nlri...)
}

// ended notes an End-of-RIB.
func (v *sieve) ended(u update) {
	if len(v.owed) == 0 || len(u.withdrawn) > 0 || len(u.nlri) > 0 {
		return
	}
	family := bgp.RF_IPv4_UC
	switch {
	case len(u.attributes) == 0:
	case u.reach == nil && u.size == 0 && len(u.unreach) == 3:
		family = bgp.AfiSafiToRouteFamily(binary.BigEndian.Uint16(u.unreach), u.unreach[2])
	default:
		return
	}
	v.owed = slices.DeleteFunc(v.owed, func(f bgp.RouteFamily) bool { return f == family })
}

// reached are the family and the prefixes of an MP_REACH_NLRI.
func reached(v []byte) (family, prefixes []byte, ok bool) {
	if len(v) < 4 || len(v) < 5+int(v[3]) {
		return nil, nil, false
	}
	return v[:3], v[5+int(v[3]):], true
}

// withdraw appends a withdrawal of what is announced, and with all also of what is withdrawn. Each family is in a message of its
// own: two attributes of one kind are none.
func (u update) withdraw(out []byte, all bool) []byte {
	withdrawn := u.nlri
	if all {
		withdrawn = slices.Concat(u.withdrawn, u.nlri)
	}
	if len(withdrawn) > 0 {
		out = frame(out, withdrawn, nil, nil)
	}
	if family, prefixes, ok := reached(u.reach); ok && len(prefixes) > 0 {
		out = frame(out, nil, unreachable(family, prefixes), nil)
	}
	if all && len(u.unreach) > 3 {
		out = frame(out, nil, unreachable(u.unreach[:3], u.unreach[3:]), nil)
	}
	return out
}

// unreachable is an MP_UNREACH_NLRI.
func unreachable(family, prefixes []byte) []byte {
	n := len(family) + len(prefixes)
	return slices.Concat([]byte{byte(bgp.BGP_ATTR_FLAG_OPTIONAL | bgp.BGP_ATTR_FLAG_EXTENDED_LENGTH), attrUnreach, byte(n >> 8), byte(n)}, family, prefixes)
}

// ipv4Unicast is a family as MP_REACH_NLRI has it.
const ipv4Unicast = "\x00\x01\x01"

// once are the withdrawn prefixes and the attributes without a withdrawal of what is announced in the same UPDATE, which is as if it were not
// there (RFC 4271 §4.3). gobgp has the withdrawal come last.
func (u update) once(attributes []byte) (withdrawn, left []byte) {
	announced := map[string]bool{}
	note := func(family string, p []byte) { announced[family+string(p)] = true }
	eachPrefix(u.nlri, func(p []byte) { note(ipv4Unicast, p) })
	if family, prefixes, ok := reached(u.reach); ok {
		eachPrefix(prefixes, func(p []byte) { note(string(family), p) })
	}
	without := func(family string, prefixes []byte) (left []byte) {
		if !eachPrefix(prefixes, func(p []byte) {
			if !announced[family+string(p)] {
				left = append(left, p...)
			}
		}) {
			return prefixes
		}
		return left
	}
	withdrawn = without(ipv4Unicast, u.withdrawn)
	if len(u.unreach) < 3 {
		return withdrawn, attributes
	}
	family := u.unreach[:3]
	prefixes := without(string(family), u.unreach[3:])
	if len(prefixes) == len(u.unreach)-3 {
		return withdrawn, attributes
	}
	for rest := attributes; len(rest) > 0; {
		var a attribute
		if a, rest, _ = cutAttribute(rest); a.kind != attrUnreach {
			left = append(left, a.whole...)
		} else if len(prefixes) > 0 {
			left = append(left, unreachable(family, prefixes)...)
		}
	}
	return withdrawn, left
}

// eachPrefix gives the prefixes to take, as they came but for bits that mean nothing. It is false where one reaches beyond the end.
func eachPrefix(prefixes []byte, take func([]byte)) bool {
	for len(prefixes) > 0 {
		bits := int(prefixes[0])
		n := 1 + (bits+7)/8
		if len(prefixes) < n {
			return false
		}
		p := slices.Clone(prefixes[:n])
		if bits%8 != 0 {
			p[n-1] &= 0xff << (8 - bits%8)
		}
		take(p)
		prefixes = prefixes[n:]
	}
	return true
}
