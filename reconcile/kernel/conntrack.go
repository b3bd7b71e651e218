package kernel

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

// Attributes of ctnetlink (include/uapi/linux/netfilter/nfnetlink_conntrack.h).
const (
	ctGet    = unix.NFNL_SUBSYS_CTNETLINK<<8 | 1 // IPCTNL_MSG_CT_GET
	ctDelete = unix.NFNL_SUBSYS_CTNETLINK<<8 | 2

	ctaTupleOrig        = 1
	ctaTupleReply       = 2
	ctaTupleIP          = 1
	ctaIPv4Src          = 1
	ctaIPv6Src          = 3
	ctaID               = 12
	ctaZone             = 18
	ctaFilter           = 25
	ctaFilterOrigFlags  = 1
	ctaFilterReplyFlags = 2
	ctaFilterSrc        = 1 << 0 // CTA_FILTER_F_CTA_IP_SRC
)

// FlushConntrack forgets the connections that an address had, so that who gets it next does not meet their packets: those
// that it began, whose original source it is, and those to it, whose answers come from it.
func (k *Kernel) FlushConntrack(_ context.Context, a netip.Addr) error {
	b := &batch{}
	for _, tuple := range []uint16{ctaTupleOrig, ctaTupleReply} {
		if err := k.connections(a, tuple, b); err != nil {
			return fmt.Errorf("looking for connections of %s: %w", a, err)
		}
	}
	for _, err := range k.nft.c.run(b) {
		if err != nil && !errors.Is(err, unix.ENOENT) { // it ended by itself
			return fmt.Errorf("forgetting a connection of %s: %w", a, err)
		}
	}
	return nil
}

// connections appends the deletion of each connection that has the address as its source in one direction.
func (k *Kernel) connections(a netip.Addr, tuple uint16, b *batch) error {
	family, attr := uint8(unix.AF_INET), uint16(ctaIPv4Src)
	if a.Is6() {
		family, attr = unix.AF_INET6, ctaIPv6Src
	}
	flags := map[uint16]uint32{tuple: ctaFilterSrc}
	var ip, tup, filter, req encoder
	ip.attr(attr, a.AsSlice())
	tup.attr(ctaTupleIP|unix.NLA_F_NESTED, ip.b)
	filter.u32(ctaFilterOrigFlags, flags[ctaTupleOrig])
	filter.u32(ctaFilterReplyFlags, flags[ctaTupleReply])
	req.raw(nfgenmsg(family)...)
	req.attr(tuple|unix.NLA_F_NESTED, tup.b)
	req.attr(ctaFilter|unix.NLA_F_NESTED, filter.b)
	undo, starts := len(b.b), len(b.starts)
	err := k.nft.c.dump(ctGet, req.b, func() { b.b, b.starts = b.b[:undo], b.starts[:starts] }, func(body []byte) error {
		if len(body) < 4 || source(body[4:], tuple, attr) != a { // before Linux 5.8 the filter is not known and all are told
			return nil
		}
		b.begin(ctDelete, 0)
		b.raw(nfgenmsg(family)...)
		for x := range attributes(body[4:]) {
			switch x.typ {
			case ctaTupleOrig:
				b.attr(x.typ|unix.NLA_F_NESTED, x.data)
			case ctaID, ctaZone:
				b.attr(x.typ, x.data)
			}
		}
		b.end()
		return nil
	})
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EINVAL) && !k.tracks() {
		return nil // no connection tracking in this kernel
	}
	return err
}

// source is a connection's source address in one direction.
func source(b []byte, tuple, attr uint16) netip.Addr {
	for t := range attributes(b) {
		if t.typ != tuple {
			continue
		}
		for ip := range attributes(t.data) {
			if ip.typ != ctaTupleIP {
				continue
			}
			for x := range attributes(ip.data) {
				if x.typ == attr {
					return x.addr()
				}
			}
		}
	}
	return netip.Addr{}
}

// tracks reports whether the kernel has the subsystem of connection tracking (module nf_conntrack_netlink).
func (k *Kernel) tracks() bool {
	_, err := os.Stat("/proc/sys/net/netfilter/nf_conntrack_max")
	return err == nil
}
