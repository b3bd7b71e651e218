package doctor

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"netd/config"
	"netd/reconcile/desired"
)

// packets are what containers here send to those of other nodes: one for each family of each network and each link that such
// packets leave by.
func (s *Site) packets() (list []packet) {
	for _, n := range s.Config.Networks {
		var links []string
		if n.Uses(config.ModeBGP) || n.Encapsulate == config.CrossSubnet {
			links = append(links, s.Link)
		}
		if n.Uses(config.ModeVXLAN) {
			links = append(links, desired.VXLANName(n))
		}
		if n.Uses(config.ModeIPIP) {
			links = append(links, "tunl0")
		}
		for _, b := range s.Node.Blocks {
			if !slices.ContainsFunc(n.Pools, b.Overlaps) {
				continue
			}
			for _, other := range s.Config.Nodes {
				i := slices.IndexFunc(other.Blocks, func(o netip.Prefix) bool {
					return o.Addr().Is4() == b.Addr().Is4() && slices.ContainsFunc(n.Pools, o.Overlaps)
				})
				if other.Name == s.Node.Name || i < 0 {
					continue
				}
				for _, link := range links {
					list = append(list, packet{src: b.Addr().Next(), dst: other.Blocks[i].Addr().Next(), in: "netd", out: link})
				}
				break // one node stands for all
			}
		}
	}
	return list
}

// masquerades looks for rules of others that change the source of what goes from pool to pool. netd's own rules leave that as
// it is, and no accept of theirs ends another's chain.
func masquerades(ctx context.Context, s *Site) (out []Finding) {
	r, err := s.rules(ctx)
	if err != nil {
		return unseen(err, needNft)
	}
	for _, c := range r.chains {
		if c.Hook != "postrouting" {
			continue
		}
		for _, p := range s.packets() {
			if c.Family == "ip" && p.src.Is6() || c.Family == "ip6" && p.src.Is4() {
				continue
			}
			x, found := r.translates(c, c.Name, p, 0)
			if !found {
				continue
			}
			family := "ip"
			if p.src.Is6() {
				family = "ip6"
			}
			var pools []string
			for _, pool := range s.pools() {
				if pool.Addr().Is4() == p.src.Is4() {
					pools = append(pools, pool.String())
				}
			}
			set := "'{ " + strings.Join(pools, ", ") + " }'"
			fix := fmt.Sprintf("nft insert rule %s %s saddr %s %s daddr %s accept", c.words(), family, set, family, set)
			if c.Table == "nat" && c.Family != "inet" { // iptables refuses a table in which it finds a set of nft's
				list := strings.Join(pools, ",")
				fix = fmt.Sprintf("%stables -t nat -I POSTROUTING -s %s -d %s -j ACCEPT", c.Family, list, list)
			}
			out = append(out, Finding{Warn, fmt.Sprintf("%s %s %s handle %d gives what containers here send to those of other nodes by %s another source", x.Family, x.Table, x.Chain, x.Handle, p.out),
				fix + "    # until its program writes it anew: tell that", false})
			break
		}
	}
	if len(out) == 0 {
		return well("none of others' rules meets what goes from pool to pool")
	}
	return out
}

// translates is the rule by which a chain changes a packet's source, if it does. A rule with a condition that is not known
// here is taken for one that does not match.
func (r ruleset) translates(c chain, name string, p packet, depth int) (rule, bool) {
	if depth > 16 { // the kernel's own limit
		return rule{}, false
	}
	for _, x := range r.of(c, name) {
		if x.match(p) != yes {
			continue
		}
		if x.sources() {
			return x, true
		}
		switch word, to := x.verdict(); word {
		case "accept", "drop", "reject", "return":
			return rule{}, false
		case "jump", "goto":
			if y, ok := r.translates(c, to, p, depth+1); ok || word == "goto" {
				return y, ok
			}
		}
	}
	return rule{}, false
}

// sources reports whether a rule gives packets another source.
func (x rule) sources() bool {
	for _, e := range x.Expr {
		for k, v := range e {
			var t struct{ Type, Name string }
			if k == "masquerade" || k == "snat" || k == "xt" && json.Unmarshal(v, &t) == nil && (t.Name == "MASQUERADE" || t.Name == "SNAT") {
				return true
			}
		}
	}
	return false
}
