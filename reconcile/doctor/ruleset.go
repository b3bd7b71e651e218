package doctor

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
)

// ruleset is what `nft -j list ruleset` prints, as far as it matters here (libnftables-json(5)).
type ruleset struct {
	chains []chain
	rules  []rule
	by     map[chain][]rule // of a chain, which here is its family, table and name alone
}

type chain struct {
	Family, Table, Name, Hook, Policy string
	Prio                              int
}

func (c chain) String() string { return c.Family + " " + c.Table + " " + c.Name }

// words are a chain as words of sh's.
func (c chain) words() string { return word(c.Family) + " " + word(c.Table) + " " + word(c.Name) }

// rule is one rule: its expressions as JSON, in which what nft cannot say of iptables' is {"xt": …}.
type rule struct {
	Family, Table, Chain, Comment string
	Handle                        int
	Expr                          []map[string]json.RawMessage
	conds                         []condition
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
			Set   *struct {
				Family, Table, Name string
				Elem                json.RawMessage
			}
		}
	}
	if err := json.Unmarshal([]byte(text), &top); err != nil {
		return ruleset{}, fmt.Errorf("reading what nft prints: %w", err)
	}
	out := ruleset{by: map[chain][]rule{}}
	sets := map[chain]map[string]json.RawMessage{} // by table
	for _, x := range top.Nftables {
		if x.Set == nil {
			continue
		}
		table := chain{Family: x.Set.Family, Table: x.Set.Table}
		if sets[table] == nil {
			sets[table] = map[string]json.RawMessage{}
		}
		if sets[table][x.Set.Name] = x.Set.Elem; x.Set.Elem == nil { // an empty one
			sets[table][x.Set.Name] = json.RawMessage("[]")
		}
	}
	for _, x := range top.Nftables {
		switch {
		case x.Chain != nil && !(x.Chain.Table == "netd" && (x.Chain.Family == "inet" || x.Chain.Family == "arp")):
			out.chains = append(out.chains, *x.Chain)
		case x.Rule != nil:
			x.Rule.conds = x.Rule.conditions(sets[chain{Family: x.Rule.Family, Table: x.Rule.Table}])
			out.rules = append(out.rules, *x.Rule)
			in := chain{Family: x.Rule.Family, Table: x.Rule.Table, Name: x.Rule.Chain}
			out.by[in] = append(out.by[in], *x.Rule)
		}
	}
	return out, nil
}

// of are the rules of a chain of a base chain's table.
func (r ruleset) of(c chain, name string) []rule {
	return r.by[chain{Family: c.Family, Table: c.Table, Name: name}]
}

// verdict is what a rule does with what matches: "accept", "drop", "reject", the chain that it goes to, "vmap" or "queue" where a map
// or a program decides that, or nothing.
func (r rule) verdict() (word, to string) {
	for _, e := range r.Expr {
		for k, v := range e {
			switch k {
			case "accept", "drop", "reject", "return", "vmap", "queue":
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

func (r rule) text() string {
	b, _ := json.Marshal(r.Expr)
	return string(b)
}

// how says of a rule that drops or rejects which one it is.
func (r rule) how() string {
	word, _ := r.verdict()
	return fmt.Sprintf("its rule %s %s %s handle %d (%s)", r.Family, r.Table, r.Chain, r.Handle, word)
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
			if len(x.conds) > 0 {
				continue
			}
			switch word {
			case "drop", "reject":
				return x.how()
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

// iptables is the program that writes a chain of its tables.
func (c chain) iptables() string { return c.Family + "tables" }
