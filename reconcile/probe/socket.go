package probe

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"
)

// token marks this process's echo requests among those of others: a raw socket hears all answers.
type token [8]byte

// header is the bytes before an echo's data: an IP header without options, and ICMP's.
func header(a netip.Addr) int {
	if a.Is4() {
		return 20 + 8
	}
	return 40 + 8
}

// echo is one request.
type echo struct {
	number       uint32
	target, size int
}

// socket is a raw socket for each family.
type socket struct {
	v4, v6 *net.IPConn
	token  token
	wake   []chan struct{} // of each target: an answer came; has room for one
	done   sync.WaitGroup

	mu     sync.Mutex
	number uint32
	sent   map[uint32]request
	rtt    map[uint32]time.Duration
	errs   map[uint32]error
}

// request is when an echo request was sent, and to which target.
type request struct {
	at     time.Time
	target int
}

func open(targets []Target) (*socket, error) {
	s := &socket{sent: map[uint32]request{}, rtt: map[uint32]time.Duration{}, errs: map[uint32]error{}}
	_, _ = rand.Read(s.token[:])
	for _, t := range targets {
		s.wake = append(s.wake, make(chan struct{}, 1))
		var err error
		switch {
		case t.Addr.Is4() && s.v4 == nil:
			s.v4, err = listen("ip4:icmp", "0.0.0.0", [][3]int{
				{unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_PROBE}, {unix.SOL_RAW, icmpFilter, ^(1<<ipv4.ICMPTypeEchoReply | 1<<ipv4.ICMPTypeDestinationUnreachable)}})
		case t.Addr.Is6() && s.v6 == nil:
			s.v6, err = listen("ip6:ipv6-icmp", "::", [][3]int{
				{unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_PROBE}, {unix.IPPROTO_IPV6, unix.IPV6_DONTFRAG, 1}})
		}
		if err != nil {
			s.close()
			return nil, fmt.Errorf("opening a raw socket: %w", err)
		}
	}
	for _, c := range []*net.IPConn{s.v4, s.v6} {
		if c != nil {
			s.done.Add(1)
			go func() { defer s.done.Done(); s.read(c) }()
		}
	}
	return s, nil
}

const icmpFilter = 1 // ICMP_FILTER of SOL_RAW: a bit for each type that is not wanted (raw(7))

// listen opens a raw socket with options {level, name, value}.
func listen(network, address string, options [][3]int) (*net.IPConn, error) {
	l := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		cerr := c.Control(func(fd uintptr) {
			for _, o := range options {
				if err = os.NewSyscallError("setsockopt", unix.SetsockoptInt(int(fd), o[0], o[1], o[2])); err != nil {
					return
				}
			}
			err = os.NewSyscallError("setsockopt", unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 8<<20))
			if errors.Is(err, unix.EPERM) { // in a container without CAP_NET_ADMIN
				err = nil
			}
		})
		return errors.Join(cerr, err)
	}}
	c, err := l.ListenPacket(context.Background(), network, address)
	if err != nil {
		return nil, err
	}
	return c.(*net.IPConn), nil
}

func (s *socket) close() {
	for _, c := range []*net.IPConn{s.v4, s.v6} {
		if c != nil {
			_ = c.Close()
		}
	}
	s.done.Wait()
}

// send sends an echo request of a size in bytes with its IP header, 0 for a small one that any path carries.
func (s *socket) send(target int, t Target, size int) echo {
	s.mu.Lock()
	s.number++
	e := echo{s.number, target, size}
	s.mu.Unlock()
	data := make([]byte, max(size-header(t.Addr), len(s.token)+4))
	copy(data, s.token[:])
	binary.BigEndian.PutUint32(data[len(s.token):], e.number)
	m := icmp.Message{Type: ipv4.ICMPTypeEcho, Body: &icmp.Echo{ID: int(binary.BigEndian.Uint16(s.token[:])), Seq: int(uint16(e.number)), Data: data}}
	if t.Addr.Is6() {
		m.Type = ipv6.ICMPTypeEchoRequest
	}
	b, err := m.Marshal(nil) // the kernel fills in ICMPv6's checksum
	s.mu.Lock()
	s.sent[e.number] = request{time.Now(), target}
	s.mu.Unlock()
	if err == nil {
		err = s.write(b, t)
	}
	if err != nil {
		s.mu.Lock()
		s.errs[e.number] = err
		s.mu.Unlock()
	}
	return e
}

func (s *socket) write(b []byte, t Target) error {
	to := &net.IPAddr{IP: t.Addr.AsSlice(), Zone: t.Addr.Zone()}
	var err error
	switch {
	case t.Addr.Is4():
		var from []byte
		if t.From.IsValid() {
			from = (&ipv4.ControlMessage{Src: t.From.AsSlice()}).Marshal()
		}
		_, _, err = s.v4.WriteMsgIP(b, from, to)
	default:
		var from []byte
		if t.From.IsValid() {
			from = (&ipv6.ControlMessage{Src: t.From.AsSlice()}).Marshal()
		}
		_, _, err = s.v6.WriteMsgIP(b, from, to)
	}
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return errno // the address is in the reader's hands
	}
	return err
}

// read takes answers until the socket is closed.
func (s *socket) read(c *net.IPConn) {
	b := make([]byte, 1<<16)
	for {
		n, from, err := c.ReadFromIP(b)
		at := time.Now()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // the kernel tells of a packet before: its own answer does too
			continue
		}
		s.take(c, b[:n], from.String(), at)
	}
}

// take is a message that came from someone.
func (s *socket) take(c *net.IPConn, b []byte, from string, at time.Time) {
	proto := 1
	if c == s.v6 {
		proto = 58
	}
	m, err := icmp.ParseMessage(proto, b)
	if err != nil {
		return
	}
	switch body := m.Body.(type) {
	case *icmp.Echo:
		if m.Type == ipv4.ICMPTypeEchoReply || m.Type == ipv6.ICMPTypeEchoReply {
			s.answered(body.Data, at, nil)
		}
	case *icmp.DstUnreach:
		if inner := m.Code; proto == 58 && inner != 2 || proto == 1 && inner != 4 { // not of its size
			skip := header(netip.IPv4Unspecified())
			if proto == 58 {
				skip = header(netip.IPv6Unspecified())
			}
			if len(body.Data) > skip {
				s.answered(body.Data[skip:], at, fmt.Errorf("unreachable, says %s", from))
			}
		}
	}
}

// unread gives what has come to a raw socket and was not read yet: on a busy host the time that an answer has may be over before
// who waits for it gets to read it.
func unread(c *net.IPConn, take func(b []byte, from netip.Addr)) {
	raw, err := c.SyscallConn()
	if err != nil {
		return
	}
	b := make([]byte, 1<<16)
	_ = raw.Control(func(fd uintptr) {
		for errs := 0; errs < 100; { // the kernel may tell of packets before, once for each
			n, from, err := unix.Recvfrom(int(fd), b, unix.MSG_DONTWAIT)
			switch from := from.(type) {
			case *unix.SockaddrInet4: // with its IP header
				if n > 0 && n >= int(b[0]&0xf)*4 {
					take(b[int(b[0]&0xf)*4:n], netip.AddrFrom4(from.Addr))
				}
			case *unix.SockaddrInet6:
				take(b[:n], netip.AddrFrom16(from.Addr))
			}
			if errors.Is(err, unix.EAGAIN) {
				return
			}
			if err != nil {
				errs++
			}
		}
	})
}

func (s *socket) answered(data []byte, at time.Time, err error) {
	if len(data) < len(s.token)+4 || !bytes.Equal(data[:len(s.token)], s.token[:]) {
		return
	}
	number := binary.BigEndian.Uint32(data[len(s.token):])
	s.mu.Lock()
	defer s.mu.Unlock()
	sent, ok := s.sent[number]
	if !ok {
		return
	}
	if err != nil {
		s.errs[number] = err
	} else if s.rtt[number] == 0 { // a second answer is a duplicate's
		s.rtt[number] = max(at.Sub(sent.at), 1)
	}
	select {
	case s.wake[sent.target] <- struct{}{}:
	default:
	}
}

// outcome is how long the answer took, 0 where none came, or why the request came to nothing.
func (s *socket) outcome(e echo) (time.Duration, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if rtt := s.rtt[e.number]; rtt > 0 {
		return rtt, nil
	}
	return 0, s.errs[e.number]
}

// answers waits until every request, all of one target, came to something, wait at most.
func (s *socket) answers(ctx context.Context, sent []echo, wait time.Duration) {
	timeout := time.NewTimer(wait)
	defer timeout.Stop()
	left := sent
	for {
		s.mu.Lock()
		for len(left) > 0 && (s.rtt[left[0].number] > 0 || s.errs[left[0].number] != nil) {
			left = left[1:]
		}
		s.mu.Unlock()
		if len(left) == 0 {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-timeout.C:
			for _, c := range []*net.IPConn{s.v4, s.v6} {
				if c != nil {
					unread(c, func(b []byte, from netip.Addr) { s.take(c, b, from.String(), time.Now()) })
				}
			}
			return
		case <-s.wake[left[0].target]:
		}
	}
}
