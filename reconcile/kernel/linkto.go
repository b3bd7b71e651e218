package kernel

import (
	"net/netip"

	"netd/reconcile/object"
)

// LinksTo are the links by which the host's own packets to each address leave, of no name where it has no route there.
func LinksTo(to []netip.Addr) ([]object.HostLink, error) {
	c, err := dial()
	if err != nil {
		return nil, err
	}
	defer c.close()
	links, err := readLinks(c)
	if err != nil {
		return nil, err
	}
	out := make([]object.HostLink, len(to))
	for i, a := range to {
		r, ok, err := askRoute(c, a, 0)
		if err != nil {
			return nil, err
		}
		if l, there := links.byIndex[r.oif]; ok && there {
			out[i] = object.HostLink{Name: l.name, Index: l.index, MTU: l.mtu, Up: l.up()}
		}
	}
	return out, nil
}
