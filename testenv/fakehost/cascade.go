package fakehost

import (
	"maps"
	"net/netip"
	"strings"

	"netd/reconcile"
	"netd/reconcile/object"
)

// Set has a stranger set a link up or down: the host's, netd's, or in a place the workload's.
func (h *Host) Set(in object.Place, link string, up bool) {
	was := h.up(in, link)
	if in != "" {
		v, ok := h.pair(in)
		if !ok {
			return
		}
		v.PeerUp = up
		h.Own[v.Key()] = v
	} else {
		switch l := h.Own[object.LinkKey("", link)].(type) {
		case object.VXLAN:
			l.Up = up
			h.Own[l.Key()] = l
		case object.Veth:
			l.Up = up
			h.Own[l.Key()] = l
		default:
			h.Links[link] = up
		}
	}
	if was && !up {
		h.down(in, link, false)
	}
}

// Take has a stranger delete an object; a veth goes by either end.
func (h *Host) Take(key reconcile.Key) { h.remove(key) }

// fell takes along what an update of a link that sets it down does.
func (h *Host) fell(have, want reconcile.Resource) {
	switch w := want.(type) {
	case object.VXLAN:
		if was, ok := have.(object.VXLAN); ok && was.Up && !w.Up {
			h.down("", w.Name, was.MAC != w.MAC)
		}
	case object.Veth:
		was, ok := have.(object.Veth)
		if ok && was.Up && !w.Up {
			h.down("", w.Name, was.MAC != w.MAC)
		}
		if ok && was.PeerUp && !w.PeerUp {
			h.down(w.Workload, w.Peer, was.PeerMAC != w.PeerMAC)
		}
	}
}

// down takes along what the kernel does when a link goes down, without a word about any route of IPv4: all routes by it
// (net/ipv4/fib_frontend.c, fib_disable_ip; net/ipv6/route.c, rt6_disable_ip), its next hop objects and neighbours, permanent
// ones too, and its IPv6 addresses (net/ipv6/addrconf.c, addrconf_ifdown: keep_addr_on_down is 0). IPv4 addresses, forwarding
// entries and settings stay. renamed: netd's own kind changes the MAC at the same time and puts the neighbours back.
func (h *Host) down(in object.Place, link string, renamed bool) {
	for k, o := range maps.Clone(h.Own) {
		at, on := where(o)
		if at != in || on != link {
			continue
		}
		switch x := o.(type) {
		case object.Addr:
			if x.Prefix.Addr().Is4() {
				continue
			}
			delete(h.Own, k) // without what a deletion takes along
			continue
		case object.Neigh:
			if renamed {
				continue
			}
		case object.FDB, object.Sysctl:
			continue
		}
		h.remove(k)
	}
}

// where is the link that an object is on.
func where(o reconcile.Resource) (in object.Place, link string) {
	switch x := o.(type) {
	case object.Addr:
		return x.In, x.Link
	case object.Neigh:
		return "", x.Link
	case object.FDB:
		return "", x.Link
	case object.Nexthop:
		return "", x.Dev
	case object.Sysctl:
		return x.In, x.Link()
	case object.Route:
		if x.Nexthop == 0 && x.Type == object.Unicast {
			return x.In, x.Dev
		}
	}
	return "", ""
}

// remove takes an object away and all that the kernel takes along.
func (h *Host) remove(key reconcile.Key) {
	r, there := h.Own[key]
	if !there {
		return
	}
	delete(h.Own, key)
	switch r := r.(type) {
	case object.VXLAN:
		h.unlink("", r.Name)
	case object.Veth: // with its peer
		h.unlink("", r.Name)
		h.unlink(r.Workload, r.Peer)
	case object.Addr:
		h.unaddress(r)
	case object.Nexthop:
		for k, o := range maps.Clone(h.Own) {
			if x, ok := o.(object.Route); ok && x.Nexthop == r.ID {
				delete(h.Own, k)
			}
		}
	case object.NftTable:
		h.sweep(key.Name + " ")
	case object.NftSet:
		h.sweep(key.Name + " element ")
	}
}

func (h *Host) sweep(prefix string) {
	for k := range maps.Clone(h.Own) {
		if k.Kind == object.KindNft && strings.HasPrefix(k.Name, prefix) {
			delete(h.Own, k)
		}
	}
}

// unaddress takes along what goes with an address. With one of IPv4 go the routes that prefer it as source, and with the last
// of a link the link's routes and neighbours of IPv4 (net/ipv4/fib_frontend.c, fib_inetaddr_event). Of IPv6 routes stay, and
// lose their preference (net/ipv6/route.c, rt6_remove_prefsrc), unless the address went with its link.
func (h *Host) unaddress(a object.Addr) {
	held, four := h.holds(a.In, a.Prefix.Addr()), a.Prefix.Addr().Is4()
	last := four
	for _, o := range h.Own {
		if x, ok := o.(object.Addr); ok && x.In == a.In && x.Link == a.Link && x.Prefix.Addr().Is4() {
			last = false
		}
	}
	for k, o := range maps.Clone(h.Own) {
		switch x := o.(type) {
		case object.Route:
			switch {
			case four && x.Dst.Addr().Is4() && last && x.Nexthop == 0 && x.In == a.In && x.Dev == a.Link:
				delete(h.Own, k)
			case x.In != a.In || x.Src != a.Prefix.Addr() || held:
			case four:
				delete(h.Own, k)
			default:
				x.Src = netip.Addr{}
				h.Own[k] = x
			}
		case object.Neigh:
			if last && a.In == "" && x.Link == a.Link && x.IP.Is4() {
				delete(h.Own, k)
			}
		}
	}
}

// unlink takes along what is on a link that goes.
func (h *Host) unlink(in object.Place, name string) {
	for k, o := range maps.Clone(h.Own) {
		at, on := where(o)
		if at != in || on != name {
			continue
		}
		if a, ok := o.(object.Addr); ok && a.Prefix.Addr().Is6() {
			delete(h.Own, k)
		} else {
			h.remove(k)
		}
	}
}
