package config

import (
	"fmt"
	"net/netip"
	"slices"
)

func (p *parser) checkBGP() {
	c := &p.config
	var reflector *Node
	for i := range c.Nodes {
		if c.Nodes[i].RouteReflector.IsValid() && reflector == nil {
			reflector = &c.Nodes[i]
		}
	}
	if !c.BGP.MeshSet {
		c.BGP.Mesh = reflector == nil
	}
	speaks := len(c.Peers) > 0
	for _, net := range c.Networks {
		speaks = speaks || net.Uses(ModeBGP)
		if net.Mode != ModeBGP {
			continue
		}
		if len(c.Peers) == 0 {
			p.checkSubnets(net, false)
			p.checkSubnets(net, true)
		}
	}
	for _, n := range c.Nodes {
		if reflector != nil && n.ASN != reflector.ASN {
			p.report.errorf(n.rng, fmt.Sprintf("node %q: another AS than its reflector", n.Name), "It has AS %d, the route reflector %q (%s) AS %d: reflection is within one AS (RFC 4456).", n.ASN, reflector.Name, where(reflector.rng), reflector.ASN)
		}
	}
	if !speaks {
		return
	}
	if !c.BGP.Mesh && reflector == nil && len(c.Peers) == 0 && len(c.Nodes) > 1 {
		p.report.warnf(p.meshRange, "bgp: no sessions", "mesh is off, no node reflects, and there is no peer: no node learns how to reach another's blocks.")
	}
	ids := map[netip.Addr]Node{}
	for _, n := range c.Nodes {
		if n.addressUnsure && !n.RouterID.IsValid() {
			continue // it follows from the address, which is reported
		}
		if !n.RouterID.IsValid() {
			p.report.errorf(n.rng, fmt.Sprintf("node %q: no router_id", n.Name), "BGP needs an identifier of 32 bits: give router_id, since the node has no address.")
			continue
		}
		if other, twice := ids[n.RouterID]; twice && other.Name != n.Name {
			if n.RouterID == n.Address.Addr() && other.Address.Addr() == n.Address.Addr() {
				continue // two nodes with one address: reported
			}
			p.report.errorf(n.rng, fmt.Sprintf("node %q: router_id taken", n.Name), "Node %q (%s) has the BGP identifier %s already.", other.Name, where(other.rng), n.RouterID)
			continue
		}
		ids[n.RouterID] = n
	}
}

// checkSubnets finds the first node that has no way to the others of a network without tunnels: packets of a family go to the
// next hop's address of that family, which must be on the link.
func (p *parser) checkSubnets(net Network, v6 bool) {
	c := &p.config
	var first Node
	var subnet netip.Prefix
	for _, n := range c.Nodes {
		at := n.Address
		if v6 {
			at = n.Address6
		}
		if !at.IsValid() || !slices.ContainsFunc(c.BlocksIn(n, net.Name), func(b netip.Prefix) bool { return b.Addr().Is6() == v6 }) {
			continue
		}
		if !subnet.IsValid() {
			first, subnet = n, at.Masked()
		}
		if at.Masked() != subnet {
			p.report.errorf(n.addressRange, fmt.Sprintf("node %q: no way to node %q", n.Name, first.Name), "Network %q is routed without a tunnel, but %s (%s) and %s (%s) are in different subnets: the routers between must know the blocks. Add a peer block for them, or use mode \"ipip\" or \"vxlan\".",
				net.Name, n.Name, at.Masked(), first.Name, subnet)
			return
		}
	}
}

func (p *parser) checkPeers() {
	c := &p.config
	type end struct {
		node string
		addr netip.Addr
	}
	taken := map[end]Peer{}
	hosts, edges := map[netip.Addr]string{}, map[netip.Addr]string{}
	if len(c.Peers) > 0 {
		for _, n := range c.Nodes {
			hosts[n.Address.Addr()], hosts[n.Address6.Addr()] = n.Name, n.Name
			if n.Address.IsValid() && n.Address.Bits() < 31 {
				edges[n.Address.Masked().Addr()], edges[last(n.Address.Masked())] = n.Name, n.Name
			}
		}
	}
	for i := range c.Peers {
		x := &c.Peers[i]
		title := fmt.Sprintf("peer %q: ", x.Name)
		if name, ok := hosts[x.Address]; ok && x.Address.IsValid() {
			p.report.errorf(x.rng, title+"a node of the file", "%s is node %q; nodes have their sessions from the bgp block.", x.Address, name)
		}
		if name, ok := edges[x.Address]; ok {
			p.report.errorf(x.rng, title+"wrong address", "%s is the first or the last address of the subnet of node %q, which no router has.", x.Address, name)
		}
		given := x.Nodes
		x.Nodes = nil
		for _, name := range given {
			if _, ok := c.Node(name); !ok {
				p.report.errorf(x.nodesRange, title+"unknown node", "The file has no node %q.%s", name, c.nearestNode(name))
			}
		}
		for _, n := range c.Nodes {
			if given != nil && !slices.Contains(given, n.Name) || !matches(n.Labels, x.MatchLabels) {
				continue
			}
			x.Nodes = append(x.Nodes, n.Name)
			if x.Prepend > 0 && x.ASN == n.ASN {
				p.report.errorf(x.rng, title+"prepend within an AS", "It has the AS of node %q, %d, and would refuse every path that has its own AS in it as a loop (RFC 4271 §9.1.2). Take prepend out.", n.Name, n.ASN)
				break
			}
			e := end{n.Name, x.Address.WithZone("")} // the speaker's policies know a link-local neighbour by its address alone
			if other, twice := taken[e]; twice {
				more := ""
				if other.Address != x.Address {
					more = " A link-local address can be a neighbour's on one link only: give one of the two another, or use their global ones."
				}
				p.report.errorf(x.rng, title+"address taken", "Node %q has a session with %s from peer %q (%s) already.%s", n.Name, other.Address, other.Name, where(other.rng), more)
				break
			}
			taken[e] = *x
		}
		switch {
		case len(x.Nodes) > 0:
		case len(x.MatchLabels) > 0:
			p.report.warnf(x.rng, title+"no node matches", "No node has all of match_labels: nobody has this session.")
		case given != nil && len(given) == 0:
			p.report.warnf(x.nodesRange, title+"no node", "nodes is empty: nobody has this session.")
		}
	}
}

func matches(labels, want map[string]string) bool {
	for k, v := range want {
		if got, ok := labels[k]; !ok || got != v {
			return false
		}
	}
	return true
}
