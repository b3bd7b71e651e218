package watch

import (
	"iter"

	"golang.org/x/sys/unix"
)

// attribute is one attribute of a netlink message; data points into the message.
type attribute struct {
	typ  uint16
	data []byte
}

func (a attribute) u32() uint32 {
	if len(a.data) < 4 {
		return 0
	}
	return native.Uint32(a.data)
}

// attributes walks the attributes of a message. It stops at the first that does not fit.
func attributes(b []byte) iter.Seq[attribute] {
	return func(yield func(attribute) bool) {
		for len(b) >= 4 {
			n := int(native.Uint16(b))
			if n < 4 || n > len(b) || !yield(attribute{native.Uint16(b[2:]) & 0x3fff, b[4:n]}) {
				return
			}
			b = b[min((n+3)&^3, len(b)):]
		}
	}
}

func text(b []byte) string { return unix.ByteSliceToString(b) }

// names finds links' names by their index, in the namespace in which it was made.
type names struct{ fd int }

func newNames() (*names, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	return &names{fd}, err
}

func (n *names) close() { _ = unix.Close(n.fd) }

// of is the name that a link has now; false where there is no such link (any more).
func (n *names) of(index uint32) (string, bool) {
	ifr, err := unix.NewIfreq("")
	if err != nil {
		return "", false
	}
	ifr.SetUint32(index)
	if err := unix.IoctlIfreq(n.fd, unix.SIOCGIFNAME, ifr); err != nil {
		return "", false
	}
	return ifr.Name(), true
}
