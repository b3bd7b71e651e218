package kernel

import (
	"context"
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"

	"netd/reconcile"
	"netd/reconcile/object"
)

// How routes are written. The kernel's own way of changing one in place, NLM_F_REPLACE, takes the first route of a prefix and
// metric, whose ever it is (net/ipv4/fib_trie.c, fib_table_insert; net/ipv6/ip6_fib.c, fib6_add_rt2node), and a stranger's
// may have come there since netd looked. So the new route is put beside the old one and the old one is taken away, by
// protocol and next hop. Packets always find one of the two:
//
//	IPv4   append the new one                     delete the old one
//	IPv6   create the new one at a metric that    delete the old one   create the new one   delete the
//	       is better by one, as a stand-in                             in its place         stand-in
//
// IPv6 has no appending: routes of one prefix and metric become one with several next hops, a stranger's with them. What a
// kill leaves is a second route of netd's own, which the next pass sees.

// Batch carries out changes of routes, a step of all of them together.
func (s routes) Batch(_ context.Context, changes []reconcile.Change) []error {
	return s.carry(changes, s.send(changes))
}

// Tell implements reconcile.Teller. The kernel sends whoever asks with NLM_F_ECHO the notification of what it made, which it writes
// of its own table (net/ipv4/fib_semantics.c, rtmsg_fib).
func (s routes) Tell(_ context.Context, changes []reconcile.Change) (errs []error, made []reconcile.Resource) {
	made = make([]reconcile.Resource, len(changes))
	errs = s.k.spread(changes, placeOfRoute, func(b *batch, p place, c reconcile.Change) error {
		start := len(b.b)
		if err := encodeRoute(b, p, c); err != nil {
			return err
		}
		if r, ok := c.Want.(object.Route); ok && c.Op == reconcile.Create && r.In == "" && r.Dst.Addr().Is4() {
			(*unix.NlMsghdr)(unsafe.Pointer(&b.b[start])).Flags |= unix.NLM_F_ECHO
		}
		return nil
	}, func(i int, p place, body []byte) {
		links := p.links
		links.ask = nil // while answers are read nothing can be asked; its links are known of its request
		if h, ok := decodeRoute(body); ok && h.protocol == object.Protocol && h.tos == 0 {
			if made[i] = changes[i].Want; h.value(p.in, links) != changes[i].Want.(object.Route) { // most are as wanted, and are not made twice
				made[i] = h.value(p.in, links)
			}
		}
	}, unix.ESRCH, unix.ENODEV)
	return s.carry(changes, errs), made
}

// carry goes on with changes of which the first step is sent.
func (s routes) carry(changes []reconcile.Change, errs []error) []error {
	var moves []move
	for i, c := range changes {
		// EEXIST of IPv4: this very route is behind the old one already. Of IPv6: the stand-in's place is taken, and it goes
		// without one.
		if c.Op == reconcile.Update && (errs[i] == nil || errors.Is(errs[i], unix.EEXIST)) {
			moves = append(moves, move{i, c.Have.(object.Route), c.Want.(object.Route), errs[i] == nil})
			errs[i] = nil
		}
	}
	if len(moves) > 0 {
		s.each(moves, errs, func(m move) (reconcile.Change, bool) {
			return reconcile.Change{Op: reconcile.Delete, Have: m.have}, true
		})
		s.each(moves, errs, func(m move) (reconcile.Change, bool) {
			return reconcile.Change{Op: reconcile.Create, Want: m.want}, m.six() && errs[m.at] == nil
		})
		s.each(moves, errs, func(m move) (reconcile.Change, bool) {
			return reconcile.Change{Op: reconcile.Delete, Have: standIn(m.want)}, m.six() && m.beside
		})
		s.again(changes, errs)
	}
	for i, err := range errs {
		if errors.Is(err, unix.EEXIST) {
			errs[i] = fmt.Errorf("another program's route came there meanwhile, and is left alone: %w (%w)", reconcile.ErrTaken, err)
		}
	}
	return errs
}

// move is an update whose new route is there too, or may come.
type move struct {
	at         int // among the changes
	have, want object.Route
	beside     bool // it is there, put by this batch
}

func (m move) six() bool { return m.want.Dst.Addr().Is6() }

// each takes a step of the updates that have it. The first error of each stays.
func (s routes) each(moves []move, errs []error, step func(move) (reconcile.Change, bool)) {
	var changes []reconcile.Change
	var at []int
	for _, m := range moves {
		if c, ok := step(m); ok {
			changes, at = append(changes, c), append(at, m.at)
		}
	}
	for j, err := range s.send(changes) {
		if errs[at[j]] == nil {
			errs[at[j]] = err
		}
	}
}

// again creates what may have stood on a route that was not in its place yet.
func (s routes) again(changes []reconcile.Change, errs []error) {
	var failed []reconcile.Change
	var at []int
	for i, c := range changes {
		if c.Op == reconcile.Create && errs[i] != nil && !errors.Is(errs[i], unix.EEXIST) {
			failed, at = append(failed, c), append(at, i)
		}
	}
	for j, err := range s.send(failed) {
		errs[at[j]] = err
	}
}

// standIn is the route that packets go by while an IPv6 route changes.
func standIn(r object.Route) object.Route {
	r.Metric = metric6(r) - 1
	return r
}

// metric6 is what the kernel makes of an IPv6 route's metric.
func metric6(r object.Route) uint32 {
	if r.Metric == 0 {
		return ip6Metric
	}
	return r.Metric
}

func (s routes) send(changes []reconcile.Change) []error {
	return s.k.spread(changes, placeOfRoute, encodeRoute, nil, unix.ESRCH, unix.ENODEV)
}

func placeOfRoute(r reconcile.Resource) object.Place { return r.(object.Route).In }

// encodeRoute encodes a creation, a deletion, or the first step of an update.
func encodeRoute(b *batch, p place, c reconcile.Change) error {
	r, _ := c.Want.(object.Route)
	typ, flags := uint16(unix.RTM_NEWROUTE), uint16(unix.NLM_F_CREATE|unix.NLM_F_EXCL)
	switch {
	case c.Op == reconcile.Delete:
		// With its next hops: a deletion of IPv6 that names none takes all of them along, a stranger's too
		// (net/ipv6/route.c, ip6_route_del). IPv4 has several match only in the order in which they were put, an object only
		// while it exists, and takes the first of netd's own.
		r, _ = c.Have.(object.Route)
		typ, flags = unix.RTM_DELROUTE, 0
		if r.Dst.Addr().Is4() {
			r.Hops, r.Nexthop = "", 0
		}
	case c.Op == reconcile.Update && r.Dst.Addr().Is6():
		r = standIn(r)
	case c.Op == reconcile.Update:
		flags = unix.NLM_F_CREATE | unix.NLM_F_APPEND
	}
	index := 0
	if r.Dev != "" {
		var err error
		if index, err = p.links.index(r.Dev); err != nil {
			return err
		}
	}
	b.begin(typ, flags)
	var head [unix.SizeofRtMsg]byte
	head[0], head[1], head[4], head[5] = family(r.Dst.Addr()), uint8(r.Dst.Bits()), unix.RT_TABLE_UNSPEC, object.Protocol
	head[6], head[7] = uint8(r.Scope), uint8(r.Type)
	if c.Op == reconcile.Delete && p.handed {
		head[5] = 0 // any: the runtime put it there for netd, in its own name
	}
	if r.Onlink {
		native.PutUint32(head[8:], unix.RTNH_F_ONLINK)
	}
	b.raw(head[:]...)
	b.addr(unix.RTA_DST, r.Dst.Addr())
	b.u32(rtaTable, r.Table)
	metric := r.Metric
	if r.Dst.Addr().Is6() { // a deletion that names none would take a route of any
		metric = metric6(r)
	}
	if metric != 0 {
		b.u32(unix.RTA_PRIORITY, metric)
	}
	if r.Via.IsValid() {
		b.addr(unix.RTA_GATEWAY, r.Via)
	}
	if index != 0 {
		b.u32(unix.RTA_OIF, uint32(index))
	}
	if r.Src.IsValid() {
		b.addr(unix.RTA_PREFSRC, r.Src)
	}
	if r.Nexthop != 0 {
		b.u32(rtaNHID, r.Nexthop)
	}
	if r.Hops != "" {
		if err := encodeHops(b, p, r.Hops); err != nil {
			return err
		}
	}
	b.end()
	return nil
}
