// Package mmsg reads many datagrams of a netlink socket in one system call (recvmmsg(2)). The kernel makes a datagram of each
// object that it answers with or tells of, and a call for each costs more than what is in it.
package mmsg

import (
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Most is how many datagrams one call takes.
const Most = 64

const waitForOne = 0x10000 // MSG_WAITFORONE: waits for the first alone

// Reader is where datagrams are read to. It serves one goroutine.
type Reader struct {
	headers [Most]struct { // struct mmsghdr
		unix.Msghdr
		n uint32
	}
	parts   [Most]unix.Iovec
	from    [Most]unix.RawSockaddrNetlink
	buf     []byte
	control []byte
	size    int
}

// New reads datagrams into equal parts of buf, and their ancillary data, of which there may be none, into equal parts of control.
func New(buf, control []byte) *Reader {
	r := &Reader{buf: buf, control: control, size: len(buf) / Most}
	for i := range r.headers {
		h := &r.headers[i].Msghdr
		r.parts[i].Base = &buf[i*r.size]
		r.parts[i].SetLen(r.size)
		h.Iov, h.Name = &r.parts[i], (*byte)(unsafe.Pointer(&r.from[i]))
		h.SetIovlen(1)
		if len(control) > 0 {
			h.Control = &control[i*len(control)/Most]
		}
	}
	return r
}

// Datagram is one that was read. What it holds is overwritten by the next Read.
type Datagram struct {
	Data    []byte
	Control []byte // ancillary data
	Kernel  bool   // it is from the kernel itself
	Long    bool   // there was more of it than the reader has room for, which is lost
}

// Read reads what is there, up to Most datagrams, and gives each to take until that fails. Where there is none it waits for one as
// the socket does. Its own error is one of recvmmsg.
func (r *Reader) Read(fd int, take func(Datagram) error) error {
	room := len(r.control) / Most
	for i := range r.headers {
		h := &r.headers[i].Msghdr
		h.Namelen = unix.SizeofSockaddrNetlink
		h.SetControllen(room)
	}
	n, _, errno := unix.Syscall6(unix.SYS_RECVMMSG, uintptr(fd), uintptr(unsafe.Pointer(&r.headers[0])), Most, waitForOne, 0, 0)
	if errno != 0 {
		return os.NewSyscallError("recvmmsg", errno)
	}
	for i := range int(n) {
		h := &r.headers[i]
		d := Datagram{Data: r.buf[i*r.size:][:min(int(h.n), r.size)], Kernel: r.from[i].Pid == 0, Long: h.Flags&unix.MSG_TRUNC != 0}
		if room > 0 {
			d.Control = r.control[i*room:][:min(int(h.Controllen), room)]
		}
		if err := take(d); err != nil {
			return err
		}
	}
	return nil
}
