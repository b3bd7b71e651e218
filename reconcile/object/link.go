package object

import (
	"fmt"
	"net/netip"
	"strconv"

	"netd/reconcile"
)

// LinkKey is the key of a link in a place. The container's end of a veth has no resource of its own: it is part of Veth.
func LinkKey(in Place, name string) reconcile.Key {
	return reconcile.Key{Kind: KindLink, Name: in.In(name)}
}

// Veth is a pair of links: the host's end, and a peer inside a workload's namespace. Its Key is the host's end.
type Veth struct {
	Name     string // host's end, VethName of the workload
	MAC      MAC
	MTU      int
	Up       bool
	Alias    string // "netd: <workload>", for people
	Workload Place  // in whose namespace the peer is; when read, empty where it is in no namespace known
	Peer     string // name of the peer, "eth0"
	PeerMAC  MAC
	PeerMTU  int
	PeerUp   bool
	Renamed  string // never wanted: the name that somebody else gave it
	Unmarked bool   // never wanted: somebody else took it out of LinkGroup
	Master   string // never wanted: the bridge, bond or VRF that somebody else made it a port of, which has its packets then
}

func (v Veth) Key() reconcile.Key        { return LinkKey("", v.Name) }
func (v Veth) Requires() []reconcile.Key { return nil }
func (v Veth) Fields() []reconcile.Field {
	return []reconcile.Field{
		field("type", "veth"+amiss(v.Renamed, v.Unmarked, v.Master)), field("mtu", strconv.Itoa(v.MTU)), field("state", upDown(v.Up)), field("mac", v.MAC.String()),
		field("alias", v.Alias), field("peer", v.Workload.In(v.Peer)), field("peer mtu", strconv.Itoa(v.PeerMTU)),
		field("peer state", upDown(v.PeerUp)), field("peer mac", v.PeerMAC.String()),
	}
}

// Summary is the pair as a plan prints it. Of one whose container nobody wants any more the far end is not known.
func (v Veth) Summary() string {
	to := " to " + v.Peer + " of " + string(v.Workload)
	if v.Workload == "" {
		to = ""
	}
	return "veth" + to + ", mtu " + strconv.Itoa(v.MTU) + ", " + upDown(v.Up) + amiss(v.Renamed, v.Unmarked, v.Master)
}

// Replaces: a peer in another namespace or of another name cannot be reached through the host's end. Before Linux 6.2 a link
// that is up cannot be renamed, and one set down loses its routes.
func (v Veth) Replaces(have reconcile.Resource) bool {
	h, ok := have.(Veth)
	return !ok || h.Workload != v.Workload || h.Peer != v.Peer || h.Renamed != v.Renamed
}

// amiss is what somebody else made of a link of netd's besides its settings.
func amiss(renamed string, unmarked bool, master string) string {
	switch {
	case renamed != "":
		return " renamed " + renamed
	case unmarked:
		return " not in group " + strconv.Itoa(LinkGroup)
	case master != "":
		return " port of " + master
	}
	return ""
}

// VXLAN is a VXLAN device of fixed tunnel endpoints (RFC 7348): it learns nothing, FDB and neighbours are given.
type VXLAN struct {
	Name     string
	VNI      uint32
	Port     uint16
	Local    netip.Addr
	Underlay string // the link that it sends by
	MAC      MAC
	MTU      int
	Up       bool
	Learning bool // always wanted off; here to be repaired
	Alias    string
	Renamed  string // as in Veth
	Unmarked bool
	Master   string
}

func (v VXLAN) Key() reconcile.Key        { return LinkKey("", v.Name) }
func (v VXLAN) Requires() []reconcile.Key { return nil }
func (v VXLAN) Fields() []reconcile.Field {
	return []reconcile.Field{
		field("type", "vxlan"+amiss(v.Renamed, v.Unmarked, v.Master)), field("vni", strconv.FormatUint(uint64(v.VNI), 10)), field("port", strconv.Itoa(int(v.Port))),
		field("local", addrText(v.Local)), field("dev", v.Underlay), field("mtu", strconv.Itoa(v.MTU)),
		field("state", upDown(v.Up)), field("mac", v.MAC.String()), field("learning", onOff(v.Learning)), field("alias", v.Alias),
	}
}

// Summary is the device as a plan prints it.
func (v VXLAN) Summary() string {
	return "vxlan, vni " + strconv.FormatUint(uint64(v.VNI), 10) + ", port " + strconv.Itoa(int(v.Port)) + ", local " + addrText(v.Local) +
		" dev " + v.Underlay + ", mtu " + strconv.Itoa(v.MTU) + ", " + upDown(v.Up) + amiss(v.Renamed, v.Unmarked, v.Master)
}

// Replaces: the kernel refuses to change VNI, port, family or learning of a device that exists (drivers/net/vxlan,
// vxlan_nl2conf). For its name see Veth.
func (v VXLAN) Replaces(have reconcile.Resource) bool {
	h, ok := have.(VXLAN)
	return !ok || h.VNI != v.VNI || h.Port != v.Port || h.Learning != v.Learning || h.Local.Is4() != v.Local.Is4() || h.Renamed != v.Renamed
}

// Claims: one device alone may have a VNI at a UDP port, for IPv4 and for IPv6 (drivers/net/vxlan, vxlan_vni_in_use).
func (v VXLAN) Claims() (what reconcile.Key, ok bool) {
	return reconcile.Key{Kind: KindLink, Name: fmt.Sprintf("vni %d port %d ipv6 %t", v.VNI, v.Port, v.Local.Is6())}, true
}

// IPIP is tunl0, the fallback device of the ipip module (net/ipv4/ipip.c): the kernel's own and shared, adopted rather
// than made. Its MTU and up state are netd's while it is wanted; what they were before is kept and put back.
type IPIP struct {
	Name string // "tunl0"
	MTU  int
	Up   bool
}

func (t IPIP) Key() reconcile.Key        { return LinkKey("", t.Name) }
func (t IPIP) Requires() []reconcile.Key { return nil }
func (t IPIP) Fields() []reconcile.Field {
	return []reconcile.Field{field("type", "ipip"), field("mtu", strconv.Itoa(t.MTU)), field("state", upDown(t.Up))}
}

// Summary is the device as a plan prints it.
func (t IPIP) Summary() string { return "ipip, mtu " + strconv.Itoa(t.MTU) + ", " + upDown(t.Up) }
