package kernel

import (
	"context"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"netd/reconcile"
	"netd/reconcile/object"
)

// neighs is the kind of permanent neighbour entries on links of netd. All of them are netd's: a stranger's there is
// drift. What the kernel resolved by itself is not permanent and not looked at.
type neighs struct{ k *Kernel }

func (neighs) Name() string { return object.KindNeigh }

// fdbs is the kind of permanent forwarding entries of netd's VXLAN devices. All of them are netd's, likewise.
type fdbs struct{ k *Kernel }

func (fdbs) Name() string { return object.KindFDB }

// heldNeigh is an entry as RTM_NEWNEIGH tells of it.
type heldNeigh struct {
	index int
	dst   netip.Addr
	mac   object.MAC
	state uint16

	bridge bool // it is in the table of the bridge that the link is a port of, not in the link's own
}

const sizeofNdmsg = 12 // struct ndmsg: family, 3 reserved, ifindex, state, flags, type

func readNeighs(c *conn, family uint8) ([]heldNeigh, error) {
	var out []heldNeigh
	req := make([]byte, sizeofNdmsg)
	req[0] = family
	err := c.dump(unix.RTM_GETNEIGH, req, func() { out = out[:0] }, func(body []byte) error {
		if n, ok := decodeNeigh(body); ok && body[0] == family { // a kernel without IPv6 answers with everything
			out = append(out, n)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("reading neighbour entries: %w", err)
	}
	return out, nil
}

func decodeNeigh(body []byte) (n heldNeigh, ok bool) {
	if len(body) < sizeofNdmsg {
		return n, false
	}
	n.index, n.state = int(native.Uint32(body[4:])), native.Uint16(body[8:])
	for a := range attributes(body[sizeofNdmsg:]) {
		switch a.typ {
		case unix.NDA_DST:
			n.dst = a.addr()
		case unix.NDA_LLADDR:
			if len(a.data) == 6 {
				n.mac = object.MAC(a.data)
			}
		case unix.NDA_MASTER:
			n.bridge = true
		}
	}
	return n, true
}

func (s neighs) List(_ context.Context, want []reconcile.Resource) ([]reconcile.Resource, []reconcile.Holder, error) {
	return listed(want, s.read)
}

// Index is for networks of many nodes, as that of the forwarding entries and the next hop objects.
func (s neighs) Index(want []reconcile.Resource) reconcile.Index { return newValueIndex(want, s.read) }

func (s neighs) read(_ []reconcile.Resource, each func(object.Neigh)) ([]reconcile.Holder, error) {
	h, err := s.k.host()
	if err != nil {
		return nil, err
	}
	for _, f := range ipFamilies {
		held, err := readNeighs(h.c, f)
		if err != nil {
			return nil, err
		}
		for _, n := range held {
			if l := h.links.byIndex[n.index]; n.state&unix.NUD_PERMANENT != 0 && l.isNetd() {
				each(object.Neigh{Link: l.name, IP: n.dst, MAC: n.mac})
			}
		}
	}
	return nil, nil
}

func (s fdbs) List(_ context.Context, want []reconcile.Resource) ([]reconcile.Resource, []reconcile.Holder, error) {
	return listed(want, s.read)
}

func (s fdbs) Index(want []reconcile.Resource) reconcile.Index { return newValueIndex(want, s.read) }

func (s fdbs) read(_ []reconcile.Resource, each func(object.FDB)) ([]reconcile.Holder, error) {
	h, err := s.k.host()
	if err != nil {
		return nil, err
	}
	ours := false
	for _, l := range h.links.byName {
		ours = ours || l.isNetdVXLAN()
	}
	if !ours {
		return nil, nil
	}
	held, err := readNeighs(h.c, unix.AF_BRIDGE)
	for _, n := range held {
		if l := h.links.byIndex[n.index]; n.state&unix.NUD_PERMANENT != 0 && !n.bridge && l.isNetdVXLAN() {
			each(object.FDB{Link: l.name, MAC: n.mac, Dst: n.dst})
		}
	}
	return nil, err
}

func (s neighs) Batch(_ context.Context, changes []reconcile.Change) []error {
	return s.k.spread(changes, func(reconcile.Resource) object.Place { return "" }, encodeNeigh, nil, unix.ENOENT, unix.ENODEV)
}

func (s fdbs) Batch(_ context.Context, changes []reconcile.Change) []error {
	return s.k.spread(changes, func(reconcile.Resource) object.Place { return "" }, encodeNeigh, nil, unix.ENOENT, unix.ENODEV)
}

// encodeNeigh encodes a change of a neighbour or forwarding entry, which are one message with different families.
func encodeNeigh(b *batch, p place, c reconcile.Change) error {
	typ, flags, r := uint16(unix.RTM_NEWNEIGH), uint16(unix.NLM_F_CREATE|unix.NLM_F_REPLACE), c.Want
	if c.Op == reconcile.Delete {
		typ, flags, r = unix.RTM_DELNEIGH, 0, c.Have
	}
	var head [sizeofNdmsg]byte
	var link string
	var dst netip.Addr
	var mac object.MAC
	switch n := r.(type) {
	case object.Neigh:
		link, dst, mac = n.Link, n.IP, n.MAC
		head[0] = family(dst)
		native.PutUint16(head[8:], unix.NUD_PERMANENT)
	case object.FDB:
		link, dst, mac = n.Link, n.Dst, n.MAC
		head[0], head[10] = unix.AF_BRIDGE, unix.NTF_SELF
		native.PutUint16(head[8:], unix.NUD_PERMANENT|unix.NUD_NOARP)
	default:
		return fmt.Errorf("not a neighbour entry: %T", r)
	}
	index, err := p.links.index(link)
	if err != nil {
		return err
	}
	native.PutUint32(head[4:], uint32(index))
	b.begin(typ, flags)
	b.raw(head[:]...)
	if dst.IsValid() {
		b.addr(unix.NDA_DST, dst)
	}
	b.attr(unix.NDA_LLADDR, mac[:])
	b.end()
	return nil
}

func (s neighs) Create(ctx context.Context, want reconcile.Resource) error {
	return s.Batch(ctx, []reconcile.Change{{Op: reconcile.Create, Want: want}})[0]
}

func (s neighs) Update(ctx context.Context, have, want reconcile.Resource) error {
	return s.Batch(ctx, []reconcile.Change{{Op: reconcile.Update, Have: have, Want: want}})[0]
}

func (s neighs) Delete(ctx context.Context, have reconcile.Resource) error {
	return s.Batch(ctx, []reconcile.Change{{Op: reconcile.Delete, Have: have}})[0]
}

func (s fdbs) Create(ctx context.Context, want reconcile.Resource) error {
	return s.Batch(ctx, []reconcile.Change{{Op: reconcile.Create, Want: want}})[0]
}

func (s fdbs) Update(ctx context.Context, have, want reconcile.Resource) error {
	return s.Batch(ctx, []reconcile.Change{{Op: reconcile.Update, Have: have, Want: want}})[0]
}

func (s fdbs) Delete(ctx context.Context, have reconcile.Resource) error {
	return s.Batch(ctx, []reconcile.Change{{Op: reconcile.Delete, Have: have}})[0]
}
