package speaker

import (
	"math/bits"
	"net/netip"
)

// packed is a prefix without a pointer, which netip's have. IPv6 prefixes have their length, IPv4 ones theirs and 129.
type packed struct {
	addr [16]byte
	bits uint8
}

const packedIPv4 = 129

func pack(p netip.Prefix) packed {
	out := packed{p.Addr().As16(), uint8(p.Bits())}
	if p.Addr().Is4() {
		out.bits += packedIPv4
	}
	return out
}

func (p packed) prefix() netip.Prefix {
	if p.bits >= packedIPv4 {
		return netip.PrefixFrom(netip.AddrFrom4([4]byte(p.addr[12:])), int(p.bits-packedIPv4))
	}
	return netip.PrefixFrom(netip.AddrFrom16(p.addr), int(p.bits))
}

// sets are the sets of ways that prefixes have, each once, by number. Number 0 is no way at all. The zero value is ready.
type sets struct {
	encoded []string // by appendHops
	uses    []int
	number  map[string]uint32
	free    []uint32 // numbers that nobody uses

	lastHop hop // that was alone in a set last: few ways lead to many prefixes
	last    uint32
}

// intern is the number of a set. It is the caller's to use it at once: one that nobody uses is another's in time.
func (s *sets) intern(hops []hop) uint32 {
	if len(hops) == 0 {
		return 0
	}
	if len(hops) == 1 && s.last != 0 && hops[0] == s.lastHop {
		return s.last
	}
	if s.number == nil {
		s.encoded, s.uses, s.number = make([]string, 1), make([]int, 1), map[string]uint32{}
	}
	encoded := appendHops(nil, hops)
	n, ok := s.number[string(encoded)]
	if !ok {
		text := string(encoded)
		if last := len(s.free) - 1; last >= 0 {
			n, s.free = s.free[last], s.free[:last]
			s.encoded[n] = text
		} else {
			n = uint32(len(s.encoded))
			s.encoded, s.uses = append(s.encoded, text), append(s.uses, 0)
		}
		s.number[text] = n
	}
	if len(hops) == 1 {
		s.lastHop, s.last = hops[0], n
	}
	return n
}

// use counts those that use a set.
func (s *sets) use(n uint32, more int) {
	if n == 0 {
		return
	}
	if s.uses[n] += more; s.uses[n] > 0 {
		return
	}
	delete(s.number, s.encoded[n])
	s.encoded[n], s.free = "", append(s.free, n)
	if s.last == n {
		s.last = 0
	}
}

// of are the encoded ways of a set.
func (s *sets) of(n uint32) string {
	if n == 0 {
		return ""
	}
	return s.encoded[n]
}

// numbers is a set of small numbers. The zero value is empty.
type numbers []uint64

func (s *numbers) set(n uint32) {
	for int(n/64) >= len(*s) {
		*s = append(*s, 0)
	}
	(*s)[n/64] |= 1 << (n % 64)
}

func (s numbers) clear(n uint32) { s[n/64] &^= 1 << (n % 64) }

func (s numbers) has(n uint32) bool { return int(n/64) < len(s) && s[n/64]&(1<<(n%64)) != 0 }

// each gives all in order to take, which may clear them, until that is false.
func (s numbers) each(take func(uint32) bool) {
	for i, word := range s {
		for ; word != 0; word &= word - 1 {
			if !take(uint32(i*64 + bits.TrailingZeros64(word))) {
				return
			}
		}
	}
}
