package kernel

import (
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"netd/reconcile"
	"netd/reconcile/object"
)

// Store keeps what a setting was before netd first wrote it, so that it can be put back. A value kept before the last boot
// is not returned.
type Store interface {
	Before(name string) (value string, ok bool)
	Names() []string
	Keep(name, value string) error // a value that is kept already stays
	Forget(name string) error
}

// Kernel is the kernel of this host, in the network namespace in which New was called; all threads of the process have to
// be in it. It serves one goroutine.
type Kernel struct {
	c         *conn
	store     Store
	endpoints map[object.Place]object.Endpoint // the workloads; without Netns those that cannot be looked into
	veths     map[string]object.Place          // their host ends
	places    places
	nft       *nft
	away      []*conn // of RemoveVeths
	shared    shared
}

// New opens the kernel.
func New(store Store) (*Kernel, error) {
	c, err := dialOwn(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, err
	}
	n, err := newNft()
	if err != nil {
		c.close()
		return nil, err
	}
	k := &Kernel{c: c, store: store, nft: n}
	if k.away, err = dialMany(removers); err != nil {
		k.Close()
		return nil, err
	}
	return k, nil
}

// Close closes the kernel's sockets.
func (k *Kernel) Close() {
	k.c.close()
	k.nft.close()
	for _, c := range k.away {
		c.close()
	}
}

// PortIDs are the netlink addresses that this Kernel writes from: events that carry one are its own doing. What it writes from them shows
// in containers without them: events of links carry them only if a request has NLM_F_ECHO, and what is inside a container is written by
// a socket there.
func (k *Kernel) PortIDs() []uint32 {
	ids := []uint32{k.c.portid(), k.nft.portid()}
	for _, c := range k.away {
		ids = append(ids, c.portid())
	}
	return ids
}

// SetEndpoints says where the workloads' namespaces are. It is called before a pass.
func (k *Kernel) SetEndpoints(es []object.Endpoint) {
	k.endpoints, k.veths = make(map[object.Place]object.Endpoint, len(es)), make(map[string]object.Place, len(es))
	for _, e := range es {
		k.SetEndpoint(e)
	}
}

// SetEndpoint adds one to them, or changes it; DropEndpoint takes it out.
func (k *Kernel) SetEndpoint(e object.Endpoint) {
	if k.endpoints == nil {
		k.endpoints, k.veths = map[object.Place]object.Endpoint{}, map[string]object.Place{}
	}
	k.endpoints[e.ID], k.veths[object.VethName(string(e.ID))] = e, e.ID
}

// DropEndpoint is SetEndpoint's opposite.
func (k *Kernel) DropEndpoint(id object.Place) {
	delete(k.endpoints, id)
	delete(k.veths, object.VethName(string(id)))
}

// Kinds are the registry, in soft order: guards first, routes last.
func (k *Kernel) Kinds() []reconcile.Kind {
	return []reconcile.Kind{
		k.nft,
		accepts{k.nft},
		links{k},
		sysctls{k},
		addrs{k},
		nexthops{k},
		neighs{k},
		fdbs{k},
		routes{k},
	}
}

// place is a network namespace with a socket in it and its links.
type place struct {
	in    object.Place
	iface string // in a container: the one interface of it that is this workload's
	c     *conn
	links linkTable

	handed bool // what is wanted on that interface and is there was put there by the runtime for netd
}

// has reports whether what is on a link there can be this workload's: a container may have several, each with a link.
func (p place) has(link string) bool { return p.in == "" || link == p.iface }

// host is the host's own namespace as it is now.
func (k *Kernel) host() (place, error) {
	t, err := readLinks(k.c)
	if err == nil {
		err = k.recogniseAll(t)
	}
	return place{c: k.c, links: t}, err
}

// inside calls f in the namespace of a workload. gone is true where there is no such namespace (any more).
func (k *Kernel) inside(in object.Place, f func(place) error) (gone bool, err error) {
	return k.enter(in, k.shared.links, f)
}

// toWrite is inside, with each link asked for right before it is written to.
func (k *Kernel) toWrite(in object.Place, f func(place) error) (gone bool, err error) {
	return k.enter(in, func(c *conn) (linkTable, error) { return asking(c, nil), nil }, f)
}

func (k *Kernel) enter(in object.Place, links func(*conn) (linkTable, error), f func(place) error) (gone bool, err error) {
	e, ok := k.endpoints[in]
	if !ok || e.Netns == "" {
		return true, nil
	}
	c, done, err := k.shared.dial(e.Netns)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EINVAL) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	defer done()
	t, err := links(c)
	if err != nil {
		return false, err
	}
	return false, f(place{in, e.Interface, c, t, e.Handed})
}

// everywhere calls f in the host's namespace and in that of each workload.
func (k *Kernel) everywhere(f func(place) error) error {
	h, err := k.host()
	if err != nil {
		return err
	}
	if err := f(h); err != nil {
		return err
	}
	for in := range k.endpoints {
		if _, err := k.inside(in, f); err != nil {
			return fmt.Errorf("in %s: %w", in, err)
		}
	}
	return nil
}

// spread sends changes to the namespaces that they are for, keeping their order in each. encode appends the request for
// one change; absent errors of deletions are success. made, which may be nil, is given the objects that answer a change.
func (k *Kernel) spread(changes []reconcile.Change, where func(reconcile.Resource) object.Place,
	encode func(b *batch, p place, c reconcile.Change) error, made func(i int, p place, body []byte), absent ...error) []error {
	errs := make([]error, len(changes))
	var places []object.Place
	at := map[object.Place]*[]int{}
	var last object.Place
	var which *[]int // those of last
	for i, c := range changes {
		r := c.Want
		if r == nil {
			r = c.Have
		}
		if in := where(r); which == nil || in != last { // most follow one of the same place
			last, which = in, at[in]
			if which == nil {
				which = new([]int)
				if len(at) == 0 { // and most batches are of one
					*which = make([]int, 0, len(changes))
				}
				at[in], places = which, append(places, in)
			}
		}
		*which = append(*which, i)
	}
	for _, in := range places {
		send := func(p place) error {
			k.sendAt(p, changes, *at[in], errs, encode, made, absent)
			return nil
		}
		gone, err := false, error(nil)
		if in == "" {
			err = send(place{c: k.c, links: asking(k.c, nil)})
		} else if gone, err = k.toWrite(in, send); gone {
			err = fmt.Errorf("the network namespace of %s is gone", in)
		}
		if err != nil {
			for _, i := range *at[in] {
				if !(gone && changes[i].Op == reconcile.Delete) {
					errs[i] = err
				}
			}
		}
	}
	return errs
}

func (k *Kernel) sendAt(p place, changes []reconcile.Change, which []int, errs []error,
	encode func(b *batch, p place, c reconcile.Change) error, made func(i int, p place, body []byte), absent []error) {
	most := min(len(which), batchMost)
	b := &batch{encoder: encoder{make([]byte, 0, 72*most)}, starts: make([]int, 0, most)} // of what there are many, none is longer
	sent := make([]int, 0, most)
	for part := range slices.Chunk(which, batchMost) { // as much as goes in one send, so that memory does not grow with the work
		b.b, b.starts, sent = b.b[:0], b.starts[:0], sent[:0]
		if p.links.ask != nil {
			p.links.forget() // each send with the links of its moment
		}
		for _, i := range part {
			undo := len(b.b)
			starts := len(b.starts)
			if err := encode(b, p, changes[i]); err != nil {
				b.b, b.starts = b.b[:undo], b.starts[:starts]
				gone := errors.Is(err, errNoLink) || errors.Is(err, errGone) // it went, with its link or alone
				if !gone || changes[i].Op != reconcile.Delete {
					errs[i] = err
				}
				continue
			}
			sent = append(sent, i)
		}
		var found func(j int, body []byte)
		if made != nil {
			found = func(j int, body []byte) { made(sent[j], p, body) }
		}
		for j, err := range p.c.run(b, found) {
			i := sent[j]
			if changes[i].Op == reconcile.Delete && slices.ContainsFunc(absent, func(a error) bool { return errors.Is(err, a) }) {
				err = nil
			}
			errs[i] = err
		}
	}
}

// one is a Batch of a single change, for the methods of Kind.
func one(batch func([]reconcile.Change) []error, c reconcile.Change) error {
	return batch([]reconcile.Change{c})[0]
}

// wanted is the set of keys of resources.
func wanted(rs []reconcile.Resource) map[reconcile.Key]bool {
	keys := make(map[reconcile.Key]bool, len(rs))
	for _, r := range rs {
		keys[r.Key()] = true
	}
	return keys
}

// protocols are the names of rtnetlink's route protocols (include/uapi/linux/rtnetlink.h) that one meets.
var protocols = map[uint8]string{
	0: "unspec", 1: "redirect", 2: "kernel", 3: "boot", 4: "static", 8: "gated", 9: "ra", 11: "zebra", 12: "bird", 14: "xorp",
	16: "dhcp", 17: "kube-router", 18: "keepalived", 42: "babel", 80: "calico", 99: "openr", 142: "netd", 186: "bgp (FRR)", 187: "isis (FRR)",
	188: "ospf (FRR)", 189: "rip (FRR)", 192: "eigrp (FRR)",
}

func protocolName(p uint8) string {
	if name, ok := protocols[p]; ok {
		return fmt.Sprintf("protocol %s (%d)", name, p)
	}
	return fmt.Sprintf("protocol %d", p)
}
