package object

import (
	"net/netip"
	"strings"

	"netd/reconcile"
)

// Accept is a rule of netd in the table filter of another program (iptables), in the chain that decides there what is
// forwarded: it lets through what netd forwards, since no accept elsewhere outdoes that chain's drop. It carries the comment
// "netd", by which it is netd's.
type Accept struct {
	Family      string // "ip", "ip6"
	Chain       string // "DOCKER-USER", "FORWARD"
	In, Out     string // the links; with a "+" at the end all that begin so
	Src, Dst    netip.Prefix
	Established bool   // answers alone
	Translated  bool   // what had its destination translated alone
	Stray       string // not empty: it has netd's comment, and is not as netd writes one, or not where it counts
}

// Key is the whole rule, as iptables spells it.
func (a Accept) Key() reconcile.Key {
	words := []string{a.Family, a.Chain}
	add := func(flag, value string) {
		if value != "" {
			words = append(words, flag, value)
		}
	}
	prefix := func(p netip.Prefix) string {
		if !p.IsValid() {
			return ""
		}
		return p.String()
	}
	add("-s", prefix(a.Src))
	add("-d", prefix(a.Dst))
	add("-i", a.In)
	add("-o", a.Out)
	if a.Established {
		add("--ctstate", "RELATED,ESTABLISHED")
	}
	if a.Translated {
		add("--ctstate", "DNAT")
	}
	add("handle", a.Stray)
	return reconcile.Key{Kind: KindAccept, Name: strings.Join(words, " ")}
}

func (a Accept) Requires() []reconcile.Key { return nil }
func (a Accept) Fields() []reconcile.Field { return nil }

// Replaces: a rule has nothing that could be changed.
func (a Accept) Replaces(reconcile.Resource) bool { return true }

// Summary is what the rule does.
func (a Accept) Summary() string { return "accept" }
