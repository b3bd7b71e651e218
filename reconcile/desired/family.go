package desired

import (
	"net/netip"

	"netd/config"
	"netd/reconcile/object"
)

// family is what differs between IPv4 and IPv6. Everything else goes over both alike.
type family struct {
	v6      bool
	ip      string // nft's word
	addr    string // nft's type of an address
	six     string // what the names of its sets end in
	nfproto string
}

var (
	ipv4     = family{ip: "ip", addr: "ipv4_addr", nfproto: "ipv4"}
	ipv6     = family{v6: true, ip: "ip6", addr: "ipv6_addr", six: "6", nfproto: "ipv6"}
	families = []family{ipv4, ipv6}
)

func familyOf(v6 bool) family {
	if v6 {
		return ipv6
	}
	return ipv4
}

// of keeps the prefixes of the family.
func (f family) of(ps []netip.Prefix) []netip.Prefix {
	var out []netip.Prefix
	for _, p := range ps {
		if p.Addr().Is6() == f.v6 {
			out = append(out, p)
		}
	}
	return out
}

// address is a node's address of the family, invalid where it has none.
func (f family) address(n config.Node) netip.Prefix {
	if f.v6 {
		return n.Address6
	}
	return n.Address
}

// endpoint is a container's address of the family, invalid where it has none.
func (f family) endpoint(e object.Endpoint) netip.Addr {
	if f.v6 {
		return e.IPv6
	}
	return e.IPv4
}

// host is a single address as a prefix.
func host(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }
