package kernel

import (
	"net/netip"

	"golang.org/x/sys/unix"

	"netd/reconcile/object"
)

// heldHop is one way of a multipath route.
type heldHop struct {
	via    netip.Addr
	oif    int
	weight int
	onlink bool
}

// decodeHops reads the struct rtnexthop of RTA_MULTIPATH (include/uapi/linux/rtnetlink.h): length, flags, weight less one,
// output link, attributes. Flags that tell of the link's state come and go by themselves and do not count.
func decodeHops(b []byte) []heldHop {
	var out []heldHop
	for len(b) >= unix.SizeofRtNexthop {
		n := int(native.Uint16(b))
		if n < unix.SizeofRtNexthop || n > len(b) {
			break
		}
		h := heldHop{oif: int(native.Uint32(b[4:])), weight: int(b[3]) + 1, onlink: b[2]&unix.RTNH_F_ONLINK != 0}
		for a := b[unix.SizeofRtNexthop:n]; len(a) >= 4; {
			m := int(native.Uint16(a))
			if m < 4 || m > len(a) {
				break
			}
			if native.Uint16(a[2:])&typeMask == unix.RTA_GATEWAY {
				h.via = attribute{unix.RTA_GATEWAY, a[4:m]}.addr()
			}
			a = a[min(align(m), len(a)):]
		}
		out = append(out, h)
		b = b[min(align(n), len(b)):]
	}
	return out
}

// encodeHops is RTA_MULTIPATH of a wanted route.
func encodeHops(b *batch, p place, hops string) error {
	ways, err := object.ParseHops(hops)
	if err != nil {
		return err
	}
	var body []byte
	for _, h := range ways {
		index, err := p.links.index(h.Dev)
		if err != nil {
			return err
		}
		gateway := h.Via.AsSlice()
		head := make([]byte, unix.SizeofRtNexthop+4, unix.SizeofRtNexthop+4+len(gateway))
		native.PutUint16(head, uint16(cap(head)))
		if h.Onlink {
			head[2] = unix.RTNH_F_ONLINK
		}
		head[3] = uint8(max(h.Weight, 1) - 1)
		native.PutUint32(head[4:], uint32(index))
		native.PutUint16(head[unix.SizeofRtNexthop:], uint16(4+len(gateway)))
		native.PutUint16(head[unix.SizeofRtNexthop+2:], unix.RTA_GATEWAY)
		body = append(append(body, head...), gateway...)
	}
	b.attr(unix.RTA_MULTIPATH, body)
	return nil
}

// ways are the next hops of a route, one or several.
func (h heldRoute) ways() []heldHop {
	if len(h.hops) > 0 {
		return h.hops
	}
	return []heldHop{{via: h.via, oif: h.oif, onlink: h.onlink}}
}
