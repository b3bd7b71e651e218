package probe

import (
	"encoding/binary"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"
)

const (
	ip6Header     = 40
	solicit       = 135 // RFC 4861, section 4.3
	advertise     = 136 // section 4.4
	targetLinkMAC = 2   // section 4.6.1, an option
)

// onlyAdvertisements lets IPv6 packets through that are neighbour advertisements of this very link: a busy link has
// a million others each second.
var onlyAdvertisements = []unix.SockFilter{
	{Code: unix.BPF_LD | unix.BPF_H | unix.BPF_ABS, K: 6}, // next header, hop limit
	{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.IPPROTO_ICMPV6<<8 | 255, Jf: 3},
	{Code: unix.BPF_LD | unix.BPF_B | unix.BPF_ABS, K: ip6Header},
	{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: advertise, Jf: 1},
	{Code: unix.BPF_RET | unix.BPF_K, K: 256},
	{Code: unix.BPF_RET | unix.BPF_K, K: 0},
}

func solicitation(_ net.HardwareAddr, a netip.Addr) ([]byte, [6]byte) {
	target := a.As16()
	group := [16]byte{0xff, 2, 11: 1, 12: 0xff, 13: target[13], 14: target[14], 15: target[15]} // RFC 4291, section 2.7.1
	const size = 24
	// The pseudo header of RFC 8200, section 8.1: no source, the group, the length, the protocol.
	sum := make([]byte, 40, 40+size)
	copy(sum[16:], group[:])
	binary.BigEndian.PutUint32(sum[32:], size)
	sum[39] = unix.IPPROTO_ICMPV6
	message := append([]byte{solicit, 0, 0, 0, 0, 0, 0, 0}, target[:]...)
	binary.BigEndian.PutUint16(message[2:], checksum(append(sum, message...)))

	b := make([]byte, ip6Header, ip6Header+size)
	b[0] = 6 << 4
	binary.BigEndian.PutUint16(b[4:], size)
	b[6], b[7] = unix.IPPROTO_ICMPV6, 255
	copy(b[24:], group[:])
	return append(b, message...), [6]byte{0x33, 0x33, 0xff, target[13], target[14], target[15]}
}

// readAdvertisement reads what onlyAdvertisements lets through; one without the holder's MAC says nothing of who it is.
func readAdvertisement(b []byte) (a netip.Addr, from [6]byte, ok bool) {
	if len(b) < ip6Header+24 || b[ip6Header] != advertise {
		return a, from, false
	}
	a = netip.AddrFrom16([16]byte(b[ip6Header+8 : ip6Header+24]))
	for options := b[ip6Header+24:]; len(options) >= 8; {
		size := int(options[1]) * 8
		if size == 0 || size > len(options) {
			return a, from, false
		}
		if options[0] == targetLinkMAC {
			return a, [6]byte(options[2:8]), true
		}
		options = options[size:]
	}
	return a, from, false
}
