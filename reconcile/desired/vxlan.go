package desired

import (
	"net/netip"

	"netd/config"
	"netd/reconcile"
	"netd/reconcile/object"
)

// A packet from 10.10.40.129 on baihl-master to 10.10.194.134 on baihl-node in mode vxlan:
//
//	container   10.10.40.129 > 10.10.194.134, default via 169.254.1.1 dev eth0
//	veth        arrives on the host, which forwards
//	route       10.10.194.128/26 via 10.10.194.128 dev vxlan.netd onlink
//	neighbour   10.10.194.128 is at the far VTEP's MAC, permanently
//	FDB         that MAC is behind 192.168.170.138, permanently
//	wire        192.168.170.137 > 192.168.170.138, UDP 4789, VXLAN, Ethernet, and the packet inside (RFC 7348)
//	far host    vxlan.netd unwraps
//	far route   10.10.194.134 dev netd… scope link
//
// Nothing is learned and nothing is exchanged: a node's VTEP addresses and its MAC follow from the file. The device carries
// IPv4 and IPv6 alike; between the nodes it speaks one of them (Network.Family6). With encapsulate = "cross-subnet" the
// nodes of this node's own subnet get their packets bare, by way of ens33.
func (b *builder) vxlan(n config.Network, remotes []remote) tunnel {
	outer := familyOf(n.Family6)
	dev := VXLANName(n)
	b.put(object.VXLAN{
		Name: dev, VNI: n.VNI, Port: n.Port, Local: outer.address(b.self).Addr(), Underlay: b.underlay(outer).Name,
		MAC: b.vtepMAC(n, b.self), MTU: b.mtu(n), Up: true, Alias: "netd: network " + n.Name,
	}, netCause(n))
	for _, r := range remotes {
		why, mac := b.nodeCause(*r.node), b.vtepMAC(n, *r.node)
		for _, f := range families {
			if vtep, ok := b.c.Tunnel(*r.node, n.Name, f.v6); ok {
				b.put(object.Neigh{Link: dev, IP: vtep, MAC: mac}, why)
			}
		}
		b.put(object.FDB{Link: dev, MAC: mac, Dst: outer.address(*r.node).Addr()}, why)
	}
	return tunnel{dev, func(f family, r config.Node) netip.Addr {
		vtep, _ := b.c.Tunnel(r, n.Name, f.v6) // every node with blocks has one: the file was checked
		return vtep
	}}
}

// vtepMAC is the address of a node's VXLAN device in a network: of its IPv4 tunnel address where it has one.
func (b *builder) vtepMAC(n config.Network, node config.Node) object.MAC {
	for _, f := range families {
		if vtep, ok := b.c.Tunnel(node, n.Name, f.v6); ok {
			return object.VTEPMAC(n.VNI, vtep)
		}
	}
	return object.VTEPMAC(n.VNI, familyOf(n.Family6).address(node).Addr())
}

// linkKey is the key of a link on the host.
func linkKey(name string) reconcile.Key { return object.LinkKey("", name) }
