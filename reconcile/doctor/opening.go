package doctor

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"netd/config"
	"netd/reconcile/desired"
)

// opening is what a firewall has to forward for netd, or to let in of the other nodes. As in netd's own rules there are only its
// links, its pools and its nodes: a command for another's firewall opens that to no one else.
type opening struct {
	in, out  []string       // links, of which veths stands for those of containers
	src, dst []netip.Prefix // none: any
	answers  bool           // nothing but answers
	proto    string         // what comes in: "udp", "tcp", "4"
	port     int
}

// veths are the links of containers, as iptables, ufw and firewalld write it.
const veths = "netd+"

// tunnelNames are the tunnels that the file asks for.
func (s *Site) tunnelNames() (out []string) {
	for _, n := range s.Config.Networks {
		if n.Uses(config.ModeIPIP) && !slices.Contains(out, "tunl0") {
			out = append(out, "tunl0")
		}
		if dev := desired.VXLANName(n); n.Uses(config.ModeVXLAN) && !slices.Contains(out, dev) {
			out = append(out, dev)
		}
	}
	return out
}

// bare reports whether packets of a network go without a tunnel.
func bare(n config.Network) bool {
	return n.Uses(config.ModeBGP) || n.Encapsulate == config.CrossSubnet
}

// ofFamily are the prefixes of a family.
func ofFamily(list []netip.Prefix, v6 bool) []netip.Prefix {
	return slices.DeleteFunc(slices.Clone(list), func(p netip.Prefix) bool { return p.Addr().Is6() != v6 })
}

// addresses are addresses as few prefixes. Where that is still more than one types they are the nodes' subnets: netd's own guards
// know each node.
func (s *Site) addresses(list []netip.Addr) []netip.Prefix {
	var exact, near []netip.Prefix
	for _, a := range list {
		exact = append(exact, netip.PrefixFrom(a, a.BitLen()))
		near = append(near, exact[len(exact)-1])
	}
	if exact = desired.Merge(exact); len(exact) <= 32 {
		return exact
	}
	for _, n := range s.Config.Nodes {
		for _, p := range []netip.Prefix{n.Address, n.Address6} {
			if p.IsValid() && slices.Contains(list, p.Addr()) {
				near = append(near, p.Masked())
			}
		}
	}
	return desired.Merge(near)
}

// forwards are what a firewall has to forward of a family: from containers to containers, here and by tunnels; to the world and
// the answers; and what comes bare from the other nodes and from where this node's routers lead.
func (s *Site) forwards(ctx context.Context, v6 bool) (out []opening) {
	pools := desired.Merge(ofFamily(s.pools(), v6))
	if len(pools) == 0 {
		return nil
	}
	_, others := s.others()
	others = slices.DeleteFunc(others, func(a netip.Addr) bool { return a.Is6() != v6 })
	known := desired.Merge(slices.Concat(pools, s.addresses(others)))
	inner, tunnels := []string{veths}, []string{}
	for _, t := range s.tunnelNames() {
		if !strings.HasPrefix(t, "netd") && (t != "tunl0" || !v6) {
			inner, tunnels = append(inner, t), append(tunnels, t)
		}
	}
	src := pools
	if len(inner) == 1 || len(s.tunnelNames()) > len(tunnels) { // a tunnel's name may be like a container's
		src = known
	}
	out = append(out, opening{in: []string{veths}, out: inner, src: src, dst: pools})
	if len(tunnels) > 0 {
		out = append(out, opening{in: tunnels, out: []string{veths}, src: known, dst: pools})
	}
	var links []string
	if s.Link != "" {
		links = append(links, s.Link)
	}
	for _, r := range s.defaultRoutes(ctx, v6) {
		for _, hop := range append(r.Nexthops, r.hop) {
			if hop.Dev != "" && hop.Dev != "lo" && !netdLink(hop.Dev) && !slices.Contains(links, hop.Dev) {
				links = append(links, hop.Dev)
			}
		}
	}
	if len(links) == 0 {
		return out
	}
	out = append(out, opening{in: []string{veths}, out: links, src: pools}, opening{in: links, out: []string{veths}, dst: pools, answers: true})
	if s.Link != "" && slices.ContainsFunc(s.Config.Networks, func(n config.Network) bool { return bare(n) && len(ofFamily(n.Pools, v6)) > 0 }) {
		from := slices.Clone(known)
		for _, p := range s.Config.Peers {
			for _, r := range p.Import {
				if slices.Contains(p.Nodes, s.Node.Name) && r.Prefix.Addr().Is6() == v6 {
					from = append(from, r.Prefix)
				}
			}
		}
		out = append(out, opening{in: []string{s.Link}, out: []string{veths}, src: desired.Merge(from), dst: pools})
	}
	return out
}

// enters are what has to come in, and from which addresses.
func (s *Site) enters() (out []opening, from [][]netip.Addr) {
	add := func(proto string, port int, addrs []netip.Addr) {
		for _, v6 := range []bool{false, true} {
			list := slices.DeleteFunc(slices.Clone(addrs), func(a netip.Addr) bool { return a.Is6() != v6 })
			if len(list) > 0 {
				out, from = append(out, opening{proto: proto, port: port, src: s.addresses(list)}), append(from, list)
			}
		}
	}
	nodes := func(v6 bool) []netip.Addr {
		_, others := s.others()
		return slices.DeleteFunc(others, func(a netip.Addr) bool { return a.Is6() != v6 })
	}
	for _, n := range s.Config.Networks {
		if n.Uses(config.ModeVXLAN) {
			add("udp", int(n.Port), nodes(n.Family6))
		}
	}
	if s.uses(config.ModeIPIP) {
		add("4", 0, nodes(false))
	}
	add("tcp", int(s.Config.BGP.ListenPort), desired.NeighbourAddrs(s.Config, s.Node))
	return out, from
}

// v6 reports whether what is let in is of IPv6.
func (o opening) v6() bool {
	return slices.ContainsFunc(o.src, func(p netip.Prefix) bool { return p.Addr().Is6() })
}

// what is what is let in, in words.
func (o opening) what() string {
	if o.port == 0 {
		return "protocol " + o.proto
	}
	return fmt.Sprintf("%s %d", strings.ToUpper(o.proto), o.port)
}

// again is what a command has to be followed by: the firewall does not know of it.
const again = "    # until its program writes it anew: tell that"

// nft is a rule of nft's for a chain.
func (o opening) nft(c chain, v6 bool) (string, bool) {
	line := []string{"nft insert rule", c.words()}
	for _, l := range []struct {
		key   string
		names []string
	}{{"iifname", o.in}, {"oifname", o.out}} {
		var set []string
		for _, name := range l.names {
			if strings.ContainsAny(name, `"\*`) { // nft has no word for it
				return "", false
			}
			if begin, all := strings.CutSuffix(name, "+"); all && name == veths {
				name = begin + "*"
			}
			set = append(set, `"`+name+`"`)
		}
		if len(set) > 0 {
			line = append(line, l.key, word("{ "+strings.Join(set, ", ")+" }"))
		}
	}
	ip := map[bool]string{false: "ip", true: "ip6"}[v6]
	for _, a := range []struct {
		key  string
		list []netip.Prefix
	}{{"saddr", o.src}, {"daddr", o.dst}} {
		if len(a.list) > 0 {
			line = append(line, ip, a.key, word("{ "+strings.Join(texts(a.list), ", ")+" }"))
		}
	}
	switch {
	case o.port > 0:
		line = append(line, o.proto, "dport", fmt.Sprint(o.port))
	case o.proto != "":
		line = append(line, "meta l4proto", o.proto)
	}
	if o.answers {
		line = append(line, "ct state established,related")
	}
	return strings.Join(append(line, "accept"), " "), true
}

// texts are prefixes as others write them: an address alone without its length.
func texts(list []netip.Prefix) (out []string) {
	for _, p := range list {
		if p.IsSingleIP() {
			out = append(out, p.Addr().String())
		} else {
			out = append(out, p.String())
		}
	}
	return out
}

// iptables are the rules of iptables, without its name and chain. It makes one of each two prefixes.
func (o opening) iptables() (out []string) {
	list := func(flag string, ps []netip.Prefix) string {
		if len(ps) == 0 {
			return ""
		}
		var all []string
		for _, p := range ps {
			all = append(all, p.String()) // as iptables prints it
		}
		return " " + flag + " " + strings.Join(all, ",")
	}
	for _, in := range orAny(o.in) {
		for _, to := range orAny(o.out) {
			line := list("-s", o.src) + list("-d", o.dst)
			if in != "" {
				line += " -i " + word(in)
			}
			if to != "" {
				line += " -o " + word(to)
			}
			switch {
			case o.port > 0:
				line += fmt.Sprintf(" -p %s --dport %d", o.proto, o.port)
			case o.proto != "":
				line += " -p " + o.proto
			}
			if o.answers {
				line += " -m conntrack --ctstate RELATED,ESTABLISHED"
			}
			out = append(out, strings.TrimSpace(line)+" -j ACCEPT")
		}
	}
	return out
}

func orAny[T any](list []T) []T {
	if len(list) == 0 {
		return make([]T, 1)
	}
	return list
}

// each are openings of one link, one source and one destination, as a rule of iptables has them in the end.
func (o opening) each() (out []opening) {
	one := func(p netip.Prefix) []netip.Prefix {
		return slices.DeleteFunc([]netip.Prefix{p}, func(p netip.Prefix) bool { return !p.IsValid() })
	}
	for _, src := range orAny(o.src) {
		for _, dst := range orAny(o.dst) {
			for _, in := range o.in {
				for _, to := range o.out {
					x := o
					x.src, x.dst, x.in, x.out = one(src), one(dst), []string{in}, []string{to}
					out = append(out, x)
				}
			}
		}
	}
	return out
}

// ufw are its commands. It lets answers pass by itself.
func (o opening) ufw() (out []string) {
	if o.port > 0 {
		for _, src := range texts(o.src) {
			out = append(out, fmt.Sprintf("ufw allow proto %s from %s to any port %d", o.proto, src, o.port))
		}
		return out
	}
	for _, x := range o.each() {
		if !o.answers {
			out = append(out, fmt.Sprintf("ufw route allow in on %s out on %s from %s to %s", word(x.in[0]), word(x.out[0]), orAnywhere(x.src), orAnywhere(x.dst)))
		}
	}
	return out
}

func orAnywhere(list []netip.Prefix) string {
	if len(list) == 0 {
		return "any"
	}
	return texts(list)[0]
}

// firewalld are its commands for what comes in by the underlay's link, or by whichever the default zone has.
func (o opening) firewalld(link string) string {
	out := "zone=$(firewall-cmd --get-zone-of-interface=" + word(link) + " 2>/dev/null || firewall-cmd --get-default-zone)\n"
	family, what := "ipv4", "protocol value="+o.proto
	if o.v6() {
		family = "ipv6"
	}
	if o.port > 0 {
		what = fmt.Sprintf("port port=%d protocol=%s", o.port, o.proto)
	}
	for _, p := range texts(o.src) {
		out += fmt.Sprintf("firewall-cmd --permanent --zone=\"$zone\" --add-rich-rule='rule family=%s source address=%s %s accept'\n", family, p, what)
	}
	return out + "firewall-cmd --reload"
}
