package doctor

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

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
	return slices.ContainsFunc(x.conds, func(c condition) bool {
		return (c.key == "iifname" || c.key == "oifname") && slices.ContainsFunc(c.words, netdLink)
	})
}

// family reports whether packets of the pools pass a table of a family: bridge, arp and netdev see others.
func (s *Site) family(name string) bool {
	return name == "inet" || slices.ContainsFunc(s.pools(), func(p netip.Prefix) bool {
		return name == "ip" && p.Addr().Is4() || name == "ip6" && p.Addr().Is6()
	})
}

func firewall(ctx context.Context, s *Site) (out []Finding) {
	r, err := s.rules(ctx)
	if err != nil {
		return unseen(err, needNft)
	}
	for _, c := range r.chains {
		if !s.family(c.Family) || c.Hook == "forward" && c.isIPTables() && r.closes(c) == "its policy (drop)" {
			continue // forward-policy has that one
		}
		how := r.closes(c)
		switch {
		case c.Hook == "input":
			out = append(out, s.closedToNodes(r, c, how)...)
		case c.Hook == "output":
			out = append(out, s.closedToNodes(r, c, "")...) // what closes it to all closes far more than netd
		case c.Hook == "forward" && how != "" && !s.opens(r, c):
			out = append(out, Finding{Fail, fmt.Sprintf("%s rejects what is forwarded by %s, and its rules do not accept all between netd's links and pools", c, how), s.open(ctx, r, c, how), false})
		case c.Hook == "forward" && how == "":
			for _, p := range s.forwarded(c) {
				if x, refused := r.refuses(c, p); refused {
					out = append(out, Finding{Fail, fmt.Sprintf("%s rejects what is forwarded from %s to %s by %s", c, p.src, p.dst, x.how()), s.open(ctx, r, c, x.how()), false})
					break
				}
			}
		}
	}
	if len(out) == 0 {
		return well("no chain of others closes forward or input to netd")
	}
	return out
}

// open is the command that has a chain forward netd's packets.
func (s *Site) open(ctx context.Context, r ruleset, c chain, how string) string {
	if c.Table == "firewalld" {
		var links strings.Builder
		for _, link := range append(s.tunnelNames(), veths) {
			links.WriteString(" --add-interface=" + link)
		}
		return "firewall-cmd --permanent --get-zones | grep -qw netd || firewall-cmd --permanent --new-zone=netd\nfirewall-cmd --permanent --zone=netd --set-target=ACCEPT\nfirewall-cmd --permanent --zone=netd" +
			links.String() + "\n" + s.sources() + "firewall-cmd --reload"
	}
	var lines []string
	ufw := false
	for _, v6 := range []bool{false, true} {
		if v6 && c.Family == "ip" || !v6 && c.Family == "ip6" {
			continue
		}
		for _, o := range s.forwards(ctx, v6) {
			switch {
			case c.isIPTables() && strings.Contains(how, " ufw"):
				ufw = true
				lines = append(lines, o.ufw()...)
			case c.isIPTables(): // iptables-save prints a set of nft's as an accept of everything
				for _, rule := range o.iptables() {
					lines = append(lines, c.iptables()+" -I "+word(c.Name)+" "+rule)
				}
			default:
				if line, ok := o.nft(c, v6); ok {
					lines = append(lines, line)
				}
			}
		}
	}
	if ufw {
		return strings.Join(lines, "\n")
	}
	return strings.Join(lines, "\n") + again
}

// sources are firewalld's words for what comes in by the underlay's own link, which is in another zone.
func (s *Site) sources() string {
	var out strings.Builder
	for _, n := range s.Config.Networks {
		for _, p := range n.Pools {
			if bare(n) {
				fmt.Fprintf(&out, "firewall-cmd --permanent --zone=netd --add-source=%s\n", p)
			}
		}
	}
	return out.String()
}

// opens reports whether a chain accepts what netd forwards: a packet each way for each network and link, or, of a node that has
// nobody to send to, anything by netd's links.
func (s *Site) opens(r ruleset, c chain) bool {
	packets := s.forwarded(c)
	if slices.ContainsFunc(packets, func(p packet) bool { return !r.admits(c, p, namesLinks) }) {
		return false
	}
	return len(packets) > 0 || slices.ContainsFunc(r.rules, func(x rule) bool { return x.Family == c.Family && x.Table == c.Table && s.accepts(x) })
}

// forwarded are the packets that a chain is asked about, each way.
func (s *Site) forwarded(c chain) (out []packet) {
	for _, p := range s.packets() {
		if p.out != "" && !(c.Family == "ip" && p.src.Is6() || c.Family == "ip6" && p.src.Is4()) {
			out = append(out, p, packet{src: p.dst, dst: p.src, in: p.out, out: p.in})
		}
	}
	return out
}

// closedToNodes looks whether a chain lets the other nodes' packets in, or, of output, this node's to them out: one that drops the
// rest by how has to accept them, one that does not has to have no rule against them.
func (s *Site) closedToNodes(r ruleset, c chain, how string) (out []Finding) {
	needs, from := s.enters()
	names, _ := s.others()
	for i, o := range needs {
		if o.v6() && c.Family == "ip" || !o.v6() && c.Family == "ip6" {
			continue
		}
		key := "l4proto"
		if o.port > 0 {
			key = o.proto + " dport"
		}
		own := s.Node.Address.Addr()
		if o.v6() {
			own = s.Node.Address6.Addr()
		}
		var closed []netip.Addr
		var by rule // the one against them
		for _, a := range from[i] {
			p := packet{src: a, dst: own, in: s.Link, proto: o.proto, port: o.port}
			if c.Hook == "output" {
				p = packet{src: own, dst: a, out: s.Link, proto: o.proto, port: o.port}
			}
			x, refused := r.refuses(c, p)
			switch {
			case how != "" && !r.admits(c, p, func(x rule) bool { return x.asksFor(key) }):
				closed = append(closed, a)
			case how == "" && refused:
				closed, by = append(closed, a), x
			}
		}
		if len(closed) == 0 {
			continue
		}
		who := "the other nodes"
		if len(closed) < len(from[i]) {
			who = closed[0].String()
			if name := names[closed[0]]; name != "" {
				who = "node " + name + " (" + who + ")"
			}
			if more := len(closed) - 1; more > 0 {
				who += fmt.Sprintf(" and %d more", more)
			}
		}
		if how == "" && c.Hook == "output" {
			out = append(out, Finding{Fail, fmt.Sprintf("%s drops %s to %s by %s", c, o.what(), who, by.how()), by.remove(), false})
			continue
		}
		if how == "" {
			out = append(out, Finding{Fail, fmt.Sprintf("%s drops %s of %s by %s", c, o.what(), who, by.how()), s.letIn(c, o, by.how()), false})
			continue
		}
		out = append(out, Finding{Fail, fmt.Sprintf("%s drops what comes in by %s, and no rule of it accepts %s of %s", c, how, o.what(), who), s.letIn(c, o, how), false})
	}
	return out
}

// letIn is the command that has a chain let in what other nodes send.
func (s *Site) letIn(c chain, o opening, how string) string {
	switch {
	case c.Table == "firewalld":
		return o.firewalld(s.Link)
	case c.isIPTables() && strings.Contains(how, " ufw") && o.port > 0: // ufw has no word for protocol 4
		return strings.Join(o.ufw(), "\n")
	case c.isIPTables():
		return c.iptables() + " -I " + word(c.Name) + " " + o.iptables()[0] + again
	}
	line, _ := o.nft(c, o.v6())
	return line + again
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
					x.remove(), false})
			}
		}
	}
	if len(out) == 0 {
		return well("none concerns the pools")
	}
	return out
}

// remove is the command that takes a rule away.
func (r rule) remove() string {
	return fmt.Sprintf("nft delete rule %s handle %d    # and tell its program", chain{Family: r.Family, Table: r.Table, Name: r.Chain}.words(), r.Handle)
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
	if !asks && len(x.conds) == 0 {
		return "every packet", true
	}
	return "", false
}

func legacyIPTables(ctx context.Context, s *Site) (out []Finding) {
	for _, x := range [][3]string{{"/proc/net/ip_tables_names", "iptables-legacy", "iptables"}, {"/proc/net/ip6_tables_names", "ip6tables-legacy", "ip6tables"}} {
		tables := strings.Fields(s.file(x[0]))
		if len(tables) == 0 {
			continue
		}
		f := Finding{Warn, fmt.Sprintf("%s has the tables %s, which nft does not show and which decide besides its own; netd hears of no change of them", x[1], strings.Join(tables, ", ")),
			fmt.Sprintf("update-alternatives --set %s /usr/sbin/%[1]s-nft    # and restart what wrote them (dockerd); they go with the next boot", x[2]), false}
		if text, err := s.Run(ctx, x[1], "-S", "FORWARD"); err == nil && strings.Contains(text, "-P FORWARD DROP") {
			if fix := s.legacyFix(ctx, x[1], text); fix != "" {
				f.Level, f.Evidence, f.Fix = Fail, fmt.Sprintf("the FORWARD policy of %s is DROP, which netd does not see, and no rule there accepts all between its links and pools", x[1]), fix+again
			}
		}
		out = append(out, f)
	}
	if len(out) == 0 {
		return well("none")
	}
	return out
}

// legacyFix are the commands that have the chain FORWARD forward netd's packets; none for what its rules, as printed, accept.
func (s *Site) legacyFix(ctx context.Context, program, rules string) string {
	if strings.Contains(rules, "-i "+veths+" -j ACCEPT") && strings.Contains(rules, "-o "+veths+" -j ACCEPT") {
		return ""
	}
	var lines []string
	for _, o := range s.forwards(ctx, program == "ip6tables-legacy") {
		for _, one := range o.each() {
			if rule := one.iptables()[0]; !strings.Contains(rules, "-A FORWARD "+rule) {
				lines = append(lines, program+" -I FORWARD "+rule)
			}
		}
	}
	return strings.Join(lines, "\n")
}
