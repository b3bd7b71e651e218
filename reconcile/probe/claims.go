package probe

import (
	"bytes"
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

// Claims asks on a link who has addresses, as a host asks before it takes one: by ARP probes (RFC 5227, section 2.1.1) and by
// neighbour solicitations without a source (RFC 4862, section 5.4.3). Neither question enters anything in anybody's table;
// the answer to a solicitation goes to all hosts of the link and refreshes the entry of who has one. It returns the MACs that
// answered for each address, a family after the other, each within wait. The host's own are not among them: it does not hear
// the link that asks, and hears another on the same wire, on which the kernel answers for all addresses of the host.
func Claims(ctx context.Context, link string, addrs []netip.Addr, wait time.Duration) (map[netip.Addr][][6]byte, error) {
	dev, err := net.InterfaceByName(link)
	if err != nil {
		return nil, err
	}
	links, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	own := func(mac [6]byte) bool {
		return slices.ContainsFunc(links, func(l net.Interface) bool { return bytes.Equal(l.HardwareAddr, mac[:]) })
	}
	if len(dev.HardwareAddr) != 6 {
		return nil, fmt.Errorf("%s is no Ethernet", link)
	}
	out := map[netip.Addr][][6]byte{}
	for _, w := range []wording{{unix.ETH_P_ARP, nil, arpProbe, readARP}, {unix.ETH_P_IPV6, onlyAdvertisements, solicitation, readAdvertisement}} {
		of := slices.DeleteFunc(slices.Clone(addrs), func(a netip.Addr) bool { return a.Is4() != (w.protocol == unix.ETH_P_ARP) })
		if len(of) == 0 {
			continue
		}
		claims, err := w.claims(ctx, dev, of, wait)
		if err != nil {
			return nil, err
		}
		for a, macs := range claims {
			if others := slices.DeleteFunc(macs, own); len(others) > 0 {
				out[a] = others
			}
		}
	}
	return out, nil
}

// wording is how a family asks who has an address.
type wording struct {
	protocol uint16
	filter   []unix.SockFilter // of what is heard; nil: all of the protocol
	ask      func(own net.HardwareAddr, a netip.Addr) (packet []byte, to [6]byte)
	read     func(packet []byte) (a netip.Addr, from [6]byte, ok bool)
}

func (w wording) claims(ctx context.Context, dev *net.Interface, addrs []netip.Addr, wait time.Duration) (map[netip.Addr][][6]byte, error) {
	protocol := w.protocol>>8 | w.protocol<<8                                    // in network order
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0) // hears nothing before it is bound
	if err != nil {
		return nil, fmt.Errorf("opening a packet socket: %w", err)
	}
	defer unix.Close(fd)
	if len(w.filter) > 0 {
		if err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(w.filter)), Filter: &w.filter[0]}); err != nil {
			return nil, fmt.Errorf("filtering what is heard on %s: %w", dev.Name, err)
		}
	}
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: protocol, Ifindex: dev.Index}); err != nil {
		return nil, fmt.Errorf("binding to %s: %w", dev.Name, err)
	}
	for _, a := range addrs {
		b, mac := w.ask(dev.HardwareAddr, a)
		to := &unix.SockaddrLinklayer{Protocol: protocol, Ifindex: dev.Index, Halen: 6}
		copy(to.Addr[:], mac[:])
		if err := unix.Sendto(fd, b, 0, to); err != nil {
			return nil, fmt.Errorf("asking on %s: %w", dev.Name, err)
		}
	}
	out := map[netip.Addr][][6]byte{}
	b := make([]byte, 256)
	for deadline := time.Now().Add(wait); ; {
		left, flags := time.Until(deadline), 0
		if left <= -wait || ctx.Err() != nil {
			return out, context.Cause(ctx)
		}
		if left <= 0 { // what came in time and was not read yet
			flags = unix.MSG_DONTWAIT
		} else if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, new(unix.NsecToTimeval(max(left, time.Millisecond).Nanoseconds()))); err != nil {
			return nil, err
		}
		n, _, err := unix.Recvfrom(fd, b, flags)
		if errors.Is(err, unix.EAGAIN) && left <= 0 {
			return out, context.Cause(ctx)
		}
		if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("listening on %s: %w", dev.Name, err)
		}
		if a, from, ok := w.read(b[:n]); ok && slices.Contains(addrs, a) && !slices.Contains(out[a], from) {
			out[a] = append(out[a], from)
		}
	}
}

func arpProbe(own net.HardwareAddr, a netip.Addr) ([]byte, [6]byte) {
	b := []byte{0, 1, 8, 0, 6, 4, 0, 1} // Ethernet, IPv4, request
	b = append(append(b, own...), 0, 0, 0, 0)
	b = append(append(b, 0, 0, 0, 0, 0, 0), a.AsSlice()...)
	return b, [6]byte{255, 255, 255, 255, 255, 255}
}

func readARP(b []byte) (a netip.Addr, from [6]byte, ok bool) {
	if len(b) < 28 || binary.BigEndian.Uint16(b[6:]) != 2 {
		return a, from, false
	}
	return netip.AddrFrom4([4]byte(b[14:18])), [6]byte(b[8:14]), true
}
