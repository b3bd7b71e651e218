package router

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"netd/testenv/netns"
)

// End is one end of a connection to be.
type End struct {
	NS            *netns.NS
	Local, Remote netip.Addr
	Port          uint16 // of the end that listens; 0: 179
	Password      string // TCP MD5
	TTL           int    // of what is sent; 0: the kernel's
}

func (e End) port() uint16 {
	if e.Port == 0 {
		return 179
	}
	return e.Port
}

// prepare sets what must be there before the first packet.
func (e End) prepare(_, _ string, c syscall.RawConn) error {
	var err error
	cerr := c.Control(func(fd uintptr) {
		if err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
			return
		}
		if e.TTL != 0 {
			level, name := unix.IPPROTO_IP, unix.IP_TTL
			if e.Local.Is6() {
				level, name = unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS
			}
			if err = unix.SetsockoptInt(int(fd), level, name, e.TTL); err != nil {
				return
			}
		}
		if e.Password != "" {
			sig := unix.TCPMD5Sig{Keylen: uint16(len(e.Password))}
			copy(sig.Key[:], e.Password)
			at := sig.Addr.Data[2:]
			sig.Addr.Family = unix.AF_INET
			if e.Remote.Is6() {
				sig.Addr.Family, at = unix.AF_INET6, sig.Addr.Data[6:]
			}
			for i, b := range e.Remote.AsSlice() {
				at[i] = b
			}
			err = unix.SetsockoptTCPMD5Sig(int(fd), unix.IPPROTO_TCP, unix.TCP_MD5SIG, &sig)
		}
	})
	return errors.Join(cerr, err)
}

// Dial connects once.
func (e End) Dial(ctx context.Context) (*Raw, error) {
	d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(e.Local, 0)), Control: e.prepare, Timeout: 2 * time.Second}
	d.SetMultipathTCP(false)
	var c net.Conn
	err := e.NS.Do(func() (err error) { // one address: dialled on this very thread
		c, err = d.DialContext(ctx, "tcp", netip.AddrPortFrom(e.Remote, e.port()).String())
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("dialling %s: %w", e.Remote, err)
	}
	return newRaw(c), nil
}

// Accept takes the next connection that comes from Remote.
func (e End) Accept(ctx context.Context) (*Raw, error) {
	lc := net.ListenConfig{Control: e.prepare}
	lc.SetMultipathTCP(false)
	var l net.Listener
	err := e.NS.Do(func() (err error) {
		l, err = lc.Listen(ctx, "tcp", netip.AddrPortFrom(e.Local, e.port()).String())
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("listening on %s: %w", e.Local, err)
	}
	defer l.Close()
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	for {
		c, err := l.Accept()
		if err != nil {
			return nil, fmt.Errorf("accepting on %s: %w", e.Local, errors.Join(ctx.Err(), err))
		}
		if from, err := netip.ParseAddrPort(c.RemoteAddr().String()); err == nil && from.Addr().Unmap() == e.Remote {
			return newRaw(c), nil
		}
		_ = c.Close()
	}
}

// Raw is a connection on which anything may be said. What the other end says is collected.
type Raw struct {
	conn net.Conn
	stop chan struct{}
	all  sync.WaitGroup

	mu       sync.Mutex
	received []Message
	changed  chan struct{} // closed and made anew with every message, and at the end
	err      error         // how the connection ended
}

func newRaw(c net.Conn) *Raw {
	r := &Raw{conn: c, stop: make(chan struct{}), changed: make(chan struct{})}
	r.all.Add(1)
	go func() { defer r.all.Done(); r.read() }()
	return r
}

func (r *Raw) read() {
	in := bufio.NewReader(r.conn)
	for {
		var head [19]byte
		_, err := io.ReadFull(in, head[:])
		var m Message
		if err == nil {
			n := int(binary.BigEndian.Uint16(head[16:]))
			if n < 19 {
				err = fmt.Errorf("a message of %d bytes", n)
			} else {
				m = Message{head[18], make([]byte, n-19)}
				_, err = io.ReadFull(in, m.Body)
			}
		}
		r.mu.Lock()
		if err != nil {
			r.err = err
		} else {
			r.received = append(r.received, m)
		}
		close(r.changed)
		r.changed = make(chan struct{})
		r.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// Write sends bytes as they are.
func (r *Raw) Write(b []byte) (int, error) { return r.conn.Write(b) }

// Close ends the connection and what was started for it.
func (r *Raw) Close() {
	select {
	case <-r.stop:
	default:
		close(r.stop)
	}
	_ = r.conn.Close()
	r.all.Wait()
}

// Until waits until what was received, or the end of the connection (ended is then its error), is as wanted.
func (r *Raw) Until(ctx context.Context, wanted func(got []Message, ended error) bool) error {
	for {
		r.mu.Lock()
		got, ended, changed := slices.Clone(r.received), r.err, r.changed
		r.mu.Unlock()
		if wanted(got, ended) {
			return nil
		}
		if ended != nil {
			return fmt.Errorf("the connection ended: %w", ended)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("waiting for the other end, which sent %d messages: %w", len(got), ctx.Err())
		}
	}
}

// Establish opens a session as a decent neighbour does, and keeps it alive until Close.
func (r *Raw) Establish(ctx context.Context, o Open) error {
	if _, err := r.Write(o.Bytes()); err != nil {
		return err
	}
	if err := r.Until(ctx, has(TypeOpen)); err != nil {
		return err
	}
	if _, err := r.Write(Keepalive()); err != nil {
		return err
	}
	if err := r.Until(ctx, has(TypeKeepalive)); err != nil {
		return err
	}
	r.all.Add(1)
	go func() {
		defer r.all.Done()
		tick := time.NewTicker(max(o.HoldTime/3, 100*time.Millisecond))
		defer tick.Stop()
		for {
			select {
			case <-r.stop:
				return
			case <-tick.C:
				if _, err := r.Write(Keepalive()); err != nil {
					return
				}
			}
		}
	}()
	return nil
}

func has(typ byte) func([]Message, error) bool {
	return func(got []Message, _ error) bool {
		return slices.ContainsFunc(got, func(m Message) bool { return m.Type == typ })
	}
}

// Notified waits for a NOTIFICATION and returns its code and subcode.
func (r *Raw) Notified(ctx context.Context) (code, subcode byte, err error) {
	err = r.Until(ctx, func(got []Message, _ error) bool {
		for _, m := range got {
			if m.Type == TypeNotification && len(m.Body) >= 2 {
				code, subcode = m.Body[0], m.Body[1]
				return true
			}
		}
		return false
	})
	return code, subcode, err
}

// Ended waits until the other end closed the connection.
func (r *Raw) Ended(ctx context.Context) error {
	return r.Until(ctx, func(_ []Message, ended error) bool { return ended != nil })
}
