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
// Nothing is learned and nothing is exchanged: a node's VTEP address and MAC follow from the file.
func (b *builder) vxlan(n config.Network) error {
	remotes := b.remotes(n.Name)
	if len(remotes) == 0 && len(b.c.BlocksIn(b.self, n.Name)) == 0 {
		return nil
	}
	dev := object.VXLANName(n.VNI)
	b.put(object.VXLAN{
		Name: dev, VNI: n.VNI, Port: n.Port, Local: b.self.Address.Addr(), Underlay: b.underlay.Name,
		MAC: b.vtepMAC(n, b.self), MTU: b.mtu(n), Up: true, Alias: "netd: network " + n.Name,
	}, netCause(n))
	b.tunnelDevice(n, dev)

	gateway := func(r config.Node) netip.Addr {
		tunnel, _ := b.c.Tunnel(r, n.Name, false) // every node with blocks has one: the file was checked
		return tunnel
	}
	for _, r := range remotes {
		why, mac := b.nodeCause(r.node), b.vtepMAC(n, r.node)
		b.put(object.Neigh{Link: dev, IP: gateway(r.node), MAC: mac}, why)
		b.put(object.FDB{Link: dev, MAC: mac, Dst: r.node.Address.Addr()}, why)
	}
	b.tunnelRoutes(n, dev, remotes, gateway)
	return nil
}

// vtepMAC is the address of a node's VXLAN device in a network.
func (b *builder) vtepMAC(n config.Network, node config.Node) object.MAC {
	if tunnel, ok := b.c.Tunnel(node, n.Name, false); ok {
		return object.VTEPMAC(n.VNI, tunnel)
	}
	return object.VTEPMAC(n.VNI, node.Address.Addr())
}

// linkKey is the key of a link on the host.
func linkKey(name string) reconcile.Key { return object.LinkKey("", name) }
