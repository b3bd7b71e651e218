package doctor

import (
	"encoding/json"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"netd/reconcile/object"
)

// packet is one that others' rules are asked about, the first of its connection. What is not set of it is not known.
type packet struct {
	src, dst netip.Addr
	in, out  string // links; "netd" stands for any container's
	proto    string // "udp", "tcp", "4"
	port     int    // to which it goes
}

// condition is one that a rule asks for.
type condition struct {
	key    string // "saddr", "daddr", "iifname", "oifname", "nfproto", "l4proto", "udp dport", "tcp dport", "th dport", "ct state"; empty: not known here
	not    bool
	words  []string
	ranges [][2]netip.Addr
	ports  [][2]int
}

// conditions are what a rule asks for. sets are those of its table, by name.
func (x rule) conditions(sets map[string]json.RawMessage) (out []condition) {
	for _, e := range x.Expr {
		for k, v := range e {
			switch k {
			case "counter", "log", "comment", "notrack", "mangle", "accept", "drop", "reject", "return", "continue", "jump", "goto", "masquerade", "snat", "dnat", "redirect":
			case "xt":
				var t struct{ Type, Name string }
				if json.Unmarshal(v, &t) == nil && (t.Type == "target" || t.Name == "comment") {
					continue
				}
				out = append(out, condition{})
			case "match":
				out = append(out, read(v, sets))
			default:
				out = append(out, condition{})
			}
		}
	}
	return out
}

func read(match json.RawMessage, sets map[string]json.RawMessage) (c condition) {
	var m struct {
		Op   string
		Left struct {
			Payload struct{ Protocol, Field string }
			Meta    struct{ Key string }
			Ct      struct{ Key string }
		}
		Right json.RawMessage
	}
	if json.Unmarshal(match, &m) != nil || m.Op != "==" && m.Op != "!=" && m.Op != "in" || !c.values(m.Right, sets) {
		return condition{}
	}
	c.not = m.Op == "!="
	switch field := m.Left.Payload.Field; {
	case field == "saddr", field == "daddr":
		c.key = field
	case field == "dport" && slices.Contains([]string{"udp", "tcp", "th"}, m.Left.Payload.Protocol): // th: of any that has ports
		c.key = m.Left.Payload.Protocol + " dport"
	case field == "protocol", field == "nexthdr", m.Left.Meta.Key == "l4proto":
		c.key = "l4proto"
	case m.Left.Meta.Key == "iifname", m.Left.Meta.Key == "oifname", m.Left.Meta.Key == "nfproto":
		c.key = m.Left.Meta.Key
	case m.Left.Ct.Key == "state":
		c.key = "ct state"
	case m.Left.Meta.Key == "iif", m.Left.Meta.Key == "oif":
		c.key = m.Left.Meta.Key + "name"
	}
	return c
}

// values are those of a match: words, numbers, addresses, prefixes and ranges, and sets of them. It is false where they are not known.
func (c *condition) values(raw json.RawMessage, sets map[string]json.RawMessage) bool {
	var one string
	if json.Unmarshal(raw, &one) == nil {
		if name, set := strings.CutPrefix(one, "@"); set {
			elems, known := sets[name]
			return known && c.all(elems, nil)
		}
		if a, err := netip.ParseAddr(one); err == nil {
			c.ranges = append(c.ranges, [2]netip.Addr{a, a})
		}
		c.words = append(c.words, one)
		return true
	}
	var list []json.RawMessage
	if json.Unmarshal(raw, &list) == nil {
		return c.all(raw, sets)
	}
	var number int
	if json.Unmarshal(raw, &number) == nil {
		c.words, c.ports = append(c.words, strconv.Itoa(number)), append(c.ports, [2]int{number, number})
		return true
	}
	var x struct {
		Set, Range json.RawMessage
		Prefix     *struct {
			Addr string
			Len  int
		}
		Elem *struct{ Val json.RawMessage }
	}
	if json.Unmarshal(raw, &x) != nil {
		return false
	}
	switch {
	case x.Set != nil:
		return c.all(x.Set, sets)
	case x.Elem != nil: // with a timeout or a comment
		return c.values(x.Elem.Val, sets)
	case x.Prefix != nil:
		a, err := netip.ParseAddr(x.Prefix.Addr)
		if err != nil {
			return false
		}
		p := netip.PrefixFrom(a, x.Prefix.Len)
		c.ranges = append(c.ranges, [2]netip.Addr{p.Masked().Addr(), object.Last(p)})
		return p.IsValid()
	case x.Range != nil:
		var addrs [2]netip.Addr
		var ports [2]int
		if json.Unmarshal(x.Range, &ports) == nil {
			c.ports = append(c.ports, ports)
			return true
		}
		if json.Unmarshal(x.Range, &addrs) != nil {
			return false
		}
		c.ranges = append(c.ranges, addrs)
		return true
	}
	return false
}

func (c *condition) all(list json.RawMessage, sets map[string]json.RawMessage) bool {
	var elems []json.RawMessage
	if json.Unmarshal(list, &elems) != nil {
		return c.values(list, nil)
	}
	return !slices.ContainsFunc(elems, func(e json.RawMessage) bool { return !c.values(e, sets) })
}

// holds reports whether a packet has what a condition asks for; known is false where that cannot be told.
func (c condition) holds(p packet) (hit, known bool) {
	within := func(a netip.Addr) bool {
		known = a.IsValid()
		return slices.ContainsFunc(c.ranges, func(r [2]netip.Addr) bool { return r[0].Compare(a) <= 0 && a.Compare(r[1]) <= 0 })
	}
	link := func(name string) bool {
		known = name != ""
		return slices.ContainsFunc(c.words, func(v string) bool { return isLink(v, name) })
	}
	port := func(proto string) bool {
		known = p.proto != ""
		return p.proto == proto && slices.ContainsFunc(c.ports, func(r [2]int) bool { return r[0] <= p.port && p.port <= r[1] })
	}
	switch c.key {
	case "saddr":
		hit = within(p.src)
	case "daddr":
		hit = within(p.dst)
	case "iifname":
		hit = link(p.in)
	case "oifname":
		hit = link(p.out)
	case "nfproto":
		hit, known = slices.Contains(c.words, map[bool]string{true: "ipv4", false: "ipv6"}[p.src.Is4()]), true
	case "l4proto":
		known = p.proto != ""
		hit = slices.Contains(c.words, p.proto) || p.proto == "4" && (slices.Contains(c.words, "ipencap") || slices.Contains(c.words, "ipv4")) // /etc/protocols has either
	case "ct state":
		hit, known = slices.Contains(c.words, "new"), true
	case "th dport":
		hit = port(p.proto) && p.port > 0
	case "udp dport":
		hit = port("udp")
	case "tcp dport":
		hit = port("tcp")
	}
	return hit != c.not, known
}

// isLink reports whether a name of a rule's, which may end in an asterisk, is a link's.
func isLink(v, link string) bool {
	prefix, some := strings.CutSuffix(v, "*")
	return v == link || some && strings.HasPrefix(link, prefix)
}

// matching is whether a rule takes a packet.
type matching int

const (
	no    matching = iota
	maybe          // what is known here of its conditions holds
	yes
)

func (x rule) match(p packet) matching {
	m := yes
	for _, c := range x.conds {
		switch hit, known := c.holds(p); {
		case !known:
			m = min(m, maybe)
		case !hit:
			return no
		}
	}
	return m
}

// asksFor reports whether a rule has a condition of a kind.
func (x rule) asksFor(key string) bool {
	return slices.ContainsFunc(x.conds, func(c condition) bool { return c.key == key })
}

// refuses finds the rule by which a base chain drops a packet for certain: no rule before it may take the packet.
func (r ruleset) refuses(c chain, p packet) (rule, bool) {
	var walk func(name string, depth int) (by *rule, through bool)
	walk = func(name string, depth int) (by *rule, through bool) {
		if depth > 16 { // the kernel's own limit
			return nil, false
		}
		for _, x := range r.of(c, name) {
			m := x.match(p)
			if m == no {
				continue
			}
			switch word, to := x.verdict(); word {
			case "drop", "reject":
				if m == yes {
					return &x, false
				}
			case "accept", "return":
				return nil, word == "return" && m == yes
			case "vmap", "queue": // it may be taken there
				return nil, false
			case "jump", "goto":
				by, t := walk(to, depth+1)
				switch {
				case m == maybe && (!t || word == "goto"): // it may go there or not, and from a goto not come back
					return nil, false
				case m == yes && (word == "goto" || !t):
					return by, t
				}
			}
		}
		return nil, true
	}
	if by, _ := walk(c.Name, 0); by != nil {
		return *by, true
	}
	return rule{}, false
}

// admits reports whether a base chain accepts a packet. What cannot be told of a rule is told for it: where names says that
// it was written for such packets, its conditions are taken to hold.
func (r ruleset) admits(c chain, p packet, names func(rule) bool) bool {
	var walk func(name string, sure bool, depth int) (accepted, through bool)
	walk = func(name string, sure bool, depth int) (accepted, through bool) {
		if depth > 16 { // the kernel's own limit
			return false, false
		}
		for _, x := range r.of(c, name) {
			m := x.match(p)
			if m == no {
				continue
			}
			named := names(x)
			switch word, to := x.verdict(); word {
			case "accept":
				accepted = accepted || named || sure && m == yes
				if m == yes {
					return accepted, through
				}
			case "drop", "reject":
				if m == yes {
					return accepted, through
				}
			case "return":
				through = true
				if m == yes {
					return accepted, through
				}
			case "jump", "goto":
				a, t := walk(to, sure && (m == yes || named), depth+1)
				accepted = accepted || a
				if m == yes && (word == "goto" || !t) {
					return accepted, through || word == "goto" && t
				}
			}
		}
		return accepted, true
	}
	accepted, _ := walk(c.Name, true, 0)
	return accepted
}
