package desired

import (
	"fmt"
	"net/netip"
	"slices"

	"netd/config"
	"netd/reconcile"
	"netd/reconcile/object"
)

// Facts is everything besides the configuration that the desired state depends on.
type Facts struct {
	Host      object.Host
	Endpoints []object.Endpoint // containers that run here
	Speaker   object.Speaker

	Sessions  bool              // a speaker can be asked: its router, paths and neighbours are part of the desired state
	Passwords map[string]string // fingerprints of the passwords that were read, by password_file
}

// Result is what a node should have.
type Result struct {
	Want     reconcile.Want
	Underlay object.HostLink
	Notes    []string // one line each, for people: what the plan cannot show
}

// FromNodes is how many remote nodes a network has when its routes go by next hop objects. The kernel finds a route's next
// hop in a hash that leaves the gateway out (net/ipv4/fib_semantics.c, fib_info_hashfn), so that 10,000 gateways on one
// link cost it seconds; by objects they cost a fifth. Below this number plain routes cost nothing and read better.
const FromNodes = 1000

// Compile returns the state that self should have. The error is about the host, not the file: the file was checked.
func Compile(c *config.Config, self config.Node, f Facts) (Result, error) {
	b := builder{c: c, self: self, facts: f}
	underlay, err := findUnderlay(self, f.Host.Links)
	if err != nil {
		return Result{}, err
	}
	b.underlay = underlay
	b.want.Gone = map[string]string{object.KindRoute: "no node has it"}
	b.want.State = make(reconcile.State, 64+8*len(c.Nodes))
	b.want.Why = make(map[reconcile.Key]reconcile.Cause, 64+8*len(c.Nodes))

	forwarding := map[string]reconcile.Cause{underlay.Name: b.nodeCause(self)}
	for _, n := range c.Networks {
		b.blackholes(n)
		switch n.Mode {
		case config.ModeIPIP:
			err = b.ipip(n)
		case config.ModeVXLAN:
			err = b.vxlan(n)
		case config.ModeBGP:
			err = b.bgp(n)
		}
		if err != nil {
			return Result{}, err
		}
		if n.NATOutgoing {
			for _, link := range f.Host.DefaultLinks {
				if _, ok := forwarding[link]; !ok {
					forwarding[link] = netCause(n)
				}
			}
		}
	}
	for link, why := range forwarding {
		b.put(object.Sysctl{Name: object.LinkSysctl("ipv4", "conf", link, "forwarding"), Value: "1"}, why)
	}
	if err := b.workloads(); err != nil {
		return Result{}, err
	}
	firewall(&b)
	sessions(&b)
	return Result{Want: b.want, Underlay: underlay, Notes: b.notes}, nil
}

type builder struct {
	c        *config.Config
	self     config.Node
	facts    Facts
	underlay object.HostLink
	want     reconcile.Want
	notes    []string
}

func (b *builder) put(r reconcile.Resource, why reconcile.Cause, stands ...reconcile.Key) {
	b.want.Put(r, why, stands...)
}

func (b *builder) note(format string, args ...any) {
	b.notes = append(b.notes, fmt.Sprintf(format, args...))
}

func cause(text string, p config.Pos) reconcile.Cause {
	return reconcile.Cause{Text: text, File: p.File, Line: p.Line}
}

func netCause(n config.Network) reconcile.Cause            { return cause("network "+n.Name, n.Pos) }
func (b *builder) nodeCause(n config.Node) reconcile.Cause { return cause("node "+n.Name, n.Pos) }

// findUnderlay returns the link that the node's packets leave by: the one that the file names, else the one that holds
// the node's address.
func findUnderlay(self config.Node, links []object.HostLink) (object.HostLink, error) {
	address := self.Address
	if !address.IsValid() {
		address = self.Address6
	}
	var holders []object.HostLink
	for _, l := range links {
		if self.Interface != "" {
			if l.Name == self.Interface {
				return l, nil
			}
			continue
		}
		if slices.ContainsFunc(l.Addrs, func(p netip.Prefix) bool { return p.Addr() == address.Addr() }) {
			holders = append(holders, l)
		}
	}
	switch {
	case self.Interface != "":
		return object.HostLink{}, fmt.Errorf("node %q: this host has no link %s, which the file gives as its interface", self.Name, self.Interface)
	case len(holders) == 0:
		return object.HostLink{}, fmt.Errorf("node %q: no link of this host holds its address %s; put the address on a link or correct the file", self.Name, address.Addr())
	case len(holders) > 1:
		return object.HostLink{}, fmt.Errorf("node %q: both %s and %s hold its address %s; name one with interface = \"%s\"",
			self.Name, holders[0].Name, holders[1].Name, address.Addr(), holders[0].Name)
	case holders[0].Loopback:
		return object.HostLink{}, fmt.Errorf("node %q: its address %s is on %s; say which link its packets leave by with interface = \"…\"",
			self.Name, address.Addr(), holders[0].Name)
	}
	return holders[0], nil
}

// blackholes make unused addresses of this node's blocks die here instead of leaving by the default route. A block of a
// single address has none: it would take the place of the workload's own route.
func (b *builder) blackholes(n config.Network) {
	for _, block := range b.c.BlocksIn(b.self, n.Name) {
		if block.IsSingleIP() || block.Addr().Is6() {
			continue
		}
		b.put(object.Route{Dst: block, Table: object.MainTable, Type: object.Blackhole}, cause("block of "+b.self.Name, b.self.BlocksPos))
	}
}

// remotes are the other nodes with their blocks in a network, in the file's order.
func (b *builder) remotes(network string) []remote {
	var out []remote
	for _, n := range b.c.Nodes {
		if n.Name == b.self.Name {
			continue
		}
		var blocks []netip.Prefix
		for _, p := range b.c.BlocksIn(n, network) {
			if p.Addr().Is4() {
				blocks = append(blocks, p)
			}
		}
		if len(blocks) > 0 {
			out = append(out, remote{n, blocks})
		}
	}
	return out
}

type remote struct {
	node   config.Node
	blocks []netip.Prefix
}

// tunnelRoutes puts a route for each remote block by way of a tunnel device, whose far end for a node is gateway(node).
func (b *builder) tunnelRoutes(n config.Network, dev string, remotes []remote, gateway func(config.Node) netip.Addr) {
	objects := len(remotes) >= FromNodes
	for _, r := range remotes {
		why := b.nodeCause(r.node)
		via := gateway(r.node)
		var id uint32
		if objects {
			if tunnel, ok := b.c.Tunnel(r.node, n.Name, false); ok {
				a := tunnel.As4()
				id = uint32(a[0])<<24 | uint32(a[1])<<16 | uint32(a[2])<<8 | uint32(a[3])
				b.put(object.Nexthop{ID: id, Via: via, Dev: dev, Onlink: true}, why)
			}
		}
		for _, block := range r.blocks {
			route := object.Route{Dst: block, Table: object.MainTable, Type: object.Unicast, Via: via, Dev: dev, Onlink: true}
			if id != 0 {
				route.Via, route.Dev, route.Onlink, route.Nexthop = netip.Addr{}, "", false, id
			}
			b.put(route, why)
		}
	}
}

// tunnelDevice puts what every tunnel device of netd has besides itself: the node's tunnel address, from which the host
// speaks to containers, and its sysctls.
func (b *builder) tunnelDevice(n config.Network, dev string) {
	why := netCause(n)
	if tunnel, ok := b.c.Tunnel(b.self, n.Name, false); ok {
		b.put(object.Addr{Link: dev, Prefix: netip.PrefixFrom(tunnel, 32), Scope: object.ScopeGlobal}, why)
	}
	b.put(object.Sysctl{Name: object.LinkSysctl("ipv4", "conf", dev, "forwarding"), Value: "1"}, why)
	// Replies from a node's underlay address come back through the tunnel: strict reverse path filtering loses them all.
	b.put(object.Sysctl{Name: object.LinkSysctl("ipv4", "conf", dev, "rp_filter"), Value: "2"}, why)
	b.noIPv6(dev, why)
}

// noIPv6 keeps the kernel from giving a link of netd a link-local address and speaking from it.
func (b *builder) noIPv6(dev string, why reconcile.Cause) {
	if b.facts.Host.IPv6 {
		b.put(object.Sysctl{Name: object.LinkSysctl("ipv6", "conf", dev, "disable_ipv6"), Value: "1"}, why)
	}
}

// mtu is the MTU of a network's devices and containers: what the file says, else what the underlay link carries less the
// bytes that the mode puts in front of each packet.
func (b *builder) mtu(n config.Network) int {
	if n.MTU != 0 {
		return n.MTU
	}
	return b.underlay.MTU - Overhead(n)
}

// Overhead is what a mode puts in front of a container's packet, in bytes.
func Overhead(n config.Network) int {
	switch {
	case n.Mode == config.ModeIPIP:
		return 20 // an IPv4 header
	case n.Mode == config.ModeVXLAN && n.Family6:
		return 70 // IPv6 40, UDP 8, VXLAN 8, Ethernet 14
	case n.Mode == config.ModeVXLAN:
		return 50 // IPv4 20, UDP 8, VXLAN 8, Ethernet 14
	}
	return 0
}
