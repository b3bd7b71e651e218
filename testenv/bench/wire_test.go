package bench

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

// wire is a NETLINK_ROUTE socket as bare as it gets: the kernel's own price of an object is what is paid through it.
type wire struct {
	fd  int
	seq uint32
	buf []byte
}

func openWire(groups uint32) (*wire, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, err
	}
	w := &wire{fd: fd, buf: make([]byte, 1<<17)}
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 64<<20)
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, 16<<20)
	_ = unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_GET_STRICT_CHK, 1)
	_ = unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_CAP_ACK, 1)
	return w, unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: groups})
}

func (w *wire) close() { _ = unix.Close(w.fd) }

var native = binary.NativeEndian

// route is a message about a route dst/bits, by way of a gateway or, with nhid, of a next hop object.
func route(b []byte, typ, flags uint16, seq uint32, dst netip.Prefix, via netip.Addr, oif int, nhid uint32) []byte {
	start := len(b)
	b = append(b, make([]byte, 16+unix.SizeofRtMsg)...)
	head := b[start+16:]
	head[0], head[1], head[4], head[5], head[7] = unix.AF_INET, uint8(dst.Bits()), unix.RT_TABLE_MAIN, 142, unix.RTN_UNICAST
	four := func(typ uint16, v []byte) {
		b = native.AppendUint16(b, 8)
		b = native.AppendUint16(b, typ)
		b = append(b, v...)
	}
	a := dst.Addr().As4()
	four(unix.RTA_DST, a[:])
	if via.IsValid() {
		g := via.As4()
		four(unix.RTA_GATEWAY, g[:])
	}
	if oif != 0 {
		four(unix.RTA_OIF, native.AppendUint32(nil, uint32(oif)))
	}
	if nhid != 0 {
		four(30 /* RTA_NH_ID */, native.AppendUint32(nil, nhid))
	}
	native.PutUint32(b[start:], uint32(len(b)-start))
	native.PutUint16(b[start+4:], typ)
	native.PutUint16(b[start+6:], flags|unix.NLM_F_REQUEST)
	native.PutUint32(b[start+8:], seq)
	return b
}

// send sends n messages, per of them at a time. With ack each is answered and the answers are read; without, the kernel
// answers errors only, and the last one.
func (w *wire) send(n, per int, ack bool, message func(b []byte, flags uint16, seq uint32, i int) []byte) error {
	b := make([]byte, 0, per*64)
	for first := 0; first < n; first += per {
		last := min(first+per, n)
		b = b[:0]
		answers := 0
		for i := first; i < last; i++ {
			flags := uint16(0)
			if ack || i == n-1 {
				flags = unix.NLM_F_ACK
				answers++
			}
			w.seq++
			b = message(b, flags, w.seq, i)
		}
		if err := unix.Sendto(w.fd, b, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
			return os.NewSyscallError("sendto", err)
		}
		for answers > 0 {
			err := w.receive(func(typ uint16, body []byte) error {
				if typ != unix.NLMSG_ERROR {
					return nil
				}
				answers--
				if code := int32(native.Uint32(body)); code != 0 {
					return fmt.Errorf("the kernel refuses: %w", unix.Errno(-code))
				}
				return nil
			})
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// receive reads one datagram.
func (w *wire) receive(each func(typ uint16, body []byte) error) error {
	n, _, err := unix.Recvfrom(w.fd, w.buf, 0)
	for errors.Is(err, unix.EINTR) { // the runtime's signals end a wait of a socket that has a time limit
		n, _, err = unix.Recvfrom(w.fd, w.buf, 0)
	}
	if err != nil {
		return os.NewSyscallError("recvfrom", err)
	}
	for b := w.buf[:n]; len(b) >= 16; {
		length := int(native.Uint32(b))
		if err := each(native.Uint16(b[4:]), b[16:length]); err != nil {
			return err
		}
		b = b[min((length+3)&^3, len(b)):]
	}
	return nil
}

// dump reads all routes of the main table and counts those of netd's protocol: the least that reading back can cost.
func (w *wire) dump() (routes int, err error) {
	err = w.read(func(body []byte) {
		if body[5] == 142 {
			routes++
		}
	})
	return routes, err
}

// each calls f with every route of netd's.
func (w *wire) each(f func(heldRoute)) error {
	return w.read(func(body []byte) {
		if body[5] == 142 {
			f(parseRoute(body))
		}
	})
}

func (w *wire) read(each func(body []byte)) error {
	w.seq++
	b := make([]byte, 16+unix.SizeofRtMsg)
	b[16], b[16+4] = unix.AF_INET, unix.RT_TABLE_MAIN
	native.PutUint32(b, uint32(len(b)))
	native.PutUint16(b[4:], unix.RTM_GETROUTE)
	native.PutUint16(b[6:], unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	native.PutUint32(b[8:], w.seq)
	if err := unix.Sendto(w.fd, b, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return os.NewSyscallError("sendto", err)
	}
	for done := false; !done; {
		err := w.receive(func(typ uint16, body []byte) error {
			switch typ {
			case unix.NLMSG_DONE:
				done = true
			case unix.RTM_NEWROUTE:
				each(body)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}
