package desired

import (
	"net/netip"
	"slices"

	"netd/config"
	"netd/reconcile"
)

// neighbour is someone that this node has a BGP session with: another node, or a router outside the file.
type neighbour struct {
	addr  netip.Addr // with the link as zone where it is link-local
	local netip.Addr // this node's end
	link  string     // that both are on; empty: routers are between
	node  *config.Node
	peer  *config.Peer // one of the two
	asn   uint32
	why   reconcile.Cause
}

// name is the neighbour in the words of the file.
func (n neighbour) name() string { return n.why.Text }

// UsesBGP reports whether a file needs a BGP speaker.
func UsesBGP(c *config.Config) bool { return meshed(c, ipv4) || meshed(c, ipv6) || len(c.Peers) > 0 }

// PasswordFiles are those of a node's sessions; of all nodes', where none is named.
func PasswordFiles(c *config.Config, node string) []string {
	var out []string
	add := func(file string) {
		if file != "" && !slices.Contains(out, file) {
			out = append(out, file)
		}
	}
	if UsesBGP(c) {
		add(c.BGP.PasswordFile)
	}
	for _, p := range c.Peers {
		if node == "" || slices.Contains(p.Nodes, node) {
			add(p.PasswordFile)
		}
	}
	return out
}

// NeighbourAddrs are the addresses of those that a node has BGP sessions with, as far as the file tells.
func NeighbourAddrs(c *config.Config, self config.Node) (out []netip.Addr) {
	b := newBuilder(c, self, Facts{})
	for _, f := range families {
		for _, n := range c.Nodes {
			if a := f.address(n); meshed(c, f) && f.address(self).IsValid() && a.IsValid() && n.Name != self.Name && b.pairs(n) {
				out = append(out, a.Addr())
			}
		}
	}
	for _, p := range c.Peers {
		if slices.Contains(p.Nodes, self.Name) {
			out = append(out, p.Address.WithZone(""))
		}
	}
	return out
}

// meshed reports whether nodes have sessions with each other over a family: where a network that uses bgp has a pool of it.
func meshed(c *config.Config, f family) bool {
	return slices.ContainsFunc(c.Networks, func(n config.Network) bool { return n.Uses(config.ModeBGP) && len(f.of(n.Pools)) > 0 })
}

// findNeighbours lists those that this node has sessions with. Nodes have one session for each family, over addresses of
// that family, so that a session that is up says that its next hops are reached; a router outside has one session that
// carries both.
func (b *builder) findNeighbours() []neighbour {
	var out []neighbour
	for _, f := range families {
		local := f.address(b.self)
		if !meshed(b.c, f) || !local.IsValid() {
			continue
		}
		for i := range b.c.Nodes {
			n := &b.c.Nodes[i]
			if a := f.address(*n); n.Name != b.self.Name && a.IsValid() && b.pairs(*n) {
				x := neighbour{addr: a.Addr(), local: local.Addr(), node: n, asn: n.ASN, why: b.nodeCause(*n)}
				if _, near := b.onLink(f, *n); near {
					x.link = b.underlay(f).Name
				}
				out = append(out, x)
			}
		}
	}
	for i := range b.c.Peers {
		p := &b.c.Peers[i]
		if !slices.Contains(p.Nodes, b.self.Name) {
			continue
		}
		x := neighbour{addr: p.Address, peer: p, asn: p.ASN, why: cause("peer "+p.Name, p.Pos)}
		x.local, x.link = b.towards(&x.addr)
		if !x.local.IsValid() {
			b.note("peer %s: this node has no address to reach %s from: give it address%s", p.Name, p.Address, familyOf(p.Address.Is6()).six)
			continue
		}
		out = append(out, x)
	}
	return out
}

// pairs reports whether this node has sessions with another: each with each in a mesh, else where one of the two reflects
// (RFC 4456).
func (b *builder) pairs(n config.Node) bool {
	return b.c.BGP.Mesh || b.self.RouteReflector.IsValid() || n.RouteReflector.IsValid()
}

// towards is this node's end of a session with a router outside: its own address where that shares the router's subnet, or
// where no link does; else the address on the link that does, as of a rack with a link to each of two switches. A
// link-local router without a zone is on the underlay.
func (b *builder) towards(addr *netip.Addr) (local netip.Addr, link string) {
	f := familyOf(addr.Is6())
	own, under := f.address(b.self), b.underlay(f)
	if addr.IsLinkLocalUnicast() && addr.Is6() {
		if addr.Zone() == "" {
			*addr = addr.WithZone(b.underlay(familyOf(!b.self.Address.IsValid())).Name)
		}
		return netip.IPv6Unspecified().WithZone(addr.Zone()), addr.Zone()
	}
	if own.IsValid() && own.Contains(*addr) {
		return own.Addr(), under.Name
	}
	if a, l, ok := b.connected(*addr); ok {
		return a, l
	}
	return own.Addr(), ""
}

// connected finds the link whose subnet an address is in, and this host's address there.
func (b *builder) connected(addr netip.Addr) (local netip.Addr, link string, ok bool) {
	best := -1
	for _, l := range b.facts.Host.Links {
		if !l.Up || l.Loopback {
			continue
		}
		for _, p := range l.Addrs {
			if !p.IsSingleIP() && p.Bits() > best && p.Contains(addr) && p.Addr() != addr {
				local, link, best = p.Addr(), l.Name, p.Bits()
			}
		}
	}
	return local, link, best >= 0
}

// neighbourLinks are the links besides the underlay that packets of this node's blocks travel on bare: those to routers
// outside, and those that learned routes leave by.
func (b *builder) neighbourLinks(f family) []string {
	var out []string
	add := func(link string) {
		if link != "" && link != b.underlay(f).Name && !slices.Contains(out, link) {
			out = append(out, link)
		}
	}
	for _, n := range b.neighbours {
		if n.peer != nil {
			add(n.link)
		}
	}
	for _, link := range b.learnedLinks[f] {
		add(link)
	}
	slices.Sort(out)
	return out
}

// NeighbourName is what the file calls the neighbour with an address: a node's name or a peer's.
func NeighbourName(c *config.Config, a netip.Addr) string {
	for _, n := range c.Nodes {
		if a.IsValid() && (n.Address.Addr() == a || n.Address6.Addr() == a) {
			return n.Name
		}
	}
	for _, p := range c.Peers {
		if p.Address == a.WithZone("") || p.Address == a {
			return p.Name
		}
	}
	return ""
}
