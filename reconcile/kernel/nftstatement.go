package kernel

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

func (c *ruleCompiler) statement() (bool, error) {
	if _, ok := c.take("counter"); ok {
		c.emit(&expr.Counter{})
		return true, nil
	}
	for name, kind := range map[string]expr.VerdictKind{"drop": expr.VerdictDrop, "accept": expr.VerdictAccept, "return": expr.VerdictReturn} {
		if _, ok := c.take(name); ok {
			c.emit(&expr.Verdict{Kind: kind})
			return true, nil
		}
	}
	if args, ok := c.take("meta", "mark", "set", "meta", "mark", "|", "%"); ok {
		bit, err := strconv.ParseUint(args[0], 0, 32)
		c.meta(expr.MetaKeyMARK)
		c.emit(&expr.Bitwise{SourceRegister: reg1, DestRegister: reg1, Len: 4,
			Mask: native.AppendUint32(nil, ^uint32(bit)), Xor: native.AppendUint32(nil, uint32(bit))},
			&expr.Meta{Key: expr.MetaKeyMARK, SourceRegister: true, Register: reg1})
		return true, err
	}
	if _, ok := c.take("tcp", "option", "maxseg", "size", "set", "rt", "mtu"); ok {
		const maxseg, offset, length = 2, 2, 2 // TCPOPT_MAXSEG: kind, length, then the size
		c.emit(&expr.Rt{Register: reg1, Key: expr.RtTCPMSS},
			&expr.Byteorder{SourceRegister: reg1, DestRegister: reg1, Op: expr.ByteorderHton, Len: 2, Size: 2},
			&expr.Exthdr{SourceRegister: reg1, Type: maxseg, Offset: offset, Len: length, Op: expr.ExthdrOpTcpopt})
		return true, nil
	}
	if _, ok := c.take("masquerade"); ok {
		return true, c.masquerade()
	}
	for word, h := range ipHeaders {
		if _, ok := c.take("dnat", word, "to"); ok {
			return true, c.dnat(word, h.version, h.daddr, h.length)
		}
	}
	return false, nil
}

// masquerade encodes by hand: the library sends a port range without the flag that makes the kernel heed it.
func (c *ruleCompiler) masquerade() error {
	var flags uint32
	var low, high []byte
	if args, ok := c.take("to", "%"); ok {
		from, to, ok := strings.Cut(strings.TrimPrefix(args[0], ":"), "-")
		a, err := strconv.ParseUint(from, 10, 16)
		b, err2 := strconv.ParseUint(to, 10, 16)
		if !ok || err != nil || err2 != nil {
			return fmt.Errorf("%q is no range of ports", args[0])
		}
		low, high = binary.BigEndian.AppendUint16(nil, uint16(a)), binary.BigEndian.AppendUint16(nil, uint16(b))
		flags |= unix.NF_NAT_RANGE_PROTO_SPECIFIED
	}
	if _, ok := c.take("fully-random"); ok {
		flags |= unix.NF_NAT_RANGE_PROTO_RANDOM_FULLY
	}
	var e encoder
	if flags != 0 { // the kernel gives none back
		e.attr(unix.NFTA_MASQ_FLAGS, binary.BigEndian.AppendUint32(nil, flags))
	}
	if low != nil {
		c.emit(&expr.Immediate{Register: reg1, Data: low}, &expr.Immediate{Register: reg2, Data: high})
		e.attr(unix.NFTA_MASQ_REG_PROTO_MIN, binary.BigEndian.AppendUint32(nil, reg1))
		e.attr(unix.NFTA_MASQ_REG_PROTO_MAX, binary.BigEndian.AppendUint32(nil, reg2))
	}
	c.raw[len(c.out)] = compiledExpr{"masq", e.b}
	c.emit(&expr.Masq{})
	return nil
}

// dnat encodes by hand: what the kernel gives back has the flags that follow from the registers, and both ends of each range.
func (c *ruleCompiler) dnat(word string, version uint8, daddr, length uint32) error {
	c.needIP(version)
	at := uint32(0)
	if _, ok := c.take(word, "daddr", "."); ok {
		c.payload(register(at), expr.PayloadBaseNetworkHeader, daddr, length)
		at += length
	}
	args, ok := c.take("meta", "l4proto", ".", "th", "dport", "map", "%")
	if !ok || !strings.HasPrefix(args[0], "@") {
		return fmt.Errorf("dnat to what: %q", strings.Join(c.words, " "))
	}
	c.emit(&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: register(at)})
	c.payload(register(at+4), expr.PayloadBaseTransportHeader, 2, 2)
	c.emit(&expr.Lookup{SourceRegister: reg1, SetName: args[0][1:], DestRegister: reg1, IsDestRegSet: true})
	number := func(n uint32) []byte { return binary.BigEndian.AppendUint32(nil, n) }
	var e encoder
	e.attr(unix.NFTA_NAT_TYPE, number(unix.NFT_NAT_DNAT))
	e.attr(unix.NFTA_NAT_FAMILY, number(uint32(version)))
	for _, x := range []struct {
		low, high uint16
		at        uint32
	}{
		{unix.NFTA_NAT_REG_ADDR_MIN, unix.NFTA_NAT_REG_ADDR_MAX, 0}, {unix.NFTA_NAT_REG_PROTO_MIN, unix.NFTA_NAT_REG_PROTO_MAX, length},
	} {
		e.attr(x.low, number(register(x.at)))
		e.attr(x.high, number(register(x.at)))
	}
	e.attr(unix.NFTA_NAT_FLAGS, number(unix.NF_NAT_RANGE_MAP_IPS|unix.NF_NAT_RANGE_PROTO_SPECIFIED))
	c.raw[len(c.out)] = compiledExpr{"nat", e.b}
	c.emit(&expr.NAT{Type: expr.NATTypeDestNAT, Family: uint32(version)})
	return nil
}
