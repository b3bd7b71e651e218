package kernel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"netd/reconcile"
	"netd/reconcile/object"
)

// Messages and attributes of ctnetlink (include/uapi/linux/netfilter/nfnetlink_conntrack.h).
const (
	ctGet    = unix.NFNL_SUBSYS_CTNETLINK<<8 | 1 // IPCTNL_MSG_CT_GET
	ctDelete = unix.NFNL_SUBSYS_CTNETLINK<<8 | 2

	ctaTupleOrig  = 1
	ctaTupleReply = 2
	ctaTupleIP    = 1
	ctaTupleProto = 2
	ctaIPv4Src    = 1
	ctaIPv4Dst    = 2
	ctaIPv6Src    = 3
	ctaIPv6Dst    = 4
	ctaProtoNum   = 1
	ctaProtoSrc   = 2
	ctaProtoDst   = 3
	ctaID         = 12
	ctaZone       = 18
)

// FlushConntrack forgets the connections that addresses had, so that who gets them next does not meet their packets: those
// that they began, whose original source they are, and those to them, whose answers come from them. The kernel walks its
// whole table, whose size depends on the machine's memory (milliseconds), once whatever the number of addresses. It has a
// socket of its own: any goroutine may call it.
func FlushConntrack(addrs []netip.Addr) error {
	var fs []uint8
	for _, a := range addrs {
		if f := family(a); !slices.Contains(fs, f) {
			fs = append(fs, f)
		}
	}
	err := flush(fs, func(original, reply tuple) bool {
		return slices.Contains(addrs, original.src.Addr()) || slices.Contains(addrs, reply.src.Addr())
	})
	if err != nil {
		return fmt.Errorf("connections of %s: %w", addrs[0], err)
	}
	return nil
}

// flush forgets the connections that match tells of.
func flush(families []uint8, match func(original, reply tuple) bool) error {
	c, err := dialProtocol(unix.NETLINK_NETFILTER, 0)
	if err != nil {
		return err
	}
	defer c.close()
	b := &batch{}
	for _, family := range families {
		undo, starts := len(b.b), len(b.starts)
		err := c.dump(ctGet, nfgenmsg(family), func() { b.b, b.starts = b.b[:undo], b.starts[:starts] }, func(body []byte) error {
			if len(body) >= 4 && match(tupleOf(body[4:], ctaTupleOrig), tupleOf(body[4:], ctaTupleReply)) {
				forget(b, family, body[4:])
			}
			return nil
		})
		if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EINVAL) { // no connection tracking in this kernel
			return nil
		}
		if err != nil {
			return fmt.Errorf("looking for them: %w", err)
		}
	}
	for _, err := range c.run(b, nil) {
		if err != nil && !errors.Is(err, unix.ENOENT) { // it ended by itself
			return fmt.Errorf("forgetting one: %w", err)
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

// tuple is a connection in one direction.
type tuple struct {
	proto    uint8
	src, dst netip.AddrPort
}

func tupleOf(b []byte, which uint16) (t tuple) {
	var src, dst netip.Addr
	var from, to uint16
	for x := range attributes(b) {
		if x.typ != which {
			continue
		}
		for part := range attributes(x.data) {
			for a := range attributes(part.data) {
				switch {
				case part.typ == ctaTupleIP && (a.typ == ctaIPv4Src || a.typ == ctaIPv6Src):
					src = a.addr()
				case part.typ == ctaTupleIP && (a.typ == ctaIPv4Dst || a.typ == ctaIPv6Dst):
					dst = a.addr()
				case part.typ == ctaTupleProto && a.typ == ctaProtoNum && len(a.data) == 1:
					t.proto = a.data[0]
				case part.typ == ctaTupleProto && a.typ == ctaProtoSrc && len(a.data) == 2:
					from = binary.BigEndian.Uint16(a.data)
				case part.typ == ctaTupleProto && a.typ == ctaProtoDst && len(a.data) == 2:
					to = binary.BigEndian.Uint16(a.data)
				}
			}
		}
	}
	t.src, t.dst = netip.AddrPortFrom(src, from), netip.AddrPortFrom(dst, to)
	return t
}

// translation is what an element of a map of published ports does to UDP. A flow that is there keeps to what was so when it began,
// for as long as it does not pause: so what goes another way has to be forgotten.
type translation struct {
	at   netip.AddrPort // of the host; an address that is invalid: each
	to   netip.AddrPort // of the container
	over bool           // it is no more
}

// redirect has flows that are there go by what changes have made of the translations. Where a chain that translates has come
// back they are all made anew: flows may have begun without it.
func (n *nft) redirect(changes []reconcile.Change) error {
	ts := translations(changes)
	if slices.ContainsFunc(changes, func(c reconcile.Change) bool {
		chain, ok := c.Want.(object.NftChain)
		return ok && chain.Type == "nat" && strings.Contains(chain.Rules, " dnat ")
	}) {
		own, err := n.listSets(nftTables[0])
		if err != nil {
			return fmt.Errorf("looking for published ports: %w", err)
		}
		for _, r := range own {
			ts = append(ts, translations([]reconcile.Change{{Op: reconcile.Create, Want: r}})...)
		}
	}
	return forgetFlows(ts)
}

// translations are those that changes make and undo.
func translations(changes []reconcile.Change) (out []translation) {
	for _, c := range changes {
		if e, ok := element(c); ok {
			if proto, at, to, ok := e.Leads(); ok && proto == "udp" {
				out = append(out, translation{at, to, c.Op == reconcile.Delete})
			}
		}
	}
	return out
}

// changes reports whether a flow goes another way since there is a translation, or there is none any more. own are this host's
// addresses.
func (t translation) changes(original, reply tuple, own []netip.Addr) bool {
	switch dst := original.dst; {
	case original.proto != unix.IPPROTO_UDP || dst.Port() != t.at.Port() || dst.Addr().Is4() != t.to.Addr().Is4():
		return false
	case t.over:
		return reply.src == t.to && dst != t.to
	case t.at.Addr().IsValid():
		return dst == t.at && reply.src != t.to
	default:
		return (dst.Addr().IsLoopback() || slices.Contains(own, dst.Addr())) && reply.src != t.to
	}
}

// forgetFlows has UDP flows go by what is translated now.
func forgetFlows(ts []translation) error {
	if len(ts) == 0 {
		return nil
	}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return err
	}
	var own []netip.Addr
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok {
			if a, ok := netip.AddrFromSlice(n.IP); ok {
				own = append(own, a.Unmap())
			}
		}
	}
	var fs []uint8
	for _, t := range ts {
		if f := family(t.to.Addr()); !slices.Contains(fs, f) {
			fs = append(fs, f)
		}
	}
	err = flush(fs, func(original, reply tuple) bool {
		return slices.ContainsFunc(ts, func(t translation) bool { return t.changes(original, reply, own) })
	})
	if err != nil {
		return fmt.Errorf("flows of UDP to published ports: %w", err)
	}
	return nil
}
