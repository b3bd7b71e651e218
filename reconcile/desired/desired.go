package desired

import (
	"errors"
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

	Sessions  bool                  // a speaker can be asked: its router, paths and neighbours are part of the desired state
	Passwords map[string]string     // fingerprints of the passwords that were read, by password_file
	Kept      map[netip.Addr]string // of those that sessions have, where some file could not be read
}

// FarHops are the next hops of the speaker's paths that are on no link of the host: Host.Ways is to say how they are
// reached.
func (f Facts) FarHops() []netip.Addr {
	b := newBuilder(nil, config.Node{}, f)
	var out []netip.Addr
	last := netip.Addr{}
	seen := map[netip.Addr]bool{}
	for _, p := range f.Speaker.Paths {
		if a := p.NextHop; a != last && !seen[a] {
			seen[a], last = true, a
			if _, _, near := b.connected(a); !near && a.IsGlobalUnicast() {
				out = append(out, a)
			}
		}
	}
	return out
}

// Result is what a node should have.
type Result struct {
	Want     reconcile.Want
	Underlay object.HostLink
	Down     []string // why no packet of other nodes comes in, a line for each link that holds an address of this node and is down
	Notes    []string // one line each, for people: what the plan cannot show
	Leaves   []string // tunnels that a network of mode bgp has left in the file and still needs
	Learning *Learning
}

// Compile returns the state that self should have. The error is about the host, not the file: the file was checked.
func Compile(c *config.Config, self config.Node, f Facts) (Result, error) {
	b := newBuilder(c, self, f)
	r, err := b.compile()
	if err == nil && len(b.left) > 0 && len(b.leaves) == 0 && !b.late() { // BGP gives all that they led to
		f.Host.TunnelRoutes = nil
		return newBuilder(c, self, f).compile()
	}
	return r, err
}

func (b *builder) compile() (Result, error) {
	c, self := b.c, b.self
	if err := b.findUnderlays(); err != nil {
		return Result{}, err
	}
	b.want.Gone = map[string]string{object.KindRoute: "no node has it"}
	b.want.Grow(64 + 8*len(c.Nodes))

	for _, n := range c.Networks {
		if err := b.network(n); err != nil {
			return Result{}, err
		}
	}
	b.neighbours = b.findNeighbours()
	b.learn()
	for _, n := range c.Networks {
		b.untilLearned(n)
	}
	b.forwarding()
	if err := b.workloads(); err != nil {
		return Result{}, err
	}
	b.onAddresses()
	firewall(b)
	sessions(b)
	return Result{Want: b.want, Underlay: b.underlay(familyOf(!self.Address.IsValid())), Down: b.down(), Notes: b.notes, Leaves: b.leaves, Learning: b.learning()}, nil
}

// network puts what a network is made of besides its containers.
func (b *builder) network(n config.Network) error {
	for _, f := range families {
		if len(f.of(n.Pools)) == 0 {
			continue
		}
		if f.v6 && !b.facts.Host.IPv6 {
			return fmt.Errorf("network %q has the IPv6 pool %s, and the kernel of this host speaks no IPv6 (there is no /proc/sys/net/ipv6): boot it without ipv6.disable=1", n.Name, f.of(n.Pools)[0])
		}
		if f.v6 && b.mtu(n) < minMTU6 {
			return fmt.Errorf("network %q has the IPv6 pool %s, which needs an MTU of %d: that of %s is %d, less %d in mode %s",
				n.Name, f.of(n.Pools)[0], minMTU6, b.outer(n).Name, b.outer(n).MTU, overhead(n), n.Mode)
		}
	}
	if fits := b.outer(n).MTU - overhead(n); n.MTU > fits {
		b.note("network %q: its mtu of %d is more than %s carries: packets over %d bytes do not fit into its %d less %d in mode %s; take mtu out, or give %d at most",
			n.Name, n.MTU, b.outer(n).Name, fits, b.outer(n).MTU, overhead(n), n.Mode, fits)
	}
	b.blackholes(n)
	for _, m := range tunnelModes {
		if t, ok := b.tunnel(n, m); ok && n.Mode == m {
			b.tunnelRoutes(n, t, b.remotes(n.Name))
		}
	}
	return nil
}

const minMTU6 = 1280 // RFC 8200, section 5

type builder struct {
	c         *config.Config
	self      config.Node
	facts     Facts
	underlays map[family]object.HostLink // the links that hold this node's addresses
	want      reconcile.Want
	notes     []string

	left   []left           // tunnels that are still needed, though the file no longer has them
	stays  map[through]bool // the kernel's routes by tunnels, where some are left
	leaves []string         // devices of left ones that blocks go by

	others map[string][]remote // by network, of those that were asked for; see remotes

	neighbours   []neighbour // BGP
	admission    *admission  // nil: no neighbours
	learned      *learner    // likewise
	learnedLinks map[family][]string
	learnedBare  map[family][]netip.Prefix // learned prefixes of pools that are no node's block
}

func newBuilder(c *config.Config, self config.Node, f Facts) *builder {
	var gone []left
	var stays map[through]bool
	if c != nil {
		c, gone, stays = leaving(c, self, f.Host)
	}
	return &builder{c: c, self: self, facts: f, left: gone, stays: stays, underlays: map[family]object.HostLink{}, learnedLinks: map[family][]string{},
		learnedBare: map[family][]netip.Prefix{}, others: map[string][]remote{}}
}

func (b *builder) findUnderlays() error {
	for _, f := range families {
		if address := f.address(b.self); address.IsValid() {
			l, err := findUnderlay(b.self, address.Addr(), b.facts.Host.Links)
			if err != nil {
				return err
			}
			b.underlays[f] = l
		}
	}
	return nil
}

// down says which of the underlays' links carry nothing, where there is somebody to be reached by them.
func (b *builder) down() (out []string) {
	if len(b.c.Nodes) == 1 && len(b.c.Peers) == 0 {
		return nil
	}
	for _, f := range families {
		l := b.underlays[f]
		text := fmt.Sprintf("link %s, by which packets of other nodes come, is down", l.Name)
		if l.Up {
			text = fmt.Sprintf("link %s, by which packets of other nodes come, has no carrier: its wire, what is at the other end, or a bridge's or bond's ports", l.Name)
		}
		if l.Name != "" && (!l.Up || l.NoCarrier) && !slices.Contains(out, text) {
			out = append(out, text)
		}
	}
	return out
}

// underlay is the link of a family's bare packets, of no name where this node has no address of it.
func (b *builder) underlay(f family) object.HostLink { return b.underlays[f] }

// outer is the link that a network's packets leave by, wrapped or not.
func (b *builder) outer(n config.Network) object.HostLink {
	return b.underlay(familyOf(n.Family6 || !b.self.Address.IsValid()))
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

// ErrNoAddress is the error of a host that does not have its node's address, which at boot may only be late.
var ErrNoAddress = errors.New("the node's address is on no link")

type noAddress string

func (e noAddress) Error() string        { return string(e) }
func (e noAddress) Is(target error) bool { return target == ErrNoAddress }

func notYet(format string, args ...any) error { return noAddress(fmt.Sprintf(format, args...)) }

// ErrInterface is the error of a file that must say which link is the node's underlay, and does not.
var ErrInterface = errors.New("which link is the underlay is not given")

type noInterface string

func (e noInterface) Error() string        { return string(e) }
func (e noInterface) Is(target error) bool { return target == ErrInterface }

// findUnderlay returns the link that packets from one of the node's addresses leave by: the one that the file names, else
// the one that holds the address. The address is on this host either way, or nothing that is sent from it would come back.
func findUnderlay(self config.Node, address netip.Addr, links []object.HostLink) (object.HostLink, error) {
	var holders, named []object.HostLink
	for _, l := range links {
		if slices.ContainsFunc(l.Addrs, func(p netip.Prefix) bool { return p.Addr() == address }) {
			holders = append(holders, l)
		}
		if l.Name == self.Interface {
			named = append(named, l)
		}
	}
	switch {
	case self.Interface != "" && len(named) == 0:
		return object.HostLink{}, notYet("node %q: this host has no link %s, which the file gives as its interface", self.Name, self.Interface)
	case len(holders) == 0:
		return object.HostLink{}, notYet("node %q: no link of this host holds its address %s%s; put the address on a link or correct the file on all hosts",
			self.Name, address, instead(self, address, links))
	case self.Interface != "":
		return named[0], nil
	case len(holders) > 1:
		return object.HostLink{}, noInterface(fmt.Sprintf("node %q: both %s and %s hold its address %s; name one with interface = \"%s\"",
			self.Name, holders[0].Name, holders[1].Name, address, holders[0].Name))
	case holders[0].Loopback:
		return object.HostLink{}, noInterface(fmt.Sprintf("node %q: its address %s is on %s; say which link its packets leave by with interface = \"…\"",
			self.Name, address, holders[0].Name))
	}
	return holders[0], nil
}

// instead names the links that have another address of the node's subnet: DHCP gave another one, or the file is wrong.
func instead(self config.Node, address netip.Addr, links []object.HostLink) string {
	subnet := self.Address.Masked()
	if address.Is6() {
		subnet = self.Address6.Masked()
	}
	for _, l := range links {
		for _, p := range l.Addrs {
			if subnet.Contains(p.Addr()) {
				return fmt.Sprintf(" (%s has %s)", l.Name, p)
			}
		}
	}
	return ""
}

// blackholes make unused addresses of this node's blocks die here instead of leaving by the default route. A block of a
// single address has none: it would take the place of the workload's own route.
func (b *builder) blackholes(n config.Network) {
	for _, block := range b.c.BlocksIn(b.self, n.Name) {
		if block.IsSingleIP() {
			continue
		}
		b.put(object.Route{Dst: block, Table: object.MainTable, Type: object.Blackhole}, cause("block of "+b.self.Name, b.self.BlocksPos))
	}
}

// remotes are the other nodes with their blocks in a network, in the file's order. Nobody changes them.
func (b *builder) remotes(network string) []remote {
	if out, known := b.others[network]; known {
		return out
	}
	var out []remote
	for i := range b.c.Nodes {
		n := &b.c.Nodes[i]
		if n.Name == b.self.Name {
			continue
		}
		if blocks := b.c.BlocksIn(*n, network); len(blocks) > 0 {
			out = append(out, remote{n, blocks})
		}
	}
	b.others[network] = out
	return out
}

type remote struct {
	node   *config.Node
	blocks []netip.Prefix
}

// onLink is the next hop of a remote node's blocks of a family where the two share a subnet of it: the node itself.
func (b *builder) onLink(f family, node config.Node) (via netip.Addr, ok bool) {
	local, remote := f.address(b.self), f.address(node)
	if !local.IsValid() || !remote.IsValid() || local.Masked() != remote.Masked() {
		return netip.Addr{}, false
	}
	return remote.Addr(), true
}

// crosses reports whether a network's packets to a remote node's blocks of a family need the tunnel of its mode: always, or
// with cross-subnet where the node is not on the link.
func (b *builder) crosses(n config.Network, f family, node config.Node) bool {
	_, near := b.onLink(f, node)
	return n.Encapsulate != config.CrossSubnet || !near
}

// mtu is the MTU of a network's devices and containers: what the file says, else what the underlay link carries less the
// bytes that the mode puts in front of each packet.
func (b *builder) mtu(n config.Network) int {
	if n.MTU != 0 {
		return n.MTU
	}
	return b.outer(n).MTU - overhead(n)
}

// overhead is what a network's mode puts in front of a container's packet, in bytes: of all the modes that it uses, the most.
func overhead(n config.Network) int {
	switch {
	case n.Uses(config.ModeVXLAN) && n.Family6:
		return 70 // IPv6 40, UDP 8, VXLAN 8, Ethernet 14
	case n.Uses(config.ModeVXLAN):
		return 50 // IPv4 20, UDP 8, VXLAN 8, Ethernet 14
	case n.Uses(config.ModeIPIP):
		return 20 // an IPv4 header
	}
	return 0
}

// onAddresses has IPv4 routes and neighbours stand on the address of their link: with a link's last one the kernel deletes
// them all, without an event (net/ipv4/fib_frontend.c, fib_inetaddr_event). IPv6 has no such rule.
func (b *builder) onAddresses() {
	addresses := map[string][]reconcile.Key{}
	for k, r := range b.want.State {
		if a, ok := r.(object.Addr); ok && a.In == "" && a.Prefix.Addr().Is4() {
			addresses[a.Link] = append(addresses[a.Link], k)
		}
	}
	for _, on := range addresses {
		slices.SortFunc(on, reconcile.Key.Compare)
	}
	for k, r := range b.want.State {
		var on []reconcile.Key
		switch r := r.(type) {
		case object.Route:
			if r.In == "" && r.Dst.Addr().Is4() {
				on = addresses[r.Dev]
			}
		case object.Neigh:
			if r.IP.Is4() {
				on = addresses[r.Link]
			}
		}
		if len(on) > 0 {
			b.want.Stand(k, on)
		}
	}
}
