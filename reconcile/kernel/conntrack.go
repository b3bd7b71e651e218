package kernel

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"
)

// Messages and attributes of ctnetlink (include/uapi/linux/netfilter/nfnetlink_conntrack.h).
const (
	ctGet    = unix.NFNL_SUBSYS_CTNETLINK<<8 | 1 // IPCTNL_MSG_CT_GET
	ctDelete = unix.NFNL_SUBSYS_CTNETLINK<<8 | 2

	ctaTupleOrig  = 1
	ctaTupleReply = 2
	ctaTupleIP    = 1
	ctaIPv4Src    = 1
	ctaIPv6Src    = 3
	ctaID         = 12
	ctaZone       = 18
)

// FlushConntrack forgets the connections that addresses had, so that who gets them next does not meet their packets: those
// that they began, whose original source they are, and those to them, whose answers come from them. The kernel walks its
// whole table, whose size depends on the machine's memory (milliseconds), once whatever the number of addresses. It has a
// socket of its own: any goroutine may call it.
func FlushConntrack(addrs []netip.Addr) error {
	c, err := dialProtocol(unix.NETLINK_NETFILTER)
	if err != nil {
		return err
	}
	defer c.close()
	b := &batch{}
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		if !slices.ContainsFunc(addrs, func(a netip.Addr) bool { return a.Is6() == (family == unix.AF_INET6) }) {
			continue
		}
		undo, starts := len(b.b), len(b.starts)
		err := c.dump(ctGet, nfgenmsg(family), func() { b.b, b.starts = b.b[:undo], b.starts[:starts] }, func(body []byte) error {
			if len(body) >= 4 && (slices.Contains(addrs, source(body[4:], ctaTupleOrig)) || slices.Contains(addrs, source(body[4:], ctaTupleReply))) {
				forget(b, family, body[4:])
			}
			return nil
		})
		if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EINVAL) { // no connection tracking in this kernel
			return nil
		}
		if err != nil {
			return fmt.Errorf("looking for connections of %s: %w", addrs[0], err)
		}
	}
	for _, err := range c.run(b) {
		if err != nil && !errors.Is(err, unix.ENOENT) { // it ended by itself
			return fmt.Errorf("forgetting a connection of %s: %w", addrs[0], err)
		}
	}
	return nil
}

// forget appends the deletion of one connection.
func forget(b *batch, family uint8, connection []byte) {
	b.begin(ctDelete, 0)
	b.raw(nfgenmsg(family)...)
	for x := range attributes(connection) {
		switch x.typ {
		case ctaTupleOrig:
			b.attr(x.typ|unix.NLA_F_NESTED, x.data)
		case ctaID, ctaZone:
			b.attr(x.typ, x.data)
		}
	}
	b.end()
}

// source is a connection's source address in one direction.
func source(b []byte, tuple uint16) netip.Addr {
	for t := range attributes(b) {
		if t.typ != tuple {
			continue
		}
		for ip := range attributes(t.data) {
			if ip.typ != ctaTupleIP {
				continue
			}
			for x := range attributes(ip.data) {
				if x.typ == ctaIPv4Src || x.typ == ctaIPv6Src {
					return x.addr()
				}
			}
		}
	}
	return netip.Addr{}
}
