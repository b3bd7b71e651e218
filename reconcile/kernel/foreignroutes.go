package kernel

import (
	"errors"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"netd/reconcile/object"
)

// ForeignRoutes are the unicast and blackhole routes of others, in any table but the kernel's local one, to places that lie
// in one of the prefixes.
func ForeignRoutes(within []netip.Prefix) ([]object.Held, error) {
	c, err := dial()
	if err != nil {
		return nil, err
	}
	defer c.close()
	links, err := readLinks(c)
	if err != nil {
		return nil, err
	}
	var out []object.Held
	for _, family := range []byte{unix.AF_INET, unix.AF_INET6} {
		head := make([]byte, unix.SizeofRtMsg)
		head[0] = family
		before := len(out)
		err := c.dump(unix.RTM_GETROUTE, head, func() { out = out[:before] }, func(body []byte) error {
			r, ok := decodeRoute(body)
			if !ok || r.cloned || r.protocol == object.Protocol || r.table == unix.RT_TABLE_LOCAL || r.typ == unix.RTN_LOCAL || r.typ == unix.RTN_MULTICAST {
				return nil
			}
			if slices.ContainsFunc(within, func(p netip.Prefix) bool { return p.Bits() <= r.dst.Bits() && p.Contains(r.dst.Addr()) }) {
				oif := r.oif
				if len(r.hops) > 0 {
					oif = r.hops[0].oif
				}
				out = append(out, object.Held{Dst: r.dst, Dev: links.byIndex[oif].name, Table: r.table, Who: protocolName(r.protocol), Proto: r.protocol, OfAddress: r.protocol == unix.RTPROT_KERNEL})
			}
			return nil
		})
		if err != nil && !errors.Is(err, unix.EAFNOSUPPORT) && !errors.Is(err, unix.EOPNOTSUPP) {
			return nil, err
		}
	}
	return out, nil
}
