package probe

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"
)

// Clocks asks IPv4 hosts for the time of day (ICMP timestamp, RFC 792) and returns how far each clock is ahead of this
// host's, within a millisecond or half the round trip. It cannot tell by how many whole days. Who does not answer within
// wait is left out.
func Clocks(ctx context.Context, addrs []netip.Addr, wait time.Duration) (map[netip.Addr]time.Duration, error) {
	c, err := listen("ip4:icmp", "0.0.0.0", [][3]int{{unix.SOL_RAW, icmpFilter, ^(1 << ipv4.ICMPTypeTimestampReply)}})
	if err != nil {
		return nil, fmt.Errorf("opening a raw socket: %w", err)
	}
	defer c.Close()
	asked := map[netip.Addr]bool{}
	for i, a := range addrs {
		b := make([]byte, 20)
		b[0] = byte(ipv4.ICMPTypeTimestamp)
		binary.BigEndian.PutUint16(b[6:], uint16(i))
		binary.BigEndian.PutUint32(b[8:], sinceMidnight(time.Now()))
		binary.BigEndian.PutUint16(b[2:], checksum(b))
		if _, err := c.WriteToIP(b, &net.IPAddr{IP: a.AsSlice()}); err == nil { // who has no route there learns that elsewhere
			asked[a] = true
		}
	}
	out := map[netip.Addr]time.Duration{}
	if err := c.SetReadDeadline(time.Now().Add(wait)); err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = c.SetReadDeadline(time.Now()) })
	defer stop()
	take := func(b []byte, from netip.Addr) {
		if ahead, ok := readClock(b, time.Now()); ok && asked[from] {
			out[from] = ahead
		}
	}
	for b := make([]byte, 1500); len(out) < len(asked); {
		n, from, err := c.ReadFromIP(b)
		if err != nil { // the time is over
			unread(c, take)
			return out, context.Cause(ctx)
		}
		a, _ := netip.AddrFromSlice(from.IP)
		take(b[:n], a.Unmap())
	}
	return out, nil
}

const day = 24 * 60 * 60 * 1000 // ms

func sinceMidnight(t time.Time) uint32 { return uint32(t.UnixMilli() % day) }

// readClock reads a timestamp reply that came at now.
func readClock(b []byte, now time.Time) (ahead time.Duration, ok bool) {
	if len(b) < 20 || b[0] != byte(ipv4.ICMPTypeTimestampReply) {
		return 0, false
	}
	sent, there := int64(binary.BigEndian.Uint32(b[8:])), int64(binary.BigEndian.Uint32(b[12:]))
	if there >= day { // the high bit: it is no time of day
		return 0, false
	}
	back := (int64(sinceMidnight(now)) - sent + day) % day
	d := (there - sent - back/2) % day
	switch { // the shorter way around the clock
	case d > day/2:
		d -= day
	case d < -day/2:
		d += day
	}
	return time.Duration(d) * time.Millisecond, true
}

// checksum is the Internet's (RFC 1071).
func checksum(b []byte) uint16 {
	var sum uint32
	for i := 0; i+1 < len(b); i += 2 {
		sum += uint32(b[i])<<8 | uint32(b[i+1])
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}
