package fakehost

import (
	"context"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"netd/reconcile"
	"netd/reconcile/object"
)

// Host is the kernel of one host, with those of its workloads.
type Host struct {
	Own     reconcile.State                    // what netd put there
	Foreign map[reconcile.Key]reconcile.Holder // what others hold
	Links   map[string]bool                    // links that are not netd's, and whether they are up
	Fault   func() error                       // asked before each operation; nil: none fails
}

// New is a host with the named links of its own, which are up. Every workload that is asked for has a network namespace.
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
	at := make(map[reconcile.Resource]int, len(x.want))
	for i, w := range x.want {
		at[w] = i
	}
	for _, r := range all {
		if i, ok := at[r]; ok {
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
	want = asHeld(want)
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

// asHeld is a resource as the kernel tells of it once it has it: an IPv6 route's metric is 1024 where none was asked for, and
// it has no scope (net/ipv6/route.c).
func asHeld(r reconcile.Resource) reconcile.Resource {
	if x, ok := r.(object.Route); ok && x.Dst.Addr().Is6() {
		x.Scope = object.ScopeGlobal
		if x.Metric == ip6Metric {
			x.Metric = 0
		}
		return x
	}
	return r
}

// sameButSource reports whether two values are of one IPv6 route, which may have lost its preferred source since it was seen: the
// kernel does not ask for that one to tell routes apart.
func sameButSource(a, b reconcile.Resource) bool {
	x, ok := a.(object.Route)
	y, too := b.(object.Route)
	if !ok || !too || !x.Dst.Addr().Is6() {
		return false
	}
	x.Src, y.Src = netip.Addr{}, netip.Addr{}
	return x == y
}

const ip6Metric = 1024 // IP6_RT_PRIO_USER

// upserts reports whether the kernel makes and changes a resource by one request.
func upserts(r reconcile.Resource) bool {
	switch r := r.(type) {
	case object.Addr: // of a link of the host's: the kernel may have given it itself
		return r.In == "" && r.Prefix.Addr().Is6() && r.Prefix.Addr().IsLinkLocalUnicast()
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
	want = asHeld(want)
	key := want.Key()
	now, there := k.h.Own[key]
	orCreate := upserts(want) || key.Kind == object.KindRoute || key.Kind == object.KindNexthop // NLM_F_CREATE with NLM_F_REPLACE
	if !there && !orCreate {
		return unix.ENOENT
	}
	if there && now != have && !sameButSource(now, have) {
		return fmt.Errorf("%s is not what it was said to be", want.Key())
	}
	if r, ok := want.(reconcile.Replacer); ok && r.Replaces(have) {
		return unix.EOPNOTSUPP
	}
	if err := k.h.stands(want); err != nil {
		return err
	}
	k.h.Own[key] = want
	k.h.fell(have, want)
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
