package speaker

import (
	"net/netip"
	"os"
	"strconv"
	"time"

	api "github.com/osrg/gobgp/v3/api"
	"golang.org/x/sys/unix"
)

// openWithin is how long a neighbour that is connected may take to send its OPEN. gobgp waits for four minutes, a constant,
// and closes every other connection of that neighbour meanwhile: one that comes by a router too many, whose packets the
// kernel drops for their TTL, or one that hangs, would keep its successor out for as long.
const openWithin = 5 * time.Second

// opening hangs up on a neighbour that said nothing.
func (s *sessions) opening(addr netip.Addr, since time.Time) {
	s.mu.Lock()
	x := s.peers[addr]
	silent := x != nil && x.state == api.PeerState_OPENSENT && x.since.Equal(since)
	s.mu.Unlock()
	if silent && hangUp(addr) {
		s.failed(addr, "it is connected and says nothing: its TTL is too low (ttl_security), or it hangs")
	}
}

// hangUp shuts the connections with an address down, so that whoever reads them finds their end. The sockets are gobgp's,
// which accepted them itself and gives none away; a process may look at its own descriptors.
func hangUp(addr netip.Addr) (found bool) {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return false
	}
	for _, e := range entries {
		n, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		fd, err := unix.FcntlInt(uintptr(n), unix.F_DUPFD_CLOEXEC, 3) // it stays that socket, whatever becomes of n
		if err != nil {
			continue
		}
		if sa, err := unix.Getpeername(fd); err == nil && peerAddr(sa) == addr.WithZone("") {
			found = unix.Shutdown(fd, unix.SHUT_RDWR) == nil || found
		}
		_ = unix.Close(fd)
	}
	return found
}

func peerAddr(sa unix.Sockaddr) netip.Addr {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrFrom4(sa.Addr)
	case *unix.SockaddrInet6:
		return netip.AddrFrom16(sa.Addr).Unmap()
	}
	return netip.Addr{}
}
