package speaker

import (
	"context"
	"net"
	"net/netip"
	"time"
)

// gobgp takes the connections that its listeners accepted from a channel, and gives them to the neighbour with the connection's remote
// address. netd puts those there that it dialled itself, as if the neighbour had: gobgp's own dialler waits one to two seconds before it tries
// at all, five after a session was lost, and tells nobody why it failed.
//
// And what the listeners hand over passes through here first. A speaker that takes the place of one that died listens as soon as it has a
// router, and is given its neighbours a moment later. One that dials meanwhile gobgp would refuse, and a router may then not try again
// for its connect retry time, 120 s by default (RFC 4271 §10), which is as long as routes are kept for it. So such a connection waits for its neighbour.
//
// StartBgp makes the channel, a new one each time.

const (
	earlyFor  = 10 * time.Second // how long a connection waits for its neighbour
	earlyMost = 64               // how many do; the guard lets addresses of neighbours alone come as far as this
)

// takeOver puts a channel of netd's in the place of gobgp's, where its router is a new one. It runs in gobgp's one goroutine.
func (s *sessions) takeOver() {
	at := s.acceptAt
	if at == nil || *at == nil || s.accept.Load() != nil && *at == *s.accept.Load() {
		return
	}
	from, to := *at, make(chan *net.TCPConn, cap(*at))
	*at = to
	s.accept.Store(&to)
	ctx, cancel := context.WithCancel(s.ctx)
	if s.noMore != nil { // of the router before
		s.noMore()
	}
	s.noMore = cancel
	s.start(func() { s.admit(ctx, from, to) })
}

// admit hands over what comes from gobgp's listeners once gobgp has its neighbour.
func (s *sessions) admit(ctx context.Context, from <-chan *net.TCPConn, to chan<- *net.TCPConn) {
	waiting := make(chan struct{}, earlyMost)
	hand := func(conn *net.TCPConn) {
		select {
		case to <- conn:
		case <-ctx.Done():
			_ = conn.Close()
		}
	}
	for {
		var conn *net.TCPConn
		select {
		case conn = <-from:
		case <-ctx.Done():
			return
		}
		remote, _ := netip.ParseAddrPort(conn.RemoteAddr().String())
		addr := remote.Addr().Unmap()
		if s.inGobgp(addr) || !s.fresh() {
			hand(conn)
			continue
		}
		select {
		case waiting <- struct{}{}:
		default: // gobgp refuses it, in its own words
			hand(conn)
			continue
		}
		s.start(func() {
			defer func() { <-waiting }()
			until, cancel := context.WithTimeout(ctx, earlyFor)
			defer cancel()
			for !s.inGobgp(addr) && wait(until, 10*time.Millisecond) == nil {
			}
			hand(conn)
		})
	}
}

// inGobgp reports whether gobgp has a neighbour already.
func (s *sessions) inGobgp(addr netip.Addr) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	x := s.peers[addr]
	return x != nil && x.queue != nil
}
