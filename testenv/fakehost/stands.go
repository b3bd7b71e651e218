package fakehost

import (
	"net/netip"
	"strings"

	"golang.org/x/sys/unix"

	"netd/reconcile"
	"netd/reconcile/object"
)

// stands is the kernel's answer to an object whose footing is missing.
func (h *Host) stands(r reconcile.Resource) error {
	switch r := r.(type) {
	case object.VXLAN:
		if !h.link("", r.Underlay) {
			return unix.ENODEV
		}
		for key, o := range h.Own {
			if v, ok := o.(object.VXLAN); ok && key != r.Key() && v.VNI == r.VNI && v.Port == r.Port {
				return unix.EEXIST
			}
		}
	case object.Addr:
		return h.needs(r.In, r.Link)
	case object.Neigh:
		return h.needs("", r.Link)
	case object.FDB:
		if _, ok := h.Own[object.LinkKey("", r.Link)].(object.VXLAN); !ok {
			return unix.ENODEV
		}
	case object.Sysctl:
		return h.needs(r.In, r.Link())
	case object.Nexthop:
		return h.needsUp("", r.Dev)
	case object.Route:
		return h.route(r)
	case object.NftChain, object.NftSet, object.NftElem:
		for _, on := range r.Requires() {
			if _, ok := h.Own[on]; !ok {
				return unix.ENOENT
			}
		}
		if c, ok := r.(object.NftChain); ok && !h.fits(c) {
			return unix.EINVAL
		}
		if e, ok := r.(object.NftElem); ok && h.Own[e.Set.Key()] != e.Set { // an element of another type
			return unix.EINVAL
		}
	}
	return nil
}

// fits reports whether a chain looks its sets up with enough: the kernel refuses to look up an address among names, which
// are longer (net/netfilter/nft_lookup.c), and not the other way round.
func (h *Host) fits(c object.NftChain) bool {
	for _, on := range c.Requires() {
		s, ok := h.Own[on].(object.NftSet)
		if ok && strings.Contains(c.Rules, "ip saddr @"+s.Name+" ") && s.Type != "ipv4_addr" {
			return false
		}
	}
	return true
}

func (h *Host) route(r object.Route) error {
	if r.Src.IsValid() && !h.holds(r.In, r.Src) {
		return unix.EINVAL
	}
	if r.Nexthop != 0 {
		if _, ok := h.Own[object.NexthopKey(r.Nexthop)]; !ok {
			return unix.EINVAL
		}
		return nil
	}
	if r.Type == object.Blackhole {
		return nil
	}
	if err := h.needsUp(r.In, r.Dev); err != nil {
		return err
	}
	// IPv4 looks the next hop up, and what leads there has to be of the scope of the link (net/ipv4/fib_semantics.c,
	// fib_check_nh). IPv6 takes a next hop of the link's own addresses without (net/ipv6/route.c, ip6_route_check_nh).
	if r.Via.Is4() && !r.Onlink {
		on, ok := h.Own[object.RouteKey(r.In, netip.PrefixFrom(r.Via, 32), object.MainTable, 0)].(object.Route)
		if !ok || on.Scope != object.ScopeLink || on.Dev != r.Dev {
			return unix.ENETUNREACH
		}
	}
	return nil
}

func (h *Host) needs(in object.Place, link string) error {
	if !h.link(in, link) {
		return unix.ENODEV
	}
	return nil
}

func (h *Host) needsUp(in object.Place, link string) error {
	if !h.link(in, link) {
		return unix.ENODEV
	}
	if !h.up(in, link) {
		return unix.ENETDOWN
	}
	return nil
}

func (h *Host) link(in object.Place, name string) bool {
	if in != "" {
		v, ok := h.pair(in)
		return ok && v.Peer == name
	}
	if _, ok := h.Own[object.LinkKey("", name)]; ok {
		return true
	}
	_, ok := h.Links[name]
	return ok
}

// pair is the veth into a workload's namespace.
func (h *Host) pair(in object.Place) (object.Veth, bool) {
	v, ok := h.Own[object.LinkKey("", object.VethName(string(in)))].(object.Veth)
	return v, ok
}

func (h *Host) up(in object.Place, name string) bool {
	if in != "" {
		v, _ := h.pair(in)
		return v.PeerUp
	}
	switch l := h.Own[object.LinkKey("", name)].(type) {
	case object.VXLAN:
		return l.Up
	case object.Veth:
		return l.Up
	}
	return h.Links[name]
}

// holds reports whether any link in a place has an address.
func (h *Host) holds(in object.Place, a netip.Addr) bool {
	for _, r := range h.Own {
		if x, ok := r.(object.Addr); ok && x.In == in && x.Prefix.Addr() == a {
			return true
		}
	}
	return false
}
