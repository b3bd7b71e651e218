package speaker

import (
	"net/netip"
	"slices"
	"sync"
	"time"
	"unique"
)

// rib is what the speaker tells of itself: the best paths and the neighbours. gobgp's events write it, readers of
// paths.sock follow it.
//
// Each reader has a set of what it has not seen yet, at first everything. It is sent current values, never a log of
// changes: a slow reader coalesces, memory is bounded by the table, and nothing is missed. Neighbours are sent only once
// no path is left to send, so that a neighbour that is synced is never seen before its paths.
type rib struct {
	mu         sync.Mutex
	paths      map[netip.Prefix]unique.Handle[string] // encoded hops, by appendHops; few sets of hops serve many prefixes
	neighbours map[netip.Addr]*Neighbour
	readers    map[*reader]bool

	slack Slack

	lastHop hop // that was encoded alone last: few ways lead to many prefixes
	lastSet unique.Handle[string]
}

// reader is one connection that follows the rib. Its fields are the rib's.
type reader struct {
	paths      map[netip.Prefix]struct{}
	neighbours map[netip.Addr]struct{}
	wake       chan struct{} // room for one
}

func newRIB() *rib {
	return &rib{paths: map[netip.Prefix]unique.Handle[string]{}, neighbours: map[netip.Addr]*Neighbour{}, readers: map[*reader]bool{}}
}

// follow makes a reader to which everything is new.
func (t *rib) follow() *reader {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := &reader{paths: make(map[netip.Prefix]struct{}, len(t.paths)), neighbours: map[netip.Addr]struct{}{}, wake: make(chan struct{}, 1)}
	for p := range t.paths {
		r.paths[p] = struct{}{}
	}
	for a := range t.neighbours {
		r.neighbours[a] = struct{}{}
	}
	t.readers[r] = true
	r.poke()
	return r
}

func (t *rib) unfollow(r *reader) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.readers, r)
}

func (r *reader) poke() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// setPath notes the ways to a prefix; none: it is gone.
func (t *rib) setPath(p netip.Prefix, hops []hop) {
	t.mu.Lock()
	defer t.mu.Unlock()
	h := t.encode(hops)
	old, there := t.paths[p]
	if there == (len(hops) > 0) && old == h {
		return
	}
	if len(hops) > 0 {
		t.paths[p] = h
	} else {
		delete(t.paths, p)
	}
	for r := range t.readers {
		r.paths[p] = struct{}{}
		r.poke()
	}
	t.slack.Changed(1)
}

// encode is the one copy of encoded hops; of none it is of no use.
func (t *rib) encode(hops []hop) (h unique.Handle[string]) {
	switch {
	case len(hops) == 0:
		return h
	case len(hops) == 1 && hops[0] == t.lastHop:
		return t.lastSet
	}
	h = unique.Make(string(appendHops(nil, hops)))
	if len(hops) == 1 {
		t.lastHop, t.lastSet = hops[0], h
	}
	return h
}

// local are the prefixes that this host announces, as far as they are the best.
func (t *rib) local() []netip.Prefix {
	t.mu.Lock()
	defer t.mu.Unlock()
	seen := map[unique.Handle[string]]bool{}
	var out []netip.Prefix
	for p, h := range t.paths {
		own, known := seen[h]
		if !known {
			own = ownHops(h.Value())
			seen[h] = own
		}
		if own {
			out = append(out, p)
		}
	}
	slices.SortFunc(out, netip.Prefix.Compare)
	return out
}

// ownHops reports whether one of the encoded hops is this host's own.
func ownHops(encoded string) bool {
	_, hops, _, err := cutEntry(appendEntry(nil, netip.PrefixFrom(netip.IPv4Unspecified(), 0), encoded), nil)
	return err == nil && slices.ContainsFunc(hops, func(h hop) bool { return !h.peer.IsValid() })
}

// forget drops all paths: the router was stopped.
func (t *rib) forget() {
	t.mu.Lock()
	gone := make([]netip.Prefix, 0, len(t.paths))
	for p := range t.paths {
		gone = append(gone, p)
	}
	t.mu.Unlock()
	for _, p := range gone {
		t.setPath(p, nil)
	}
}

// addNeighbour makes a neighbour, of whose table nothing is known yet. One that is there stays as it is.
func (t *rib) addNeighbour(addr netip.Addr) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.neighbours[addr] == nil {
		t.neighbours[addr] = &Neighbour{Addr: addr, State: "idle", Since: time.Now()}
		t.tellNeighbour(addr)
	}
}

// neighbour changes what is said of a neighbour, if it is one.
func (t *rib) neighbour(addr netip.Addr, change func(*Neighbour)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n := t.neighbours[addr]; n != nil {
		before := *n
		if change(n); *n != before {
			t.tellNeighbour(addr)
		}
	}
}

func (t *rib) removeNeighbour(addr netip.Addr) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.neighbours, addr)
	t.tellNeighbour(addr)
}

func (t *rib) tellNeighbour(addr netip.Addr) {
	for r := range t.readers {
		r.neighbours[addr] = struct{}{}
		r.poke()
	}
}

// Bounds of one frame.
const (
	pathsAFrame      = 4096
	bytesAFrame      = 256 << 10 // well below maxFrame, whatever the last entry adds
	neighboursAFrame = 1000
)

// take returns the next frame's worth of what r has not seen: paths appended to buf, or, when there are none left,
// neighbours. more is false when nothing is left after this.
func (t *rib) take(r *reader, buf []byte) (paths []byte, neighbours []Neighbour, more bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := 0
	for p := range r.paths {
		if n == pathsAFrame || len(buf) > bytesAFrame {
			break
		}
		hops := ""
		if h, ok := t.paths[p]; ok {
			hops = h.Value()
		}
		buf = appendEntry(buf, p, hops)
		delete(r.paths, p)
		n++
	}
	if len(r.paths) > 0 {
		return buf, nil, true
	}
	for a := range r.neighbours {
		if len(neighbours) == neighboursAFrame {
			break
		}
		if n := t.neighbours[a]; n != nil {
			neighbours = append(neighbours, *n)
		} else {
			neighbours = append(neighbours, Neighbour{Addr: a, Gone: true})
		}
		delete(r.neighbours, a)
	}
	return buf, neighbours, len(r.neighbours) > 0
}
