package kernel

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Rules are text in the part of nft's syntax that netd needs (what `nft list` prints can be compared by eye), and are
// compiled here to the kernel's expressions.
//
//	match      iifname|oifname [!=] "NAME"|@SET      meta nfproto ipv4|ipv6        tcp|udp dport N
//	           ip|ip6 saddr|daddr [!=] @SET          meta l4proto tcp|udp          @th,96,24 N   (a VXLAN packet's VNI)
//	           iifname . ip|ip6 saddr [!=] @SET      ip protocol N                 meta skuid != 4294967295
//	           iifname . arp saddr ip [!=] @SET      meta mark & X == 0            tcp flags & (syn | rst) == syn
//	           iifname . oifname [!=] @SET
//	           icmpv6 type nd-router-advert|nd-redirect                            tcp sport >= N
//	           exthdr frag exists                                                  fib daddr type local
//	statement  counter   drop   return   accept      masquerade [to :A-B] [fully-random]
//	           dnat ip|ip6 to [ip|ip6 daddr .] meta l4proto . th dport map @MAP
//	           meta mark set meta mark | X           tcp option maxseg size set rt mtu

// compiledExpr is one expression as the kernel takes it: its name and its attributes, encoded.
type compiledExpr struct {
	name string
	data []byte
}

// Registers: the first two of 16 bytes. A concatenation of a name (16 bytes) and an address fills the first and the start
// of the second. One of shorter values goes on in the first one's parts of 4 bytes.
const (
	reg1 = unix.NFT_REG_1
	reg2 = unix.NFT_REG_2
)

// register is where in a concatenation the value that begins at a byte is, as the kernel numbers it (net/netfilter,
// nft_parse_register).
func register(at uint32) uint32 {
	if at%16 == 0 {
		return reg1 + at/16
	}
	return unix.NFT_REG32_00 + at/4
}

type ruleCompiler struct {
	family uint8
	words  []string
	out    []expr.Any
	raw    map[int]compiledExpr // instead of out[i], where the library encodes wrongly
	ip, l4 uint8                // the protocols that are checked for already
}

// compileRule compiles one rule of a table of the family (unix.NFPROTO_*).
func compileRule(family uint8, rule string) ([]compiledExpr, error) {
	c := ruleCompiler{family: family, words: strings.Fields(rule), raw: map[int]compiledExpr{}}
	for len(c.words) > 0 {
		if err := c.term(); err != nil {
			return nil, fmt.Errorf("rule %q: %w", rule, err)
		}
	}
	out := make([]compiledExpr, len(c.out))
	for i, e := range c.out {
		if r, ok := c.raw[i]; ok {
			out[i] = r
			continue
		}
		b, err := expr.Marshal(family, e)
		if err != nil {
			return nil, fmt.Errorf("rule %q: %w", rule, err)
		}
		for a := range attributes(b) {
			switch a.typ {
			case unix.NFTA_EXPR_NAME:
				out[i].name = text(a.data)
			case unix.NFTA_EXPR_DATA:
				out[i].data = a.data
			}
		}
	}
	return out, nil
}

// take removes the words if they come next; a word "%" stands for any one word, which is returned.
func (c *ruleCompiler) take(words ...string) (args []string, ok bool) {
	if len(c.words) < len(words) {
		return nil, false
	}
	for i, w := range words {
		switch {
		case w == "%":
			args = append(args, c.words[i])
		case w != c.words[i]:
			return nil, false
		}
	}
	c.words = c.words[len(words):]
	return args, true
}

func (c *ruleCompiler) emit(es ...expr.Any) { c.out = append(c.out, es...) }

// compare compares register 1 with a value.
func (c *ruleCompiler) compare(op expr.CmpOp, value []byte) {
	c.emit(&expr.Cmp{Op: op, Register: reg1, Data: value})
}

func (c *ruleCompiler) meta(key expr.MetaKey) { c.emit(&expr.Meta{Key: key, Register: reg1}) }

func (c *ruleCompiler) payload(register uint32, base expr.PayloadBase, offset, length uint32) {
	c.emit(&expr.Payload{DestRegister: register, Base: base, Offset: offset, Len: length})
}

// needIP makes sure that what follows reads the header of an IP version; in family inet it may be another's.
func (c *ruleCompiler) needIP(version uint8) {
	if c.family == unix.NFPROTO_INET && c.ip != version {
		c.meta(expr.MetaKeyNFPROTO)
		c.compare(expr.CmpOpEq, []byte{version})
		c.ip = version
	}
}

func (c *ruleCompiler) needL4(proto uint8) {
	if c.l4 != proto {
		c.meta(expr.MetaKeyL4PROTO)
		c.compare(expr.CmpOpEq, []byte{proto})
		c.l4 = proto
	}
}

// ipHeaders are where the addresses are in the header of each IP version, by nft's word for it.
var ipHeaders = map[string]struct {
	version              uint8
	saddr, daddr, length uint32
}{
	"ip":  {unix.NFPROTO_IPV4, 12, 16, 4},
	"ip6": {unix.NFPROTO_IPV6, 8, 24, 16},
}

// icmpv6Types are the messages of neighbour discovery (RFC 4861) that rules name.
var icmpv6Types = map[string]uint8{"nd-router-advert": 134, "nd-redirect": 137}

var l4Protocols = map[string]uint8{"tcp": unix.IPPROTO_TCP, "udp": unix.IPPROTO_UDP}

func (c *ruleCompiler) term() error {
	if c.words[0] == "iifname" || c.words[0] == "oifname" {
		return c.interfaceTerm()
	}
	if ok, err := c.matchTerm(); ok || err != nil {
		return err
	}
	if ok, err := c.statement(); ok || err != nil {
		return err
	}
	return fmt.Errorf("unknown words at %q", strings.Join(c.words, " "))
}

// operand reads "[!=] @SET" or "[!=] "NAME"" and emits the comparison of register 1 with it.
func (c *ruleCompiler) operand() error {
	_, not := c.take("!=")
	arg, ok := c.take("%")
	if !ok {
		return fmt.Errorf("an operand is missing")
	}
	if set, ok := strings.CutPrefix(arg[0], "@"); ok {
		c.emit(&expr.Lookup{SourceRegister: reg1, SetName: set, Invert: not})
		return nil
	}
	name, err := strconv.Unquote(arg[0])
	if err != nil || len(name) >= unix.IFNAMSIZ {
		return fmt.Errorf("%s is neither a set nor the name of a link", arg[0])
	}
	op := expr.CmpOpEq
	if not {
		op = expr.CmpOpNeq
	}
	c.compare(op, nameKey(name))
	return nil
}

// nameKey is a link's name as sets and comparisons have it: 16 bytes.
func nameKey(name string) []byte {
	b := make([]byte, unix.IFNAMSIZ)
	copy(b, name)
	return b
}

func (c *ruleCompiler) interfaceTerm() error {
	key := expr.MetaKeyIIFNAME
	if c.words[0] == "oifname" {
		key = expr.MetaKeyOIFNAME
	}
	for word, h := range ipHeaders {
		if _, ok := c.take("iifname", ".", word, "saddr"); ok {
			c.needIP(h.version)
			c.meta(key)
			c.payload(reg2, expr.PayloadBaseNetworkHeader, h.saddr, h.length)
			return c.operand()
		}
	}
	if _, ok := c.take("iifname", ".", "arp", "saddr", "ip"); ok {
		c.meta(key)
		c.payload(reg2, expr.PayloadBaseNetworkHeader, 14, 4)
		return c.operand()
	}
	if _, ok := c.take("iifname", ".", "oifname"); ok {
		c.meta(key)
		c.emit(&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: reg2})
		return c.operand()
	}
	c.words = c.words[1:]
	c.meta(key)
	return c.operand()
}

func (c *ruleCompiler) matchTerm() (bool, error) {
	for word, h := range ipHeaders {
		for field, offset := range map[string]uint32{"saddr": h.saddr, "daddr": h.daddr} {
			if _, ok := c.take(word, field); ok {
				c.needIP(h.version)
				c.payload(reg1, expr.PayloadBaseNetworkHeader, offset, h.length)
				return true, c.operand()
			}
		}
	}
	if _, ok := c.take("fib", "daddr", "type", "local"); ok {
		c.emit(&expr.Fib{Register: reg1, FlagDADDR: true, ResultADDRTYPE: true})
		c.compare(expr.CmpOpEq, native.AppendUint32(nil, unix.RTN_LOCAL))
		return true, nil
	}
	if _, ok := c.take("exthdr", "frag", "exists"); ok {
		c.needIP(unix.NFPROTO_IPV6)
		c.emit(&expr.Exthdr{DestRegister: reg1, Type: unix.IPPROTO_FRAGMENT, Len: 1, Op: expr.ExthdrOpIpv6, Flags: unix.NFT_EXTHDR_F_PRESENT})
		c.compare(expr.CmpOpEq, []byte{1})
		return true, nil
	}
	if args, ok := c.take("icmpv6", "type", "%"); ok {
		n, known := icmpv6Types[args[0]]
		if !known {
			return true, fmt.Errorf("unknown ICMPv6 message %q", args[0])
		}
		c.needIP(unix.NFPROTO_IPV6)
		c.needL4(unix.IPPROTO_ICMPV6)
		c.payload(reg1, expr.PayloadBaseTransportHeader, 0, 1)
		c.compare(expr.CmpOpEq, []byte{n})
		return true, nil
	}
	if args, ok := c.take("ip", "protocol", "%"); ok {
		n, err := strconv.ParseUint(args[0], 10, 8)
		c.needIP(unix.NFPROTO_IPV4)
		c.payload(reg1, expr.PayloadBaseNetworkHeader, 9, 1)
		c.compare(expr.CmpOpEq, []byte{byte(n)})
		return true, err
	}
	if args, ok := c.take("meta", "nfproto", "%"); ok {
		family, known := map[string]uint8{"ipv4": unix.NFPROTO_IPV4, "ipv6": unix.NFPROTO_IPV6}[args[0]]
		if !known {
			return true, fmt.Errorf("unknown family %q", args[0])
		}
		c.meta(expr.MetaKeyNFPROTO)
		c.compare(expr.CmpOpEq, []byte{family})
		c.ip = family
		return true, nil
	}
	if args, ok := c.take("meta", "l4proto", "%"); ok {
		proto, known := l4Protocols[args[0]]
		if !known {
			return true, fmt.Errorf("unknown protocol %q", args[0])
		}
		c.needL4(proto)
		return true, nil
	}
	for name, proto := range l4Protocols {
		if args, ok := c.take(name, "dport", "%"); ok {
			n, err := strconv.ParseUint(args[0], 10, 16)
			c.needL4(proto)
			c.payload(reg1, expr.PayloadBaseTransportHeader, 2, 2)
			c.compare(expr.CmpOpEq, binary.BigEndian.AppendUint16(nil, uint16(n)))
			return true, err
		}
	}
	if args, ok := c.take("tcp", "sport", ">=", "%"); ok {
		n, err := strconv.ParseUint(args[0], 10, 16)
		c.needL4(unix.IPPROTO_TCP)
		c.payload(reg1, expr.PayloadBaseTransportHeader, 0, 2)
		c.compare(expr.CmpOpGte, binary.BigEndian.AppendUint16(nil, uint16(n)))
		return true, err
	}
	if args, ok := c.take("@th,96,24", "%"); ok { // UDP 8 bytes, VXLAN flags 4, VNI 3
		n, err := strconv.ParseUint(args[0], 10, 24)
		c.payload(reg1, expr.PayloadBaseTransportHeader, 12, 3)
		c.compare(expr.CmpOpEq, []byte{byte(n >> 16), byte(n >> 8), byte(n)})
		return true, err
	}
	// There is a socket, whoever's: the kernel gives no user that number (from_kuid_munged). nft writes a ">= 0", which says the same,
	// in other bytes than netd when it loads what it listed.
	if _, ok := c.take("meta", "skuid", "!=", "4294967295"); ok {
		c.meta(expr.MetaKeySKUID)
		c.compare(expr.CmpOpNeq, bytes.Repeat([]byte{0xff}, 4))
		return true, nil
	}
	if args, ok := c.take("meta", "mark", "&", "%", "==", "0"); ok {
		bit, err := strconv.ParseUint(args[0], 0, 32)
		c.meta(expr.MetaKeyMARK)
		c.emit(&expr.Bitwise{SourceRegister: reg1, DestRegister: reg1, Len: 4, Mask: native.AppendUint32(nil, uint32(bit)), Xor: make([]byte, 4)})
		c.compare(expr.CmpOpEq, make([]byte, 4))
		return true, err
	}
	if _, ok := c.take("tcp", "flags", "&", "(syn", "|", "rst)", "==", "syn"); ok {
		c.needL4(unix.IPPROTO_TCP)
		c.payload(reg1, expr.PayloadBaseTransportHeader, 13, 1)
		c.emit(&expr.Bitwise{SourceRegister: reg1, DestRegister: reg1, Len: 1, Mask: []byte{0x06}, Xor: []byte{0}})
		c.compare(expr.CmpOpEq, []byte{0x02})
		return true, nil
	}
	return false, nil
}

// canonical is an expression's form for comparison: attributes in the order of their numbers, without what the kernel
// adds by itself or counts.
func (x compiledExpr) canonical() string {
	type attr struct {
		typ  uint16
		data string
	}
	var as []attr
	for a := range attributes(x.data) {
		data := string(a.data)
		switch {
		case x.name == "counter",
			x.name == "lookup" && a.typ == unix.NFTA_LOOKUP_SET_ID,
			x.name == "bitwise" && a.typ == nftaBitwiseOp && isZero(a.data),
			x.name == "lookup" && a.typ == unix.NFTA_LOOKUP_FLAGS && isZero(a.data),
			x.name == "exthdr" && a.typ == unix.NFTA_EXTHDR_FLAGS && isZero(a.data),
			x.name == "payload" && isZero(a.data) && a.typ >= unix.NFTA_PAYLOAD_CSUM_TYPE:
			continue
		case nestedData[x.name] != nil && slices.Contains(nestedData[x.name], a.typ):
			data = ""
			for inner := range attributes(a.data) { // NFTA_DATA_VALUE or NFTA_DATA_VERDICT
				d := inner.data
				if inner.typ == unix.NFTA_DATA_VERDICT {
					d = nil
					for v := range attributes(inner.data) {
						d = append(d, fmt.Sprint(v.typ, v.data)...)
					}
				}
				data += fmt.Sprint(inner.typ, d)
			}
		case x.name == "lookup" && a.typ == unix.NFTA_LOOKUP_SET:
			data = text(a.data)
		}
		as = append(as, attr{a.typ, data})
	}
	slices.SortFunc(as, func(a, b attr) int { return int(a.typ) - int(b.typ) })
	return fmt.Sprint(x.name, as)
}

const nftaBitwiseOp = 6 // NFTA_BITWISE_OP

// nestedData are the attributes that hold data of their own (struct nft_data), by expression.
var nestedData = map[string][]uint16{
	"cmp":       {unix.NFTA_CMP_DATA},
	"immediate": {unix.NFTA_IMMEDIATE_DATA},
	"bitwise":   {unix.NFTA_BITWISE_MASK, unix.NFTA_BITWISE_XOR},
	"range":     {unix.NFTA_RANGE_FROM_DATA, unix.NFTA_RANGE_TO_DATA},
}

func isZero(b []byte) bool {
	for _, x := range b {
		if x != 0 {
			return false
		}
	}
	return true
}
