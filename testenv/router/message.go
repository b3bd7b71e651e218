package router

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"time"
)

// Types of BGP messages (RFC 4271 §4.1).
const (
	TypeOpen         = 1
	TypeUpdate       = 2
	TypeNotification = 3
	TypeKeepalive    = 4
	TypeRefresh      = 5 // RFC 2918
)

// Message is a message as it came: its type and what follows the header.
type Message struct {
	Type byte
	Body []byte
}

// Frame is a whole message: marker, length, type, body.
func Frame(typ byte, body []byte) []byte {
	b := make([]byte, 19, 19+len(body))
	for i := range 16 {
		b[i] = 0xff
	}
	binary.BigEndian.PutUint16(b[16:], uint16(19+len(body)))
	b[18] = typ
	return append(b, body...)
}

// Keepalive is the message of that name.
func Keepalive() []byte { return Frame(TypeKeepalive, nil) }

// Open is an OPEN. The AS goes into the capability of four octets too (RFC 6793), but for TwoOctet.
type Open struct {
	ASN      uint32
	ID       netip.Addr
	HoldTime time.Duration
	Restart  time.Duration // graceful restart is offered where it is not 0
	IPv6     bool
	TwoOctet bool // it knows no AS of four octets
}

// Bytes is the whole message.
func (o Open) Bytes() []byte {
	capability := func(code byte, value ...byte) []byte { return append([]byte{code, byte(len(value))}, value...) }
	caps := capability(1, 0, 1, 0, 1) // IPv4 unicast
	if o.IPv6 {
		caps = append(caps, capability(1, 0, 2, 0, 1)...)
	}
	caps = append(caps, capability(2)...) // route refresh
	if !o.TwoOctet {
		caps = append(caps, capability(65, binary.BigEndian.AppendUint32(nil, o.ASN)...)...)
	}
	if o.Restart != 0 {
		gr := binary.BigEndian.AppendUint16(nil, uint16(o.Restart/time.Second)&0xfff)
		caps = append(caps, capability(64, append(gr, 0, 1, 1, 0x80)...)...)
	}
	as := uint16(23456) // AS_TRANS
	if o.ASN < 1<<16 {
		as = uint16(o.ASN)
	}
	body := binary.BigEndian.AppendUint16([]byte{4}, as)
	body = binary.BigEndian.AppendUint16(body, uint16(o.HoldTime/time.Second))
	body = append(body, o.ID.AsSlice()...)
	body = append(body, byte(2+len(caps)), 2, byte(len(caps)))
	return Frame(TypeOpen, append(body, caps...))
}

// Flags of a path attribute.
const (
	Optional   = 0x80
	Transitive = 0x40
)

// Attribute is a path attribute.
func Attribute(flags, typ byte, value ...byte) []byte {
	if len(value) > 255 {
		return append([]byte{flags | 0x10, typ, byte(len(value) >> 8), byte(len(value))}, value...)
	}
	return append([]byte{flags, typ, byte(len(value))}, value...)
}

// Origin is ORIGIN: IGP.
func Origin() []byte { return Attribute(Transitive, 1, 0) }

// ASPath is AS_PATH, one sequence of numbers of four octets. Without any it is empty.
func ASPath(as ...uint32) []byte {
	if len(as) == 0 {
		return Attribute(Transitive, 2)
	}
	v := []byte{2, byte(len(as))}
	for _, a := range as {
		v = binary.BigEndian.AppendUint32(v, a)
	}
	return Attribute(Transitive, 2, v...)
}

// NextHop is NEXT_HOP.
func NextHop(a netip.Addr) []byte { return Attribute(Transitive, 3, a.AsSlice()...) }

// LocalPref is LOCAL_PREF.
func LocalPref(n uint32) []byte {
	return Attribute(Transitive, 5, binary.BigEndian.AppendUint32(nil, n)...)
}

// Prefixes are prefixes as UPDATE and its attributes carry them.
func Prefixes(ps ...netip.Prefix) []byte {
	var b []byte
	for _, p := range ps {
		b = append(b, byte(p.Bits()))
		b = append(b, p.Masked().Addr().AsSlice()[:(p.Bits()+7)/8]...)
	}
	return b
}

// Update is an UPDATE. Without arguments it is the End-of-RIB of IPv4 (RFC 4724 §2).
func Update(withdrawn []netip.Prefix, attributes []byte, announced ...netip.Prefix) []byte {
	w := Prefixes(withdrawn...)
	body := binary.BigEndian.AppendUint16(nil, uint16(len(w)))
	body = append(body, w...)
	body = binary.BigEndian.AppendUint16(body, uint16(len(attributes)))
	body = append(body, attributes...)
	return Frame(TypeUpdate, append(body, Prefixes(announced...)...))
}

// Announce is what a decent neighbour says of its prefixes.
func Announce(nextHop netip.Addr, path []uint32, ps ...netip.Prefix) []byte {
	return Update(nil, slices.Concat(Origin(), ASPath(path...), NextHop(nextHop), LocalPref(100)), ps...)
}

// EndOfRIB says that all was announced.
func EndOfRIB() []byte { return Update(nil, nil) }
