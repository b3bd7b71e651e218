package desired

import (
	"maps"
	"slices"

	"netd/reconcile"
	"netd/reconcile/object"
)

// Forwarding, without making the host a router. IPv4's switch is one of the link that a packet comes in by: it is set on
// netd's own links, on the underlay, and where packets are masqueraded on the links that default routes leave by, which the
// replies come in by. ip_forward, the switch for all, is left alone.
//
// IPv6 has only the switch for all, which is set where this node has IPv6 blocks. It makes the kernel forget the default
// routes that router advertisements gave, and heed no more of these, except on links with accept_ra=2: they get that first.
//
// What was no router before netd is none between its other links: firewallBuilder.router.
func (b *builder) forwarding() {
	links := map[string]reconcile.Cause{}
	if l := b.underlay(ipv4); l.Name != "" {
		links[l.Name] = b.nodeCause(b.self)
	}
	for _, n := range b.c.Networks {
		for _, link := range b.facts.Host.DefaultLinks {
			if _, ok := links[link]; !ok && n.NATOutgoing && len(ipv4.of(n.Pools)) > 0 {
				links[link] = netCause(n)
			}
		}
	}
	for _, link := range b.neighbourLinks(ipv4) { // BGP
		if _, ok := links[link]; !ok {
			links[link] = b.nodeCause(b.self)
		}
	}
	for _, link := range slices.Sorted(maps.Keys(links)) {
		b.put(object.Sysctl{Name: object.LinkSysctl("ipv4", "conf", link, "forwarding"), Value: "1"}, links[link])
	}

	if len(ipv6.of(b.self.Blocks)) == 0 {
		return
	}
	why := cause("block of "+b.self.Name, b.self.BlocksPos)
	var before []reconcile.Key
	for _, l := range b.facts.Host.Links {
		if l.AcceptRA == 1 {
			s := object.Sysctl{Name: object.LinkSysctl("ipv6", "conf", l.Name, "accept_ra"), Value: "2"}
			b.put(s, why)
			before = append(before, s.Key())
		}
	}
	b.put(object.Sysctl{Name: object.IPv6Forwarding, Value: "1"}, why, before...)
}
