// Package stream sends a steady stream of datagrams from one network namespace to another and counts what got lost on the
// way: the measure of whether a change, a restart or an attack was felt.
package stream

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"netd/testenv/netns"
)

// A Stream is on its way.
type Stream struct {
	name               string
	every              time.Duration
	out                *net.UDPConn
	in                 *net.UDPConn
	stop               chan struct{}
	sending, receiving sync.WaitGroup

	sent    atomic.Uint64
	refused atomic.Uint64 // the kernel had no way for it
	why     atomic.Value  // the last error
	marks   sync.Mutex
	at      []bool // what arrived, by number
	highest atomic.Uint64
}

// Result is what became of a stream.
type Result struct {
	Sent, Lost, Refused int
	Longest             time.Duration // for which nothing that was sent arrived
	Why                 error         // the sender's kernel's last refusal
}

func (r Result) String() string {
	text := fmt.Sprintf("%d of %d lost, at most %s in a row", r.Lost, r.Sent, r.Longest)
	if r.Refused > 0 {
		text += fmt.Sprintf("; %d refused by the sender's kernel: %v", r.Refused, r.Why)
	}
	return text
}

// Start sends a datagram every interval from src in one namespace to dst, port 9, in another.
func Start(t testing.TB, from *netns.NS, src netip.Addr, to *netns.NS, dst netip.Addr, every time.Duration) *Stream {
	t.Helper()
	s := &Stream{name: fmt.Sprintf("%s > %s", src, dst), every: every, stop: make(chan struct{})}
	err := to.Do(func() (err error) {
		if s.in, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(dst, 9))); err != nil {
			return err
		}
		raw, err := s.in.SyscallConn()
		if err != nil {
			return err
		}
		return raw.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 8<<20) })
	})
	if err != nil {
		t.Fatalf("receiving %s: %v", s.name, err)
	}
	err = from.Do(func() (err error) {
		s.out, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(src, 0)))
		return err
	})
	if err != nil {
		_ = s.in.Close()
		t.Fatalf("sending %s: %v", s.name, err)
	}
	s.sending.Add(1)
	s.receiving.Add(1)
	go s.receive()
	go s.send(netip.AddrPortFrom(dst, 9))
	t.Cleanup(func() { s.end() })
	return s
}

func (s *Stream) send(to netip.AddrPort) {
	defer s.sending.Done()
	begin := time.Now()
	for last := false; ; {
		// As many as are due, at the end too: a busy machine makes a burst of them, not fewer.
		for due := uint64(time.Since(begin) / s.every); s.sent.Load() < due; {
			var b [8]byte
			binary.BigEndian.PutUint64(b[:], s.sent.Load())
			if _, err := s.out.WriteToUDPAddrPort(b[:], to); err != nil {
				s.refused.Add(1)
				s.why.Store(err)
			}
			s.sent.Add(1)
		}
		if last {
			return
		}
		select {
		case <-s.stop:
			last = true
		case <-time.After(s.every):
		}
	}
}

func (s *Stream) receive() {
	defer s.receiving.Done()
	b := make([]byte, 64)
	for {
		n, err := s.in.Read(b)
		if err != nil {
			return
		}
		if n != 8 {
			continue
		}
		i := binary.BigEndian.Uint64(b)
		s.marks.Lock()
		for uint64(len(s.at)) <= i {
			s.at = append(s.at, false)
		}
		s.at[i] = true
		s.marks.Unlock()
		s.highest.Store(max(s.highest.Load(), i))
	}
}

// Flowing waits until datagrams arrive, and begins to count there.
func (s *Stream) Flowing(t testing.TB) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		s.marks.Lock()
		n := len(s.at)
		s.marks.Unlock()
		if n > 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: nothing arrives (%d sent, %d refused)", s.name, s.sent.Load(), s.refused.Load())
		}
	}
}

// Again waits until a datagram arrives that is not sent yet.
func (s *Stream) Again(t testing.TB) {
	t.Helper()
	next := s.sent.Load()
	for deadline := time.Now().Add(time.Minute); s.highest.Load() <= next; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: nothing arrives any more (%d sent, the last that arrived is number %d)", s.name, s.sent.Load(), s.highest.Load())
		}
	}
}

// Stop ends the stream and says what became of it, from the first datagram that arrived on.
func (s *Stream) Stop() Result {
	close(s.stop)
	s.sending.Wait()
	last := s.sent.Load()
	for deadline := time.Now().Add(10 * time.Second); s.highest.Load()+1 < last && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond) // what is on the wire
	}
	s.end()
	s.marks.Lock()
	defer s.marks.Unlock()
	var r Result
	first := 0
	for first < len(s.at) && !s.at[first] {
		first++
	}
	run, longest := 0, 0
	for i := first; i < int(s.sent.Load()); i++ {
		r.Sent++
		if i < len(s.at) && s.at[i] {
			run = 0
			continue
		}
		r.Lost++
		run++
		longest = max(longest, run)
	}
	r.Why, _ = s.why.Load().(error)
	r.Refused, r.Longest = int(s.refused.Load()), time.Duration(longest)*s.every
	return r
}

func (s *Stream) end() {
	select {
	case <-s.stop:
	default:
		close(s.stop)
	}
	s.sending.Wait()
	_ = s.in.Close()
	_ = s.out.Close()
	s.receiving.Wait()
}
