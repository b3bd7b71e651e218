package kernel

import (
	"encoding/binary"
	"iter"
	"net/netip"

	"golang.org/x/sys/unix"
)

// family is the address family of an address, as rtnetlink numbers it.
func family(a netip.Addr) uint8 {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

// native is the byte order of rtnetlink's integers: the machine's.
var native = binary.NativeEndian

func align(n int) int { return (n + 3) &^ 3 }

// encoder appends rtnetlink attributes (struct rtattr: length, type, payload, padded to 4) to a buffer.
type encoder struct{ b []byte }

func (e *encoder) raw(p ...byte) { e.b = append(e.b, p...) }

// ifinfo appends the head of a message about a link (struct ifinfomsg): which one by its index, 0 where its name says that, and which
// of its flags are to be as they are in flags.
func (e *encoder) ifinfo(index int, flags, change uint32) {
	var head [unix.SizeofIfInfomsg]byte
	native.PutUint32(head[4:], uint32(index))
	native.PutUint32(head[8:], flags)
	native.PutUint32(head[12:], change)
	e.raw(head[:]...)
}

func (e *encoder) attr(typ uint16, data []byte) {
	e.b = native.AppendUint16(e.b, uint16(4+len(data)))
	e.b = native.AppendUint16(e.b, typ)
	e.b = append(e.b, data...)
	for len(e.b)%4 != 0 {
		e.b = append(e.b, 0)
	}
}

func (e *encoder) u32(typ uint16, v uint32) {
	var data [4]byte
	native.PutUint32(data[:], v)
	e.attr(typ, data[:])
}

func (e *encoder) u8(typ uint16, v uint8) { e.attr(typ, []byte{v}) }

func (e *encoder) addr(typ uint16, a netip.Addr) {
	if a.Is4() {
		b := a.As4()
		e.attr(typ, b[:])
		return
	}
	b := a.As16()
	e.attr(typ, b[:])
}

// attribute is one decoded attribute; data points into the message.
type attribute struct {
	typ  uint16
	data []byte
}

const typeMask = 0x3fff // less NLA_F_NESTED and NLA_F_NET_BYTEORDER

// attributes walks the attributes of a message. It stops at the first that does not fit.
func attributes(b []byte) iter.Seq[attribute] {
	return func(yield func(attribute) bool) {
		for len(b) >= 4 {
			n := int(native.Uint16(b))
			if n < 4 || n > len(b) {
				return
			}
			if !yield(attribute{native.Uint16(b[2:]) & typeMask, b[4:n]}) {
				return
			}
			b = b[min(align(n), len(b)):]
		}
	}
}

func (a attribute) u32() uint32 {
	if len(a.data) < 4 {
		return 0
	}
	return native.Uint32(a.data)
}

func (a attribute) addr() netip.Addr {
	addr, _ := netip.AddrFromSlice(a.data)
	return addr
}

// text is a C string.
func text(b []byte) string {
	for i, c := range b {
		if c == 0 {
			return string(b[:i])
		}
	}
	return string(b)
}
