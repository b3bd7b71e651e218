package kernel

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"netd/reconcile/object"
)

// Host reads the facts about this host. It changes nothing and loads no module.
func (k *Kernel) Host(context.Context) (object.Host, error) {
	out, h, err := k.besidesRoutes()
	if err != nil {
		return out, err
	}
	return out, k.hostRoutes(h, &out)
}

// HostBesidesRoutes is Host without what takes a look at every route: of 110,000 that costs 60 ms.
func (k *Kernel) HostBesidesRoutes(context.Context) (object.Host, error) {
	out, _, err := k.besidesRoutes()
	return out, err
}

func (k *Kernel) besidesRoutes() (out object.Host, h place, err error) {
	if h, err = k.host(); err != nil {
		return out, h, err
	}
	if out.Name, err = os.Hostname(); err != nil {
		return out, h, fmt.Errorf("reading the host's name: %w", err)
	}
	held, err := readAddrs(k.c, 0)
	if err != nil {
		return out, h, err
	}
	for _, l := range h.links.byName {
		if l.name == "tunl0" && l.typ == "ipip" {
			out.HasTunl0 = true
			continue
		}
		if l.isNetd() {
			continue
		}
		if l.typ == "ipip" {
			out.Tunnels = append(out.Tunnels, object.HostTunnel{Name: l.name, Local: end(l.tunnel.local), Remote: end(l.tunnel.remote)})
		}
		hl := object.HostLink{Name: l.name, Index: l.index, MTU: l.mtu, Up: l.up(), NoCarrier: l.noCarrier(), Loopback: l.flags&unix.IFF_LOOPBACK != 0, Port: l.master != 0}
		for _, a := range held {
			if a.index == l.index {
				hl.Addrs = append(hl.Addrs, a.prefix)
			}
		}
		if !hl.Loopback && !hl.Port { // a bridge's or bond's port neither routes nor listens to routers by itself
			hl.Forwarding = k.kept(object.LinkSysctl("ipv4", "conf", l.name, "forwarding"), l.forwarding, h.links) == 1
			hl.AcceptRA = k.kept(object.LinkSysctl("ipv6", "conf", l.name, "accept_ra"), l.acceptRA, h.links)
		}
		out.Links = append(out.Links, hl)
	}
	slices.SortFunc(out.Tunnels, func(a, b object.HostTunnel) int { return strings.Compare(a.Name, b.Name) })
	slices.SortFunc(out.Links, func(a, b object.HostLink) int { return a.Index - b.Index })
	forward, err := k.before("net.ipv4.ip_forward")
	if err != nil {
		return out, h, err
	}
	forward6, err := k.before(object.IPv6Forwarding)
	if err != nil {
		return out, h, err
	}
	out.IPForward, out.IPv6Forward = forward == 1, forward6 == 1
	if out.RPFilterAll, err = k.before("net.ipv4.conf.all.rp_filter"); err != nil {
		return out, h, err
	}
	if out.Filter, out.Filter6, err = k.nft.filterChains(); err != nil {
		return out, h, err
	}
	_, err = os.Stat("/proc/sys/net/ipv6")
	out.IPv6 = err == nil
	return out, h, nil
}

// end is an end of a tunnel, invalid where it is left open.
func end(b []byte) netip.Addr {
	a, _ := netip.AddrFromSlice(b)
	if a.IsUnspecified() {
		return netip.Addr{}
	}
	return a
}

// kept is a setting as it is without netd: what it was before netd first wrote it, else what it is.
func (k *Kernel) kept(name string, is int, links linkTable) int {
	as, _ := k.keptAs(name, links) // of a table that asks nobody
	if v, ok := k.store.Before(as); ok {
		is, _ = strconv.Atoi(v)
	}
	return is
}

// before is kept of a setting that has to be read; 0 where there is none.
func (k *Kernel) before(name string) (int, error) {
	v, _, err := readSysctl(object.Sysctl{Name: name})
	if err != nil {
		return 0, err
	}
	is, _ := strconv.Atoi(v)
	return k.kept(name, is, linkTable{}), nil
}

// hostRoutes finds the links that default routes leave by, and the routes that BGP gave.
func (k *Kernel) hostRoutes(h place, out *object.Host) error {
	for _, f := range ipFamilies {
		links := &out.DefaultLinks
		if f == unix.AF_INET6 {
			links = &out.DefaultLinks6
		}
		var learned, tunnelled []object.Learned
		err := dumpRoutes(h.c, f, func() { *links, learned, tunnelled = nil, nil, nil }, func(body []byte) error {
			if body[1] != 0 && body[5] != object.Protocol { // neither a default route nor netd's: 100,000 foreign ones cost nothing
				return nil
			}
			r, ok := decodeRoute(body)
			if !ok || r.table != unix.RT_TABLE_MAIN || r.typ != unix.RTN_UNICAST {
				return nil
			}
			for _, hop := range r.ways() {
				l := h.links.byIndex[hop.oif]
				if r.dst.Bits() == 0 && l.name != "" && !slices.Contains(*links, l.name) {
					*links = append(*links, l.name)
				}
				switch way := (object.Learned{Prefix: r.dst, NextHop: hop.via, Link: l.name}); {
				case r.protocol != object.Protocol || !hop.via.IsValid():
				case l.isNetdVXLAN() || l.name == "tunl0":
					tunnelled = append(tunnelled, way)
				case r.nexthop == 0 && !l.isNetd():
					learned = append(learned, way)
				}
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("reading routes: %w", err)
		}
		slices.Sort(*links)
		out.LearnedRoutes = append(out.LearnedRoutes, learned...)
		out.TunnelRoutes = append(out.TunnelRoutes, tunnelled...)
	}
	return nil
}

// usedByOthers reports whether a link has an address that is not netd's or a route that is neither netd's nor the
// kernel's.
func (k *Kernel) usedByOthers(l link) (bool, error) {
	held, err := readAddrs(k.c, 0)
	if err != nil {
		return false, err
	}
	marks := marked(release(), held)
	for _, a := range held {
		if a.index == l.index && !a.owns("", l, marks) {
			return true, nil
		}
	}
	used := false
	err = dumpRoutes(k.c, unix.AF_INET, func() { used = false }, func(body []byte) error {
		if r, ok := decodeRoute(body); ok && r.oif == l.index && r.protocol != object.Protocol && r.protocol != unix.RTPROT_KERNEL {
			used = true
		}
		return nil
	})
	return used, err
}

// OuterSources are the addresses that the kernel would send from to each remote: what an ipip packet gets as its outer
// source. It is invalid where there is no route.
func (k *Kernel) OuterSources(_ context.Context, remotes []netip.Addr) ([]netip.Addr, error) {
	out := make([]netip.Addr, len(remotes))
	for i, remote := range remotes {
		r, _, err := askRoute(k.c, remote, 0)
		if err != nil {
			return nil, err
		}
		out[i] = r.src
	}
	return out, nil
}
