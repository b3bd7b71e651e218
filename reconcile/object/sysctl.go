package object

import (
	"strings"

	"netd/reconcile"
)

// IPv6Forwarding is IPv6's only switch for forwarding: it is for all links at once.
const IPv6Forwarding = "net.ipv6.conf.all.forwarding"

// Sysctl is one kernel setting below /proc/sys.
type Sysctl struct {
	In    Place
	Name  string // in sysctl(8)'s spelling: dots separate, "/" stands for a dot within a component
	Value string
}

// LinkSysctl names a per-link setting: LinkSysctl("ipv4", "conf", "vxlan.netd", "forwarding").
func LinkSysctl(family, tree, link, name string) string {
	return "net." + family + "." + tree + "." + strings.ReplaceAll(link, ".", "/") + "." + name
}

// Path is the file of the setting.
func (s Sysctl) Path() string {
	swap := strings.NewReplacer(".", "/", "/", ".")
	return "/proc/sys/" + swap.Replace(s.Name)
}

// Link is the link whose setting it is, empty where it is of no single link.
func (s Sysctl) Link() string {
	part := strings.Split(s.Name, ".")
	if len(part) != 5 || part[0] != "net" || (part[2] != "conf" && part[2] != "neigh") || part[3] == "all" || part[3] == "default" {
		return ""
	}
	return strings.ReplaceAll(part[3], "/", ".")
}

func (s Sysctl) Key() reconcile.Key { return reconcile.Key{Kind: KindSysctl, Name: s.In.In(s.Name)} }

func (s Sysctl) Requires() []reconcile.Key {
	if link := s.Link(); link != "" {
		return requireLink(s.In, link)
	}
	return nil
}

func (s Sysctl) Fields() []reconcile.Field { return []reconcile.Field{field("value", s.Value)} }

// Summary is the setting as a plan prints it.
func (s Sysctl) Summary() string { return s.Value }
