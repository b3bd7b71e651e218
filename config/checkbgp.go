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
		var first *Node
		for i := range c.Nodes {
			n := &c.Nodes[i]
			if len(c.BlocksIn(*n, net.Name)) == 0 || !n.Address.IsValid() {
				continue
			}
			if first == nil {
				first = n
			}
			if n.Address.Masked() != first.Address.Masked() && len(c.Peers) == 0 {
				p.report.errorf(n.addressRange, fmt.Sprintf("node %q: no way to node %q", n.Name, first.Name), "Network %q is routed without a tunnel, but %s (%s) and %s (%s) are in different subnets: the routers between must know the blocks. Add a peer block for them, or use mode \"ipip\" or \"vxlan\".",
					net.Name, n.Name, n.Address.Masked(), first.Name, first.Address.Masked())
				break
			}
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
	ids := map[netip.Addr]Node{}
	for _, n := range c.Nodes {
		if !n.RouterID.IsValid() {
			p.report.errorf(n.rng, fmt.Sprintf("node %q: no router_id", n.Name), "BGP needs an identifier of 32 bits: give router_id, since the node has no address.")
			continue
		}
		if other, twice := ids[n.RouterID]; twice && other.Name != n.Name {
			p.report.errorf(n.rng, fmt.Sprintf("node %q: router_id taken", n.Name), "Node %q (%s) has the BGP identifier %s already.", other.Name, where(other.rng), n.RouterID)
			continue
		}
		ids[n.RouterID] = n
	}
}

func (p *parser) checkPeers() {
	c := &p.config
	type end struct {
		node string
		addr netip.Addr
	}
	taken := map[end]Peer{}
	hosts := map[netip.Addr]string{}
	if len(c.Peers) > 0 {
		for _, n := range c.Nodes {
			hosts[n.Address.Addr()], hosts[n.Address6.Addr()] = n.Name, n.Name
		}
	}
	for i := range c.Peers {
		x := &c.Peers[i]
		title := fmt.Sprintf("peer %q: ", x.Name)
		if name, ok := hosts[x.Address]; ok && x.Address.IsValid() {
			p.report.errorf(x.rng, title+"a node of the file", "%s is node %q; nodes have their sessions from the bgp block.", x.Address, name)
		}
		given := x.Nodes
		x.Nodes = nil
		for _, name := range given {
			if _, ok := c.Node(name); !ok {
				p.report.errorf(x.nodesRange, title+"unknown node", "The file has no node %q.%s", name, didYouMean(name, c.Nodes))
			}
		}
		for _, n := range c.Nodes {
			if given != nil && !slices.Contains(given, n.Name) || !matches(n.Labels, x.MatchLabels) {
				continue
			}
			x.Nodes = append(x.Nodes, n.Name)
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
		if len(x.Nodes) == 0 && len(x.MatchLabels) > 0 {
			p.report.warnf(x.rng, title+"no node matches", "No node has all of match_labels: nobody has this session.")
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
