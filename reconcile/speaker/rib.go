package speaker

import (
	"net/netip"
	"slices"
	"sync"
	"time"
)

// rib is what the speaker tells of itself: the best paths and the neighbours. gobgp's events write it, readers of
// paths.sock follow it.
//
// Each reader has a set of what it has not seen yet, at first everything. It is sent current values, never a log of
// changes: a slow reader coalesces, memory is bounded by the table, and nothing is missed. Neighbours are sent only once
// no path is left to send, so that a neighbour that is synced is never seen before its paths.
//
// There is no pointer in its tables of prefixes, which a collection therefore does not look at. A prefix has a number for as long as there are
// ways to it, or a reader has not seen that there are none.
type rib struct {
	mu         sync.Mutex
	number     map[packed]uint32
	paths      []entry  // by number
	free       []uint32 // numbers of no prefix
	sets       sets
	neighbours map[netip.Addr]*Neighbour
	readers    map[*reader]bool

	slack Slack
	hops  []hop // of one prefix, while they are collected
}

// entry is a prefix and its ways.
type entry struct {
	at  packed
	set uint32 // which of sets; few serve many prefixes
}

// reader is one connection that follows the rib. Its fields are the rib's.
type reader struct {
	unseen     numbers // numbers of prefixes
	neighbours map[netip.Addr]struct{}
	wake       chan struct{} // room for one
}

func newRIB() *rib {
	return &rib{number: map[packed]uint32{}, neighbours: map[netip.Addr]*Neighbour{}, readers: map[*reader]bool{}}
}

// follow makes a reader to which everything is new.
func (t *rib) follow() *reader {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := &reader{neighbours: map[netip.Addr]struct{}{}, wake: make(chan struct{}, 1)}
	for n, p := range t.paths {
		if p.set != 0 {
			r.unseen.set(uint32(n))
		}
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
	r.unseen.each(func(n uint32) bool {
		t.release(n)
		return true
	})
}

func (r *reader) poke() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// set notes ways to prefixes, and returns how many of those changed.
func (t *rib) set(ways []news) (changed int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for len(ways) > 0 {
		at, all := ways[0].at, 1
		for all < len(ways) && ways[all].more {
			all++
		}
		t.hops = t.hops[:0]
		for _, w := range ways[:all] {
			if !w.gone {
				t.hops = append(t.hops, w.hop)
			}
		}
		ways = ways[all:]
		set := t.sets.intern(t.hops)
		n, there := t.number[at]
		if !there && set == 0 || there && t.paths[n].set == set {
			continue
		}
		if !there {
			n = t.add(at)
		}
		t.sets.use(set, 1)
		t.sets.use(t.paths[n].set, -1)
		t.paths[n].set = set
		for r := range t.readers {
			r.unseen.set(n)
		}
		t.release(n)
		changed++
	}
	if changed > 0 {
		for r := range t.readers {
			r.poke()
		}
	}
	return changed
}

// add gives a prefix a number.
func (t *rib) add(at packed) (n uint32) {
	if last := len(t.free) - 1; last >= 0 {
		n, t.free = t.free[last], t.free[:last]
		t.paths[n].at = at
	} else {
		n = uint32(len(t.paths))
		t.paths = append(t.paths, entry{at: at})
	}
	t.number[at] = n
	return n
}

// release takes the number from a prefix to which no way is left, where every reader has seen that.
func (t *rib) release(n uint32) {
	if t.paths[n].set != 0 {
		return
	}
	for r := range t.readers {
		if r.unseen.has(n) {
			return
		}
	}
	delete(t.number, t.paths[n].at)
	if t.free = append(t.free, n); len(t.number) == 0 { // the room of the most that there were
		t.number, t.paths, t.free = map[packed]uint32{}, nil, nil
	}
}

// local are the prefixes that this host announces, as far as they are the best.
func (t *rib) local() []netip.Prefix {
	t.mu.Lock()
	defer t.mu.Unlock()
	own := make([]bool, len(t.sets.encoded))
	for i, hops := range t.sets.encoded {
		own[i] = ownHops(hops)
	}
	var out []netip.Prefix
	for _, p := range t.paths {
		if p.set != 0 && own[p.set] {
			out = append(out, p.at.prefix())
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
	gone := make([]news, 0, len(t.paths))
	for _, p := range t.paths {
		if p.set != 0 {
			gone = append(gone, news{at: p.at, gone: true})
		}
	}
	t.mu.Unlock()
	t.set(gone)
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
	r.unseen.each(func(i uint32) bool {
		if n == pathsAFrame || len(buf) > bytesAFrame {
			more = true
			return false
		}
		n++
		buf = appendEntry(buf, t.paths[i].at.prefix(), t.sets.of(t.paths[i].set))
		r.unseen.clear(i)
		t.release(i)
		return true
	})
	if more {
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
