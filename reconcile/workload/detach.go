package workload

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"netd/reconcile/object"
	"netd/reconcile/store"
)

// Detach detaches containers, all with one synchronous write. One that is not attached is no error.
func (c *Core) Detach(ctx context.Context, ids []object.Place) []error {
	errs := make([]error, len(ids))
	var es []object.Endpoint
	var at []int
	for i, id := range ids {
		e, ok := c.known[id]
		if !ok {
			e, ok = c.leaves[id]
		}
		if ok && !slices.ContainsFunc(es, func(o object.Endpoint) bool { return o.ID == id }) {
			es, at = append(es, e.Object()), append(at, i)
		}
	}
	for j, err := range c.drop(ctx, es) {
		if err != nil {
			errs[at[j]] = fmt.Errorf("detaching %s: %w", es[j].ID, err)
		}
	}
	return errs
}

// Release begins the end of containers, all with one synchronous write: from then on they are attached no more to whoever asks,
// and nothing of them is wanted in the kernel, which takes its time to let a link go. Their addresses are nobody else's until
// Finish. Those that were attached are returned.
func (c *Core) Release(ids []object.Place) ([]object.Endpoint, error) {
	var going []store.Endpoint
	for _, id := range ids {
		if e, ok := c.known[id]; ok && !slices.ContainsFunc(going, func(o store.Endpoint) bool { return o.ID == id }) {
			e.Leaving = true
			going = append(going, e)
		}
	}
	if len(going) == 0 {
		return nil, nil
	}
	err := c.db.Update(func(tx store.Tx) error {
		for _, e := range going {
			if err := tx.Put(e); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, problem(Storage, "%w", err)
	}
	var out []object.Endpoint
	for _, e := range going {
		c.leaves[e.ID] = e
		delete(c.known, e.ID)
		delete(c.missed, e.ID)
		delete(c.asked, e.ID)
		out = append(out, e.Object())
	}
	return out, nil
}

// Leaves are those that were released and are not finished.
func (c *Core) Leaves() []object.Place { return slices.Sorted(maps.Keys(c.leaves)) }

// Finish ends what Release began: it takes out of the kernel what is still there of them, and frees their addresses.
func (c *Core) Finish(ctx context.Context) error {
	var es []object.Endpoint
	for _, id := range c.Leaves() {
		es = append(es, c.leaves[id].Object())
	}
	for i, err := range c.drop(ctx, es) {
		if err != nil {
			return fmt.Errorf("detaching %s: %w", es[i].ID, err)
		}
	}
	return nil
}

// inTheWay reports whether one that leaves has what is asked for: the id, the namespace, or an address.
func (c *Core) inTheWay(r Request) bool {
	if len(c.leaves) == 0 {
		return false
	}
	identity, err := c.identify(r.Open)
	for _, e := range c.leaves {
		if r.ID == e.ID || r.Netns != "" && r.Netns == e.Netns || err == nil && identity == e.Identity ||
			slices.ContainsFunc(e.Addrs(), func(a netip.Addr) bool { return slices.Contains(r.Addrs, a) }) {
			return true
		}
	}
	return false
}

// drop takes endpoints out of the kernel, then out of the store, so that an address is free only when nobody has it.
func (c *Core) drop(ctx context.Context, es []object.Endpoint) []error {
	if len(es) == 0 {
		return nil
	}
	errs := c.host.Unwire(ctx, es)
	var freed []netip.Addr
	err := c.db.Update(func(tx store.Tx) error {
		for i, e := range es {
			if errs[i] == nil {
				if err := tx.Delete(e.ID); err != nil {
					return err
				}
			}
		}
		return nil
	})
	for i, e := range es {
		switch {
		case errs[i] != nil:
		case err != nil:
			errs[i] = problem(Storage, "%w", err)
		default:
			delete(c.known, e.ID)
			delete(c.leaves, e.ID)
			delete(c.missed, e.ID)
			delete(c.asked, e.ID)
			for _, a := range e.Addrs() {
				delete(c.flushed, a)
				freed = append(freed, a)
			}
		}
	}
	switch {
	case len(freed) == 0:
	case c.Freed != nil:
		c.Freed(freed)
	default: // an error is no reason to keep the container: the address is flushed again before the next one has it
		if c.host.Flush(freed) == nil {
			c.Flushed(freed)
		}
	}
	return errs
}

// Flushed says that the connections of freed addresses were forgotten.
func (c *Core) Flushed(addrs []netip.Addr) {
	for _, a := range addrs {
		if !c.holds(a) {
			c.flushed[a] = true
		}
	}
}

func (c *Core) holds(a netip.Addr) bool {
	for _, es := range []map[object.Place]store.Endpoint{c.known, c.leaves} {
		for _, e := range es {
			if e.IPv4 == a || e.IPv6 == a {
				return true
			}
		}
	}
	return false
}

// Sightings is how far apart the two are between which an endpoint's namespace must stay away to be given up.
const Sightings = 5 * time.Second

// Live are the endpoints whose namespace is there. One whose host end is in place although its namespace cannot be found by
// its path is alive as well, and has no Netns: nothing in it can be looked at. gone are the others.
func (c *Core) Live() (live []object.Endpoint, gone []object.Place) {
	for _, e := range c.All() {
		o, ok := c.alive(e)
		if !ok {
			gone = append(gone, e.ID)
			continue
		}
		delete(c.missed, e.ID)
		live = append(live, o)
	}
	return live, gone
}

func (c *Core) alive(e store.Endpoint) (o object.Endpoint, ok bool) {
	o = e.Object()
	switch identity, err := c.identify(e.Netns); {
	case o.Handed && e.Identity == "":
		o.Netns = ""
		return o, c.awaited(e)
	case o.Handed && c.linked(object.PeerName(string(e.ID))): // its runtime put it back, and said no more
		return o, false
	case err == nil && identity == e.Identity:
		return o, true
	}
	o.Netns = ""
	return o, e.Netns == "" && e.Identity == "" || c.linked(object.VethName(string(e.ID)))
}

// Sweep detaches endpoints whose container went without a word: those of gone that were gone at an earlier call already.
func (c *Core) Sweep(ctx context.Context, gone []object.Place) (swept []object.Place, err error) {
	var over []object.Place
	for _, id := range gone {
		first, seen := c.missed[id]
		switch {
		case !seen:
			c.missed[id] = c.now()
		case c.now().Sub(first) >= Sightings:
			over = append(over, id)
		}
	}
	if len(over) == 0 {
		return nil, nil
	}
	var errs []error
	for i, err := range c.Detach(ctx, over) {
		if err == nil {
			swept = append(swept, over[i])
		}
		errs = append(errs, err)
	}
	return swept, errors.Join(errs...)
}
