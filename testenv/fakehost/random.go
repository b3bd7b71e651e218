package fakehost

import (
	"fmt"
	"math/rand/v2"
	"net/netip"

	"netd/reconcile"
	"netd/reconcile/object"
)

// Underlay is the link that random states stand on besides their own.
const Underlay = "ens33"

var table = object.NftTable{Family: "inet", Name: "netd"}

// Workloads are those that random states have containers of, each with the interface Inside.
var Workloads = []object.Place{"file/w0", "file/w1"}

// Inside is the container's end of a veth.
const Inside = "eth0"

// Random is a state that a host with the link Underlay can be in, of up to some eighty objects of every kind and both families.
func Random(r *rand.Rand) reconcile.Want {
	var w reconcile.Want
	put := func(x reconcile.Resource, stands ...reconcile.Key) {
		w.Put(x, reconcile.Cause{Text: "random"}, stands...)
	}
	links := []string{Underlay}
	var sources []object.Addr
	port := r.IntN(3) // devices change their ports with one another
	for i := range 3 {
		if r.IntN(3) == 0 {
			continue
		}
		v := vxlan(r, i)
		v.Port += uint16((port + i) % 3)
		put(v)
		links = append(links, v.Name)
		if r.IntN(2) == 0 {
			put(object.Sysctl{Name: object.LinkSysctl("ipv4", "conf", v.Name, "rp_filter"), Value: fmt.Sprint(r.IntN(3))})
		}
		var on []reconcile.Key
		for j := range 1 + r.IntN(2) { // netd's links have one address at least where they have routes
			a := Address(r, v.Name, j)
			put(a)
			sources, on = append(sources, a), append(on, a.Key())
		}
		if r.IntN(2) == 0 {
			a := object.Addr{Link: v.Name, Prefix: netip.PrefixFrom(six(0x30, byte(i), byte(r.IntN(2))), 128)}
			put(a)
			sources = append(sources, a)
		}
		for j := range r.IntN(3) {
			put(neigh(r, v.Name, j), on...)
			put(fdb(r, v.Name, j))
		}
		if r.IntN(2) == 0 {
			put(object.Neigh{Link: v.Name, IP: six(0x40, 0, byte(1+r.IntN(3))), MAC: object.MAC{2, 0, 0, 0, 0, byte(r.IntN(3))}})
		}
		if r.IntN(2) == 0 {
			put(object.Nexthop{ID: uint32(10 + r.IntN(3)), Via: far(r), Dev: v.Name, Onlink: true})
		}
	}
	for i, in := range Workloads {
		if r.IntN(3) > 0 {
			container(r, i, in, &sources, put)
		}
	}
	for i := range 12 {
		dst := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 20, byte(i), 0}), 24)
		if i >= 6 {
			dst = netip.PrefixFrom(six(0x20, byte(i), 0), 120)
		}
		x, ok := route(r, dst, links)
		if !ok {
			continue
		}
		var stands []reconcile.Key
		if x.Nexthop != 0 {
			if _, there := w.State[object.NexthopKey(x.Nexthop)]; !there {
				continue
			}
		} else if x.Type == object.Unicast {
			for _, a := range sources { // what a link's last address takes along
				if a.In == "" && a.Link == x.Dev {
					stands = append(stands, a.Key())
				}
			}
			if len(sources) > 0 && r.IntN(2) == 0 {
				a := sources[r.IntN(len(sources))]
				if a.In == "" && a.Prefix.Addr().Is4() == dst.Addr().Is4() && !a.Prefix.Addr().IsLinkLocalUnicast() {
					x.Src = a.Prefix.Addr()
					stands = append(stands, a.Key())
				}
			}
		}
		put(x, stands...)
	}
	if r.IntN(5) > 0 {
		put(table)
		var sets []object.NftSet
		for i := range 3 {
			if r.IntN(2) == 0 {
				s := object.NftSet{Table: table, Name: fmt.Sprintf("s%d", i), Type: []string{"ipv4_addr", "ifname"}[r.IntN(2)]}
				put(s)
				sets = append(sets, s)
				if s.Type == "ipv4_addr" {
					for j := range r.IntN(3) {
						put(object.NftElem{Set: s, Elem: fmt.Sprintf("192.0.2.%d", j)})
					}
				}
			}
		}
		for i := range 3 {
			if r.IntN(2) == 0 {
				put(chain(r, i, sets))
			}
		}
	}
	return w
}

func chain(r *rand.Rand, i int, sets []object.NftSet) object.NftChain {
	c := object.NftChain{Table: table, Name: fmt.Sprintf("c%d", i), Type: "filter", Hook: []string{"input", "forward"}[r.IntN(2)], Priority: r.IntN(2)}
	c.Rules = "counter accept"
	if len(sets) > 0 {
		s := sets[r.IntN(len(sets))]
		c.Rules = "ip saddr @" + s.Name + " counter accept"
		if s.Type == "ifname" {
			c.Rules = "iifname @" + s.Name + " counter accept"
		}
	}
	return c
}

// container is a veth, what is on its end here, and what is on the other.
func container(r *rand.Rand, i int, in object.Place, sources *[]object.Addr, put func(reconcile.Resource, ...reconcile.Key)) {
	v := object.Veth{Name: object.VethName(string(in)), MAC: object.MAC{0xee, 0xee, 0xee, 0xee, 0xee, byte(0xee + r.IntN(2))}, MTU: 1400 + r.IntN(2), Up: true,
		Alias: "netd: random", Workload: in, Peer: Inside, PeerMAC: object.WorkloadMAC(string(in)), PeerMTU: 1400 + r.IntN(2), PeerUp: true}
	put(v)
	a4, a6 := netip.AddrFrom4([4]byte{10, 50, byte(i), byte(r.IntN(2))}), six(0x50, byte(i), byte(r.IntN(2)))
	if r.IntN(4) > 0 {
		put(object.Route{Dst: netip.PrefixFrom(a4, 32), Table: object.MainTable, Type: object.Unicast, Dev: v.Name, Scope: object.ScopeLink})
		here := object.Addr{In: in, Link: Inside, Prefix: netip.PrefixFrom(a4, 32)}
		put(here)
		gateway := netip.AddrFrom4([4]byte{169, 254, 1, 1})
		put(object.Route{In: in, Dst: netip.PrefixFrom(gateway, 32), Table: object.MainTable, Type: object.Unicast, Dev: Inside, Scope: object.ScopeLink}, here.Key())
		if r.IntN(4) > 0 {
			put(object.Route{In: in, Dst: netip.PrefixFrom(netip.IPv4Unspecified(), 0), Table: object.MainTable, Type: object.Unicast, Via: gateway, Dev: Inside}, here.Key())
		}
	}
	if r.IntN(4) > 0 {
		own := object.Addr{Link: v.Name, Prefix: netip.PrefixFrom(object.LinkLocal(v.MAC), 64), Scope: object.ScopeLink}
		put(own)
		*sources = append(*sources, own)
		put(object.Route{Dst: netip.PrefixFrom(a6, 128), Table: object.MainTable, Type: object.Unicast, Dev: v.Name}, own.Key())
		put(object.Addr{In: in, Link: Inside, Prefix: netip.PrefixFrom(a6, 128)})
		put(object.Route{In: in, Dst: netip.PrefixFrom(netip.IPv6Unspecified(), 0), Table: object.MainTable, Type: object.Unicast,
			Via: object.LinkLocal(v.MAC), Dev: Inside})
	}
	if r.IntN(2) == 0 {
		put(object.Neigh{Link: v.Name, IP: a6, MAC: v.PeerMAC})
	}
}

// six is an IPv6 address of a random state.
func six(kind, i, j byte) netip.Addr {
	return netip.AddrFrom16([16]byte{0: 0xfd, 3: kind, 5: i, 15: j})
}

func vxlan(r *rand.Rand, i int) object.VXLAN {
	vni := uint32(100 + r.IntN(2))
	v := object.VXLAN{Name: fmt.Sprintf("netdvx%d", i), VNI: vni, Port: 4789, Local: netip.MustParseAddr("192.168.170.137"), Underlay: Underlay,
		MAC: object.VTEPMAC(vni, netip.MustParseAddr("192.168.170.137")), MTU: 1400 + r.IntN(2), Up: true, Alias: "netd: random"}
	v.MAC[5] = byte(r.IntN(2))
	return v
}

// Address is one of a few addresses of a link.
func Address(r *rand.Rand, link string, j int) object.Addr {
	return object.Addr{Link: link, Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 30, link[len(link)-1], byte(j)}), 32),
		Scope: []object.Scope{object.ScopeGlobal, object.ScopeLink}[r.IntN(2)]}
}

func far(r *rand.Rand) netip.Addr { return netip.AddrFrom4([4]byte{10, 40, 0, byte(1 + r.IntN(3))}) }

func neigh(r *rand.Rand, link string, j int) object.Neigh {
	return object.Neigh{Link: link, IP: netip.AddrFrom4([4]byte{10, 40, 0, byte(1 + j)}), MAC: object.MAC{2, 0, 0, 0, 0, byte(r.IntN(3))}}
}

func fdb(r *rand.Rand, link string, j int) object.FDB {
	return object.FDB{Link: link, MAC: object.MAC{2, 0, 0, 0, 1, byte(j)}, Dst: netip.AddrFrom4([4]byte{192, 168, 170, byte(138 + r.IntN(3))})}
}

// route is a route of one of the shapes that netd makes.
func route(r *rand.Rand, dst netip.Prefix, links []string) (object.Route, bool) {
	x := object.Route{Dst: dst, Table: object.MainTable, Type: object.Unicast}
	switch shape := r.IntN(5); {
	case shape == 0:
		x.Type = object.Blackhole
	case shape == 1 && dst.Addr().Is4():
		x.Nexthop = uint32(10 + r.IntN(3))
	case shape == 2:
		return x, false
	case shape == 3:
		x.Dev = links[r.IntN(len(links))]
		if dst.Addr().Is4() {
			x.Scope = object.ScopeLink
		}
	default:
		x.Via, x.Dev, x.Onlink = far(r), links[r.IntN(len(links))], true
		if dst.Addr().Is6() {
			x.Via = six(0x40, 0, byte(1+r.IntN(3)))
		}
	}
	return x, true
}
