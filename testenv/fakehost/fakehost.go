package fakehost

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"netd/reconcile"
	"netd/reconcile/object"
)

// Host is the kernel of one host.
type Host struct {
	Own     reconcile.State                    // what netd put there
	Foreign map[reconcile.Key]reconcile.Holder // what others hold
	Links   map[string]bool                    // links that are not netd's, all of them up
	Fault   func() error                       // asked before each operation; nil: none fails
}

// New is a host with the named links of its own.
func New(links ...string) *Host {
	h := &Host{Own: reconcile.State{}, Foreign: map[reconcile.Key]reconcile.Holder{}, Links: map[string]bool{}}
	for _, l := range links {
		h.Links[l] = true
	}
	return h
}

// Kinds are the host's kinds in the order of kernel.Kinds.
func (h *Host) Kinds() []reconcile.Kind {
	var out []reconcile.Kind
	for _, name := range []string{object.KindNft, object.KindLink, object.KindSysctl, object.KindAddr, object.KindNexthop, object.KindNeigh, object.KindFDB, object.KindRoute} {
		k := kind{h, name}
		if name == object.KindRoute || name == object.KindNeigh {
			out = append(out, indexed{k})
			continue
		}
		out = append(out, k)
	}
	return out
}

type kind struct {
	h    *Host
	name string
}

func (k kind) Name() string { return k.name }

// List implements reconcile.Kind. Settings are looked at where they are wanted only, as the kernel's kind does.
func (k kind) List(_ context.Context, want []reconcile.Resource) (own []reconcile.Resource, foreign []reconcile.Holder, err error) {
	asked := map[reconcile.Key]bool{}
	for _, w := range want {
		asked[w.Key()] = true
		if f, ok := k.h.Foreign[w.Key()]; ok {
			foreign = append(foreign, f)
		}
	}
	for key, r := range k.h.Own {
		if key.Kind == k.name && (k.name != object.KindSysctl || asked[key]) {
			own = append(own, r)
		}
	}
	return own, foreign, nil
}

// indexed is a kind that tells what is as wanted by its number.
type indexed struct{ kind }

type index struct {
	kind
	want []reconcile.Resource
}

// Index implements reconcile.Indexer.
func (k indexed) Index(want []reconcile.Resource) reconcile.Index { return index{k.kind, want} }

// Compare implements reconcile.Index.
func (x index) Compare(ctx context.Context) (same []bool, own []reconcile.Resource, foreign []reconcile.Holder, err error) {
	all, foreign, err := x.List(ctx, x.want)
	same = make([]bool, len(x.want))
	for _, r := range all {
		if i := slices.Index(x.want, r); i >= 0 {
			same[i] = true
		} else {
			own = append(own, r)
		}
	}
	return same, own, foreign, err
}

func (k kind) fault() error {
	if k.h.Fault == nil {
		return nil
	}
	return k.h.Fault()
}

// Create implements reconcile.Kind.
func (k kind) Create(_ context.Context, want reconcile.Resource) error {
	if err := k.fault(); err != nil {
		return err
	}
	key := want.Key()
	_, taken := k.h.Foreign[key]
	_, there := k.h.Own[key]
	if taken || there && !upserts(want) {
		return unix.EEXIST
	}
	if err := k.h.stands(want); err != nil {
		return err
	}
	k.h.Own[key] = want
	return nil
}

// upserts reports whether the kernel makes and changes a resource by one request.
func upserts(r reconcile.Resource) bool {
	switch r.(type) {
	case object.Neigh, object.FDB, object.Sysctl, object.NftTable, object.NftElem:
		return true
	}
	return false
}

// Update implements reconcile.Kind.
func (k kind) Update(_ context.Context, have, want reconcile.Resource) error {
	if err := k.fault(); err != nil {
		return err
	}
	now, there := k.h.Own[want.Key()]
	key := want.Key()
	orCreate := upserts(want) || key.Kind == object.KindRoute || key.Kind == object.KindNexthop // NLM_F_CREATE with NLM_F_REPLACE
	if !there && !orCreate {
		return unix.ENOENT
	}
	if there && now != have {
		return fmt.Errorf("%s is not what it was said to be", want.Key())
	}
	if r, ok := want.(reconcile.Replacer); ok && r.Replaces(have) {
		return unix.EOPNOTSUPP
	}
	if err := k.h.stands(want); err != nil {
		return err
	}
	k.h.Own[want.Key()] = want
	return nil
}

// Delete implements reconcile.Kind.
func (k kind) Delete(_ context.Context, have reconcile.Resource) error {
	if err := k.fault(); err != nil {
		return err
	}
	if _, ok := have.(object.NftSet); ok {
		for _, r := range k.h.Own {
			if c, ok := r.(object.NftChain); ok && uses(c, have.Key()) {
				return unix.EBUSY
			}
		}
	}
	if have.Key().Kind == object.KindSysctl {
		return nil // a setting of a link of netd's: nothing to put back
	}
	k.h.remove(have.Key())
	return nil
}

func uses(c object.NftChain, set reconcile.Key) bool {
	for _, on := range c.Requires() {
		if on == set {
			return true
		}
	}
	return false
}

// stands is the kernel's answer to an object whose footing is missing.
func (h *Host) stands(r reconcile.Resource) error {
	switch r := r.(type) {
	case object.VXLAN:
		if !h.link(r.Underlay) {
			return unix.ENODEV
		}
		for key, o := range h.Own {
			if v, ok := o.(object.VXLAN); ok && key != r.Key() && v.VNI == r.VNI && v.Port == r.Port {
				return unix.EEXIST
			}
		}
	case object.Addr:
		return h.needs(r.Link)
	case object.Neigh:
		return h.needs(r.Link)
	case object.FDB:
		if _, ok := h.Own[object.LinkKey("", r.Link)].(object.VXLAN); !ok {
			return unix.ENODEV
		}
	case object.Sysctl:
		return h.needs(r.Link())
	case object.Nexthop:
		return h.needs(r.Dev)
	case object.Route:
		return h.route(r)
	case object.NftChain, object.NftSet, object.NftElem:
		for _, on := range r.Requires() {
			if _, ok := h.Own[on]; !ok {
				return unix.ENOENT
			}
		}
		if c, ok := r.(object.NftChain); ok && !h.fits(c) {
			return unix.EINVAL
		}
		if e, ok := r.(object.NftElem); ok && h.Own[e.Set.Key()] != e.Set { // an element of another type
			return unix.EINVAL
		}
	}
	return nil
}

// fits reports whether a chain looks its sets up with enough: the kernel refuses to look up an address among names, which
// are longer (net/netfilter/nft_lookup.c), and not the other way round.
func (h *Host) fits(c object.NftChain) bool {
	for _, on := range c.Requires() {
		s, ok := h.Own[on].(object.NftSet)
		if ok && strings.Contains(c.Rules, "ip saddr @"+s.Name+" ") && s.Type != "ipv4_addr" {
			return false
		}
	}
	return true
}

func (h *Host) route(r object.Route) error {
	if r.Src.IsValid() && !h.holds(r.Src) {
		return unix.EINVAL
	}
	if r.Nexthop != 0 {
		if _, ok := h.Own[object.NexthopKey(r.Nexthop)]; !ok {
			return unix.EINVAL
		}
		return nil
	}
	if r.Type == object.Blackhole {
		return nil
	}
	return h.needs(r.Dev)
}

func (h *Host) needs(link string) error {
	if !h.link(link) {
		return unix.ENODEV
	}
	return nil
}

func (h *Host) link(name string) bool {
	_, ok := h.Own[object.LinkKey("", name)]
	return ok || h.Links[name]
}

// holds reports whether any link has an address.
func (h *Host) holds(a netip.Addr) bool {
	for _, r := range h.Own {
		if x, ok := r.(object.Addr); ok && x.Prefix.Addr() == a {
			return true
		}
	}
	return false
}

// remove takes an object away and all that the kernel takes along.
func (h *Host) remove(key reconcile.Key) {
	r, there := h.Own[key]
	if !there {
		return
	}
	delete(h.Own, key)
	switch r := r.(type) {
	case object.VXLAN:
		h.unlink(r.Name)
	case object.Veth:
		h.unlink(r.Name)
	case object.Addr:
		last := true
		for _, o := range h.Own {
			if x, ok := o.(object.Addr); ok && x.Link == r.Link {
				last = false
			}
		}
		for k, o := range maps.Clone(h.Own) {
			if x, ok := o.(object.Route); ok && (x.Src == r.Prefix.Addr() && !h.holds(x.Src) || last && h.leaves(x, r.Link)) {
				delete(h.Own, k)
			}
			if x, ok := o.(object.Neigh); ok && last && x.Link == r.Link {
				delete(h.Own, k)
			}
		}
	case object.Nexthop:
		for k, o := range maps.Clone(h.Own) {
			if x, ok := o.(object.Route); ok && x.Nexthop == r.ID {
				delete(h.Own, k)
			}
		}
	case object.NftTable:
		for k := range maps.Clone(h.Own) {
			if k.Kind == object.KindNft && strings.HasPrefix(k.Name, key.Name+" ") {
				delete(h.Own, k)
			}
		}
	case object.NftSet:
		for k := range maps.Clone(h.Own) {
			if k.Kind == object.KindNft && strings.HasPrefix(k.Name, key.Name+" element ") {
				delete(h.Own, k)
			}
		}
	}
}

func (h *Host) leaves(r object.Route, link string) bool { return r.Nexthop == 0 && r.Dev == link }

func (h *Host) unlink(name string) {
	for k, o := range maps.Clone(h.Own) {
		on := ""
		switch x := o.(type) {
		case object.Addr:
			on = x.Link
		case object.Neigh:
			on = x.Link
		case object.FDB:
			on = x.Link
		case object.Nexthop:
			on = x.Dev
		case object.Sysctl:
			on = x.Link()
		case object.Route:
			if x.Nexthop == 0 {
				on = x.Dev
			}
		}
		if on == name {
			h.remove(k)
		}
	}
}
