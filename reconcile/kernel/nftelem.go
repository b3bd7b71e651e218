package kernel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"netd/reconcile/object"
)

// elemKey is the key of a set's element as the kernel has it; for a prefix its first address, and end the one behind its
// last.
func elemKey(typ, elem string) (key, end []byte, err error) {
	switch typ {
	case "ifname":
		name, err := strconv.Unquote(elem)
		return nameKey(name), nil, err
	case "ipv4_addr", "ipv6_addr":
		if first, last, ok := strings.Cut(elem, "-"); ok { // a stranger's, to be removed
			a, err := netip.ParseAddr(first)
			b, err2 := netip.ParseAddr(last)
			return a.AsSlice(), b.Next().AsSlice(), errors.Join(err, err2)
		}
		p, err := netip.ParsePrefix(elem)
		if !strings.Contains(elem, "/") {
			var a netip.Addr
			a, err = netip.ParseAddr(elem)
			p = netip.PrefixFrom(a, a.BitLen())
		}
		if err != nil {
			return nil, nil, err
		}
		return p.Addr().AsSlice(), object.Last(p).Next().AsSlice(), nil
	}
	types, values := strings.Split(typ, " . "), strings.Split(elem, " . ")
	if len(types) != len(values) || len(types) < 2 {
		return nil, nil, fmt.Errorf("a set of type %q", typ)
	}
	for i, t := range types {
		part, err := partKey(t, values[i])
		if err != nil {
			return nil, nil, err
		}
		key = append(append(key, part...), make([]byte, -len(part)&3)...)
	}
	return key, nil, nil
}

// partKey is one value of several: each begins at a multiple of 4 bytes.
func partKey(typ, value string) ([]byte, error) {
	switch typ {
	case "ifname":
		name, err := strconv.Unquote(value)
		return nameKey(name), err
	case "inet_proto":
		n, known := l4Protocols[value]
		if !known {
			return nil, fmt.Errorf("unknown protocol %q", value)
		}
		return []byte{n}, nil
	case "inet_service":
		n, err := strconv.ParseUint(value, 10, 16)
		return binary.BigEndian.AppendUint16(nil, uint16(n)), err
	case "ipv4_addr", "ipv6_addr":
		a, err := netip.ParseAddr(value)
		return a.AsSlice(), err
	}
	return nil, fmt.Errorf("a value of type %q", typ)
}

// partText is the inverse of partKey, and says how many bytes it read; 0: not such a value.
func partText(typ string, b []byte) (value string, n int) {
	switch length := map[string]int{"ifname": unix.IFNAMSIZ, "inet_proto": 4, "inet_service": 4, "ipv4_addr": 4, "ipv6_addr": 16}[typ]; {
	case length == 0 || len(b) < length:
		return "", 0
	case typ == "ifname":
		return strconv.Quote(text(b[:length])), length
	case typ == "inet_service":
		return strconv.Itoa(int(binary.BigEndian.Uint16(b))), length
	case typ == "inet_proto":
		for name, n := range l4Protocols {
			if n == b[0] {
				return name, length
			}
		}
		return strconv.Itoa(int(b[0])), length
	default:
		a, _ := netip.AddrFromSlice(b[:length])
		return a.String(), length
	}
}

// elemText is the inverse of elemKey for single keys.
func elemText(typ string, key []byte) string {
	if typ == "ifname" && len(key) == unix.IFNAMSIZ {
		return strconv.Quote(text(key))
	}
	if types := strings.Split(typ, " . "); len(types) > 1 {
		values, rest := []string(nil), key
		for _, t := range types {
			value, n := partText(t, rest)
			if n == 0 {
				return fmt.Sprintf("0x%x", key)
			}
			values, rest = append(values, value), rest[n:]
		}
		return strings.Join(values, " . ")
	}
	if a, ok := netip.AddrFromSlice(key); ok {
		return a.String()
	}
	return fmt.Sprintf("0x%x", key)
}

// rangeText spells the addresses from first to end, which is invalid where it is the last there is.
func rangeText(first, end netip.Addr) string {
	for bits := first.BitLen(); bits >= 0; bits-- {
		p := netip.PrefixFrom(first, bits)
		l := object.Last(p)
		if p.Masked() != p || end.IsValid() && end.Less(l) {
			break
		}
		if l == end || !end.IsValid() && !l.Next().IsValid() {
			if p.IsSingleIP() {
				return first.String()
			}
			return p.String()
		}
	}
	return first.String() + "-" + addrOrLast(first, end).String()
}

func addrOrLast(first, end netip.Addr) netip.Addr {
	if end.IsValid() {
		return end
	}
	return object.Last(netip.PrefixFrom(first, 0))
}

// isMap is between what a map leads from and what it leads to, in its type and in its elements.
const isMap = " : "

// mappedText is the text of an element of a set, or of a map, where it leads to something.
func mappedText(typ string, key, to []byte) string {
	typ, toType, mapped := strings.Cut(typ, isMap)
	if !mapped {
		return elemText(typ, key)
	}
	return elemText(typ, key) + isMap + elemText(toType, to)
}

// mappedKey is elemKey of an element of a set or of a map.
func mappedKey(typ, elem string) (key, to, end []byte, err error) {
	typ, toType, mapped := strings.Cut(typ, isMap)
	elem, toElem, _ := strings.Cut(elem, isMap)
	if key, end, err = elemKey(typ, elem); mapped && err == nil {
		to, _, err = elemKey(toType, toElem)
	}
	return key, to, end, err
}

// eachElem calls f with each element in a message: its key, what that leads to in a map, and whether a range ends there.
func eachElem(body []byte, f func(key, to []byte, end bool)) {
	for list := range attributes(body[4:]) {
		if list.typ != unix.NFTA_SET_ELEM_LIST_ELEMENTS {
			continue
		}
		for elem := range attributes(list.data) {
			f(decodeElem(elem.data))
		}
	}
}

func decodeElem(b []byte) (key, to []byte, end bool) {
	for a := range attributes(b) {
		switch a.typ {
		case unix.NFTA_SET_ELEM_KEY:
			for v := range attributes(a.data) {
				key = append([]byte(nil), v.data...)
			}
		case unix.NFTA_SET_ELEM_DATA:
			for v := range attributes(a.data) {
				to = append([]byte(nil), v.data...)
			}
		case unix.NFTA_SET_ELEM_FLAGS:
			end = be32(a.data)&unix.NFT_SET_ELEM_INTERVAL_END != 0
		}
	}
	return key, to, end
}

// elem appends an element to a list, of a map where it leads to something.
func (list *encoder) elem(key, to []byte, flags uint32) {
	var elem encoder
	value := func(typ uint16, v []byte) {
		var data encoder
		data.attr(unix.NFTA_DATA_VALUE, v)
		elem.attr(typ|unix.NLA_F_NESTED, data.b)
	}
	value(unix.NFTA_SET_ELEM_KEY, key)
	if to != nil {
		value(unix.NFTA_SET_ELEM_DATA, to)
	}
	if flags != 0 {
		elem.attr(unix.NFTA_SET_ELEM_FLAGS, binary.BigEndian.AppendUint32(nil, flags))
	}
	list.attr(unix.NFTA_LIST_ELEM|unix.NLA_F_NESTED, elem.b)
}

// elems appends a list of elements of a set to a message.
func (b *batch) elems(s object.NftSet, list encoder) {
	b.attr(unix.NFTA_SET_ELEM_LIST_TABLE, cString(s.Table.Name))
	b.attr(unix.NFTA_SET_ELEM_LIST_SET, cString(s.Name))
	b.attr(unix.NFTA_SET_ELEM_LIST_ELEMENTS|unix.NLA_F_NESTED, list.b)
}
