package kernel

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

	"netd/reconcile/object"
)

// Host reads the facts about this host. It changes nothing and loads no module.
func (k *Kernel) Host(context.Context) (object.Host, error) {
	var out object.Host
	h, err := k.host()
	if err != nil {
		return out, err
	}
	if out.Name, err = os.Hostname(); err != nil {
		return out, fmt.Errorf("reading the host's name: %w", err)
	}
	held, err := readAddrs(k.c)
	if err != nil {
		return out, err
	}
	for _, l := range h.links.byName {
		if l.name == "tunl0" && l.typ == "ipip" {
			out.HasTunl0 = true
			continue
		}
		if l.isNetd() {
			continue
		}
		hl := object.HostLink{Name: l.name, Index: l.index, MTU: l.mtu, Up: l.up(), Loopback: l.flags&unix.IFF_LOOPBACK != 0}
		for _, a := range held {
			if a.index == l.index {
				hl.Addrs = append(hl.Addrs, a.prefix)
			}
		}
		out.Links = append(out.Links, hl)
	}
	slices.SortFunc(out.Links, func(a, b object.HostLink) int { return a.Index - b.Index })
	if err := k.hostRoutes(h, &out); err != nil {
		return out, err
	}
	if v, ok, err := readSysctl(object.Sysctl{Name: "net.ipv4.ip_forward"}); err != nil {
		return out, err
	} else if ok {
		out.IPForward = v == "1"
	}
	if v, ok, err := readSysctl(object.Sysctl{Name: "net.ipv4.conf.all.rp_filter"}); err != nil {
		return out, err
	} else if ok {
		out.RPFilterAll, _ = strconv.Atoi(v)
	}
	_, err = os.Stat("/proc/sys/net/ipv6")
	out.IPv6 = err == nil
	return out, nil
}

// hostRoutes finds the links that default routes leave by, and the routes that BGP gave.
func (k *Kernel) hostRoutes(h place, out *object.Host) error {
	req := make([]byte, unix.SizeofRtMsg)
	req[0], req[4] = unix.AF_INET, unix.RT_TABLE_MAIN
	err := h.c.dump(unix.RTM_GETROUTE, req, func() { out.DefaultLinks, out.LearnedRoutes = nil, nil }, func(body []byte) error {
		if body[1] != 0 && body[5] != object.Protocol { // neither a default route nor netd's: 100,000 foreign ones cost nothing
			return nil
		}
		r, ok := decodeRoute(body)
		if !ok || r.table != unix.RT_TABLE_MAIN || r.typ != unix.RTN_UNICAST {
			return nil
		}
		l := h.links.byIndex[r.oif]
		if r.dst.Bits() == 0 && l.name != "" && !slices.Contains(out.DefaultLinks, l.name) {
			out.DefaultLinks = append(out.DefaultLinks, l.name)
		}
		if r.protocol == object.Protocol && r.via.IsValid() && r.nexthop == 0 && !l.isNetd() && l.name != "tunl0" {
			out.LearnedRoutes = append(out.LearnedRoutes, object.Learned{Prefix: r.dst, NextHop: r.via})
		}
		return nil
	})
	slices.Sort(out.DefaultLinks)
	if err != nil {
		return fmt.Errorf("reading routes: %w", err)
	}
	return nil
}

// usedByOthers reports whether a link has an address that is not netd's or a route that is neither netd's nor the
// kernel's.
func (k *Kernel) usedByOthers(l link) (bool, error) {
	held, err := readAddrs(k.c)
	if err != nil {
		return false, err
	}
	for _, a := range held {
		if a.index == l.index && !a.owns("", l) {
			return true, nil
		}
	}
	used := false
	req := make([]byte, unix.SizeofRtMsg)
	req[0], req[4] = unix.AF_INET, unix.RT_TABLE_MAIN
	err = k.c.dump(unix.RTM_GETROUTE, req, func() { used = false }, func(body []byte) error {
		if r, ok := decodeRoute(body); ok && r.oif == l.index && r.protocol != object.Protocol && r.protocol != unix.RTPROT_KERNEL {
			used = true
		}
		return nil
	})
	return used, err
}

// OuterSource is the address and link that the kernel would send from to remote: what an ipip packet gets as its outer
// source.
func (k *Kernel) OuterSource(_ context.Context, remote netip.Addr) (src netip.Addr, dev string, err error) {
	h, err := k.host()
	if err != nil {
		return src, "", err
	}
	var req encoder
	head := make([]byte, unix.SizeofRtMsg)
	head[0], head[1] = unix.AF_INET, 32
	req.raw(head...)
	req.addr(unix.RTA_DST, remote)
	err = h.c.get(unix.RTM_GETROUTE, 0, req.b, func(body []byte) error {
		r, _ := decodeRoute(body)
		src, dev = r.src, h.links.byIndex[r.oif].name
		return nil
	})
	if errors.Is(err, unix.ENETUNREACH) {
		return src, "", fmt.Errorf("no route to %s", remote)
	}
	return src, dev, err
}
