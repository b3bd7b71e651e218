package kernel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// elemKey is the key of a set's element as the kernel has it; for a prefix its first address, and end the one behind its
// last.
func elemKey(typ, elem string) (key, end []byte, err error) {
	switch typ {
	case "ifname":
		name, err := strconv.Unquote(elem)
		return nameKey(name), nil, err
	case "ifname . ipv4_addr", "ifname . ipv6_addr":
		quoted, addr, _ := strings.Cut(elem, " . ")
		name, err := strconv.Unquote(quoted)
		if err != nil {
			return nil, nil, err
		}
		a, err := netip.ParseAddr(addr)
		return append(nameKey(name), a.AsSlice()...), nil, err
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
		return p.Addr().AsSlice(), last(p).Next().AsSlice(), nil
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
	switch length := map[string]int{"inet_proto": 4, "inet_service": 4, "ipv4_addr": 4, "ipv6_addr": 16}[typ]; {
	case length == 0 || len(b) < length:
		return "", 0
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
	switch {
	case typ == "ifname" && len(key) == unix.IFNAMSIZ:
		return strconv.Quote(text(key))
	case strings.HasPrefix(typ, "ifname . ") && len(key) > unix.IFNAMSIZ:
		a, _ := netip.AddrFromSlice(key[unix.IFNAMSIZ:])
		return strconv.Quote(text(key[:unix.IFNAMSIZ])) + " . " + a.String()
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

// last is the last address of a prefix.
func last(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < 8*len(b); i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// rangeText spells the addresses from first to end, which is invalid where it is the last there is.
func rangeText(first, end netip.Addr) string {
	for bits := first.BitLen(); bits >= 0; bits-- {
		p := netip.PrefixFrom(first, bits)
		l := last(p)
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
	return last(netip.PrefixFrom(first, 0))
}
