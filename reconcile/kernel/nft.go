package kernel

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"netd/reconcile"
	"netd/reconcile/object"
)

// nft is the kind of the tables inet netd and arp netd with all that is in them. All changes of a batch are one
// transaction of the kernel: a packet meets the rules from before or from after it, never something between.
//
// What is wanted is text; what the kernel holds is bytes, which no library decodes without loss. So List encodes what is
// wanted, brings both into one canonical form, and says that a chain is as wanted where they are equal.
type nft struct{ c *conn }

func newNft() (*nft, error) {
	c, err := dialOwn(unix.NETLINK_NETFILTER)
	if errors.Is(err, unix.EPROTONOSUPPORT) {
		return nil, errNoNftables
	}
	if err != nil {
		return nil, err
	}
	n := &nft{c}
	if _, err := n.generation(); err != nil {
		c.close()
		return nil, err
	}
	return n, nil
}

// errNoNftables is what every command that looks at the host says first where the kernel cannot do what netd guards by.
var errNoNftables = errors.New("this kernel has no nftables (module nf_tables, CONFIG_NF_TABLES), by which netd guards and masquerades: " +
	"install the kernel's extra modules, or boot one that has it")

func (n *nft) close()         { n.c.close() }
func (n *nft) portid() uint32 { return n.c.portid() }

// Name implements reconcile.Kind.
func (n *nft) Name() string { return object.KindNft }

// Guards implements reconcile.Guard: packets come in by links, forwarding makes them go on, and the speaker listens.
func (n *nft) Guards(k reconcile.Key) bool {
	switch k.Kind {
	case object.KindLink, object.KindSysctl, object.KindBGP, object.KindPeer:
		return true
	}
	return false
}

var nftTables = []object.NftTable{{Family: "inet", Name: "netd"}, {Family: "arp", Name: "netd"}}

var families = map[string]uint8{"inet": unix.NFPROTO_INET, "arp": unix.NFPROTO_ARP}

func nftMsg(msg uint16) uint16 { return unix.NFNL_SUBSYS_NFTABLES<<8 | msg }

// nfgenmsg is the fixed header of every nftables message.
func nfgenmsg(family uint8) []byte { return []byte{family, unix.NFNETLINK_V0, 0, 0} }

// List implements reconcile.Kind.
func (n *nft) List(_ context.Context, want []reconcile.Resource) ([]reconcile.Resource, []reconcile.Holder, error) {
	own, _, err := n.steady(func() ([]reconcile.Resource, bool, error) {
		own, err := n.list(want)
		return own, true, err
	})
	return own, nil, err
}

// steady reads what does not change meanwhile. What is read beside another program's commit is torn without a word, so the
// ruleset's generation is read before and after, and all of it again where it changed.
func (n *nft) steady(read func() ([]reconcile.Resource, bool, error)) (own []reconcile.Resource, ok bool, err error) {
	for range 20 {
		before, err := n.generation()
		if err != nil {
			return nil, false, err
		}
		own, ok, err := read()
		if err != nil && !errors.Is(err, unix.ENOENT) { // gone between two dumps: the generation tells
			return nil, false, err
		}
		after, err2 := n.generation()
		if err2 != nil {
			return nil, false, err2
		}
		if before == after {
			return own, ok, err
		}
	}
	return nil, false, errors.New("reading the ruleset: another program changes it without pause")
}

func (n *nft) generation() (id uint32, err error) {
	err = n.c.get(nftMsg(unix.NFT_MSG_GETGEN), 0, nfgenmsg(unix.AF_UNSPEC), func(body []byte) error {
		for a := range attributes(body[min(4, len(body)):]) {
			if a.typ == unix.NFTA_GEN_ID {
				id = be32(a.data)
			}
		}
		return nil
	})
	if errors.Is(err, unix.EINVAL) { // nfnetlink knows no such subsystem, and found no module (net/netfilter/nfnetlink.c)
		return 0, errNoNftables
	}
	if err != nil {
		return 0, fmt.Errorf("reading the ruleset's generation: %w", err)
	}
	return id, nil
}

func be32(b []byte) uint32 {
	if len(b) < 4 {
		return 0
	}
	return binary.BigEndian.Uint32(b)
}

func (n *nft) list(want []reconcile.Resource) (own []reconcile.Resource, err error) {
	chains := map[reconcile.Key]object.NftChain{}
	for _, r := range want {
		if c, ok := r.(object.NftChain); ok {
			chains[c.Key()] = c
		}
	}
	for _, t := range nftTables {
		there, err := n.hasTable(t)
		if err != nil {
			return nil, err
		}
		if !there {
			continue
		}
		own = append(own, t)
		cs, err := n.listChains(t, chains)
		if err != nil {
			return nil, err
		}
		ss, err := n.listSets(t)
		if err != nil {
			return nil, err
		}
		own = append(append(own, cs...), ss...)
	}
	return own, nil
}

func (n *nft) hasTable(t object.NftTable) (there bool, err error) {
	err = n.c.dump(nftMsg(unix.NFT_MSG_GETTABLE), nfgenmsg(families[t.Family]), func() { there = false }, func(body []byte) error {
		for a := range attributes(body[4:]) {
			if a.typ == unix.NFTA_TABLE_NAME && text(a.data) == t.Name && body[0] == families[t.Family] {
				there = true
			}
		}
		return nil
	})
	if err != nil {
		return false, fmt.Errorf("reading nftables: %w", err)
	}
	return there, nil
}

// listChains reads the chains of a table with their rules. One that equals its wanted twin in canonical bytes is
// returned as that twin; any other with a word of what differs in place of its rules.
func (n *nft) listChains(t object.NftTable, want map[reconcile.Key]object.NftChain) ([]reconcile.Resource, error) {
	held := map[string][]string{} // chain → canonical rules
	sets := map[string][]string{} // chain → "@SET" of each set that it looks up
	var e encoder
	e.raw(nfgenmsg(families[t.Family])...)
	e.attr(unix.NFTA_RULE_TABLE, cString(t.Name))
	err := n.c.dump(nftMsg(unix.NFT_MSG_GETRULE), e.b, func() { clear(held); clear(sets) }, func(body []byte) error {
		var table, chain, rule string
		var used []string
		for a := range attributes(body[4:]) {
			switch a.typ {
			case unix.NFTA_RULE_TABLE:
				table = text(a.data)
			case unix.NFTA_RULE_CHAIN:
				chain = text(a.data)
			case unix.NFTA_RULE_EXPRESSIONS:
				es := decodeExprs(a.data)
				rule, used = canonicalRule(es), lookups(es)
			case unix.NFTA_RULE_USERDATA: // a comment, which netd writes none of
				rule += " with a comment"
			}
		}
		if table == t.Name && body[0] == families[t.Family] {
			held[chain] = append(held[chain], rule)
			sets[chain] = append(sets[chain], used...)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("reading rules of %s %s: %w", t.Family, t.Name, err)
	}
	var out []reconcile.Resource
	err = n.c.dump(nftMsg(unix.NFT_MSG_GETCHAIN), nfgenmsg(families[t.Family]), func() { out = out[:0] }, func(body []byte) error {
		c, table, policy := decodeChain(t, body)
		if table != t.Name || body[0] != families[t.Family] {
			return nil
		}
		twin := want[c.Key()]
		if c.Rules = rulesAre(twin, held[c.Name]); c.Rules != twin.Rules { // its sets, on which it stands, are known all the same
			slices.Sort(sets[c.Name])
			c.Rules = strings.Join(append([]string{c.Rules}, slices.Compact(sets[c.Name])...), " ")
		}
		if policy != 1 { // NF_ACCEPT: netd's chains drop by rules only
			c.Rules += "\n(policy drop)"
		}
		out = append(out, c)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("reading chains of %s %s: %w", t.Family, t.Name, err)
	}
	return out, nil
}

func decodeChain(t object.NftTable, body []byte) (c object.NftChain, table string, policy uint32) {
	c = object.NftChain{Table: t}
	policy = 1
	for a := range attributes(body[4:]) {
		switch a.typ {
		case unix.NFTA_CHAIN_TABLE:
			table = text(a.data)
		case unix.NFTA_CHAIN_NAME:
			c.Name = text(a.data)
		case unix.NFTA_CHAIN_TYPE:
			c.Type = text(a.data)
		case unix.NFTA_CHAIN_POLICY:
			policy = be32(a.data)
		case unix.NFTA_CHAIN_HOOK:
			for h := range attributes(a.data) {
				switch h.typ {
				case unix.NFTA_HOOK_HOOKNUM:
					c.Hook = hookName(t.Family, be32(h.data))
				case unix.NFTA_HOOK_PRIORITY:
					c.Priority = int(int32(be32(h.data)))
				}
			}
		}
	}
	return c, table, policy
}

// rulesAre returns the rules of a chain as its wanted twin spells them, if they are the same.
func rulesAre(want object.NftChain, held []string) string {
	wanted, err := compileRules(want.Table.Family, want.Rules)
	if err != nil || want.Name == "" {
		return fmt.Sprintf("(%d rules, not netd's)", len(held))
	}
	if slices.Equal(wanted, held) {
		return want.Rules
	}
	for i := range wanted {
		if i >= len(held) {
			return fmt.Sprintf("(%d of %d rules are missing)", len(wanted)-len(held), len(wanted))
		}
		if wanted[i] != held[i] {
			return fmt.Sprintf("(rule %d of %d was changed)", i+1, len(held))
		}
	}
	return fmt.Sprintf("(%d rules more)", len(held)-len(wanted))
}

func compileRules(family, rules string) ([]string, error) {
	var out []string
	if rules == "" {
		return nil, nil
	}
	for _, line := range strings.Split(rules, "\n") {
		es, err := compileRule(families[family], line)
		if err != nil {
			return nil, err
		}
		out = append(out, canonicalRule(es))
	}
	return out, nil
}

func canonicalRule(es []compiledExpr) string {
	var b strings.Builder
	for _, e := range es {
		b.WriteString(e.canonical())
		b.WriteByte(';')
	}
	return b.String()
}

// lookups are the sets that a rule uses, as "@NAME".
func lookups(es []compiledExpr) []string {
	var out []string
	for _, e := range es {
		if e.name != "lookup" {
			continue
		}
		for a := range attributes(e.data) {
			if a.typ == unix.NFTA_LOOKUP_SET {
				out = append(out, "@"+text(a.data))
			}
		}
	}
	return out
}

func decodeExprs(b []byte) []compiledExpr {
	var out []compiledExpr
	for elem := range attributes(b) {
		var x compiledExpr
		for a := range attributes(elem.data) {
			switch a.typ {
			case unix.NFTA_EXPR_NAME:
				x.name = text(a.data)
			case unix.NFTA_EXPR_DATA:
				x.data = append([]byte(nil), a.data...)
			}
		}
		out = append(out, x)
	}
	return out
}

var hooks = map[string][]string{
	"inet": {"prerouting", "input", "forward", "output", "postrouting"},
	"arp":  {"input", "output"},
}

func hookName(family string, num uint32) string {
	if names := hooks[family]; int(num) < len(names) {
		return names[num]
	}
	return fmt.Sprintf("hook %d", num)
}

func hookNumber(family, name string) uint32 { return uint32(slices.Index(hooks[family], name)) }

// cString is a name as netlink has it.
func cString(s string) []byte { return append([]byte(s), 0) }

// chainModules are what a chain may need besides nf_tables. The kernel loads them by itself; which it has not got it does not
// say: the answer is ENOENT.
func chainModules(c object.NftChain) []string {
	var out []string
	if c.Type == "nat" {
		out = append(out, "nft_chain_nat")
	}
	for _, x := range [][2]string{{"masquerade", "nft_masq"}, {"dnat ", "nft_nat"}, {"fib ", "nft_fib_inet"}, {"ct ", "nft_ct"}} {
		if strings.Contains(c.Rules, x[0]) {
			out = append(out, x[1])
		}
	}
	return out
}

// lacking says of a chain that the kernel refused what it may lack for it.
func lacking(r reconcile.Resource, err error) error {
	c, ok := r.(object.NftChain)
	if !ok || !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.EOPNOTSUPP) {
		return err
	}
	if modules := chainModules(c); len(modules) > 0 {
		return fmt.Errorf("this kernel may lack what the chain needs (modules %s): %w", strings.Join(modules, ", "), err)
	}
	return err
}

// Create implements reconcile.Kind.
func (n *nft) Create(ctx context.Context, want reconcile.Resource) error {
	return n.Batch(ctx, []reconcile.Change{{Op: reconcile.Create, Key: want.Key(), Want: want}})[0]
}

// Update implements reconcile.Kind.
func (n *nft) Update(ctx context.Context, have, want reconcile.Resource) error {
	return n.Batch(ctx, []reconcile.Change{{Op: reconcile.Update, Key: want.Key(), Have: have, Want: want}})[0]
}

// Delete implements reconcile.Kind.
func (n *nft) Delete(ctx context.Context, have reconcile.Resource) error {
	err := n.Batch(ctx, []reconcile.Change{{Op: reconcile.Delete, Key: have.Key(), Have: have}})[0]
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	return err
}
