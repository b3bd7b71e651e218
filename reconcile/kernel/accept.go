package kernel

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/google/nftables/expr"
	"github.com/google/nftables/xt"
	"golang.org/x/sys/unix"

	"netd/reconcile"
	"netd/reconcile/object"
)

// accepts is the kind of netd's rules in the chains of iptables that decide what is forwarded. They are written as iptables
// writes them, with matches that it can print, so that `iptables-save | iptables-restore` leaves what they mean: a set there
// is printed as an accept of everything.
type accepts struct{ n *nft }

// Name implements reconcile.Kind.
func (accepts) Name() string { return object.KindAccept }

const (
	filterTable = "filter"
	dockerUser  = "DOCKER-USER" // what Docker leaves to others, and jumps to first
	forward     = "FORWARD"
	comment     = "netd"
)

var filterFamilies = []string{"ip", "ip6"}

// familyNumber is the number of a family of iptables.
func familyNumber(family string) uint8 {
	if family == "ip6" {
		return unix.NFPROTO_IPV6
	}
	return unix.NFPROTO_IPV4
}

// FilterChains are the chains of iptables, of IPv4 and IPv6, in which what netd forwards has to be accepted, or it may be
// dropped, with a space between: DOCKER-USER where FORWARD goes there, FORWARD itself where it drops what no rule takes, else
// none. Both where it drops and Docker's chain is there: Docker takes the jump to that away and puts it back whenever a network
// comes or goes, and for these milliseconds FORWARD alone decides.
func FilterChains() (v4, v6 string, err error) {
	n, err := newNft()
	if err != nil {
		return "", "", err
	}
	defer n.close()
	return n.filterChains()
}

func (n *nft) filterChains() (v4, v6 string, err error) {
	for _, family := range filterFamilies {
		drops, docker, err := n.forwardDrops(family)
		if err != nil {
			return "", "", err
		}
		jumped, over := false, false // over: a rule decides for all, and what stands at the end is in vain
		err = n.filterRules(family, func(r filterRule) {
			if r.chain == forward {
				jumped = jumped || r.jump == dockerUser
				over = over || r.always && !r.own
			}
		})
		if err != nil {
			return "", "", err
		}
		chain := ""
		switch {
		case docker && drops && !over:
			chain = dockerUser + " " + forward
		case jumped:
			chain = dockerUser
		case drops:
			chain = forward
		}
		if family == "ip" {
			v4 = chain
		} else {
			v6 = chain
		}
	}
	return v4, v6, nil
}

// forwardDrops reports whether the policy of FORWARD is to drop, and whether Docker's chain is there.
func (n *nft) forwardDrops(family string) (drops, docker bool, err error) {
	err = n.c.dump(nftMsg(unix.NFT_MSG_GETCHAIN), nfgenmsg(familyNumber(family)), func() { drops, docker = false, false }, func(body []byte) error {
		c, table, policy := decodeChain(object.NftTable{}, body)
		if table == filterTable && body[0] == familyNumber(family) {
			drops = drops || c.Name == forward && policy == 0
			docker = docker || c.Name == dockerUser
		}
		return nil
	})
	if err != nil {
		return false, false, fmt.Errorf("reading chains of %s %s: %w", family, filterTable, err)
	}
	return drops, docker, nil
}

// filterRule is a rule of FORWARD or DOCKER-USER.
type filterRule struct {
	chain  string
	handle uint64
	own    bool   // it has netd's comment
	jump   string // the chain that it goes to
	always bool   // it is for every packet and decides, so that no rule behind it counts
	accept object.Accept
	known  bool // accept says all of it
}

// filterRules calls each with the rules of the two chains, in their order. No other chain is read: it may have thousands.
func (n *nft) filterRules(family string, each func(filterRule)) error {
	for _, chain := range []string{forward, dockerUser} {
		var e encoder
		e.raw(nfgenmsg(familyNumber(family))...)
		e.attr(unix.NFTA_RULE_TABLE, cString(filterTable))
		e.attr(unix.NFTA_RULE_CHAIN, cString(chain))
		var rules []filterRule
		err := n.c.dump(nftMsg(unix.NFT_MSG_GETRULE), e.b, func() { rules = nil }, func(body []byte) error {
			if r, table := decodeFilterRule(family, body); table == filterTable && r.chain == chain && body[0] == familyNumber(family) {
				rules = append(rules, r)
			}
			return nil
		})
		if err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("reading rules of %s %s %s: %w", family, filterTable, chain, err)
		}
		for _, r := range rules {
			each(r)
		}
	}
	return nil
}

func decodeFilterRule(family string, body []byte) (r filterRule, table string) {
	var es []compiledExpr
	for a := range attributes(body[4:]) {
		switch a.typ {
		case unix.NFTA_RULE_TABLE:
			table = text(a.data)
		case unix.NFTA_RULE_CHAIN:
			r.chain = text(a.data)
		case unix.NFTA_RULE_HANDLE:
			if len(a.data) == 8 {
				r.handle = binary.BigEndian.Uint64(a.data)
			}
		case unix.NFTA_RULE_EXPRESSIONS:
			es = decodeExprs(a.data)
		case unix.NFTA_RULE_USERDATA: // nft's own form of a comment: type 0, length, text
			if u := a.data; len(u) > 2 && u[0] == 0 {
				r.own = text(u[2:]) == comment
			}
		}
	}
	r.read(family, es)
	return r, table
}

// read makes out what a rule says. It knows what iptables makes of netd's rules, and no more.
func (r *filterRule) read(family string, es []compiledExpr) {
	r.accept, r.known = object.Accept{Family: family, Chain: r.chain}, true
	matches, decides := false, false
	var load attrMap
	var mask []byte
	for _, e := range es {
		a := mapOf(e.data)
		switch e.name {
		case "counter":
		case "meta", "payload":
			load, mask, matches = a, nil, true
			load.payload = e.name == "payload"
		case "bitwise":
			mask = value(a.of[unix.NFTA_BITWISE_MASK])
			r.known = r.known && zero(value(a.of[unix.NFTA_BITWISE_XOR]))
		case "cmp":
			r.known = r.known && be32(a.of[unix.NFTA_CMP_OP]) == unix.NFT_CMP_EQ && r.compare(load, mask, value(a.of[unix.NFTA_CMP_DATA]))
		case "match":
			switch info := a.of[unix.NFTA_MATCH_INFO]; text(a.of[unix.NFTA_MATCH_NAME]) {
			case "comment":
				r.own = text(info) == comment
			case "conntrack":
				matches = true
				r.accept.Established = string(info) == string(conntrackInfo(ctAnswers))
				r.accept.Translated = string(info) == string(conntrackInfo(ctTranslated))
				r.known = r.known && (r.accept.Established || r.accept.Translated)
			default:
				matches, r.known = true, false
			}
		case "immediate":
			verdict := mapOf(mapOf(a.of[unix.NFTA_IMMEDIATE_DATA]).of[unix.NFTA_DATA_VERDICT])
			code := int32(be32(verdict.of[unix.NFTA_VERDICT_CODE]))
			if code == unix.NFT_JUMP || code == unix.NFT_GOTO {
				r.jump = text(verdict.of[unix.NFTA_VERDICT_CHAIN])
			}
			decides = code != unix.NFT_JUMP
			r.known = r.known && code == 1 // NF_ACCEPT
		default:
			matches, r.known = true, false
		}
	}
	r.known, r.always = r.known && decides, !matches && decides
}

// compare reads a comparison of what was loaded.
func (r *filterRule) compare(load attrMap, mask, data []byte) bool {
	if !load.payload {
		name := string(data)
		if full := strings.TrimRight(name, "\x00"); full != name {
			name = full
		} else {
			name += "+"
		}
		switch be32(load.of[unix.NFTA_META_KEY]) {
		case unix.NFT_META_IIFNAME:
			r.accept.In = name
		case unix.NFT_META_OIFNAME:
			r.accept.Out = name
		default:
			return false
		}
		return true
	}
	h := ipHeaders[r.accept.Family]
	bits := 8 * len(data)
	if mask != nil {
		bits = 0
		for i := 0; i < 8*len(mask) && mask[i/8]&(0x80>>(i%8)) != 0; i++ {
			bits++
		}
	}
	if be32(load.of[unix.NFTA_PAYLOAD_BASE]) != unix.NFT_PAYLOAD_NETWORK_HEADER || len(data) > int(h.length) {
		return false
	}
	addr, _ := netip.AddrFromSlice(append(data, make([]byte, int(h.length)-len(data))...))
	switch be32(load.of[unix.NFTA_PAYLOAD_OFFSET]) {
	case h.saddr:
		r.accept.Src = netip.PrefixFrom(addr, bits)
	case h.daddr:
		r.accept.Dst = netip.PrefixFrom(addr, bits)
	default:
		return false
	}
	return true
}

// attrMap is attributes by their type.
type attrMap struct {
	of      map[uint16][]byte
	payload bool
}

func mapOf(b []byte) attrMap {
	m := attrMap{of: map[uint16][]byte{}}
	for a := range attributes(b) {
		m.of[a.typ] = append([]byte(nil), a.data...)
	}
	return m
}

func value(b []byte) []byte { return mapOf(b).of[unix.NFTA_DATA_VALUE] }

func zero(b []byte) bool {
	for _, x := range b {
		if x != 0 {
			return false
		}
	}
	return true
}

// States of connections (include/uapi/linux/netfilter/xt_conntrack.h).
const (
	ctAnswers    = 1<<1 | 1<<2 // IP_CT_ESTABLISHED, IP_CT_RELATED
	ctTranslated = 1 << 7      // XT_CONNTRACK_STATE_DNAT
)

// conntrackInfo is what iptables gives the match conntrack for --ctstate RELATED,ESTABLISHED or DNAT: struct
// xt_conntrack_mtinfo3, whose size is rounded up to 8.
func conntrackInfo(states uint16) []byte {
	info := make([]byte, 168)
	native.PutUint16(info[146:], 1)      // match_flags: XT_CONNTRACK_STATE
	native.PutUint16(info[150:], states) // state_mask
	return info
}

// List implements reconcile.Kind.
func (k accepts) List(context.Context, []reconcile.Resource) (own []reconcile.Resource, _ []reconcile.Holder, err error) {
	for _, family := range filterFamilies {
		seen := map[object.Accept]bool{}
		over := map[string]bool{} // chains in which a rule before decides
		err := k.n.filterRules(family, func(r filterRule) {
			if !r.own {
				over[r.chain] = over[r.chain] || r.always
				return
			}
			a := r.accept
			if !r.known || seen[a] || over[r.chain] {
				a = object.Accept{Family: family, Chain: r.chain, Stray: fmt.Sprint(r.handle)}
			}
			seen[a] = true
			own = append(own, a)
		})
		if err != nil {
			return nil, nil, err
		}
	}
	return own, nil, nil
}

// Create implements reconcile.Kind. In Docker's chain it comes first, before the RETURN that Docker puts there; in FORWARD
// last, behind what the host's own rules refuse.
func (k accepts) Create(_ context.Context, want reconcile.Resource) error {
	a, ok := want.(object.Accept)
	if !ok {
		return fmt.Errorf("not a rule: %T", want)
	}
	list, err := encodeAccept(a)
	if err != nil {
		return err
	}
	flags := uint16(unix.NLM_F_CREATE)
	if a.Chain == forward {
		flags |= unix.NLM_F_APPEND
	}
	return k.transact(func(b *batch) {
		b.begin(nftMsg(unix.NFT_MSG_NEWRULE), flags)
		b.raw(nfgenmsg(familyNumber(a.Family))...)
		b.attr(unix.NFTA_RULE_TABLE, cString(filterTable))
		b.attr(unix.NFTA_RULE_CHAIN, cString(a.Chain))
		b.attr(unix.NFTA_RULE_EXPRESSIONS|unix.NLA_F_NESTED, list)
		b.end()
	})
}

func encodeAccept(a object.Accept) ([]byte, error) {
	var es []expr.Any
	equal := func(data []byte) { es = append(es, &expr.Cmp{Op: expr.CmpOpEq, Register: reg1, Data: data}) }
	h := ipHeaders[a.Family]
	for _, p := range []struct {
		prefix netip.Prefix
		offset uint32
	}{{a.Src, h.saddr}, {a.Dst, h.daddr}} {
		if !p.prefix.IsValid() {
			continue
		}
		es = append(es, &expr.Payload{DestRegister: reg1, Base: expr.PayloadBaseNetworkHeader, Offset: p.offset, Len: h.length})
		mask := make([]byte, h.length)
		for i := range p.prefix.Bits() {
			mask[i/8] |= 0x80 >> (i % 8)
		}
		es = append(es, &expr.Bitwise{SourceRegister: reg1, DestRegister: reg1, Len: h.length, Mask: mask, Xor: make([]byte, h.length)})
		equal(p.prefix.Masked().Addr().AsSlice())
	}
	for _, l := range []struct {
		name string
		key  expr.MetaKey
	}{{a.In, expr.MetaKeyIIFNAME}, {a.Out, expr.MetaKeyOIFNAME}} {
		if l.name == "" {
			continue
		}
		es = append(es, &expr.Meta{Key: l.key, Register: reg1})
		if begin, all := strings.CutSuffix(l.name, "+"); all {
			equal([]byte(begin))
		} else {
			equal(cString(l.name))
		}
	}
	if a.Established || a.Translated {
		states := uint16(ctAnswers)
		if a.Translated {
			states = ctTranslated
		}
		info := xt.Unknown(conntrackInfo(states))
		es = append(es, &expr.Match{Name: "conntrack", Rev: 3, Info: &info})
	}
	words := make([]byte, xt.CommentSize)
	copy(words, comment)
	info := xt.Unknown(words)
	es = append(es, &expr.Match{Name: "comment", Info: &info}, &expr.Counter{}, &expr.Verdict{Kind: expr.VerdictAccept})
	var list encoder
	for _, e := range es {
		b, err := expr.Marshal(familyNumber(a.Family), e)
		if err != nil {
			return nil, err
		}
		list.attr(unix.NFTA_LIST_ELEM|unix.NLA_F_NESTED, b)
	}
	return list.b, nil
}

// Update implements reconcile.Kind.
func (accepts) Update(context.Context, reconcile.Resource, reconcile.Resource) error {
	return errors.New("a rule cannot be changed in place")
}

// Delete implements reconcile.Kind.
func (k accepts) Delete(_ context.Context, have reconcile.Resource) error {
	a, ok := have.(object.Accept)
	if !ok {
		return fmt.Errorf("not a rule: %T", have)
	}
	var handle uint64
	err := k.n.filterRules(a.Family, func(r filterRule) {
		if r.own && r.chain == a.Chain && (fmt.Sprint(r.handle) == a.Stray || a.Stray == "" && r.known && r.accept == a) {
			handle = r.handle
		}
	})
	if err != nil || handle == 0 {
		return err
	}
	err = k.transact(func(b *batch) {
		b.begin(nftMsg(unix.NFT_MSG_DELRULE), 0)
		b.raw(nfgenmsg(familyNumber(a.Family))...)
		b.attr(unix.NFTA_RULE_TABLE, cString(filterTable))
		b.attr(unix.NFTA_RULE_CHAIN, cString(a.Chain))
		b.attr(unix.NFTA_RULE_HANDLE, binary.BigEndian.AppendUint64(nil, handle))
		b.end()
	})
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	return err
}

func (k accepts) transact(messages func(*batch)) error {
	b := &batch{}
	frame(b, unix.NFNL_MSG_BATCH_BEGIN)
	messages(b)
	frame(b, unix.NFNL_MSG_BATCH_END)
	return k.n.c.transact(b).err
}
