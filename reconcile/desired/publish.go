package desired

import (
	"slices"

	"netd/config"
	"netd/reconcile"
	"netd/reconcile/object"
)

// Published is what the desired state of self has while any container has a port published, whichever: the very resources that Compile
// gives for it. What each of them adds is Attached's.
func Published(c *config.Config, self config.Node, f Facts) (reconcile.Want, error) {
	b := newBuilder(c, self, f)
	if err := b.findUnderlays(); err != nil {
		return reconcile.Want{}, err
	}
	b.neighbours = b.findNeighbours()
	firewallBuilder{b, reconcile.Cause{Text: "guards"}}.publish()
	return b.want, nil
}

// published leads from a port at any of the host's addresses of the family to a container's.
func (f family) published() object.NftSet {
	return object.NftSet{Table: inetTable, Name: "published" + f.six, Type: "inet_proto . inet_service : " + f.addr + " . inet_service"}
}

// publishedAt leads from a port at one address of the host.
func (f family) publishedAt() object.NftSet {
	return object.NftSet{Table: inetTable, Name: "published-at" + f.six, Type: f.addr + " . inet_proto . inet_service : " + f.addr + " . inet_service"}
}

// publishes reports whether a container has a port published.
func (f firewallBuilder) publishes() bool {
	return slices.ContainsFunc(f.facts.Endpoints, func(e object.Endpoint) bool { return len(e.Ports) > 0 })
}

// publish translates what is for a published port. What this host sends to its own loopback leaves it as no other packet of
// that address may: with a source of the host's that is none of the loopback (IPv6 has no way for it).
func (f firewallBuilder) publish() {
	var in, out rules
	for _, l := range f.listeners() { // also where the file came to need it after somebody had it published
		in.add("%s dport %d return", l.port.Proto, l.port.On)
	}
	for _, family := range families {
		if len(f.pools(family)) == 0 {
			continue
		}
		f.put(family.published(), f.why)
		f.put(family.publishedAt(), f.why)
		in.add("fib daddr type local dnat %s to %s daddr . meta l4proto . th dport map @published-at%s", family.ip, family.ip, family.six)
		in.add("fib daddr type local dnat %s to meta l4proto . th dport map @published%s", family.ip, family.six)
		if family.v6 {
			f.elems(f.set(inetTable, "loopback6", family.addr, false), []string{"::1"})
			out.add("ip6 daddr @loopback6 return")
		}
	}
	f.put(hairpinSet, f.why)
	f.elems(f.set(inetTable, "loopback", ipv4.addr, true), []string{"127.0.0.0/8"})
	f.chain(inetTable, "publish", "nat", "prerouting", prioDstNAT, in)
	f.chain(inetTable, "publish-output", "nat", "output", prioDstNAT, append(out, in...))
	f.chain(inetTable, "publish-source", "nat", "postrouting", prioSrcNAT, rules{
		"ip saddr @loopback oifname @veths masquerade",
		"iifname . oifname @hairpin masquerade",
	})
	f.chain(inetTable, "publish-guard", "filter", "prerouting", prioRaw, rules{"iifname @veths ip daddr @loopback counter drop"})
	for _, family := range families {
		for _, pool := range Merge(f.pools(family)) {
			f.accept(family, object.Accept{Out: veths, Dst: pool, Translated: true})
		}
	}
}
