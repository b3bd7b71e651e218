package kernel

import (
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
	return nil, nil, fmt.Errorf("a set of type %q", typ)
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
