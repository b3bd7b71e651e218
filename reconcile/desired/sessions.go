package desired

import (
	"cmp"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"
	"time"

	"netd/config"
	"netd/reconcile"
	"netd/reconcile/object"
)

// sessions puts the speaker's router, what this node announces, and a session with every neighbour: the nodes where the file
// has a network of mode bgp, each with each or all with the reflectors, and the routers of its peer blocks. They are part of the desired state only where
// a speaker can be asked (Facts.Sessions); elsewhere nobody could build them.
//
//	bgp   AS, router id, the port on the node's own addresses
//	path  each of the node's blocks (advertise: each container's address too), next hop its address, and who is told
//	peer  each neighbour: what it may tell and what it is told (admit.go)
func sessions(b *builder) {
	if !b.facts.Sessions || len(b.neighbours) == 0 {
		return
	}
	router := object.BGP{ASN: b.self.ASN, RouterID: b.self.RouterID, Port: b.c.BGP.ListenPort, Multipath: b.c.BGP.Multipath, Refuse: true}
	if !router.RouterID.IsValid() {
		router.RouterID = b.self.Address.Addr()
	}
	router.Listen = object.AddrList(b.listens())
	b.put(router, b.nodeCause(b.self))
	b.announce()
	for _, n := range b.neighbours {
		if n.node != nil {
			b.put(b.nodeSession(n), n.why)
		} else {
			b.put(b.peerSession(n), n.why)
		}
	}
}

// listens are this node's addresses of the families in which it has neighbours. Whether a neighbour on another link is
// there makes no difference, so that one that comes or goes does not restart the router: such a one is dialled.
func (b *builder) listens() []netip.Addr {
	var out []netip.Addr
	for _, f := range families {
		a := f.address(b.self)
		if a.IsValid() && (!f.v6 || slices.ContainsFunc(b.neighbours, func(n neighbour) bool { return n.local == a.Addr() }) || len(out) == 0) {
			out = append(out, a.Addr())
		}
	}
	return out
}

// announce puts what this node tells of its own.
func (b *builder) announce() {
	if slices.Contains(b.c.BGP.Advertise, "blocks") {
		for _, block := range b.self.Blocks {
			b.tell(block, cause("block of "+b.self.Name, b.self.BlocksPos))
		}
	}
	for _, e := range b.facts.Endpoints {
		b.announceEach(e)
	}
}

// announceEach puts the addresses of a container, where each is announced.
func (b *builder) announceEach(e object.Endpoint) {
	if slices.Contains(b.c.BGP.Advertise, "workloads") {
		for _, a := range e.Addrs() {
			b.tell(host(a), b.workloadCause(e))
		}
	}
}

// tell announces a prefix to those that are told: nodes what is in networks that use bgp, routers what their export list
// has, which is everything of this node's own where it is not written.
func (b *builder) tell(prefix netip.Prefix, why reconcile.Cause) {
	hop := familyOf(prefix.Addr().Is6()).address(b.self)
	net, pooled := b.c.NetworkOf(prefix)
	if !hop.IsValid() || !pooled {
		return
	}
	var to []string
	for _, n := range b.neighbours {
		switch {
		case n.node != nil && net.Uses(config.ModeBGP) && !slices.Contains(to, object.ToNodes):
			to = append(to, object.ToNodes)
		case n.peer != nil && (!n.peer.ExportSet || matches(n.peer.Export, prefix)):
			to = append(to, n.addr.WithZone("").String())
		}
	}
	if len(to) > 0 {
		slices.Sort(to)
		b.put(object.Path{Prefix: prefix, NextHop: hop.Addr(), To: strings.Join(to, " ")}, why)
	}
}

func matches(list []config.PrefixRange, p netip.Prefix) bool {
	return slices.ContainsFunc(list, func(r config.PrefixRange) bool { return object.PrefixRange(r).Match(p) })
}

// nodeSession is this node's end of its session with another node.
func (b *builder) nodeSession(n neighbour) object.Peer {
	opens := object.Listens
	if n.addr.Less(n.local) { // the lower address listens
		opens = object.Dials
	}
	// GTSM takes nothing that crossed a router, so that it is for neighbours on the link.
	security := n.link != ""
	if b.c.BGP.TTLSecuritySet {
		security = b.c.BGP.TTLSecurity
	}
	in := b.admission.from[n.addr]
	p := object.Peer{
		Addr: n.addr, ASN: n.asn, Local: n.local, Port: b.c.BGP.ListenPort, Opens: opens, Password: b.password(b.c.BGP.PasswordFile, n.addr), TTLSecurity: security,
		HoldTime: b.c.BGP.HoldTime.Truncate(time.Second), Keepalive: (b.c.BGP.HoldTime / 3).Truncate(time.Second),
		GracefulRestart: b.c.BGP.GracefulRestart.Truncate(time.Second), Up: true,
	}
	tells := ofFamily(b.admission.tells(n.node), n.addr.Is6())
	p.Import, p.MaxPrefixes = object.PrefixRanges(tells), mostOf(tells)
	if p.Import != "" {
		p.NextHops, p.FirstAS, p.LocalPref = object.AddrList(b.admission.nextHops(in)), in.firstAS(), in.localPref(-1)
	}
	if b.self.RouteReflector.IsValid() && !n.node.RouteReflector.IsValid() {
		p.Cluster, p.Reflected = b.self.RouteReflector, true
	}
	if n.addr.Is6() {
		p.Family = object.IPv6
	}
	if !in.ibgp && !security && n.link == "" {
		p.Multihop = 64
	}
	return p
}

// What a node may tell besides what the file has: a node that has another version of the file, in which nodes have other blocks, keeps its session.
const (
	nodeTimes    = 2
	nodeMore     = 1000
	nodeHostBits = 16 // of a block, at most, each address of which may be told: no host has more containers
)

// onLinkOf is this host's address of a family on the link of a link-local neighbour, which reaches no other: one that is not link-local
// where there is such (RFC 2545, section 3).
func (b *builder) onLinkOf(a netip.Addr, f family) (self netip.Addr) {
	for _, l := range b.facts.Host.Links {
		if l.Name != a.Zone() {
			continue
		}
		for _, p := range l.Addrs {
			if p.Addr().Is6() == f.v6 && (!self.IsValid() || self.IsLinkLocalUnicast()) {
				self = p.Addr()
			}
		}
	}
	return self
}

// mostOf is how many prefixes a node may tell that tells what the file has: more than that keep the speaker's memory for nothing, since
// it keeps what it refuses as well.
func mostOf(tells []object.PrefixRange) uint32 {
	n := 0
	for _, r := range tells {
		n += 1 << min(r.Max-r.Prefix.Bits(), nodeHostBits) // all of one length
	}
	return uint32(min(nodeMore+nodeTimes*n, math.MaxUint32))
}

// peerSession is this node's end of a session with a router outside the file. It carries the families that both ends may
// have something to say in.
func (b *builder) peerSession(n neighbour) object.Peer {
	x, in := n.peer, b.admission.from[n.addr]
	opens := object.Dials
	if x.Passive {
		opens = object.Listens
	}
	p := object.Peer{
		Addr: n.addr, ASN: n.asn, Local: n.local, Port: x.Port, Opens: opens, Password: b.password(x.PasswordFile, n.addr), TTLSecurity: x.TTLSecurity,
		Multihop: uint8(x.Multihop), HoldTime: x.HoldTime.Truncate(time.Second), Keepalive: (x.HoldTime / 3).Truncate(time.Second),
		GracefulRestart: b.c.BGP.GracefulRestart.Truncate(time.Second), MaxPrefixes: uint32(x.MaxPrefixes), Up: true,
		Outside: true, UntellLoops: !in.ibgp, KeepNextHop: !x.NextHopSelf, Prepend: uint8(x.Prepend),
	}
	if in.ibgp {
		p.Multihop = 0 // within an AS hops are not counted
	}
	communities := slices.Clone(x.Communities)
	slices.Sort(communities)
	p.Communities = strings.Join(slices.Compact(communities), " ")

	var carried []bool // v6
	for _, f := range families {
		self := f.address(b.self).Addr()
		switch {
		case n.addr.IsLinkLocalUnicast() && n.addr.Zone() != b.underlay(f).Name:
			self = b.onLinkOf(n.addr, f)
		case f.v6 == n.addr.Is6() && !n.addr.IsLinkLocalUnicast():
			self = n.local
		}
		if !self.IsValid() || f.v6 != n.addr.Is6() && !b.concerns(in, f) {
			continue
		}
		carried = append(carried, f.v6)
		if f.v6 {
			p.Self6 = self
		} else {
			p.Self = self
		}
	}
	switch {
	case len(carried) == 2:
		p.Family = object.Dual
	case n.addr.Is6():
		p.Family = object.IPv6
	}
	keep := func(list []object.PrefixRange) string {
		if p.Family != object.Dual {
			list = ofFamily(list, n.addr.Is6())
		}
		return object.PrefixRanges(list)
	}
	p.Import, p.Except = keep(in.ranges), keep(b.admission.except(in))
	p.Transit = keep(b.transit(x))
	// Of what clients tell, gobgp takes back from a router of this AS only what it told a client (filterpath in its pkg/server/server.go),
	// and only a client is told from whom it is and which clusters it came through (RFC 4456 §8). Two reflectors whose
	// core reflected between them kept what a client had taken back, each by the other.
	if in.ibgp && p.Transit != "" {
		p.Cluster = b.self.RouteReflector
	}
	// What has nothing to be about is not there either: the speaker could not give it back.
	p.KeepNextHop = p.KeepNextHop && p.Transit != ""
	if p.Import != "" {
		p.FirstAS, p.LocalPref = in.firstAS(), in.localPref(x.LocalPref)
	}
	p.NextHops = object.AddrList(slices.DeleteFunc(b.admission.nextHops(in), func(a netip.Addr) bool { return len(ofFamily(in.ranges, a.Is6())) == 0 }))
	return p
}

// MostPrefixes is how many prefixes the routers of a file may tell altogether, of both families.
func MostPrefixes(c *config.Config) (n uint64) {
	for _, p := range c.Peers {
		n += 2 * uint64(p.MaxPrefixes)
	}
	return n
}

// concerns reports whether a session may carry prefixes of the family that its addresses are not of.
func (b *builder) concerns(in *inbound, f family) bool {
	if len(f.of(b.self.Blocks)) > 0 && (!in.peer.ExportSet || slices.ContainsFunc(in.peer.Export, func(r config.PrefixRange) bool { return r.Prefix.Addr().Is6() == f.v6 })) {
		return true
	}
	return slices.ContainsFunc(in.peer.Import, func(r config.PrefixRange) bool { return r.Prefix.Addr().Is6() == f.v6 }) ||
		slices.ContainsFunc(in.peer.Export, func(r config.PrefixRange) bool { return r.Prefix.Addr().Is6() == f.v6 })
}

// transit is what a router is told of what others told: what its export list has, less what can only be this node's own.
func (b *builder) transit(p *config.Peer) []object.PrefixRange {
	var out []object.PrefixRange
	for _, e := range p.Export {
		r := object.PrefixRange(e)
		if !slices.ContainsFunc(b.self.Blocks, func(block netip.Prefix) bool { return object.Within(block).Covers(r) }) {
			out = append(out, r)
		}
	}
	return out
}

func ofFamily(list []object.PrefixRange, v6 bool) []object.PrefixRange {
	return slices.DeleteFunc(slices.Clone(list), func(r object.PrefixRange) bool { return r.Prefix.Addr().Is6() != v6 })
}

// password is the fingerprint of a password. Where its file could not be read, a session keeps the one that it has: a file that is
// written anew is empty for a moment. Nor does one that should have a password ever go without.
func (b *builder) password(file string, session netip.Addr) string {
	if file == "" {
		return ""
	}
	if p := cmp.Or(b.facts.Passwords[file], b.facts.Kept[session]); p != "" {
		return p
	}
	if note := fmt.Sprintf("password_file %s was not read: sessions need it", file); !slices.Contains(b.notes, note) {
		b.notes = append(b.notes, note)
	}
	return UnknownPassword
}

// UnknownPassword stands for the fingerprint of a password that could not be read. No speaker accepts it.
const UnknownPassword = "unknown"

// bgpBlocks are a node's blocks in the networks that use bgp, in the file's order.
func (b *builder) bgpBlocks(n config.Node) []netip.Prefix {
	var out []netip.Prefix
	for _, net := range b.c.Networks {
		if net.Uses(config.ModeBGP) {
			out = append(out, b.c.BlocksIn(n, net.Name)...)
		}
	}
	return out
}
