package object

import (
	"net/netip"

	"netd/reconcile"
)

// Scope of an address or a route, as rtnetlink numbers it.
type Scope uint8

const (
	ScopeGlobal Scope = 0   // RT_SCOPE_UNIVERSE
	ScopeLink   Scope = 253 // RT_SCOPE_LINK
	ScopeHost   Scope = 254 // RT_SCOPE_HOST
)

func (s Scope) String() string {
	switch s {
	case ScopeGlobal:
		return "global"
	case ScopeLink:
		return "link"
	case ScopeHost:
		return "host"
	}
	return "other"
}

// Addr is an address on a link.
type Addr struct {
	In     Place
	Link   string
	Prefix netip.Prefix // the address itself with its length, not masked
	Scope  Scope
}

func (a Addr) Key() reconcile.Key {
	return reconcile.Key{Kind: KindAddr, Name: a.In.In(a.Prefix.String() + " dev " + a.Link)}
}

func (a Addr) Requires() []reconcile.Key { return requireLink(a.In, a.Link) }

// Offers: see Route.LeansOn.
func (a Addr) Offers() reconcile.Key { return source(a.In, a.Prefix.Addr()) }

// source is an address of a namespace, on whichever link.
func source(in Place, a netip.Addr) reconcile.Key {
	return reconcile.Key{Kind: KindAddr, Name: in.In(a.String())}
}

func (a Addr) Fields() []reconcile.Field { return []reconcile.Field{field("scope", a.Scope.String())} }

// Replaces: the kernel changes an address's lifetime and protocol in place, not its scope (net/ipv4/devinet.c).
func (a Addr) Replaces(reconcile.Resource) bool { return true }

// Summary is the address as a plan prints it.
func (a Addr) Summary() string { return "scope " + a.Scope.String() }

// requireLink is what an object on a link stands on. The container's end of a veth belongs to the host's end.
func requireLink(in Place, link string) []reconcile.Key {
	if in != "" {
		return []reconcile.Key{LinkKey("", VethName(string(in)))}
	}
	return []reconcile.Key{LinkKey("", link)}
}

// Neigh is a permanent neighbour entry on a link of netd.
type Neigh struct {
	Link string
	IP   netip.Addr
	MAC  MAC
}

func (n Neigh) Key() reconcile.Key {
	return reconcile.Key{Kind: KindNeigh, Name: n.IP.String() + " dev " + n.Link}
}
func (n Neigh) Requires() []reconcile.Key { return []reconcile.Key{LinkKey("", n.Link)} }
func (n Neigh) Fields() []reconcile.Field { return []reconcile.Field{field("lladdr", n.MAC.String())} }

// FDB is a permanent entry of a VXLAN device's forwarding table: frames for MAC go to the tunnel endpoint Dst.
type FDB struct {
	Link string
	MAC  MAC
	Dst  netip.Addr
}

// Key has the endpoint in it where the kernel lets one address have several: multicast and all-zero ones.
func (f FDB) Key() reconcile.Key {
	name := f.MAC.String() + " dev " + f.Link
	if f.MAC[0]&1 != 0 || f.MAC == (MAC{}) {
		name += " dst " + addrText(f.Dst)
	}
	return reconcile.Key{Kind: KindFDB, Name: name}
}
func (f FDB) Requires() []reconcile.Key { return []reconcile.Key{LinkKey("", f.Link)} }
func (f FDB) Fields() []reconcile.Field { return []reconcile.Field{field("dst", addrText(f.Dst))} }
