package desired

import (
	"net/netip"
	"slices"

	"netd/config"
	"netd/reconcile"
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

func (b *builder) ipip(n config.Network) tunnel {
	b.put(object.IPIP{Name: tunl0, MTU: b.mtu(n), Up: true}, netCause(n))
	b.rivals()
	return tunnel{tunl0, func(_ family, r config.Node) netip.Addr { return r.Address.Addr() }}
}

// rivals are tunnels of others with an end given: the kernel prefers them to tunl0 for packets that match, so that tunl0
// would receive nothing from that node (net/ipv4/ip_tunnel.c, ip_tunnel_lookup).
func (b *builder) rivals() {
	for _, t := range b.facts.Host.Tunnels {
		if t.Local.IsValid() && t.Local != b.self.Address.Addr() {
			continue
		}
		from := "every node"
		if t.Remote.IsValid() {
			i := slices.IndexFunc(b.c.Nodes, func(n config.Node) bool { return n.Address.Addr() == t.Remote })
			if i < 0 || b.c.Nodes[i].Name == b.self.Name {
				continue
			}
			from = "node " + b.c.Nodes[i].Name
		}
		b.want.Foreign = append(b.want.Foreign, reconcile.Holder{Key: linkKey(tunl0),
			What: "ipip tunnel " + t.Name + ", which takes tunl0's packets from " + from, Who: "not made by netd"})
	}
}
