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

	"netd/config"
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
	missed map[object.Place]time.Time // when the sweep first found no namespace

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
	c := &Core{db: db, host: host, known: map[object.Place]store.Endpoint{}, missed: map[object.Place]time.Time{}, flushed: map[netip.Addr]bool{},
		promised: map[netip.Addr]time.Time{}, asked: map[object.Place]time.Time{}, now: time.Now, identify: Identify, linked: linkExists}
	err := db.View(func(tx store.Tx) error {
		return tx.Endpoints(func(e store.Endpoint) error {
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
func (c *Core) Usage(s Site) []Usage { return s.Usage(c.known) }

// Result is what became of one request.
type Result struct {
	Endpoint store.Endpoint
	Err      error
}

// Attach attaches containers, all with one synchronous write. An error of one does not keep the others.
func (c *Core) Attach(ctx context.Context, s Site, reqs []Request) []Result {
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
		e = store.Endpoint{ID: r.ID, Owner: r.Owner, Container: r.Container, Sticky: r.Sticky, Interface: r.Interface, Network: n.Name, Since: c.now().UTC()}
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
				return e, nil, problem(Invalid, "%s of this namespace is %s's", e.Interface, o.ID)
			}
			if o.Network == e.Network { // its answers would leave by the other's link, as another's
				return e, nil, problem(Invalid, "this container is in network %q already, by %s of %s", e.Network, o.Interface, o.ID)
			}
			e.Beside = e.Beside || !o.Beside
		}
	}
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
		return problem(Invalid, "the address %s is %s's", a, held.Holder)
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

// Detach detaches containers, all with one synchronous write. One that is not attached is no error.
func (c *Core) Detach(ctx context.Context, ids []object.Place) []error {
	errs := make([]error, len(ids))
	var es []object.Endpoint
	var at []int
	for i, id := range ids {
		if e, ok := c.known[id]; ok && !slices.ContainsFunc(es, func(o object.Endpoint) bool { return o.ID == id }) {
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
	for _, e := range c.known {
		if e.IPv4 == a || e.IPv6 == a {
			return true
		}
	}
	return false
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
	return c.db.View(func(tx store.Tx) error {
		return c.choose(s, tx, c.known, n, nil, &store.Endpoint{Sticky: "\xff"})
	})
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
	case err == nil && identity == e.Identity:
		return o, true
	case o.Handed && c.linked(object.PeerName(string(e.ID))): // its runtime put it back, and said no more
		return o, false
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
