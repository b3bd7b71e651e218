package doctor

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"netd/config"
)

// ruleset is what `nft -j list ruleset` prints, as far as it matters here (libnftables-json(5)).
type ruleset struct {
	chains []chain
	rules  []rule
}

type chain struct {
	Family, Table, Name, Hook, Policy string
	Prio                              int
}

func (c chain) String() string { return c.Family + " " + c.Table + " " + c.Name }

// rule is one rule: its expressions as JSON, in which what nft cannot say of iptables' is {"xt": …}.
type rule struct {
	Family, Table, Chain, Comment string
	Handle                        int
	Expr                          []map[string]json.RawMessage
}

func (s *Site) rules(ctx context.Context) (ruleset, error) {
	text, err := s.Run(ctx, "nft", "-j", "list", "ruleset")
	if err != nil {
		return ruleset{}, err
	}
	var top struct {
		Nftables []struct {
			Chain *chain
			Rule  *rule
		}
	}
	if err := json.Unmarshal([]byte(text), &top); err != nil {
		return ruleset{}, fmt.Errorf("reading what nft prints: %w", err)
	}
	var out ruleset
	for _, x := range top.Nftables {
		switch {
		case x.Chain != nil && !(x.Chain.Table == "netd" && (x.Chain.Family == "inet" || x.Chain.Family == "arp")):
			out.chains = append(out.chains, *x.Chain)
		case x.Rule != nil:
			out.rules = append(out.rules, *x.Rule)
		}
	}
	return out, nil
}

// of are the rules of a chain.
func (r ruleset) of(c chain, name string) (out []rule) {
	for _, x := range r.rules {
		if x.Family == c.Family && x.Table == c.Table && x.Chain == name {
			out = append(out, x)
		}
	}
	return out
}

// verdict is what a rule does with what matches: "accept", "drop", "reject", the chain that it goes to, or nothing.
func (r rule) verdict() (word, to string) {
	for _, e := range r.Expr {
		for k, v := range e {
			switch k {
			case "accept", "drop", "reject", "return":
				return k, ""
			case "jump", "goto":
				var t struct{ Target string }
				_ = json.Unmarshal(v, &t)
				return k, t.Target
			case "xt":
				var t struct{ Type, Name string }
				if json.Unmarshal(v, &t); t.Type == "target" && (t.Name == "REJECT" || t.Name == "DROP") {
					return strings.ToLower(t.Name), ""
				}
			}
		}
	}
	return "", ""
}

// always reports whether a rule asks nothing.
func (r rule) always() bool {
	for _, e := range r.Expr {
		for k, v := range e {
			var t struct{ Type string }
			if k == "match" || k == "xt" && json.Unmarshal(v, &t) == nil && t.Type == "match" {
				return false
			}
		}
	}
	return true
}

func (r rule) text() string {
	b, _ := json.Marshal(r.Expr)
	return string(b)
}

// closes finds what ends a base chain for all that no rule before it took: its policy, or a rule without a condition, there
// or in a chain that it always goes to.
func (r ruleset) closes(c chain) (how string) {
	seen := map[string]bool{}
	var look func(name string) string
	look = func(name string) string {
		if seen[name] {
			return ""
		}
		seen[name] = true
		for _, x := range r.of(c, name) {
			word, to := x.verdict()
			if !x.always() {
				continue
			}
			switch word {
			case "drop", "reject":
				return fmt.Sprintf("its rule %s %s %s handle %d (%s)", x.Family, x.Table, x.Chain, x.Handle, word)
			case "accept", "return":
				return ""
			case "jump", "goto":
				if how := look(to); how != "" {
					return how
				}
			}
		}
		return ""
	}
	if how := look(c.Name); how != "" {
		return how
	}
	if c.Policy == "drop" {
		return "its policy (drop)"
	}
	return ""
}

// isIPTables reports whether a chain is of the tables that iptables and ip6tables write.
func (c chain) isIPTables() bool {
	return (c.Family == "ip" || c.Family == "ip6") && c.Table == "filter"
}

const needNft = "apt-get install nftables    # nft, to look at the rules of others"

func forwardPolicy(ctx context.Context, s *Site) (out []Finding) {
	r, err := s.rules(ctx)
	if err != nil {
		return unseen(err, needNft)
	}
	for _, c := range r.chains {
		if c.Hook != "forward" || !c.isIPTables() || c.Policy != "drop" {
			continue
		}
		ours := slices.ContainsFunc(r.rules, func(x rule) bool {
			return x.Family == c.Family && x.Table == c.Table && (x.Comment == "netd" || strings.Contains(x.text(), `"netd"`) || s.accepts(x))
		})
		if !ours && s.family(c.Family) {
			out = append(out, Finding{Fail, fmt.Sprintf("the policy of %s is drop, and nothing there accepts netd's links (Docker and ufw set it)", c), "netd apply", false})
		}
	}
	if len(out) == 0 {
		return well("none drops netd's")
	}
	return out
}

// accepts reports whether a rule accepts by a link of netd's: nft shows no comment that iptables wrote.
func (s *Site) accepts(x rule) bool {
	word, _ := x.verdict()
	return word == "accept" && namesLinks(x)
}

// namesLinks reports whether a rule asks for a link of netd's.
func namesLinks(x rule) bool {
	return strings.Contains(x.text(), `"netd`) || strings.Contains(x.text(), `"vxlan.netd"`) || strings.Contains(x.text(), `"tunl0"`)
}

// family reports whether the file has pools of it.
func (s *Site) family(name string) bool {
	return name == "inet" || slices.ContainsFunc(s.pools(), func(p netip.Prefix) bool { return p.Addr().Is4() == (name == "ip") })
}

func firewall(ctx context.Context, s *Site) (out []Finding) {
	r, err := s.rules(ctx)
	if err != nil {
		return unseen(err, needNft)
	}
	for _, c := range r.chains {
		if !s.family(c.Family) || c.Hook != "forward" && c.Hook != "input" || c.Hook == "forward" && c.isIPTables() && r.closes(c) == "its policy (drop)" {
			continue // forward-policy has that one
		}
		how := r.closes(c)
		if how == "" {
			continue
		}
		if c.Hook == "input" {
			out = append(out, s.closedToNodes(r, c, how)...)
			continue
		}
		fix := fmt.Sprintf("nft insert rule %s oifname '{ netd*, vxlan.netd, tunl0 }' accept\nnft insert rule %s iifname '{ netd*, vxlan.netd, tunl0 }' accept    # until its program writes it anew: tell that", c, c)
		switch {
		case c.Table == "firewalld":
			fix = "firewall-cmd --permanent --new-zone=netd\nfirewall-cmd --permanent --zone=netd --set-target=ACCEPT\nfirewall-cmd --permanent --zone=netd --add-interface=vxlan.netd --add-interface=tunl0 --add-interface=netd+\n" + s.sources() + "firewall-cmd --reload"
		case c.isIPTables():
			fix = "ufw route allow in on vxlan.netd\nufw route allow out on vxlan.netd    # where it is ufw's; likewise tunl0 and netd+"
		}
		if s.opens(r, c) {
			continue
		}
		out = append(out, Finding{Fail, fmt.Sprintf("%s rejects what is forwarded by %s, and no rule of it names netd's links", c, how), fix, false})
	}
	if len(out) == 0 {
		return well("no chain of others closes forward or input to netd")
	}
	return out
}

// sources are firewalld's words for what comes in by the underlay's own link, which is in another zone.
func (s *Site) sources() string {
	if !s.uses(config.ModeBGP) {
		return ""
	}
	var out strings.Builder
	for _, p := range s.pools() {
		fmt.Fprintf(&out, "firewall-cmd --permanent --zone=netd --add-source=%s\n", p)
	}
	return out.String()
}

// opens reports whether a rule of a chain's table accepts by netd's links, or goes by them to a chain that accepts the rest,
// as firewalld does for a zone of target ACCEPT.
func (s *Site) opens(r ruleset, c chain) bool {
	return slices.ContainsFunc(r.rules, func(x rule) bool {
		if x.Family != c.Family || x.Table != c.Table {
			return false
		}
		word, to := x.verdict()
		return s.accepts(x) || (word == "jump" || word == "goto") && namesLinks(x) &&
			slices.ContainsFunc(r.of(c, to), func(y rule) bool { word, _ := y.verdict(); return word == "accept" && y.always() })
	})
}

// closedToNodes looks whether a chain that drops the rest of what comes in lets the other nodes' packets in.
func (s *Site) closedToNodes(r ruleset, c chain, how string) (out []Finding) {
	var need []string
	for _, n := range s.Config.Networks {
		if n.Uses(config.ModeVXLAN) {
			need = append(need, fmt.Sprintf("UDP %d", n.Port))
		}
	}
	if s.uses(config.ModeIPIP) {
		need = append(need, "protocol 4")
	}
	if s.uses(config.ModeBGP) {
		need = append(need, fmt.Sprintf("TCP %d", s.Config.BGP.ListenPort))
	}
	for _, n := range need {
		kind, number, _ := strings.Cut(n, " ")
		names := []string{`"right":` + number + "}", `"right":` + number + ","}
		if kind == "protocol" {
			names = append(names, `"ipip"`, `"ipencap"`)
		}
		open := slices.ContainsFunc(r.rules, func(x rule) bool {
			word, _ := x.verdict()
			return x.Family == c.Family && x.Table == c.Table && word == "accept" && slices.ContainsFunc(names, func(t string) bool { return strings.Contains(x.text(), t) })
		})
		if open {
			continue
		}
		fix := map[string]string{"UDP": "udp dport " + number, "TCP": "tcp dport " + number, "protocol": "ip protocol 4"}[kind]
		cmd := fmt.Sprintf("nft insert rule %s %s accept    # until its program writes it anew: tell that", c, fix)
		switch {
		case c.isIPTables() && strings.Contains(how, " ufw-") && kind != "protocol": // ufw has no word for protocol 4
			cmd = "ufw allow " + number + "/" + strings.ToLower(kind)
		case c.Table == "firewalld":
			cmd = map[string]string{"UDP": "firewall-cmd --permanent --add-port=" + number + "/udp", "TCP": "firewall-cmd --permanent --add-port=" + number + "/tcp",
				"protocol": "firewall-cmd --permanent --add-protocol=ipip"}[kind] + "\nfirewall-cmd --reload"
		}
		out = append(out, Finding{Fail, fmt.Sprintf("%s drops what comes in by %s, and no rule of it accepts %s of the other nodes", c, how, n), cmd, false})
	}
	return out
}

func rawDrops(ctx context.Context, s *Site) (out []Finding) {
	r, err := s.rules(ctx)
	if err != nil {
		return unseen(err, needNft)
	}
	for _, c := range r.chains {
		if c.Hook != "prerouting" || c.Prio > -200 || !s.family(c.Family) {
			continue
		}
		for _, x := range r.of(c, c.Name) {
			word, _ := x.verdict()
			if word != "drop" && word != "reject" {
				continue
			}
			if to, ok := s.meetsPool(x); ok {
				out = append(out, Finding{Fail, fmt.Sprintf("%s handle %d drops %s before anything else is asked", c, x.Handle, to),
					fmt.Sprintf("nft delete rule %s handle %d    # and tell its program", c, x.Handle), false})
			}
		}
	}
	if len(out) == 0 {
		return well("none concerns the pools")
	}
	return out
}

// meetsPool reports whether a rule's addresses lie in a pool; of one that asks for none, all do.
func (s *Site) meetsPool(x rule) (string, bool) {
	asks := false
	for _, e := range x.Expr {
		var m struct {
			Op   string
			Left struct {
				Payload struct{ Field string }
			}
			Right json.RawMessage
		}
		if json.Unmarshal(e["match"], &m) != nil || m.Left.Payload.Field != "daddr" && m.Left.Payload.Field != "saddr" {
			continue
		}
		asks = true
		var p netip.Prefix
		var prefix struct {
			Prefix struct {
				Addr string
				Len  int
			}
		}
		var one string
		if json.Unmarshal(m.Right, &one) == nil {
			if a, err := netip.ParseAddr(one); err == nil {
				p = netip.PrefixFrom(a, a.BitLen())
			}
		} else if json.Unmarshal(m.Right, &prefix) == nil {
			if a, err := netip.ParseAddr(prefix.Prefix.Addr); err == nil {
				p = netip.PrefixFrom(a, prefix.Prefix.Len)
			}
		}
		if p.IsValid() && m.Op == "==" && slices.ContainsFunc(s.pools(), p.Overlaps) {
			return "packets " + map[string]string{"daddr": "to ", "saddr": "from "}[m.Left.Payload.Field] + p.String(), true
		}
	}
	if !asks && x.always() {
		return "every packet", true
	}
	return "", false
}

func legacyIPTables(ctx context.Context, s *Site) (out []Finding) {
	for _, x := range [][2]string{{"/proc/net/ip_tables_names", "iptables-legacy"}, {"/proc/net/ip6_tables_names", "ip6tables-legacy"}} {
		tables := strings.Fields(s.file(x[0]))
		if len(tables) == 0 {
			continue
		}
		f := Finding{Warn, fmt.Sprintf("%s has the tables %s, which nft does not show and which decide besides its own; netd hears of no change of them", x[1], strings.Join(tables, ", ")),
			"update-alternatives --set iptables /usr/sbin/iptables-nft    # and restart what wrote them (dockerd)", false}
		if text, err := s.Run(ctx, x[1], "-S", "FORWARD"); err == nil && strings.Contains(text, "-P FORWARD DROP") && !strings.Contains(text, "-o netd+ -j ACCEPT") {
			f.Level, f.Evidence = Fail, fmt.Sprintf("the FORWARD policy of %s is DROP, which netd does not see, and no rule there accepts its links", x[1])
			f.Fix = x[1] + " -I FORWARD -i netd+ -j ACCEPT\n" + x[1] + " -I FORWARD -o netd+ -j ACCEPT    # until its program writes it anew"
		}
		out = append(out, f)
	}
	if len(out) == 0 {
		return well("none")
	}
	return out
}
