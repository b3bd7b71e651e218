package kernel

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"netd/reconcile"
	"netd/reconcile/object"
)

// addrs is the kind of addresses. IFA_PROTO 142 (Linux 5.18) marks those of netd. An older kernel drops it: there every
// address on a link of netd is netd's, a container's end among them, and on the kernel's own tunl0 one with the label
// tunl0:netd.
type addrs struct{ k *Kernel }

func (addrs) Name() string { return object.KindAddr }

const (
	ifaProto         = 11 // IFA_PROTO
	ifaProtoKernelLL = 3  // IFAPROT_KERNEL_LL
	tunl0Label       = "tunl0:netd"
)

// heldAddr is an address as RTM_NEWADDR tells of it.
type heldAddr struct {
	prefix netip.Prefix
	scope  object.Scope
	index  int
	proto  uint8
	label  string
}

// readAddrs reads the addresses of a link, 0 for those of all.
func readAddrs(c *conn, index int) ([]heldAddr, error) {
	var out []heldAddr
	req := make([]byte, unix.SizeofIfAddrmsg)
	native.PutUint32(req[4:], uint32(index))
	err := c.dump(unix.RTM_GETADDR, req, func() { out = out[:0] }, func(body []byte) error { // of all families
		if len(body) < unix.SizeofIfAddrmsg || body[0] != unix.AF_INET && body[0] != unix.AF_INET6 {
			return nil
		}
		h := heldAddr{scope: object.Scope(body[3]), index: int(native.Uint32(body[4:]))}
		bits := int(body[1])
		var local, address netip.Addr
		for a := range attributes(body[unix.SizeofIfAddrmsg:]) {
			switch a.typ {
			case unix.IFA_LOCAL:
				local = a.addr()
			case unix.IFA_ADDRESS:
				address = a.addr()
			case unix.IFA_LABEL:
				h.label = text(a.data)
			case ifaProto:
				if len(a.data) > 0 {
					h.proto = a.data[0]
				}
			}
		}
		if !local.IsValid() {
			local = address
		}
		h.prefix = netip.PrefixFrom(local, bits)
		if index == 0 || h.index == index {
			out = append(out, h)
		}
		return nil
	})
	if index != 0 && errors.Is(err, unix.ENODEV) { // it went since it was looked at, and they with it
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading addresses: %w", err)
	}
	return out, nil
}

// marked reports whether this kernel tells of an address who put it there. Those since 5.18 do; some that are older by
// their number do too, which then say so of the loopback's own address.
func marked(release string, held []heldAddr) bool {
	var major, minor int
	if n, _ := fmt.Sscanf(release, "%d.%d", &major, &minor); n == 2 && (major > 5 || major == 5 && minor >= 18) {
		return true
	}
	return slices.ContainsFunc(held, func(h heldAddr) bool { return h.proto != 0 })
}

// release is the kernel's version.
var release = sync.OnceValue(func() string {
	var u unix.Utsname
	_ = unix.Uname(&u) // it fails for a bad pointer alone
	return unix.ByteSliceToString(u.Release[:])
})

// owns reports whether an address on l is netd's, on a kernel whose addresses are marked or not. The link-local address
// that the kernel gives a link of netd is too: it does so although it is told not to, when IPv6 comes back to a link whose
// MTU was too small for it.
func (h heldAddr) owns(in object.Place, l link, marked bool) bool {
	switch {
	case h.proto == object.Protocol || h.label == tunl0Label:
		return true
	case in == "" && h.proto == ifaProtoKernelLL:
		return l.isNetd()
	case marked:
		return false
	case in == "":
		return l.isNetd()
	}
	return l.typ == "veth" && !h.prefix.Addr().IsLinkLocalUnicast() // the container's end is the one link looked at there
}

func (s addrs) List(_ context.Context, want []reconcile.Resource) (own []reconcile.Resource, foreign []reconcile.Holder, err error) {
	asked := wanted(want)
	err = s.k.everywhere(func(p place) error {
		o, f, err := listAddrs(p, 0, asked)
		own, foreign = append(own, o...), append(foreign, f...)
		return err
	})
	return own, foreign, err
}

func (s addrs) Get(_ context.Context, keys []reconcile.Key, want []reconcile.Resource) (own []reconcile.Resource, foreign []reconcile.Holder, err error) {
	asked := wanted(want)
	err = s.k.at(keys, func(p place, keys []reconcile.Key) error {
		of, err := linksOf(p, keys)
		for _, index := range of {
			o, f, err := listAddrs(p, index, asked)
			if err != nil {
				return err
			}
			own, foreign = append(own, o...), append(foreign, f...)
		}
		return err
	})
	return only(own, keys), foreign, err
}

// linksOf are the links of which addresses have to be read for some of them, 0 for all: where these are many, and on a kernel of
// which only all of them together tell whether it marks them.
func linksOf(p place, keys []reconcile.Key) (of []int, err error) {
	if len(keys) > singly || !marked(release(), nil) {
		return []int{0}, nil
	}
	for _, k := range keys {
		_, on, _ := strings.Cut(k.Name, " dev ")
		if l, there := p.links.named(on); there && !slices.Contains(of, l.index) {
			of = append(of, l.index)
		}
	}
	return of, p.links.trouble()
}

// listAddrs lists the addresses of a link, 0 for those of all.
func listAddrs(p place, index int, asked map[reconcile.Key]bool) (own []reconcile.Resource, foreign []reconcile.Holder, err error) {
	held, err := readAddrs(p.c, index)
	marks := marked(release(), held)
	for _, h := range held {
		l := p.links.at(h.index)
		r := object.Addr{In: p.in, Link: l.name, Prefix: h.prefix, Scope: h.scope}
		switch {
		case (h.owns(p.in, l, marks) || p.handed && asked[r.Key()]) && p.has(l.name):
			own = append(own, r)
		case asked[r.Key()]:
			foreign = append(foreign, reconcile.Holder{Key: r.Key(), What: fmt.Sprintf("address %s on %s", h.prefix, l.name),
				Who: "not put there by netd (address protocol " + fmt.Sprint(h.proto) + ")"})
		}
	}
	return own, foreign, err
}

func (s addrs) Batch(_ context.Context, changes []reconcile.Change) []error {
	return s.k.spread(changes, func(r reconcile.Resource) object.Place { return r.(object.Addr).In }, encodeAddr, nil, unix.EADDRNOTAVAIL, unix.ENODEV)
}

func encodeAddr(b *batch, p place, c reconcile.Change) error {
	r, _ := c.Want.(object.Addr)
	typ, flags := uint16(unix.RTM_NEWADDR), uint16(unix.NLM_F_CREATE|unix.NLM_F_EXCL)
	switch {
	case c.Op == reconcile.Delete:
		r, _ = c.Have.(object.Addr)
		typ, flags = unix.RTM_DELADDR, 0
	case r.In == "" && r.Prefix.Addr().Is6() && r.Prefix.Addr().IsLinkLocalUnicast():
		flags = unix.NLM_F_CREATE | unix.NLM_F_REPLACE // the kernel may have given it itself meanwhile: owns
	}
	index, err := p.links.index(r.Link)
	if err != nil {
		return err
	}
	if c.Op == reconcile.Delete { // the kernel takes any address of that number, whoever put it there
		held, err := readAddrs(p.c, index)
		if err != nil {
			return err
		}
		marks, l := marked(release(), held), p.links.byName[r.Link] // it was just asked for
		if !slices.ContainsFunc(held, func(h heldAddr) bool { return h.prefix == r.Prefix && (h.owns(p.in, l, marks) || p.handed) }) {
			return errGone
		}
	}
	b.begin(typ, flags)
	var head [unix.SizeofIfAddrmsg]byte
	head[0], head[1], head[3] = family(r.Prefix.Addr()), uint8(r.Prefix.Bits()), uint8(r.Scope)
	if r.Prefix.Addr().Is6() {
		head[2] = unix.IFA_F_NODAD // nobody else has it, and until detection is over (a second) it would be of no use
	}
	native.PutUint32(head[4:], uint32(index))
	b.raw(head[:]...)
	b.addr(unix.IFA_LOCAL, r.Prefix.Addr())
	b.addr(unix.IFA_ADDRESS, r.Prefix.Addr())
	if c.Op != reconcile.Delete {
		b.u8(ifaProto, object.Protocol)
		if p.in == "" && r.Link == "tunl0" {
			b.attr(unix.IFA_LABEL, append([]byte(tunl0Label), 0))
		}
	}
	b.end()
	return nil
}

func (s addrs) Create(ctx context.Context, want reconcile.Resource) error {
	return one(func(c []reconcile.Change) []error { return s.Batch(ctx, c) }, reconcile.Change{Op: reconcile.Create, Want: want})
}

// Update is never planned: Addr.Replaces says so.
func (s addrs) Update(_ context.Context, _, want reconcile.Resource) error {
	return fmt.Errorf("%s cannot be changed in place", want.Key())
}

func (s addrs) Delete(ctx context.Context, have reconcile.Resource) error {
	return one(func(c []reconcile.Change) []error { return s.Batch(ctx, c) }, reconcile.Change{Op: reconcile.Delete, Have: have})
}
