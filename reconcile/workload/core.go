package workload

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"netd/reconcile/object"
	"netd/reconcile/store"
)

// Request asks for one container to be attached. Asking again for one that is attached changes nothing and gives the same
// answer; in another namespace than before it moves there.
type Request struct {
	ID        object.Place // "cni/<container id>/<interface>", "docker/<endpoint id>": all else about it may change
	Owner     string       // the runtime's protocol: "cni", "docker"
	Container string       // the runtime's id of the container
	Name      string       // what people call it there, if the runtime says so
	Group     string       // what the runtime calls the network
	Sticky    string       // who it is when it comes back: its address is kept for it; empty: ID
	Open      string       // path by which this process can open its network namespace now
	Netns     string       // path by which it is found again, which may be another
	Interface string       // in the container
	Network   string       // of the file; empty: its only one
	Addrs     []netip.Addr // wanted: one IPv4, one IPv6, or both; empty: any
	MAC       object.MAC   // zero: computed from ID
	MTU       int          // at most; 0: the network's

	// Handed says that the runtime moves the container's end itself, into the namespace that comes to be at Netns; empty:
	// into none now. Open and Interface are not known then.
	Handed bool
	// Ports are those that the container is to have published, if it comes to that. They are heeded the first time.
	Ports []object.Port
}

// Host is what the core needs of the host's engine. Errors are one for each endpoint, nil where it succeeded.
type Host interface {
	// Wire leads the kernel to what attached endpoints are; one that is so already is left alone.
	Wire(ctx context.Context, s Site, es []object.Endpoint) []error
	// Unwire removes all of endpoints that is in the kernel.
	Unwire(ctx context.Context, es []object.Endpoint) []error
	// Check returns how the kernel differs from what the endpoint is; nil where it does not.
	Check(ctx context.Context, s Site, e object.Endpoint) error
	// Flush forgets the connections that addresses had. Any goroutine may call it.
	Flush(addrs []netip.Addr) error
	// Handed tells what became of the container's end that a runtime moves into the namespace at path: its name there, and
	// whether another link has a default route there; done is false while the runtime is not done with it.
	Handed(id object.Place, path string) (name string, elsewhere, done bool, err error)
	// Left says that an endpoint's runtime takes its end out of its namespace: nothing is wanted there any more.
	Left(was, is object.Endpoint)
}

// Core attaches and detaches what runtimes ask for. The store holds what it knows, and is written before the kernel is: a
// crash leaves an endpoint that is not wired yet, which the next pass wires or the sweep forgets, and never an address that
// two containers have. It serves one goroutine.
type Core struct {
	db     *store.DB
	host   Host
	known  map[object.Place]store.Endpoint
	leaves map[object.Place]store.Endpoint // released, and not finished
	missed map[object.Place]time.Time      // when the sweep first found no namespace

	// Freed, if any, hears of addresses that left a container, to flush their connections soon and say so by Flushed.
	// Without it they are flushed at once. Either way an address is clean before another container has it.
	Freed   func([]netip.Addr)
	flushed map[netip.Addr]bool // clean since they were freed

	promised  map[netip.Addr]time.Time   // until when
	asked     map[object.Place]time.Time // when the runtime spoke last of one whose namespace is not known
	unsettled atomic.Bool                // there may be one that Settle has to look at

	// What tests have of their own.
	now      func() time.Time
	identify func(path string) (string, error)
	linked   func(name string) bool
}

// New reads what is attached.
func New(db *store.DB, host Host) (*Core, error) {
	c := &Core{db: db, host: host, known: map[object.Place]store.Endpoint{}, leaves: map[object.Place]store.Endpoint{}, missed: map[object.Place]time.Time{}, flushed: map[netip.Addr]bool{},
		promised: map[netip.Addr]time.Time{}, asked: map[object.Place]time.Time{}, now: time.Now, identify: Identify, linked: linkExists}
	err := db.View(func(tx store.Tx) error {
		return tx.Endpoints(func(e store.Endpoint) error {
			if e.Leaving {
				c.leaves[e.ID] = e
				return nil
			}
			c.known[e.ID], c.asked[e.ID] = e, c.now()
			c.unsettled.Store(c.unsettled.Load() || unsettled(e))
			return nil
		})
	})
	if err != nil {
		return nil, fmt.Errorf("reading what is attached: %w", err)
	}
	return c, nil
}

// Known is the endpoint of that id.
func (c *Core) Known(id object.Place) (store.Endpoint, bool) { e, ok := c.known[id]; return e, ok }

// All are the endpoints in the order in which they were attached.
func (c *Core) All() []store.Endpoint {
	return slices.SortedFunc(maps.Values(c.known), func(a, b store.Endpoint) int {
		if d := a.Since.Compare(b.Since); d != 0 {
			return d
		}
		return strings.Compare(string(a.ID), string(b.ID))
	})
}

// Usage tells who holds the addresses of this node's blocks.
func (c *Core) Usage(s Site) []Usage {
	holding := maps.Clone(c.known)
	maps.Copy(holding, c.leaves)
	return s.Usage(holding)
}

// Result is what became of one request.
type Result struct {
	Endpoint store.Endpoint
	Err      error
}

// Attach attaches containers, all with one synchronous write. An error of one does not keep the others. It waits for those that
// leave where one of them is in the way, or has the last address.
func (c *Core) Attach(ctx context.Context, s Site, reqs []Request) []Result {
	out := make([]Result, len(reqs))
	free := make([]int, 0, len(reqs))
	for i, r := range reqs {
		if c.inTheWay(r) {
			if err := c.Finish(ctx); err != nil && c.inTheWay(r) {
				out[i] = Result{Err: fmt.Errorf("attaching %s: %w", r.ID, problem(Later, "what was there before is not gone yet: %w", err))}
				continue
			}
		}
		free = append(free, i)
	}
	free = c.attachThese(ctx, s, reqs, free, out)
	if len(free) > 0 && len(c.leaves) > 0 && c.Finish(ctx) == nil {
		c.attachThese(ctx, s, reqs, free, out)
	}
	return out
}

// attachThese attaches some of the requests and returns those for which no address is free.
func (c *Core) attachThese(ctx context.Context, s Site, reqs []Request, which []int, out []Result) (full []int) {
	some := make([]Request, 0, len(which))
	for _, i := range which {
		some = append(some, reqs[i])
	}
	for j, r := range c.attach(ctx, s, some) {
		out[which[j]] = r
		if KindOf(r.Err) == Full {
			full = append(full, which[j])
		}
	}
	return full
}

func (c *Core) attach(ctx context.Context, s Site, reqs []Request) []Result {
	out := make([]Result, len(reqs))
	before := map[object.Place]store.Endpoint{}
	admitted := make([]int, 0, len(reqs))
	var dirty []netip.Addr // given to them, and had by another before
	fail := func(i int, err error) { out[i] = Result{Err: fmt.Errorf("attaching %s: %w", reqs[i].ID, err)} }
	err := c.db.Update(func(tx store.Tx) error {
		pending := maps.Clone(c.known)
		dirty = dirty[:0]
		for i, r := range reqs {
			e, used, err := c.admit(tx, s, pending, r)
			if err != nil {
				fail(i, err)
				continue
			}
			if old, ok := c.known[e.ID]; ok {
				before[e.ID] = old
			}
			dirty = append(dirty, used...)
			pending[e.ID] = e
			out[i].Endpoint = e
			admitted = append(admitted, i)
		}
		// Before it is on disk who has them: a crash after that would leave it undone.
		if dirty = slices.DeleteFunc(dirty, func(a netip.Addr) bool { return c.flushed[a] }); len(dirty) > 0 {
			return c.host.Flush(dirty)
		}
		return nil
	})
	if err != nil {
		for _, i := range admitted {
			fail(i, problem(Storage, "%w", err))
		}
		return out
	}
	var es []object.Endpoint
	for _, i := range admitted {
		e := out[i].Endpoint
		c.known[e.ID], c.asked[e.ID] = e, c.now()
		if unsettled(e) {
			c.unsettled.Store(true)
		}
		delete(c.missed, e.ID)
		for _, a := range e.Addrs() {
			delete(c.flushed, a)
			delete(c.promised, a)
		}
		o := e.Object()
		if found, err := c.identify(e.Netns); err != nil || found != e.Identity { // the path means nothing to this process
			o.Netns = reqs[i].Open
		}
		es = append(es, o)
	}
	var back []object.Endpoint
	for j, err := range c.host.Wire(ctx, s, es) {
		if err == nil {
			continue
		}
		i := admitted[j]
		fail(i, err)
		if _, was := before[es[j].ID]; !was {
			back = append(back, es[j])
		}
	}
	if err := errors.Join(c.drop(ctx, back)...); err != nil {
		for _, i := range admitted {
			if out[i].Err != nil {
				out[i].Err = errors.Join(out[i].Err, err)
			}
		}
	}
	return out
}

// Check returns what is wrong with an attached endpoint; nil where nothing is.
func (c *Core) Check(ctx context.Context, s Site, id object.Place, open string) (store.Endpoint, error) {
	e, ok := c.known[id]
	if !ok {
		return e, problem(Unknown, "%s is not attached", id)
	}
	identity, err := c.identify(open)
	if err != nil {
		return e, fmt.Errorf("checking %s: %w", id, err)
	}
	if identity != e.Identity {
		return e, problem(Unknown, "%s is attached in another network namespace than %s, which is gone since", id, open)
	}
	if err := c.host.Check(ctx, s, e.Object()); err != nil {
		return e, fmt.Errorf("checking %s: %w", id, err)
	}
	return e, nil
}

// Room returns why no container could be attached to a network now; nil where one could.
func (c *Core) Room(s Site, network string) error {
	n, err := s.network(network)
	if err != nil {
		return err
	}
	if len(c.leaves) > 0 {
		return nil // there is, as soon as they are gone
	}
	return c.db.View(func(tx store.Tx) error {
		return c.choose(s, tx, c.known, n, nil, &store.Endpoint{Sticky: "\xff"})
	})
}

func texts[T fmt.Stringer](xs []T) string {
	var out []string
	for _, x := range xs {
		out = append(out, x.String())
	}
	if len(out) == 0 {
		return "none"
	}
	return strings.Join(out, ", ")
}
