package probe

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// Claims asks on a link who has addresses, by ARP probes (RFC 5227, section 2.1.1), which change nobody's table, and returns
// the MACs that answered for each within wait. The host does not hear itself.
func Claims(ctx context.Context, link string, addrs []netip.Addr, wait time.Duration) (map[netip.Addr][][6]byte, error) {
	dev, err := net.InterfaceByName(link)
	if err != nil {
		return nil, err
	}
	if len(dev.HardwareAddr) != 6 {
		return nil, fmt.Errorf("%s is no Ethernet", link)
	}
	const arp = unix.ETH_P_ARP>>8 | unix.ETH_P_ARP&0xff<<8 // in network order
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, arp)
	if err != nil {
		return nil, fmt.Errorf("opening a packet socket: %w", err)
	}
	defer unix.Close(fd)
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: arp, Ifindex: dev.Index}); err != nil {
		return nil, fmt.Errorf("binding to %s: %w", link, err)
	}
	all := &unix.SockaddrLinklayer{Protocol: arp, Ifindex: dev.Index, Halen: 6, Addr: [8]byte{255, 255, 255, 255, 255, 255}}
	for _, a := range addrs {
		b := []byte{0, 1, 8, 0, 6, 4, 0, 1} // Ethernet, IPv4, request
		b = append(append(b, dev.HardwareAddr...), 0, 0, 0, 0)
		b = append(append(b, 0, 0, 0, 0, 0, 0), a.AsSlice()...)
		if err := unix.Sendto(fd, b, 0, all); err != nil {
			return nil, fmt.Errorf("asking on %s: %w", link, err)
		}
	}
	out := map[netip.Addr][][6]byte{}
	b := make([]byte, 256)
	for deadline := time.Now().Add(wait); ; {
		left := time.Until(deadline)
		if left <= 0 || ctx.Err() != nil {
			return out, context.Cause(ctx)
		}
		if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, new(unix.NsecToTimeval(max(left, time.Millisecond).Nanoseconds()))); err != nil {
			return nil, err
		}
		n, _, err := unix.Recvfrom(fd, b, 0)
		if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("listening on %s: %w", link, err)
		}
		if n < 28 || binary.BigEndian.Uint16(b[6:]) != 2 {
			continue
		}
		from, a := [6]byte(b[8:14]), netip.AddrFrom4([4]byte(b[14:18]))
		if slices.Contains(addrs, a) && !slices.Contains(out[a], from) {
			out[a] = append(out[a], from)
		}
	}
}
