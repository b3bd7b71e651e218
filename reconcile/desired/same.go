package desired

import (
	"net/netip"
	"reflect"
	"slices"

	"netd/config"
	"netd/reconcile/object"
)

// Same reports whether Compile makes the same of two looks at a host, which need not have read its routes. The links and
// addresses of others come and go all the time, and on most of them nothing stands that is wanted.
func Same(self config.Node, was, now object.Host) bool {
	return reflect.DeepEqual(besidesRoutes(self, was), besidesRoutes(self, now))
}

// besidesRoutes is what Compile reads of a host, less what is told of otherwise:
//
//   - Routes of netd's own, LearnedRoutes and TunnelRoutes: it changes them itself, and where somebody else does the event
//     names the place, which is put back. Compile asks for them to keep what is there, and that is wanted already.
//   - Those of others, DefaultLinks and Ways: an event about one has everything looked at. With a link or its last address
//     they go without one, and then the link is another, or one whose events ask for more (watch.Kernel's Default and Bears).
//   - Ports: with no address but those that the kernel gives every link, they are nobody's next hop and nobody's underlay.
func besidesRoutes(self config.Node, h object.Host) object.Host {
	h.LearnedRoutes, h.TunnelRoutes, h.DefaultLinks, h.DefaultLinks6, h.Ways = nil, nil, nil, nil, nil
	h.Links = slices.DeleteFunc(slices.Clone(h.Links), func(l object.HostLink) bool {
		return l.Port && l.Name != self.Interface && !slices.ContainsFunc(l.Addrs, func(p netip.Prefix) bool {
			return !p.Addr().Is6() || !p.Addr().IsLinkLocalUnicast()
		})
	})
	return h
}
