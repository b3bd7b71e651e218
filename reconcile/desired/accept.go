package desired

import (
	"slices"
	"strings"

	"netd/config"
	"netd/reconcile"
	"netd/reconcile/object"
)

// veths are the links of containers, in iptables' words.
const veths = "netd+"

// accept puts a rule into each chain of iptables that drops what it does not know of a family.
func (f firewallBuilder) accept(family family, a object.Accept) {
	chains, name := f.facts.Host.Filter, "ip"
	if family.v6 {
		chains, name = f.facts.Host.Filter6, "ip6"
	}
	a.Family = name
	for chain := range strings.FieldsSeq(chains) {
		a.Chain = chain
		f.put(a, reconcile.Cause{Text: "chain " + chain + " of iptables"})
	}
}

// accepts lets through, in the chain of iptables that decides there, what netd forwards. Docker has that chain drop what it
// does not know, and no accept in a table of netd's outdoes it. The rules are narrow, since they come before Docker's own:
//
//	netd's links ──▶ netd's links         containers here, and through a tunnel
//	a pool, by a veth ──▶ the underlay    bare packets, and what is masqueraded
//	the underlay ──▶ a pool, by a veth    answers; where packets go bare, all
//	anywhere ──▶ a pool, by a veth        what came for a published port (publish)
//
// The names of netd's links begin with "netd", but for those of tunnels that have a name of their own.
func (f firewallBuilder) accepts(tunnels []string) {
	inner := []string{veths}
	for _, t := range tunnels {
		if !strings.HasPrefix(t, "netd") {
			inner = append(inner, t)
		}
	}
	for _, family := range families {
		links := f.facts.Host.DefaultLinks
		if family.v6 {
			links = f.facts.Host.DefaultLinks6
		}
		pools := Merge(f.pools(family))
		if len(pools) == 0 {
			continue
		}
		for _, in := range inner {
			for _, out := range inner {
				if in == veths || out == veths { // no node is on the way between two others
					f.accept(family, object.Accept{In: in, Out: out})
				}
			}
		}
		underlay := f.underlay(family).Name
		bare := slices.ContainsFunc(f.c.Networks, func(n config.Network) bool {
			return n.Uses(config.ModeBGP) || n.Encapsulate == config.CrossSubnet
		})
		links = slices.Clone(links)
		if underlay != "" && !slices.Contains(links, underlay) {
			links = append(links, underlay)
		}
		for _, link := range links {
			for _, pool := range pools {
				f.accept(family, object.Accept{In: veths, Out: link, Src: pool})
				f.accept(family, object.Accept{In: link, Out: veths, Dst: pool, Established: !(bare && link == underlay)})
			}
		}
	}
}
