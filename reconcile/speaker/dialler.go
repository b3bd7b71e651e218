package speaker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// target is a neighbour that this end dials.
type target struct {
	addr        netip.Addr
	port        uint16
	local       netip.Addr
	password    string
	ttlSecurity bool
}

const (
	dialTimeout = 2 * time.Second
	dialFirst   = 50 * time.Millisecond // pause after the first failure, doubled each time
	dialMost    = time.Second
	speakWithin = time.Second     // a neighbour that is ready sends its OPEN at once
	takenWithin = 2 * time.Second // gobgp's state machine moves on as soon as it has the connection
)

// dial opens the connection to a neighbour whose state machine is in ACTIVE, again and again until ctx ends, which it does
// when the state changes. A connection is handed on only once the neighbour has spoken: one that does not know us yet, or
// is not ready, accepts and closes, and gobgp would sit in IDLE for five seconds for it.
func dial(ctx context.Context, t target, hand func(context.Context, *net.TCPConn) error, failed func(error)) {
	pause := dialFirst
	for ctx.Err() == nil {
		conn, err := connect(ctx, t)
		if err == nil {
			if err = hand(ctx, conn); err == nil {
				if wait(ctx, takenWithin) != nil {
					return
				}
				err = errors.New("gobgp did not take the connection")
			} else {
				_ = conn.Close()
			}
		}
		if ctx.Err() != nil {
			return
		}
		failed(err)
		if wait(ctx, time.Duration(float64(pause)*(0.75+rand.Float64()/2))) != nil {
			return
		}
		pause = min(2*pause, dialMost)
	}
}

func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// connect returns a connection on which the neighbour has begun to speak. Its errors are for people.
func connect(ctx context.Context, t target) (*net.TCPConn, error) {
	d := net.Dialer{
		LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(t.local, reservedPort())),
		Timeout:   dialTimeout,
		Control: func(_, _ string, c syscall.RawConn) error {
			var err error
			if cerr := c.Control(func(fd uintptr) { err = t.prepare(int(fd)) }); cerr != nil {
				return cerr
			}
			return err
		},
	}
	d.SetMultipathTCP(false) // knows neither MD5 nor TTLs
	c, err := d.DialContext(ctx, "tcp", netip.AddrPortFrom(t.addr, t.port).String())
	if err != nil {
		return nil, t.explain(err)
	}
	conn := c.(*net.TCPConn)
	if err := spoken(ctx, conn); err != nil {
		_ = conn.Close()
		return nil, t.explain(err)
	}
	return conn, nil
}

// reservedPort is a port to dial from: one that only the privileged may use, so that the host's guards can tell its speaker
// from its users (desired/firewall.go, bgp-output). IANA has given nobody 914 to 952 and 954 to 988. A speaker without the
// privilege, which there is in tests only, leaves the choice to the kernel.
func reservedPort() uint16 {
	if !mayBind() {
		return 0
	}
	if p := 914 + rand.N(uint16(74)); p < 953 {
		return p
	} else {
		return p + 1
	}
}

// mayBind reports whether this process may use ports below 1024.
var mayBind = sync.OnceValue(func() bool {
	var have [2]unix.CapUserData
	err := unix.Capget(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &have[0])
	return err == nil && have[0].Effective&(1<<unix.CAP_NET_BIND_SERVICE) != 0
})

// prepare sets what must be there before the first packet. gobgp sets the TTLs again when it takes the connection.
func (t target) prepare(fd int) error {
	// A port below 1024 is shared by the connections to several neighbours.
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		return fmt.Errorf("sharing a port: %w", err)
	}
	if t.ttlSecurity {
		if err := setTTLs(fd, t.addr.Is6(), 255, 255); err != nil {
			return err
		}
	}
	if t.password != "" {
		sig := unix.TCPMD5Sig{Keylen: uint16(len(t.password))}
		if copy(sig.Key[:], t.password) < len(t.password) {
			return fmt.Errorf("setting the password: it is longer than %d bytes", len(sig.Key))
		}
		sig.Addr.Family = unix.AF_INET
		at := sig.Addr.Data[2:] // struct sockaddr_in: port, address
		if t.addr.Is6() {
			sig.Addr.Family = unix.AF_INET6
			at = sig.Addr.Data[6:] // struct sockaddr_in6: port, flow, address
		}
		for i, b := range t.addr.AsSlice() {
			at[i] = b
		}
		if err := unix.SetsockoptTCPMD5Sig(fd, unix.IPPROTO_TCP, unix.TCP_MD5SIG, &sig); err != nil {
			return fmt.Errorf("setting the password: %w", err)
		}
	}
	return nil
}

// spoken waits for the first byte and leaves it there. A neighbour that stays silent may be waiting for us to begin
// (RFC 4271's DelayOpen), so that silence is no error.
func spoken(ctx context.Context, conn *net.TCPConn) error {
	if err := conn.SetReadDeadline(time.Now().Add(speakWithin)); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var b [1]byte
	n, perr := 0, error(nil)
	err = raw.Read(func(fd uintptr) bool {
		n, _, perr = unix.Recvfrom(int(fd), b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
		return perr != unix.EAGAIN && perr != unix.EINTR
	})
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, os.ErrDeadlineExceeded):
	case err != nil:
		return err
	case perr != nil:
		return perr
	case n == 0:
		return io.EOF
	}
	return conn.SetReadDeadline(time.Time{})
}

// explain says what a failure to connect means.
func (t target) explain(err error) error {
	at := netip.AddrPortFrom(t.addr, t.port)
	var timed interface{ Timeout() bool }
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, unix.ECONNRESET):
		return fmt.Errorf("%s accepts and closes: it does not know %s as a neighbour, has it shut down, or is not ready", at, t.local)
	case errors.Is(err, unix.ECONNREFUSED):
		return fmt.Errorf("%s refuses: no BGP speaker listens there", at)
	case errors.Is(err, unix.EADDRNOTAVAIL):
		return fmt.Errorf("this host does not hold %s", t.local)
	case errors.Is(err, unix.EHOSTUNREACH), errors.Is(err, unix.ENETUNREACH):
		return fmt.Errorf("no route to %s, or it does not answer on the link", t.addr)
	case errors.Is(err, unix.EINVAL): // what the kernel says of a route of that type
		return fmt.Errorf("the route to %s is a blackhole: it is of a block of this host, and no container has it", t.addr)
	case errors.As(err, &timed) && timed.Timeout():
		if t.password != "" {
			return fmt.Errorf("no answer from %s: MD5 mismatch or wrong address, or it is filtered or down", at)
		}
		return fmt.Errorf("no answer from %s: it is filtered or down, or it wants a password (MD5)", at)
	}
	return fmt.Errorf("connecting to %s: %w", at, err)
}
