package kernel

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"netd/reconcile"
	"netd/reconcile/object"
)

// nexthops is the kind of next hop objects of protocol 142. The library has none.
type nexthops struct{ k *Kernel }

func (nexthops) Name() string { return object.KindNexthop }

const sizeofNhmsg = 8 // struct nhmsg: family, scope, protocol, reserved, flags

func (s nexthops) List(_ context.Context, want []reconcile.Resource) ([]reconcile.Resource, []reconcile.Holder, error) {
	return listed(want, s.read)
}

func (s nexthops) Index(want []reconcile.Resource) reconcile.Index {
	return newValueIndex(want, s.read)
}

func (s nexthops) read(want []reconcile.Resource, each func(object.Nexthop)) (foreign []reconcile.Holder, err error) {
	h, err := s.k.host()
	if err != nil {
		return nil, err
	}
	var own []object.Nexthop
	others := map[object.Nexthop]uint8{}
	err = h.c.dump(unix.RTM_GETNEXTHOP, make([]byte, sizeofNhmsg), func() { own = own[:0]; clear(others) }, func(body []byte) error {
		n, protocol, ok := decodeNexthop(body, h.links)
		switch {
		case !ok:
		case protocol == object.Protocol:
			own = append(own, n)
		default:
			others[n] = protocol
		}
		return nil
	})
	if err != nil {
		return nil, nexthopTrouble(err, len(want) > 0)
	}
	for _, n := range own {
		each(n)
	}
	if len(others) > 0 {
		asked := wanted(want)
		for n, protocol := range others {
			if asked[n.Key()] {
				foreign = append(foreign, nexthopHolder(n, protocol))
			}
		}
	}
	return foreign, nil
}

// nexthopTrouble is what an error of reading next hop objects means: a kernel without them holds none.
func nexthopTrouble(err error, wanted bool) error {
	switch {
	case errors.Is(err, unix.EOPNOTSUPP) && !wanted:
		return nil
	case errors.Is(err, unix.EOPNOTSUPP):
		return fmt.Errorf("this kernel has no next hop objects, which a network of many nodes goes by (Linux 5.3): %w", err)
	case err != nil:
		return fmt.Errorf("reading next hop objects: %w", err)
	}
	return nil
}

func decodeNexthop(body []byte, names linkTable) (n object.Nexthop, protocol uint8, ok bool) {
	if len(body) < sizeofNhmsg {
		return n, 0, false
	}
	n.Onlink = native.Uint32(body[4:])&unix.RTNH_F_ONLINK != 0
	for a := range attributes(body[sizeofNhmsg:]) {
		switch a.typ {
		case unix.NHA_ID:
			n.ID = a.u32()
		case unix.NHA_OIF:
			n.Dev = names.at(int(a.u32())).name
		case unix.NHA_GATEWAY:
			n.Via = a.addr()
		}
	}
	return n, body[2], true
}

func nexthopHolder(n object.Nexthop, protocol uint8) reconcile.Holder {
	return reconcile.Holder{Key: n.Key(), What: fmt.Sprintf("next hop object %d", n.ID), Who: protocolName(protocol)}
}

// Batch carries out changes of next hop objects. The kernel changes and deletes them by number alone, whose ever they are, so
// that they are looked at once more right before.
func (s nexthops) Batch(ctx context.Context, changes []reconcile.Change) []error {
	var keys []reconcile.Key
	var there []reconcile.Resource
	for _, c := range changes {
		if c.Op != reconcile.Create {
			keys, there = append(keys, c.Have.Key()), append(there, c.Have)
		}
	}
	own := map[reconcile.Key]bool{}
	if len(keys) > 0 {
		held, _, err := s.Get(ctx, keys, there)
		if err != nil {
			return slices.Repeat([]error{err}, len(changes))
		}
		own = wanted(held)
	}
	return s.k.spread(changes, func(reconcile.Resource) object.Place { return "" }, func(b *batch, p place, c reconcile.Change) error {
		if c.Op != reconcile.Create && !own[c.Have.Key()] {
			return errGone
		}
		return encodeNexthop(b, p, c)
	}, nil, unix.ENOENT)
}

func encodeNexthop(b *batch, p place, c reconcile.Change) error {
	n, _ := c.Want.(object.Nexthop)
	typ, flags := uint16(unix.RTM_NEWNEXTHOP), uint16(unix.NLM_F_CREATE|unix.NLM_F_EXCL)
	switch c.Op {
	case reconcile.Update:
		flags = unix.NLM_F_CREATE | unix.NLM_F_REPLACE
	case reconcile.Delete:
		n, _ = c.Have.(object.Nexthop)
		b.begin(unix.RTM_DELNEXTHOP, 0)
		b.raw(make([]byte, sizeofNhmsg)...)
		b.u32(unix.NHA_ID, n.ID)
		b.end()
		return nil
	}
	index, err := p.links.index(n.Dev)
	if err != nil {
		return err
	}
	b.begin(typ, flags)
	var head [sizeofNhmsg]byte
	head[0], head[2] = unix.AF_INET, object.Protocol
	if n.Onlink {
		native.PutUint32(head[4:], unix.RTNH_F_ONLINK)
	}
	b.raw(head[:]...)
	b.u32(unix.NHA_ID, n.ID)
	b.u32(unix.NHA_OIF, uint32(index))
	if n.Via != (netip.Addr{}) {
		b.addr(unix.NHA_GATEWAY, n.Via)
	}
	b.end()
	return nil
}

func (s nexthops) Create(ctx context.Context, want reconcile.Resource) error {
	return s.Batch(ctx, []reconcile.Change{{Op: reconcile.Create, Want: want}})[0]
}

func (s nexthops) Update(ctx context.Context, have, want reconcile.Resource) error {
	return s.Batch(ctx, []reconcile.Change{{Op: reconcile.Update, Have: have, Want: want}})[0]
}

func (s nexthops) Delete(ctx context.Context, have reconcile.Resource) error {
	return s.Batch(ctx, []reconcile.Change{{Op: reconcile.Delete, Have: have}})[0]
}
