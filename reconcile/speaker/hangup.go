package speaker

import (
	"net"
	"net/netip"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// hangUp shuts the connections with an address down, so that whoever reads them finds their end. The sockets are gobgp's,
// which accepted them itself and gives none away; a process may look at its own descriptors. A link-local address is one on its link.
func hangUp(addr netip.Addr) (found bool) {
	var link uint32
	if i, err := net.InterfaceByName(addr.Zone()); err == nil {
		link = uint32(i.Index)
	}
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
		if sa, err := unix.Getpeername(fd); err == nil && peerAddr(sa) == addr.WithZone("") && (link == 0 || link == linkOf(sa)) {
			found = unix.Shutdown(fd, unix.SHUT_RDWR) == nil || found
		}
		_ = unix.Close(fd)
	}
	return found
}

// linkOf is the index of the link that an address is one on, 0 for others.
func linkOf(sa unix.Sockaddr) uint32 {
	if sa, ok := sa.(*unix.SockaddrInet6); ok {
		return sa.ZoneId
	}
	return 0
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
