package desired

import (
	"net/netip"

	"netd/config"
	"netd/reconcile/object"
)

// A packet from 10.10.40.129 on baihl-master to 10.10.194.134 on baihl-node in mode bgp:
//
//	container   10.10.40.129 > 10.10.194.134, default via 169.254.1.1 dev eth0
//	veth        arrives on the host, which forwards
//	route       10.10.194.128/26 via 192.168.170.138 dev ens33, learned over BGP
//	wire        the packet itself
//	far route   10.10.194.134 dev netd… scope link
//
// A route is wanted only while a session gives it, and only where the file itself admits it: the prefix is a block of node
// M in a network of mode bgp and the next hop is M's address, sent by M. The speaker filters too; this is the check that
// counts, since the speaker is what a hostile peer can reach.
func (b *builder) bgp(n config.Network) {
	known := map[pair]bool{}
	synced := map[netip.Addr]bool{}
	for _, p := range b.facts.Speaker.Peers {
		synced[p.Addr] = p.Synced
	}
	node := b.nodesByAddress()
	for _, p := range b.facts.Speaker.Paths {
		if name, ok := node[p.Peer]; ok && name == node[p.NextHop] { // IPv6 may be told over a session of IPv4
			known[pair{p.Prefix, p.NextHop}] = true
		}
	}
	held := map[pair]bool{}
	for _, l := range b.facts.Host.LearnedRoutes {
		held[pair{l.Prefix, l.NextHop}] = true
	}
	kept := 0
	for _, r := range b.remotes(n.Name) {
		for _, f := range families {
			blocks := f.of(r.blocks)
			if len(blocks) == 0 {
				continue
			}
			via, near := b.onLink(f, r.node)
			if !near {
				b.note("node %s is in another subnet (%s): no route to its blocks until a peer gives a next hop on the link", r.node.Name, f.address(r.node).Masked())
				continue
			}
			unknown := !b.facts.Speaker.Known || !synced[via]
			for _, block := range blocks {
				at := pair{block, via}
				if !known[at] && !(unknown && held[at]) {
					continue
				}
				if !known[at] {
					kept++
				}
				b.put(object.Route{Dst: block, Table: object.MainTable, Type: object.Unicast, Via: via, Dev: b.underlay(f).Name}, b.nodeCause(r.node))
			}
		}
	}
	if kept > 0 {
		b.note("network %s: %s held, since no BGP session says yet whether they still hold", n.Name, count(kept, "learned route"))
	}
}

// nodesByAddress are the names of the nodes that have an address.
func (b *builder) nodesByAddress() map[netip.Addr]string {
	out := make(map[netip.Addr]string, len(b.c.Nodes))
	for _, n := range b.c.Nodes {
		for _, f := range families {
			if a := f.address(n); a.IsValid() {
				out[a.Addr()] = n.Name
			}
		}
	}
	return out
}

// pair is what may be learned: a prefix by way of a next hop.
type pair struct {
	prefix  netip.Prefix
	nextHop netip.Addr
}
