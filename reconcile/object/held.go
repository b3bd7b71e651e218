package object

import "net/netip"

// Held is a route of somebody else.
type Held struct {
	Dst   netip.Prefix
	Dev   string // empty where it has none, as a blackhole
	Table uint32
	Who   string // "protocol bird (12)"
	Proto uint8  // 12

	OfAddress bool // the kernel put it there for an address of the link
}
