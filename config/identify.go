package config

import (
	"fmt"
	"net/netip"
	"strings"
)

// Local is what a host knows of itself when it looks for its node in the file.
type Local struct {
	Hostname string
	Addrs    []netip.Prefix // of all its interfaces, not masked
}

// Identify finds the node that a host is: the one that is named, else the one whose address is on an interface, else the
// one whose name is the hostname. warning says what is odd but no error.
func (c *Config) Identify(named string, local Local) (node Node, warning string, err error) {
	if named != "" {
		n, ok := c.Node(named)
		if !ok {
			return Node{}, "", fmt.Errorf("the file has no node %q (--node); it has %s.%s", named, c.nodeNames(), c.nearestNode(named))
		}
		return n, "", nil
	}
	held := map[netip.Addr]netip.Prefix{}
	for _, p := range local.Addrs {
		held[p.Addr()] = p
	}
	var found []Node
	for _, n := range c.Nodes {
		for _, a := range []netip.Prefix{n.Address, n.Address6} {
			p, ok := held[a.Addr()]
			if !a.IsValid() || !ok {
				continue
			}
			if p.Bits() != a.Bits() {
				warning = fmt.Sprintf("node %q: the file gives its address as %s, the interface holds %s", n.Name, a, p)
			}
			found = append(found, n)
			break
		}
	}
	if len(found) > 1 {
		return Node{}, "", fmt.Errorf("this host's addresses are %s, those of %s; say which node it is with --node", local.addrs(), names(found))
	}
	byName, named2 := c.Node(local.Hostname)
	if len(found) == 1 {
		if named2 && byName.Name != found[0].Name {
			return Node{}, "", fmt.Errorf("this host is called %q, a node of the file, but its addresses are %s, that of node %q among them; say which it is with --node",
				local.Hostname, local.addrs(), found[0].Name)
		}
		return found[0], warning, nil
	}
	if named2 {
		return byName, "", nil
	}
	return Node{}, "", fmt.Errorf("this host is no node of the file: its addresses are %s, its name is %q; add a node with one of the addresses, or say which it is with --node",
		local.addrs(), local.Hostname)
}

func (l Local) addrs() string {
	var out []string
	for _, p := range l.Addrs {
		if !p.Addr().IsLoopback() && !p.Addr().IsLinkLocalUnicast() {
			out = append(out, p.String())
		}
	}
	if len(out) == 0 {
		return "none"
	}
	return strings.Join(out, ", ")
}

func names(nodes []Node) string {
	var out []string
	for _, n := range nodes {
		out = append(out, fmt.Sprintf("%q", n.Name))
	}
	return strings.Join(out, ", ")
}

func (c *Config) nodeNames() string {
	switch n := len(c.Nodes); {
	case n == 0:
		return "none"
	case n > 10:
		return names(c.Nodes[:10]) + fmt.Sprintf(" and %d more", n-10)
	}
	return names(c.Nodes)
}
