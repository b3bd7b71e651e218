package workload

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"netd/reconcile/object"
	"netd/reconcile/store"
)

// A runtime that puts the container's end into the namespace itself (Docker) asks in several steps. It is given an address
// before it says for whom: that is a promise, in memory alone, so that none of them leaks whatever dies. Attach, with
// Request.Handed, then wires the host's side and leaves the other end in the host's namespace, under object.PeerName, for
// the runtime to take. When that is done with it, Settle learns which namespace it is and what the end is called there:
// from then on the endpoint is like any other.

// promiseLasts is for how long an address waits for who is to have it; patience, for how long an endpoint without a namespace
// waits for its runtime. Both are longer than Docker tries one call.
const (
	promiseLasts = time.Minute
	patience     = 2 * time.Minute
)

// Promise chooses an address of a network's blocks here that lies in a prefix, or takes the one that is wanted, and keeps
// everybody but the next Attach that wants it from having it, for a while.
func (c *Core) Promise(ctx context.Context, s Site, network string, in netip.Prefix, wanted netip.Addr) (a netip.Addr, err error) {
	n, err := s.network(network)
	if err != nil {
		return a, err
	}
	if err := c.vacate(ctx, wanted); err != nil {
		return a, err
	}
	fixed, reserved := s.never(n)
	err = c.db.View(func(tx store.Tx) error {
		if a = wanted; a.IsValid() {
			if until, ok := c.promised[a]; ok && c.now().Before(until) {
				return problem(Invalid, "the address %s was just given to another container", a)
			}
			return s.grant(tx, n, fixed, a, "")
		}
		var blocks []netip.Prefix
		for _, b := range s.blocks(n.Name, in.Addr().Is6()) {
			switch {
			case in.Bits() <= b.Bits() && in.Contains(b.Addr()):
				blocks = append(blocks, b)
			case b.Contains(in.Addr()):
				blocks = append(blocks, in)
			}
		}
		var ok bool
		if a, ok, err = pick(tx, blocks, slices.Concat(fixed, reserved, c.promises()), "\xff"); err == nil && !ok {
			err = s.full(c.known, n, in.Addr().Is6())
		}
		return err
	})
	if err == nil {
		c.promised[a] = c.now().Add(promiseLasts)
	}
	return a, err
}

// vacate takes an address from an endpoint of Docker's whose namespace is gone, without waiting for the sweep: after a boot, say,
// Docker asks for it for the same container at once, and does not ask again.
func (c *Core) vacate(ctx context.Context, a netip.Addr) error {
	for _, e := range c.All() {
		if a.IsValid() && (e.IPv4 == a || e.IPv6 == a) {
			_, err := c.yields(ctx, e)
			return err
		}
	}
	return nil
}

// yields detaches an endpoint of Docker's whose namespace is gone; ok is false where it is not.
func (c *Core) yields(ctx context.Context, e store.Endpoint) (ok bool, err error) {
	if _, alive := c.alive(e); alive || e.Owner != "docker" {
		return false, nil
	}
	err = errors.Join(c.Detach(ctx, []object.Place{e.ID})...)
	return err == nil, err
}

// Unpromise takes a promise back.
func (c *Core) Unpromise(a netip.Addr) { delete(c.promised, a) }

// promises are the addresses that are promised now.
func (c *Core) promises() []netip.Prefix {
	var out []netip.Prefix
	for a, until := range c.promised {
		if c.now().After(until) {
			delete(c.promised, a)
			continue
		}
		out = append(out, netip.PrefixFrom(a, a.BitLen()))
	}
	return out
}

// awaited reports whether an endpoint whose namespace is not known may still get one: its runtime spoke of it lately, or has
// taken the container's end away, to where it is in use.
func (c *Core) awaited(e store.Endpoint) bool {
	return c.now().Sub(c.asked[e.ID]) < patience || c.linked(object.VethName(string(e.ID))) && !c.linked(object.PeerName(string(e.ID)))
}

// Unsettled reports whether there may be an endpoint whose runtime has yet to put its end into a namespace. Any goroutine may
// ask.
func (c *Core) Unsettled() bool { return c.unsettled.Load() }

func unsettled(e store.Endpoint) bool {
	return e.Owner == "docker" && e.Identity == "" && e.Netns != ""
}

// Settle looks at the endpoints whose end the runtime moves. One that is in its namespace now is known by that from here
// on, and led to what it should be. In a namespace with a default route of another's making it stands beside that. One whose end is
// back has left.
func (c *Core) Settle(ctx context.Context, s Site) (settled []store.Endpoint, err error) {
	defer func() {
		c.unsettled.Store(slices.ContainsFunc(c.All(), unsettled))
	}()
	var changed []store.Endpoint
	for _, e := range c.All() {
		if e.Owner != "docker" || e.Netns == "" {
			continue
		}
		if e.Identity != "" && c.linked(object.PeerName(string(e.ID))) { // put back, and nobody was there to be told
			if err := c.Leave(e.ID); err != nil {
				return nil, err
			}
			delete(c.asked, e.ID) // nor will more be said
			continue
		}
		identity, err := c.identify(e.Netns)
		if err != nil || e.Identity != "" && e.Identity != identity {
			continue // not yet, or gone
		}
		name, elsewhere, done, err := c.host.Handed(e.ID, e.Netns)
		if err != nil {
			return nil, err
		}
		if !done {
			if name == "" || e.Identity == "" || !e.Second || slices.ContainsFunc(c.All(), func(o store.Endpoint) bool { return o.ID != e.ID && o.Netns == e.Netns && takes(o) }) ||
				slices.ContainsFunc(changed, func(o store.Endpoint) bool { return o.Netns == e.Netns }) {
				continue
			}
			elsewhere = false // who had the default route is gone, and nobody else is to have it
		}
		if e.Identity == identity && e.Interface == name && e.Beside == elsewhere {
			continue
		}
		e.Identity, e.Interface, e.Beside = identity, name, elsewhere
		changed = append(changed, e)
	}
	if len(changed) == 0 {
		return nil, nil
	}
	err = c.db.Update(func(tx store.Tx) error {
		for _, e := range changed {
			if err := tx.Put(e); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, problem(Storage, "%w", err)
	}
	var es []object.Endpoint
	for _, e := range changed {
		c.known[e.ID] = e
		delete(c.missed, e.ID)
		es = append(es, e.Object())
	}
	return changed, errors.Join(c.host.Wire(ctx, s, es)...)
}

// takes reports whether an endpoint has its namespace's default route, or is given it by its runtime when nobody has.
func takes(e store.Endpoint) bool { return !e.Beside || !e.Second }

// Leave says that a runtime takes the container's end out of its namespace. The endpoint keeps its addresses, and publishes nothing
// any more.
func (c *Core) Leave(id object.Place) error {
	e, ok := c.known[id]
	if !ok || e.Netns == "" {
		return nil
	}
	left := e
	left.Netns, left.Identity, left.Beside, left.Second, left.Ports = "", "", false, false, nil
	if err := c.db.Update(func(tx store.Tx) error { return tx.Put(left) }); err != nil {
		return fmt.Errorf("taking %s out: %w", id, problem(Storage, "%w", err))
	}
	c.known[id], c.asked[id] = left, c.now()
	c.host.Left(e.Object(), left.Object())
	return nil
}

// Publish has this host publish ports for an endpoint, these and no others. One whose container is gone gives its ports up, as
// vacate has it give up its address. What the kernel has to hold for it follows from the next pass over the host.
func (c *Core) Publish(ctx context.Context, id object.Place, ports []object.Port) error {
	e, ok := c.known[id]
	switch {
	case !ok && len(ports) == 0:
		return nil
	case !ok:
		return fmt.Errorf("netd knows no endpoint %s; if it was restarted just now, do it again", id)
	case slices.Equal(e.Ports, ports):
		return nil
	}
	for i, p := range ports {
		if slices.ContainsFunc(ports[:i], func(o object.Port) bool { return p.Meets(o) && p.Wild() == o.Wild() && p.Port != o.Port }) {
			return fmt.Errorf("-p %s: that port of this host is to lead elsewhere in the container already", p)
		}
		if p.At.Is6() && !e.IPv6.IsValid() || p.At.Is4() && !e.IPv4.IsValid() {
			return fmt.Errorf("-p %s: the container has no address of that family", p)
		}
	}
	for _, other := range c.All() {
		i := slices.IndexFunc(ports, func(p object.Port) bool { return slices.ContainsFunc(other.Ports, p.Meets) })
		if i < 0 || other.ID == id {
			continue
		}
		if gone, err := c.yields(ctx, other); err != nil {
			return err
		} else if !gone {
			return fmt.Errorf("port %d/%s of this host is published for %s already", ports[i].On, ports[i].Proto, cmp.Or(other.Name, string(other.ID)))
		}
	}
	e.Ports = ports
	if err := c.db.Update(func(tx store.Tx) error { return tx.Put(e) }); err != nil {
		return fmt.Errorf("publishing ports of %s: %w", id, problem(Storage, "%w", err))
	}
	c.known[id] = e
	return nil
}

// Pool finds the network of the file that a runtime means by a name, by a prefix, or, where both are left out, by there
// being no other. It has to hold addresses of this node's: the prefix, or the network, of the family that is asked for.
func (s Site) Pool(name string, pool netip.Prefix, v6 bool) (string, error) {
	if !pool.IsValid() {
		n, err := s.network(name)
		if err == nil && len(s.blocks(n.Name, v6)) == 0 {
			err = s.full(nil, n, v6)
		}
		return n.Name, err
	}
	n, ok := s.Config.NetworkOf(pool)
	if !ok || name != "" && name != n.Name {
		of, has := "the file", []string(nil)
		if name != "" {
			of = fmt.Sprintf("network %q", name)
		}
		for _, n := range s.Config.Networks {
			for _, p := range n.Pools {
				if (name == "" || name == n.Name) && p.Addr().Is6() == pool.Addr().Is6() {
					has = append(has, p.String()+" ("+n.Name+")")
				}
			}
		}
		return "", problem(Invalid, "%s is in no pool of %s, which has %s", pool, of, cmp.Or(strings.Join(has, ", "), "none of that family"))
	}
	blocks := s.blocks(n.Name, pool.Addr().Is6())
	if !slices.ContainsFunc(blocks, pool.Overlaps) {
		return "", problem(Invalid, "%s holds no address of node %q, whose blocks in network %q are %s", pool, s.Node.Name, n.Name, texts(blocks))
	}
	return n.Name, nil
}

// Name says whose an endpoint is, as its runtime tells when it is asked.
func (c *Core) Name(id object.Place, container, name string) error {
	e, ok := c.known[id]
	if !ok || e.Container == container && e.Name == name {
		return nil
	}
	e.Container, e.Name = container, name
	if err := c.db.Update(func(tx store.Tx) error { return tx.Put(e) }); err != nil {
		return problem(Storage, "%w", err)
	}
	c.known[id] = e
	return nil
}

// Unjoined takes back promises, and detaches the endpoints that their runtime has in no container: what is left of calls that a daemon
// which died did not answer, or of a runtime that died before it made use of the answer. It is for when either starts, before
// it is heard of new ones.
func (c *Core) Unjoined(ctx context.Context) error {
	clear(c.promised)
	var ids []object.Place
	for _, e := range c.All() {
		if e.Owner == "docker" && e.Netns == "" {
			ids = append(ids, e.ID)
		}
	}
	return errors.Join(c.Detach(ctx, ids)...)
}
