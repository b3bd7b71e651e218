package kernel

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"

	"netd/reconcile/mmsg"
)

// conn is a NETLINK_ROUTE socket that sends many requests at a time and reads what comes of them. The library makes one
// system call pair a request (73,000 routes a second); batches of 512 reach four times that. It serves one goroutine.
type conn struct {
	fd   int
	seq  uint32
	buf  []byte
	many *mmsg.Reader
	room int // bytes of the receive buffer, as the kernel counts them
}

// AfterWrite, where it is set, is called after each write to the kernel, which is one send, whatever is in it. Tests that kill
// netd between any two set it.
var AfterWrite func()

func wrote() {
	if AfterWrite != nil {
		AfterWrite()
	}
}

const (
	batchMost  = 512     // requests in one send
	batchBytes = 1 << 17 // and bytes: the kernel allocates a send in one piece
	answerRoom = 2 << 10 // what an answer takes of the receive buffer, the kernel's own record of it (some 700 bytes) with it
	rcvBuffer  = 8 << 20
	sndBuffer  = 16 << 20 // a transaction of nftables is one send, whatever its size
)

// dial opens a NETLINK_ROUTE socket in the network namespace of the calling thread.
func dial() (*conn, error) { return dialProtocol(unix.NETLINK_ROUTE, 0) }

// dialOwn opens a socket by whose address events are told to be netd's own, those of other namespaces among them: nobody there
// is to have the same one, by chance or guessing. The kernel gives sockets the numbers of processes, of which there are at most 2²².
func dialOwn(protocol int) (*conn, error) {
	for {
		c, err := dialProtocol(protocol, 1<<22+1+rand.Uint32N(1<<31-1<<22-1))
		if !errors.Is(err, unix.EADDRINUSE) {
			return c, err
		}
	}
}

// dialProtocol opens a socket with an address of netlink; 0: the kernel chooses.
func dialProtocol(protocol int, port uint32) (*conn, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, protocol)
	if err != nil {
		return nil, fmt.Errorf("opening a netlink socket: %w", err)
	}
	c := &conn{fd: fd, buf: *buffers.Get().(*[]byte)}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Pid: port}); err != nil {
		c.close()
		return nil, fmt.Errorf("binding a netlink socket: %w", err)
	}
	c.hold(rcvBuffer)
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, sndBuffer) != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, 4*batchBytes)
	}
	// All three are of kernels that netd needs anyway (4.20): texts with errors, no echo of requests, filters that count.
	for _, option := range []int{unix.NETLINK_EXT_ACK, unix.NETLINK_CAP_ACK, unix.NETLINK_GET_STRICT_CHK} {
		_ = unix.SetsockoptInt(fd, unix.SOL_NETLINK, option, 1)
	}
	// An answer that never comes must not hang the daemon.
	_ = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 30})
	return c, nil
}

// hold sets the receive buffer. Without CAP_NET_ADMIN over the machine, as in a user namespace, it is what net.core.rmem_max allows,
// 208 KiB on many hosts, of which the kernel makes twice as much.
func (c *conn) hold(bytes int) {
	if unix.SetsockoptInt(c.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, bytes) != nil {
		_ = unix.SetsockoptInt(c.fd, unix.SOL_SOCKET, unix.SO_RCVBUF, bytes)
	}
	c.room, _ = unix.GetsockoptInt(c.fd, unix.SOL_SOCKET, unix.SO_RCVBUF)
}

// dialAt opens a socket in the network namespace at path. The descriptor of the namespace is closed again; the socket
// keeps the namespace alive, so it is to be closed soon.
func dialAt(path string) (*conn, error) {
	var c *conn
	err := inNetns(path, func() (err error) {
		c, err = dial()
		return err
	})
	return c, err
}

// inNetns runs f on a thread that is in the network namespace at path.
func inNetns(path string, f func() error) error {
	target, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("opening the network namespace %s: %w", path, err)
	}
	defer unix.Close(target)
	runtime.LockOSThread()
	home, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("opening the own network namespace: %w", err)
	}
	defer unix.Close(home)
	if err := unix.Setns(target, unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("entering the network namespace %s: %w", path, err)
	}
	ferr := f()
	if err := unix.Setns(home, unix.CLONE_NEWNET); err != nil {
		// The thread is lost in a foreign namespace: still locked, it ends with the goroutine.
		return errors.Join(ferr, fmt.Errorf("leaving the network namespace %s: %w", path, err))
	}
	runtime.UnlockOSThread()
	return ferr
}

func (c *conn) close() {
	_ = unix.Close(c.fd)
	buffers.Put(&c.buf)
}

// buffers are for what is read: a socket in a container's namespace lives for moments.
var buffers = sync.Pool{New: func() any { b := make([]byte, 1<<17); return &b }}

// portid is the socket's address, which events that it causes carry.
func (c *conn) portid() uint32 {
	sa, err := unix.Getsockname(c.fd)
	if err != nil {
		return 0
	}
	if nl, ok := sa.(*unix.SockaddrNetlink); ok {
		return nl.Pid
	}
	return 0
}

// batch is messages: begin one, append its payload by the methods of encoder, end it.
type batch struct {
	encoder
	starts []int
	asks   bool // and changes nothing
}

// begin starts a message; end ends it.
func (b *batch) begin(typ, flags uint16) {
	b.starts = append(b.starts, len(b.b))
	b.b = append(b.b, make([]byte, unix.SizeofNlMsghdr)...)
	h := (*unix.NlMsghdr)(unsafe.Pointer(&b.b[b.starts[len(b.starts)-1]]))
	h.Type, h.Flags = typ, flags|unix.NLM_F_REQUEST|unix.NLM_F_ACK
}

func (b *batch) end() {
	start := b.starts[len(b.starts)-1]
	h := (*unix.NlMsghdr)(unsafe.Pointer(&b.b[start]))
	h.Len = uint32(len(b.b) - start)
}

// failure is the first message of a transaction that the kernel refused, and why.
type failure struct {
	at  int
	err error
}

// transact sends a batch that the kernel takes whole or not at all, in one datagram: its first and last message are the
// frame and not answered, unless the frame itself is refused. Of the others those are that fail, and the last in any case.
func (c *conn) transact(b *batch) failure {
	last := len(b.starts) - 2
	base := c.seq + 1
	for i, start := range b.starts {
		c.seq++
		h := (*unix.NlMsghdr)(unsafe.Pointer(&b.b[start]))
		h.Seq = c.seq
		if i != last {
			h.Flags &^= unix.NLM_F_ACK
		}
	}
	if err := unix.Sendto(c.fd, b.b, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return failure{0, fmt.Errorf("sending to the kernel: %w", err)}
	}
	wrote()
	var first failure
	for done := last < 1; !done; {
		err := c.receive(func(h *unix.NlMsghdr, body []byte) error {
			if h.Type != unix.NLMSG_ERROR || h.Seq-base >= uint32(len(b.starts)) { // or of an earlier send
				return nil
			}
			at := int(h.Seq - base)
			if err := answer(h, body); err != nil && first.err == nil {
				first = failure{at, err}
			}
			done = done || at == 0 || at >= last // of the frame nothing more comes
			return nil
		})
		if err != nil {
			return failure{0, fmt.Errorf("reading the kernel's answer: %w", err)}
		}
	}
	return first
}

// run sends all messages, many at a time, and returns the kernel's error of each. found, where it is set, is given the objects with
// which messages are answered: of a question what was asked for, of a change with NLM_F_ECHO what it made.
func (c *conn) run(b *batch, found func(i int, body []byte)) []error {
	errs := make([]error, len(b.starts))
	// What is answered must fit into the receive buffer. Few answers are longer than answerRoom; where they do not fit that is an error.
	most, bytes := min(batchMost, c.room/answerRoom), min(batchBytes, c.room/4)
	for first := 0; first < len(b.starts); {
		last := first + 1
		for last < len(b.starts) && last-first < most && b.offset(last+1)-b.starts[first] <= bytes {
			last++
		}
		c.exchange(b, first, last, errs, found)
		first = last
	}
	return errs
}

func (b *batch) offset(i int) int {
	if i >= len(b.starts) {
		return len(b.b)
	}
	return b.starts[i]
}

// exchange sends messages in one datagram. The kernel takes them one after the other, tells of each that failed, and of the last
// one in any case: nothing comes after that (net/netlink/af_netlink.c, netlink_rcv_skb).
func (c *conn) exchange(b *batch, first, last int, errs []error, found func(i int, body []byte)) {
	base := c.seq + 1
	for i := first; i < last; i++ {
		c.seq++
		h := (*unix.NlMsghdr)(unsafe.Pointer(&b.b[b.starts[i]]))
		h.Seq = c.seq
		if i < last-1 {
			h.Flags &^= unix.NLM_F_ACK
		}
	}
	fail := func(err error) {
		for i := first; i < last; i++ {
			if errs[i] == nil {
				errs[i] = err
			}
		}
	}
	if err := unix.Sendto(c.fd, b.b[b.starts[first]:b.offset(last)], 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		fail(fmt.Errorf("sending to the kernel: %w", err))
		return
	}
	if !b.asks {
		wrote()
	}
	for done := false; !done; {
		err := c.receiveMany(func(h *unix.NlMsghdr, body []byte) error {
			switch i := first + int(h.Seq-base); {
			case h.Seq-base >= uint32(last-first): // of an earlier send
			case h.Type == unix.NLMSG_ERROR:
				errs[i] = answer(h, body)
				done = done || i == last-1
			case found != nil:
				found(i, body)
			}
			return nil
		})
		if err != nil {
			fail(fmt.Errorf("reading the kernel's answer: %w", err))
			return
		}
	}
}

// answer is the error in an NLMSG_ERROR message: an errno, and where the kernel says so a text.
func answer(h *unix.NlMsghdr, body []byte) error {
	if len(body) < 4 {
		return errors.New("short answer from the kernel")
	}
	code := -int32(native.Uint32(body))
	if code == 0 {
		return nil
	}
	errno := unix.Errno(code)
	if h.Flags&unix.NLM_F_ACK_TLVS != 0 && len(body) >= 4+unix.SizeofNlMsghdr {
		skip := 4 + unix.SizeofNlMsghdr // CAP_ACK: the request's header only
		if h.Flags&unix.NLM_F_CAPPED == 0 {
			skip = 4 + align(int(native.Uint32(body[4:])))
		}
		if skip <= len(body) {
			for a := range attributes(body[skip:]) {
				if a.typ == unix.NLMSGERR_ATTR_MSG {
					return fmt.Errorf("%w (%s)", errno, text(a.data))
				}
			}
		}
	}
	return errno
}

// receive reads one datagram and calls each with its messages.
func (c *conn) receive(each func(h *unix.NlMsghdr, body []byte) error) error {
	for {
		n, _, _, from, err := unix.Recvmsg(c.fd, c.buf, nil, unix.MSG_TRUNC)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			c.drain(err)
			return os.NewSyscallError("recvmsg", err)
		}
		if n > len(c.buf) {
			return fmt.Errorf("a message of %d bytes", n)
		}
		if nl, ok := from.(*unix.SockaddrNetlink); ok && nl.Pid != 0 {
			continue // not from the kernel
		}
		return messages(c.buf[:n], each)
	}
}

// receiveMany is receive of as many datagrams as are there, of 2 KiB at most. Longer ones, of an object with very many parts, are not
// given to each.
func (c *conn) receiveMany(each func(h *unix.NlMsghdr, body []byte) error) error {
	if c.many == nil {
		c.many = mmsg.New(c.buf, nil)
	}
	err := c.many.Read(c.fd, func(d mmsg.Datagram) error {
		if !d.Kernel || d.Long {
			return nil
		}
		return messages(d.Data, each)
	})
	if errors.Is(err, unix.EINTR) {
		return nil
	}
	c.drain(err)
	return err
}

// drain reads the socket empty where answers were lost: until then the kernel drops all further ones, without another word
// (net/netlink/af_netlink.c, netlink_overrun).
func (c *conn) drain(err error) {
	if !errors.Is(err, unix.ENOBUFS) {
		return
	}
	for err == nil || errors.Is(err, unix.ENOBUFS) || errors.Is(err, unix.EINTR) {
		_, _, err = unix.Recvfrom(c.fd, c.buf, unix.MSG_DONTWAIT)
	}
}

func messages(b []byte, each func(h *unix.NlMsghdr, body []byte) error) error {
	for len(b) >= unix.SizeofNlMsghdr {
		h := (*unix.NlMsghdr)(unsafe.Pointer(&b[0]))
		if int(h.Len) < unix.SizeofNlMsghdr || int(h.Len) > len(b) {
			return errors.New("a message that does not fit")
		}
		if err := each(h, b[unix.SizeofNlMsghdr:h.Len]); err != nil {
			return err
		}
		b = b[min(align(int(h.Len)), len(b)):]
	}
	return nil
}

var errInterrupted = errors.New("the dump was interrupted by changes again and again")

// dump asks for all objects of a type, body being the request's fixed header and filters, and calls each with the payload
// of every answer. A dump that changes interrupted is made again from the start, after again has forgotten the first one.
func (c *conn) dump(typ uint16, body []byte, again func(), each func(body []byte) error) error {
	for range 10 {
		again()
		interrupted, err := c.dumpOnce(typ, body, each)
		if err != nil || !interrupted {
			return err
		}
	}
	return errInterrupted
}

func (c *conn) dumpOnce(typ uint16, body []byte, each func(body []byte) error) (interrupted bool, err error) {
	if err := c.send(typ, unix.NLM_F_REQUEST|unix.NLM_F_DUMP, body); err != nil {
		return false, err
	}
	var found error
	for done := false; !done; {
		err := c.receive(func(h *unix.NlMsghdr, body []byte) error {
			if h.Seq != c.seq {
				return nil
			}
			interrupted = interrupted || h.Flags&unix.NLM_F_DUMP_INTR != 0
			switch h.Type {
			case unix.NLMSG_DONE:
				done = true
				if len(body) >= 4 {
					if code := -int32(native.Uint32(body)); code != 0 && found == nil {
						found = unix.Errno(code)
					}
				}
			case unix.NLMSG_ERROR:
				done = true
				found = answer(h, body)
			default:
				if found == nil { // after an error the rest is read and forgotten, to keep the socket in step
					found = each(body)
				}
			}
			return nil
		})
		if err != nil {
			return false, err
		}
	}
	return interrupted, found
}

// get asks for one object, which is the answer. Its absence is the kernel's error (ENOENT, ESRCH, ENODEV, ENETUNREACH).
func (c *conn) get(typ, flags uint16, body []byte, each func(body []byte) error) error {
	if err := c.send(typ, unix.NLM_F_REQUEST|flags, body); err != nil {
		return err
	}
	var found error
	for done := false; !done; {
		err := c.receive(func(h *unix.NlMsghdr, body []byte) error {
			switch {
			case h.Seq != c.seq:
			case h.Type == unix.NLMSG_ERROR:
				done, found = true, answer(h, body)
			default:
				done, found = true, each(body)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return found
}

func (c *conn) send(typ, flags uint16, body []byte) error {
	c.seq++
	msg := make([]byte, unix.SizeofNlMsghdr, unix.SizeofNlMsghdr+len(body))
	msg = append(msg, body...)
	*(*unix.NlMsghdr)(unsafe.Pointer(&msg[0])) = unix.NlMsghdr{Len: uint32(len(msg)), Type: typ, Flags: flags, Seq: c.seq}
	if err := unix.Sendto(c.fd, msg, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return fmt.Errorf("sending to the kernel: %w", err)
	}
	return nil
}
