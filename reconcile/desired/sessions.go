package desired

import (
	"net/netip"
	"slices"
	"time"

	"netd/config"
	"netd/reconcile/object"
)

// sessions puts the speaker's router, what this node announces, and a session with every other node: a full iBGP mesh,
// where the file has a network of mode bgp. They are part of the desired state only where a speaker can be asked
// (Facts.Sessions); elsewhere nobody could build them.
//
//	bgp   AS, router id, the port on the node's own address
//	path  each of the node's blocks in a bgp network, next hop its address
//	peer  each other node: what it may announce is its own blocks in bgp networks, with itself as next hop
func sessions(b *builder) {
	if !b.facts.Sessions || !b.self.Address.IsValid() || !slices.ContainsFunc(b.c.Networks, func(n config.Network) bool { return n.Mode == config.ModeBGP }) {
		return
	}
	local := b.self.Address.Addr()
	router := object.BGP{ASN: b.self.ASN, RouterID: b.self.RouterID, Listen: local, Port: b.c.BGP.ListenPort, Multipath: b.c.BGP.Multipath, Refuse: true}
	if !router.RouterID.IsValid() {
		router.RouterID = local
	}
	b.put(router, b.nodeCause(b.self))
	for _, block := range b.bgpBlocks(b.self) {
		b.put(object.Path{Prefix: block, NextHop: local}, cause("block of "+b.self.Name, b.self.BlocksPos))
	}
	if !b.c.BGP.Mesh {
		return
	}
	password := b.password()
	for _, n := range b.c.Nodes {
		if n.Name != b.self.Name && n.Address.IsValid() {
			b.put(b.session(n, password), b.nodeCause(n))
		}
	}
}

// session is this node's end of its session with another node.
func (b *builder) session(n config.Node, password string) object.Peer {
	local, remote := b.self.Address.Addr(), n.Address.Addr()
	opens := object.Listens
	if remote.Less(local) { // the lower address listens
		opens = object.Dials
	}
	// GTSM takes nothing that crossed a router, so that it is for neighbours on the link.
	security := b.self.Address.Masked() == n.Address.Masked()
	if s := b.c.BGP.TTLSecurity; s != nil {
		security = *s
	}
	return object.Peer{
		Addr: remote, ASN: n.ASN, Local: local, Port: b.c.BGP.ListenPort, Opens: opens, Password: password, TTLSecurity: security,
		HoldTime: b.c.BGP.HoldTime.Truncate(time.Second), Keepalive: (b.c.BGP.HoldTime / 3).Truncate(time.Second),
		GracefulRestart: b.c.BGP.GracefulRestart.Truncate(time.Second), Up: true, Import: object.PrefixList(b.bgpBlocks(n)),
	}
}

// password is the fingerprint of the mesh's password. One whose file could not be read is not left out: a session that
// should have a password never goes without one.
func (b *builder) password() string {
	file := b.c.BGP.PasswordFile
	if file == "" {
		return ""
	}
	if p := b.facts.Passwords[file]; p != "" {
		return p
	}
	b.note("password_file %s was not read: sessions need it", file)
	return UnknownPassword
}

// UnknownPassword stands for the fingerprint of a password that could not be read. No speaker accepts it.
const UnknownPassword = "unknown"

// bgpBlocks are a node's IPv4 blocks in the networks of mode bgp, in the file's order.
func (b *builder) bgpBlocks(n config.Node) []netip.Prefix {
	var out []netip.Prefix
	for _, net := range b.c.Networks {
		if net.Mode != config.ModeBGP {
			continue
		}
		for _, p := range b.c.BlocksIn(n, net.Name) {
			if p.Addr().Is4() {
				out = append(out, p)
			}
		}
	}
	return out
}
