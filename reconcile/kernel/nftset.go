package kernel

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"

	"netd/reconcile"
	"netd/reconcile/object"
)

// setTypes are the key types of netd's sets and the types that its maps lead to: nft's number for it, by which `nft list`
// prints it, and its length in bytes.
var setTypes = map[string]struct{ magic, length uint32 }{
	"ipv4_addr":          {magic(nftables.TypeIPAddr), 4},
	"ifname":             {magic(nftables.TypeIFName), unix.IFNAMSIZ},
	"ifname . ipv4_addr": {magic(nftables.MustConcatSetType(nftables.TypeIFName, nftables.TypeIPAddr)), unix.IFNAMSIZ + 4},
	"ipv6_addr":          {magic(nftables.TypeIP6Addr), 16},
	"ifname . ipv6_addr": {magic(nftables.MustConcatSetType(nftables.TypeIFName, nftables.TypeIP6Addr)), unix.IFNAMSIZ + 16},
	"ifname . ifname":    {magic(nftables.MustConcatSetType(nftables.TypeIFName, nftables.TypeIFName)), 2 * unix.IFNAMSIZ},

	"inet_proto . inet_service":             concat(nftables.TypeInetProto, nftables.TypeInetService),
	"ipv4_addr . inet_proto . inet_service": concat(nftables.TypeIPAddr, nftables.TypeInetProto, nftables.TypeInetService),
	"ipv6_addr . inet_proto . inet_service": concat(nftables.TypeIP6Addr, nftables.TypeInetProto, nftables.TypeInetService),
	"ipv4_addr . inet_service":              concat(nftables.TypeIPAddr, nftables.TypeInetService),
	"ipv6_addr . inet_service":              concat(nftables.TypeIP6Addr, nftables.TypeInetService),
}

// concat is the type of several values, each of which begins at a multiple of 4 bytes.
func concat(parts ...nftables.SetDatatype) (t struct{ magic, length uint32 }) {
	for _, p := range parts {
		t.length += (p.Bytes + 3) / 4 * 4
	}
	t.magic = magic(nftables.MustConcatSetType(parts...))
	return t
}

func magic(t nftables.SetDatatype) uint32 { return t.GetNFTMagic() }

func setType(magic, length uint32) string {
	for name, t := range setTypes {
		if t.magic == magic && t.length == length {
			return name
		}
	}
	return fmt.Sprintf("type %d of %d bytes", magic, length)
}

// listSets reads the sets of a table with their elements.
func (n *nft) listSets(t object.NftTable) ([]reconcile.Resource, error) {
	var sets []object.NftSet
	err := n.c.dump(nftMsg(unix.NFT_MSG_GETSET), nfgenmsg(families[t.Family]), func() { sets = sets[:0] }, func(body []byte) error {
		if s, ok := decodeSet(t, body); ok {
			sets = append(sets, s)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("reading sets of %s %s: %w", t.Family, t.Name, err)
	}
	var out []reconcile.Resource
	for _, s := range sets {
		out = append(out, s)
		elems, err := n.listElems(s)
		if err != nil {
			return nil, err
		}
		for _, e := range elems {
			out = append(out, object.NftElem{Set: s, Elem: e})
		}
	}
	return out, nil
}

// decodeSet is the head of a set of a table; ok is false for one of another.
func decodeSet(t object.NftTable, body []byte) (s object.NftSet, ok bool) {
	s.Table = t
	var table string
	var magic, length, flags, toMagic, toLength uint32
	for a := range attributes(body[4:]) {
		switch a.typ {
		case unix.NFTA_SET_TABLE:
			table = text(a.data)
		case unix.NFTA_SET_NAME:
			s.Name = text(a.data)
		case unix.NFTA_SET_KEY_TYPE:
			magic = be32(a.data)
		case unix.NFTA_SET_KEY_LEN:
			length = be32(a.data)
		case unix.NFTA_SET_DATA_TYPE:
			toMagic = be32(a.data)
		case unix.NFTA_SET_DATA_LEN:
			toLength = be32(a.data)
		case unix.NFTA_SET_FLAGS:
			flags = be32(a.data)
		}
	}
	s.Type, s.Interval = setType(magic, length), flags&unix.NFT_SET_INTERVAL != 0
	if flags&unix.NFT_SET_MAP != 0 {
		s.Type += isMap + setType(toMagic, toLength)
	}
	if odd := flags &^ (unix.NFT_SET_INTERVAL | unix.NFT_SET_MAP); odd != 0 {
		s.Type += fmt.Sprintf(" flags %#x", odd)
	}
	return s, table == t.Name && body[0] == families[t.Family]
}

// bound is a key of an interval set: where a range begins, or where one ended.
type bound struct {
	at  netip.Addr
	end bool
}

func (n *nft) listElems(s object.NftSet) ([]string, error) {
	var elems []string
	var bounds []bound
	var e encoder
	e.raw(nfgenmsg(families[s.Table.Family])...)
	e.attr(unix.NFTA_SET_ELEM_LIST_TABLE, cString(s.Table.Name))
	e.attr(unix.NFTA_SET_ELEM_LIST_SET, cString(s.Name))
	err := n.c.dump(nftMsg(unix.NFT_MSG_GETSETELEM), e.b, func() { elems, bounds = elems[:0], bounds[:0] }, func(body []byte) error {
		eachElem(body, func(key, to []byte, end bool) {
			if at, ok := netip.AddrFromSlice(key); s.Interval && ok {
				bounds = append(bounds, bound{at, end})
			} else {
				elems = append(elems, mappedText(s.Type, key, to))
			}
		})
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("reading set %s: %w", s.Name, err)
	}
	return append(elems, ranges(bounds)...), nil
}

// ranges pairs the bounds of an interval set.
func ranges(bounds []bound) []string {
	slices.SortFunc(bounds, func(a, b bound) int {
		switch {
		case a.at != b.at:
			return a.at.Compare(b.at)
		case a.end == b.end:
			return 0
		case a.end: // where two ranges meet, one ends before the next begins
			return -1
		}
		return 1
	})
	var out []string
	open, from := false, netip.Addr{}
	for _, b := range bounds {
		if open {
			out = append(out, rangeText(from, b.at.Prev()))
		}
		open, from = !b.end, b.at
	}
	if open {
		out = append(out, rangeText(from, netip.Addr{}))
	}
	return out
}

// hostOrder is what nft leaves with a set to know how to print its keys (libnftnl, NFTNL_UDATA_SET_KEYBYTEORDER = host):
// without it names of links are printed as nothing, and a saved ruleset is of no use.
var hostOrder = []byte{0, 4, 1, 0, 0, 0}

const elemsPerMessage = 500 // a list is one attribute, whose length has 16 bits

// Batch implements reconcile.Batcher: one transaction, all or nothing.
func (n *nft) Batch(_ context.Context, changes []reconcile.Change) []error {
	b := &batch{}
	frame(b, unix.NFNL_MSG_BATCH_BEGIN)
	errs := make([]error, len(changes))
	of := []int{-1} // the change that each message is of
	for i := 0; i < len(changes); {
		j := i + 1
		if e, ok := element(changes[i]); ok { // elements of one set go together
			for j < len(changes) && j-i < elemsPerMessage && changes[j].Op == changes[i].Op {
				next, ok := element(changes[j])
				if !ok || next.Set != e.Set {
					break
				}
				j++
			}
		}
		count := len(b.starts)
		if err := encodeNft(b, changes[i:j]); err != nil {
			for k := range errs {
				errs[k] = fmt.Errorf("%s: %w", changes[i].Key, err)
			}
			return errs
		}
		for range len(b.starts) - count {
			of = append(of, i)
		}
		i = j
	}
	frame(b, unix.NFNL_MSG_BATCH_END)
	first := n.c.transact(b)
	if first.err == nil {
		if err := n.redirect(changes); err != nil {
			errs[len(errs)-1] = err
		}
		return errs
	}
	// One failed, so nothing was done.
	for i := range errs {
		errs[i] = reconcile.ErrRolledBack
	}
	culprit := 0 // of a refusal of the whole, as good as any
	if first.at > 0 && first.at < len(of) {
		culprit = of[first.at]
	}
	errs[culprit] = lacking(changes[culprit].Want, first.err)
	return errs
}

// frame is the first or last message of a transaction.
func frame(b *batch, typ uint16) {
	b.begin(typ, 0)
	b.raw(unix.AF_UNSPEC, unix.NFNETLINK_V0, 0, unix.NFNL_SUBSYS_NFTABLES) // res_id, big endian
	b.end()
}

func element(c reconcile.Change) (object.NftElem, bool) {
	r := c.Want
	if r == nil {
		r = c.Have
	}
	e, ok := r.(object.NftElem)
	return e, ok
}

func encodeNft(b *batch, changes []reconcile.Change) error {
	c := changes[0]
	r := c.Want
	if c.Op == reconcile.Delete {
		r = c.Have
	}
	begin := func(family string, msg, flags uint16) {
		b.begin(nftMsg(msg), flags)
		b.raw(nfgenmsg(families[family])...)
	}
	switch r := r.(type) {
	case object.NftTable:
		if c.Op == reconcile.Delete {
			begin(r.Family, unix.NFT_MSG_DELTABLE, 0)
		} else {
			begin(r.Family, unix.NFT_MSG_NEWTABLE, unix.NLM_F_CREATE)
		}
		b.attr(unix.NFTA_TABLE_NAME, cString(r.Name))
		b.end()
	case object.NftChain:
		return encodeChain(b, c.Op, r, begin)
	case object.NftSet:
		return encodeSet(b, c.Op, r, begin)
	case object.NftElem:
		return encodeElems(b, c.Op, r.Set, changes, begin)
	default:
		return fmt.Errorf("not of nftables: %T", r)
	}
	return nil
}

type beginner func(family string, msg, flags uint16)

func encodeChain(b *batch, op reconcile.Op, c object.NftChain, begin beginner) error {
	names := func() {
		b.attr(unix.NFTA_RULE_TABLE, cString(c.Table.Name))
		b.attr(unix.NFTA_RULE_CHAIN, cString(c.Name))
	}
	if op != reconcile.Create { // all rules go, in the same transaction that brings the new ones or removes the chain
		begin(c.Table.Family, unix.NFT_MSG_DELRULE, 0)
		names()
		b.end()
	}
	if op == reconcile.Delete {
		begin(c.Table.Family, unix.NFT_MSG_DELCHAIN, 0)
		b.attr(unix.NFTA_CHAIN_TABLE, cString(c.Table.Name))
		b.attr(unix.NFTA_CHAIN_NAME, cString(c.Name))
		b.end()
		return nil
	}
	var hook encoder
	hook.attr(unix.NFTA_HOOK_HOOKNUM, binary.BigEndian.AppendUint32(nil, hookNumber(c.Table.Family, c.Hook)))
	hook.attr(unix.NFTA_HOOK_PRIORITY, binary.BigEndian.AppendUint32(nil, uint32(int32(c.Priority))))
	begin(c.Table.Family, unix.NFT_MSG_NEWCHAIN, unix.NLM_F_CREATE)
	b.attr(unix.NFTA_CHAIN_TABLE, cString(c.Table.Name))
	b.attr(unix.NFTA_CHAIN_NAME, cString(c.Name))
	b.attr(unix.NFTA_CHAIN_HOOK|unix.NLA_F_NESTED, hook.b)
	b.attr(unix.NFTA_CHAIN_POLICY, binary.BigEndian.AppendUint32(nil, 1)) // NF_ACCEPT
	b.attr(unix.NFTA_CHAIN_TYPE, cString(c.Type))
	b.end()
	if c.Rules == "" {
		return nil
	}
	for line := range strings.SplitSeq(c.Rules, "\n") {
		es, err := compileRule(families[c.Table.Family], line)
		if err != nil {
			return err
		}
		var list encoder
		for _, x := range es {
			var one encoder
			one.attr(unix.NFTA_EXPR_NAME, cString(x.name))
			one.attr(unix.NFTA_EXPR_DATA|unix.NLA_F_NESTED, x.data)
			list.attr(unix.NFTA_LIST_ELEM|unix.NLA_F_NESTED, one.b)
		}
		begin(c.Table.Family, unix.NFT_MSG_NEWRULE, unix.NLM_F_CREATE|unix.NLM_F_APPEND)
		names()
		b.attr(unix.NFTA_RULE_EXPRESSIONS|unix.NLA_F_NESTED, list.b)
		b.end()
	}
	return nil
}

func encodeSet(b *batch, op reconcile.Op, s object.NftSet, begin beginner) error {
	if op == reconcile.Delete {
		begin(s.Table.Family, unix.NFT_MSG_DELSET, 0)
		b.attr(unix.NFTA_SET_TABLE, cString(s.Table.Name))
		b.attr(unix.NFTA_SET_NAME, cString(s.Name))
		b.end()
		return nil
	}
	typ, toType, mapped := strings.Cut(s.Type, isMap)
	t, ok := setTypes[typ]
	to, ok2 := setTypes[toType]
	if !ok || mapped && !ok2 {
		return fmt.Errorf("unknown type %q", s.Type)
	}
	flags := uint32(0)
	if s.Interval {
		flags |= unix.NFT_SET_INTERVAL
	}
	if mapped {
		flags |= unix.NFT_SET_MAP
	}
	begin(s.Table.Family, unix.NFT_MSG_NEWSET, unix.NLM_F_CREATE|unix.NLM_F_EXCL)
	b.attr(unix.NFTA_SET_TABLE, cString(s.Table.Name))
	b.attr(unix.NFTA_SET_NAME, cString(s.Name))
	b.attr(unix.NFTA_SET_FLAGS, binary.BigEndian.AppendUint32(nil, flags))
	b.attr(unix.NFTA_SET_KEY_TYPE, binary.BigEndian.AppendUint32(nil, t.magic))
	b.attr(unix.NFTA_SET_KEY_LEN, binary.BigEndian.AppendUint32(nil, t.length))
	if mapped {
		b.attr(unix.NFTA_SET_DATA_TYPE, binary.BigEndian.AppendUint32(nil, to.magic))
		b.attr(unix.NFTA_SET_DATA_LEN, binary.BigEndian.AppendUint32(nil, to.length))
	}
	if s.Type == "ifname" {
		b.attr(unix.NFTA_SET_USERDATA, hostOrder)
	}
	b.attr(unix.NFTA_SET_ID, binary.BigEndian.AppendUint32(nil, uint32(len(b.starts)))) // unique in the batch
	b.end()
	return nil
}

func encodeElems(b *batch, op reconcile.Op, s object.NftSet, changes []reconcile.Change, begin beginner) error {
	var list encoder
	for _, c := range changes {
		e, _ := element(c)
		key, to, end, err := mappedKey(s.Type, e.Elem)
		if err != nil {
			return fmt.Errorf("element %s: %w", e.Elem, err)
		}
		list.elem(key, to, 0)
		if s.Interval && end != nil { // a range up to the last address has no end
			list.elem(end, nil, unix.NFT_SET_ELEM_INTERVAL_END)
		}
	}
	msg, flags := uint16(unix.NFT_MSG_NEWSETELEM), uint16(unix.NLM_F_CREATE)
	if op == reconcile.Delete {
		msg, flags = unix.NFT_MSG_DELSETELEM, 0
	}
	begin(s.Table.Family, msg, flags)
	b.elems(s, list)
	b.end()
	return nil
}
