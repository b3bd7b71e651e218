package desired

import (
	"net/netip"

	"netd/config"
	"netd/reconcile/object"
)

// A packet from 10.10.40.129 on baihl-master to 10.10.194.134 on baihl-node in mode ipip:
//
//	container   10.10.40.129 > 10.10.194.134, default via 169.254.1.1 dev eth0
//	veth        arrives on the host, which forwards
//	route       10.10.194.128/26 via 192.168.170.138 dev tunl0 onlink
//	tunl0       192.168.170.137 > 192.168.170.138, protocol 4, and the packet inside (RFC 2003)
//	wire        two IP headers
//	far host    protocol 4 goes to its tunl0, which unwraps
//	far route   10.10.194.134 dev netd… scope link
//
// tunl0 is the kernel's fallback device: it takes any pair of endpoints, the route's next hop says which. It has no local
// address, so the kernel chooses the outer source by a route to the remote node.
//
// With encapsulate = "cross-subnet" the nodes of this node's own subnet get their packets bare, by way of ens33.
const tunl0 = "tunl0"

func (b *builder) ipip(n config.Network) {
	remotes := b.remotes(n.Name)
	if len(remotes) == 0 && len(b.c.BlocksIn(b.self, n.Name)) == 0 {
		return
	}
	b.put(object.IPIP{Name: tunl0, MTU: b.mtu(n), Up: true}, netCause(n))
	b.tunnelDevice(n, tunl0)
	b.tunnelRoutes(n, tunnel{tunl0, func(_ family, r config.Node) netip.Addr { return r.Address.Addr() }}, remotes)
}
