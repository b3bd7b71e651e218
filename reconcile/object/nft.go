package object

import (
	"net/netip"
	"strconv"
	"strings"

	"netd/reconcile"
)

// NftTable is one of netd's nftables tables. All of its contents are netd's.
type NftTable struct {
	Family string // "inet", "arp"
	Name   string
}

func nftKey(parts ...string) reconcile.Key {
	return reconcile.Key{Kind: KindNft, Name: strings.Join(parts, " ")}
}

func (t NftTable) Key() reconcile.Key        { return nftKey(t.Family, t.Name) }
func (t NftTable) Requires() []reconcile.Key { return nil }
func (t NftTable) Fields() []reconcile.Field { return nil }

// Summary is the table as a plan prints it.
func (t NftTable) Summary() string { return "table" }

// NftChain is a base chain with all its rules: it is compared and replaced as one.
type NftChain struct {
	Table    NftTable
	Name     string
	Type     string // "filter", "nat"
	Hook     string // "prerouting", "input", "forward", "output", "postrouting"
	Priority int
	Rules    string // one a line, in nft's syntax, without counters' values
}

func (c NftChain) Key() reconcile.Key { return nftKey(c.Table.Family, c.Table.Name, "chain", c.Name) }

// Requires: the table, and the sets that the rules look up.
func (c NftChain) Requires() []reconcile.Key {
	on := []reconcile.Key{c.Table.Key()}
	for _, word := range strings.Fields(c.Rules) {
		if name, ok := strings.CutPrefix(word, "@"); ok && !strings.HasPrefix(name, "th,") {
			on = append(on, nftKey(c.Table.Family, c.Table.Name, "set", name))
		}
	}
	return on
}

func (c NftChain) Fields() []reconcile.Field {
	return []reconcile.Field{field("type", c.Type), field("hook", c.Hook), field("priority", strconv.Itoa(c.Priority)), field("rules", c.Rules)}
}

// Replaces: the kernel changes neither hook, type nor priority of a chain that is there.
func (c NftChain) Replaces(have reconcile.Resource) bool {
	h, ok := have.(NftChain)
	return !ok || h.Type != c.Type || h.Hook != c.Hook || h.Priority != c.Priority
}

// Summary is the chain as a plan prints it.
func (c NftChain) Summary() string {
	n := strings.Count(c.Rules, "\n") + 1
	if c.Rules == "" {
		n = 0
	}
	rules := " rules"
	if n == 1 {
		rules = " rule"
	}
	return c.Type + " " + c.Hook + " " + strconv.Itoa(c.Priority) + ", " + strconv.Itoa(n) + rules
}

// NftSet is the head of a named set.
type NftSet struct {
	Table    NftTable
	Name     string
	Type     string // "ipv4_addr", "ifname", "ifname . ipv4_addr"; a map's with " : " and what it leads to
	Interval bool   // its elements are prefixes
}

func (s NftSet) Key() reconcile.Key        { return nftKey(s.Table.Family, s.Table.Name, "set", s.Name) }
func (s NftSet) Requires() []reconcile.Key { return []reconcile.Key{s.Table.Key()} }
func (s NftSet) Fields() []reconcile.Field {
	return []reconcile.Field{field("type", s.Type), field("interval", onOff(s.Interval))}
}

// Replaces: a set's type is fixed.
func (s NftSet) Replaces(reconcile.Resource) bool { return true }

// Summary is the set as a plan prints it.
func (s NftSet) Summary() string { return "type " + s.Type }

// NftElem is one element of a set: "192.168.170.138", "10.10.0.0/16", `"netd1f0c" . 10.10.40.129`; of a map
// "tcp . 8080 : 10.10.40.129 . 80".
type NftElem struct {
	Set  NftSet
	Elem string
}

func (e NftElem) Key() reconcile.Key {
	return nftKey(e.Set.Table.Family, e.Set.Table.Name, "set", e.Set.Name, "element", e.Elem)
}
func (e NftElem) Requires() []reconcile.Key { return []reconcile.Key{e.Set.Key()} }

// Fields: the element is its key; the set's head is a resource of its own, but shown where it differs.
func (e NftElem) Fields() []reconcile.Field { return e.Set.Fields() }

// Span: the kernel refuses an element of an interval set that overlaps one that is there (net/netfilter/nft_set_rbtree.c).
func (e NftElem) Span() (set reconcile.Key, first, last netip.Addr, ok bool) {
	if !e.Set.Interval {
		return set, first, last, false
	}
	set = e.Set.Key()
	if from, to, ranged := strings.Cut(e.Elem, "-"); ranged {
		first, err := netip.ParseAddr(from)
		last, err2 := netip.ParseAddr(to)
		return set, first, last, err == nil && err2 == nil
	}
	if first, err := netip.ParseAddr(e.Elem); err == nil {
		return set, first, first, true
	}
	p, err := netip.ParsePrefix(e.Elem)
	if err != nil {
		return set, first, last, false
	}
	return set, p.Masked().Addr(), Last(p), true
}

// Last is the last address of a prefix; of an invalid one there is none.
func Last(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().AsSlice()
	for i := max(p.Bits(), 0); i < 8*len(b); i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// Replaces: an element has nothing that could be changed.
func (e NftElem) Replaces(reconcile.Resource) bool { return true }

// Summary is empty: the name says it all.
func (e NftElem) Summary() string { return "" }

// Leads is what an element of a map of ports does: what comes for a port at an address of the host, or at each where that is
// invalid, goes to one of a container.
func (e NftElem) Leads() (proto string, at, to netip.AddrPort, ok bool) {
	from, target, ok := strings.Cut(e.Elem, " : ")
	var addr netip.Addr
	parts := strings.Split(from, " . ")
	if ok && len(parts) == 3 {
		a, err := netip.ParseAddr(parts[0])
		addr, parts, ok = a, parts[1:], err == nil
	}
	a, port, _ := strings.Cut(target, " . ")
	if !ok || len(parts) != 2 {
		return "", at, to, false
	}
	on, err := strconv.ParseUint(parts[1], 10, 16)
	inside, err2 := strconv.ParseUint(port, 10, 16)
	ip, err3 := netip.ParseAddr(a)
	if err != nil || err2 != nil || err3 != nil {
		return "", at, to, false
	}
	return parts[0], netip.AddrPortFrom(addr, uint16(on)), netip.AddrPortFrom(ip, uint16(inside)), true
}

// Claims: a map leads from one key to one value.
func (e NftElem) Claims() (what reconcile.Key, ok bool) {
	key, _, ok := strings.Cut(e.Elem, " : ")
	if !ok {
		return what, false
	}
	return nftKey(e.Set.Table.Family, e.Set.Table.Name, "set", e.Set.Name, "key", key), true
}
