package desired

import (
	"fmt"
	"net/netip"

	"netd/config"
	"netd/reconcile"
	"netd/reconcile/object"
)

// Attached returns what one container adds to the desired state of self: the very resources that Compile gives where the
// container is among the facts' endpoints.
func Attached(c *config.Config, self config.Node, f Facts, e object.Endpoint) (reconcile.Want, error) {
	b := newBuilder(c, self, f)
	if err := b.findUnderlays(); err != nil {
		return reconcile.Want{}, err
	}
	n, ok := b.home(e)
	if !ok {
		return reconcile.Want{}, fmt.Errorf("workload %s: the file has no network %q", e.Who(), e.Network)
	}
	b.workload(e, n)
	firewallBuilder{b, reconcile.Cause{Text: "guards"}}.endpoint(e)
	if f.Sessions {
		b.neighbours = b.findNeighbours()
		b.announceEach(e)
	}
	return b.want, nil
}

// Base is the object that is there last of those that containers are attached to, and so tells whether they all are.
var Base reconcile.Resource = arpSourceSet

// Traces are the places that a container has in the kernel which do not go with its link. They depend on no configuration,
// so that a container can be taken away whatever became of the file.
func Traces(e object.Endpoint) []reconcile.Key {
	keys := []reconcile.Key{object.LinkKey("", object.VethName(string(e.ID)))}
	for _, elem := range endpointElems(e) {
		keys = append(keys, elem.Key())
	}
	return keys
}

// home is the network that a container is in: the one it was attached to, and where the file has that no more, the one
// whose pool its address lies in.
func (b *builder) home(e object.Endpoint) (config.Network, bool) {
	if n, ok := b.networkNamed(e.Network); ok {
		return n, true
	}
	for _, a := range e.Addrs() {
		if n, ok := b.c.NetworkOf(netip.PrefixFrom(a, a.BitLen())); ok {
			return n, true
		}
	}
	return config.Network{}, false
}

// stranded notes what the file no longer has room for and is attached all the same.
func (b *builder) stranded(e object.Endpoint) {
	if _, ok := b.networkNamed(e.Network); !ok {
		b.note("workload %s is attached to network %q, which the file has no more", e.Who(), e.Network)
	}
	for _, a := range e.Addrs() {
		held := false
		for _, block := range b.self.Blocks {
			held = held || block.Contains(a)
		}
		if !held {
			b.note("workload %s keeps %s, which is in no block of node %q any more: it stays attached, and the address is not handed out again", e.Who(), a, b.self.Name)
		}
	}
}
