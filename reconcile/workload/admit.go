package workload

import (
	"net/netip"
	"slices"

	"netd/config"
	"netd/reconcile/object"
	"netd/reconcile/store"
)

// admit decides on one request and writes it down. used are those of its addresses that another container had.
func (c *Core) admit(tx store.Tx, s Site, known map[object.Place]store.Endpoint, r Request) (e store.Endpoint, used []netip.Addr, err error) {
	if err := r.check(); err != nil {
		return e, nil, err
	}
	identity := ""
	if !r.Handed {
		if identity, err = c.identify(r.Open); err != nil {
			return e, nil, err
		}
	}
	if of, ok := s.Config.NetworkOf(prefixOf(r.Addrs)); ok && r.Handed { // its runtime knows addresses alone
		r.Network = of.Name
	}
	n, err := s.network(r.Network)
	if err != nil {
		return e, nil, err
	}
	e, was := known[r.ID]
	if was && (e.Network != n.Name || e.Interface != r.Interface && !r.Handed || !matches(e, r.Addrs)) {
		return e, nil, problem(Invalid, "it is attached already, to network %s with %s as %s; detach it first", e.Network, texts(e.Addrs()), e.Interface)
	}
	if was && (e.Identity == identity || r.Handed) && e.Netns == r.Netns && e.MTU == r.MTU && (r.MAC == object.MAC{} || e.MAC == r.MAC.String()) {
		return e, nil, nil
	}
	if !was {
		e = store.Endpoint{ID: r.ID, Owner: r.Owner, Container: r.Container, Sticky: r.Sticky, Interface: r.Interface, Network: n.Name, Since: c.now().UTC(), Asked: r.Ports}
		if e.Sticky == "" {
			e.Sticky = string(r.ID)
		}
		e.MAC = object.WorkloadMAC(string(r.ID)).String()
		if err := c.choose(s, tx, known, n, r.Addrs, &e); err != nil {
			return e, nil, err
		}
	}
	e.Name, e.Group, e.Netns, e.Identity, e.MTU, e.Beside = r.Name, r.Group, r.Netns, identity, r.MTU, false
	if r.MAC != (object.MAC{}) {
		e.MAC = r.MAC.String()
	}
	for _, o := range known {
		same := o.Identity == identity
		if r.Handed {
			same = r.Netns != "" && o.Netns == r.Netns
		}
		if o.ID != e.ID && same {
			if o.Interface == e.Interface && !r.Handed {
				return e, nil, problem(Invalid, "%s of this namespace is %s's", e.Interface, o.ID.Called(o.Name))
			}
			if o.Network == e.Network { // its answers would leave by the other's link, as another's
				how := ""
				if r.Handed { // Docker remembers what was refused (20.10), and the container does not start any more
					how = "; where it does not start for that, docker network disconnect -f NETWORK CONTAINER takes it out of one"
				}
				return e, nil, problem(Invalid, "this container is in network %q already, by %s of %s%s", e.Network, o.Interface, o.ID.Called(o.Name), how)
			}
			e.Beside = e.Beside || !o.Beside
		}
	}
	e.Second = r.Handed && e.Beside
	for _, a := range e.Addrs() {
		if old, ok, err := tx.Address(a); err != nil {
			return e, nil, err
		} else if ok && old.Holder == "" {
			used = append(used, a)
		}
	}
	return e, used, tx.Put(e)
}

// choose gives an endpoint its addresses: those that are wanted, else one of each family that the node has blocks of.
func (c *Core) choose(s Site, tx store.Tx, known map[object.Place]store.Endpoint, n config.Network, wanted []netip.Addr, e *store.Endpoint) error {
	fixed, reserved := s.never(n)
	for _, a := range wanted {
		if err := s.grant(tx, n, fixed, a, e.ID); err != nil {
			return err
		}
		if a.Is4() {
			e.IPv4 = a
		} else {
			e.IPv6 = a
		}
	}
	if len(wanted) > 0 {
		return nil
	}
	for _, v6 := range []bool{false, true} {
		blocks := s.blocks(n.Name, v6)
		if len(blocks) == 0 {
			continue
		}
		a, ok, err := pick(tx, blocks, slices.Concat(fixed, reserved, c.promises()), e.Sticky)
		switch {
		case err != nil:
			return err
		case !ok:
			return s.full(known, n, v6)
		case v6:
			e.IPv6 = a
		default:
			e.IPv4 = a
		}
	}
	if len(e.Addrs()) == 0 {
		return s.full(known, n, false)
	}
	return nil
}

// grant refuses an address that an endpoint cannot have.
func (s Site) grant(tx store.Tx, n config.Network, fixed []netip.Prefix, a netip.Addr, to object.Place) error {
	blocks := s.blocks(n.Name, a.Is6())
	held, _, err := tx.Address(a)
	owner, declared := s.declared(a)
	switch {
	case err != nil:
		return err
	case !within(a, blocks):
		return problem(Invalid, "the address %s is in no block of node %q in network %q; they are %s", a, s.Node.Name, n.Name, texts(blocks))
	case declared:
		return problem(Invalid, "the address %s is %s's, by the file", a, owner)
	case within(a, fixed):
		return problem(Invalid, "the address %s is the tunnel's", a)
	case held.Holder != "" && held.Holder != to:
		e, _, err := tx.Endpoint(held.Holder)
		if err != nil {
			return err
		}
		return problem(Invalid, "the address %s is %s's", a, held.Holder.Called(e.Name))
	}
	return nil
}

// prefixOf is the first address as a prefix.
func prefixOf(addrs []netip.Addr) netip.Prefix {
	if len(addrs) == 0 {
		return netip.Prefix{}
	}
	return netip.PrefixFrom(addrs[0], addrs[0].BitLen())
}

// matches reports whether an endpoint has what is wanted.
func matches(e store.Endpoint, wanted []netip.Addr) bool {
	for _, a := range wanted {
		if !slices.Contains(e.Addrs(), a) {
			return false
		}
	}
	return true
}
