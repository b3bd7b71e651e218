package speaker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"netd/reconcile/object"
)

// view is a client's copy of a speaker's rib.
type view struct {
	known      bool // the mark was received: this is all
	most       int  // hops that all paths together may have
	hops       int  // that they have
	setHops    int  // that those of sets have
	paths      map[netip.Prefix]ways
	neighbours map[netip.Addr]Neighbour
	sets       map[string]*hops // decoded hops by their bytes: few sets serve many prefixes
	changed    []netip.Prefix   // each once, since they were asked for, in the order in which they changed; see Client.Changes
	missed     bool             // there were more, or a neighbour changed: only all that there is tells
	anew       bool             // more than paths and errors changed; see Client.Anew
}

// ways are those to a prefix: nil of one that is gone and among those that changed.
type ways struct {
	*hops
	changed bool // it is among those that changed
}

// hops are shared and not written to.
type hops []hop

func newView(most int) view {
	return view{most: most, paths: map[netip.Prefix]ways{}, neighbours: map[netip.Addr]Neighbour{}, sets: map[string]*hops{}}
}

func (w ways) list() []hop {
	if w.hops == nil {
		return nil
	}
	return *w.hops
}

// take applies a frame. It reports whether anything became visible.
func (v *view) take(t frameType, b []byte) (changed bool, err error) {
	switch t {
	case framePaths:
		var scratch []hop
		for len(b) > 0 {
			p, hops, rest, err := cutEntry(b, scratch)
			if err != nil {
				return false, err
			}
			w := v.paths[p]
			v.hops += len(hops) - len(w.list())
			if w.hops = nil; hops != nil {
				scratch = hops
				at := 1 + int(b[0]) + 1 // after the address and the prefix length
				w.hops = v.intern(b[at:len(b)-len(rest)], hops)
			}
			if v.known && !w.changed { // before that all is news
				w.changed = true
				v.changed = append(v.changed, p)
			}
			if w == (ways{}) {
				delete(v.paths, p)
			} else {
				v.paths[p] = w
			}
			if len(v.changed) > changesMost { // prefixes that come and go without end, faster than anyone asks, are not kept
				v.caught(len(v.changed), nil)
				v.missed = true
			}
			if v.hops > v.most {
				return false, excess("more than %d paths, which is more than its neighbours may tell (max_prefixes)", v.most)
			}
			b = rest
		}
		return v.known, nil
	case frameNeighbours:
		var ns []Neighbour
		if err := json.Unmarshal(b, &ns); err != nil {
			return false, fmt.Errorf("a frame of neighbours: %w", err)
		}
		for _, n := range ns {
			if len(n.Addr.Zone()) > zoneMost {
				return false, excess("a neighbour on a link of %d letters", len(n.Addr.Zone()))
			}
			was, there := v.neighbours[n.Addr]
			if n.Gone || !there || was.State != n.State || !was.Since.Equal(n.Since) || was.Synced != n.Synced {
				v.anew, v.missed = true, true
			}
			if n.Gone {
				delete(v.neighbours, n.Addr)
			} else {
				// What the speaker takes from the neighbours it has made printable, if it is still its own; names are the file's.
				n.Name, n.State, n.Error = "", printable(n.State), printable(n.Error)
				v.neighbours[n.Addr] = n
			}
			if len(v.neighbours) > neighboursMost {
				return false, excess("more than %d neighbours", neighboursMost)
			}
		}
		return v.known, nil
	case frameMark:
		v.known, v.anew, v.missed = true, true, true
		return true, nil
	}
	return false, fmt.Errorf("a frame of unknown type %q", byte(t))
}

// caught takes the first n of those that changed for known. It returns them, and gives each to take, if any.
func (v *view) caught(n int, take func(netip.Prefix, ways)) []netip.Prefix {
	out := v.changed[:n:n]
	for _, p := range out {
		w := v.paths[p]
		if take != nil {
			take(p, w)
		}
		if w.changed = false; w.hops == nil {
			delete(v.paths, p)
		} else {
			v.paths[p] = w
		}
	}
	if v.changed = v.changed[n:]; len(v.changed) == 0 {
		v.changed = nil // it keeps the room that it once needed
	}
	return out
}

// intern returns the one copy of a set of hops. Sets that nothing uses any more are dropped when they are many.
func (v *view) intern(key []byte, set []hop) *hops {
	if one, ok := v.sets[string(key)]; ok {
		return one
	}
	if v.setHops > 1024+2*v.hops {
		clear(v.sets)
		v.setHops = 0
	}
	one := new(hops)
	*one = slices.SortedFunc(slices.Values(set), func(a, b hop) int { return a.nextHop.Compare(b.nextHop) })
	v.sets[string(key)] = one
	v.setHops += len(set)
	return one
}

// facts is the view as desired state takes it, in order.
func (v *view) facts() object.Speaker {
	if !v.known {
		return object.Speaker{}
	}
	s := object.Speaker{Known: true, Paths: make([]object.BestPath, 0, len(v.paths))}
	for _, a := range slices.SortedFunc(maps.Keys(v.neighbours), netip.Addr.Compare) {
		s.Peers = append(s.Peers, object.SpeakerPeer{Addr: a, Synced: v.neighbours[a].Synced})
	}
	zoned := v.zones()
	for _, p := range slices.SortedFunc(maps.Keys(v.paths), netip.Prefix.Compare) {
		s.Paths = v.paths[p].to(p, zoned, s.Paths)
	}
	return s
}

// to appends the paths to p in the order of their next hops, but for this host's own, which it does not learn.
func (w ways) to(p netip.Prefix, zoned map[netip.Addr]netip.Addr, paths []object.BestPath) []object.BestPath {
	for _, h := range w.list() {
		if h.peer.IsValid() {
			if a, ok := zoned[h.peer]; ok {
				h.peer = a
			}
			paths = append(paths, object.BestPath{Prefix: p, NextHop: h.nextHop, Peer: h.peer, FirstAS: h.firstAS})
		}
	}
	return paths
}

// zones are the link-local neighbours by their addresses alone: neither frames of paths nor gobgp's answers tell the zone of
// who told a path.
func (v *view) zones() map[netip.Addr]netip.Addr {
	out := map[netip.Addr]netip.Addr{}
	for a := range v.neighbours {
		if a.Zone() != "" {
			out[a.WithZone("")] = a
		}
	}
	return out
}

// Pokes delivers when what Snapshot returns changed. The channel has room for one.
func (c *Client) Pokes() <-chan struct{} { return c.pokes }

func (c *Client) poke() {
	select {
	case c.pokes <- struct{}{}:
	default:
	}
}

// Anew reports whether more than paths changed since it was last asked: a speaker was met or lost, or said something of its
// neighbours other than an error, of which they may cause as many as they like. What it has been told by its other kinds has
// to be looked at then.
func (c *Client) Anew() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	was := c.anew
	c.anew = false
	return was
}

// Snapshot is what the speaker knew at the last moment that Watch heard of it. It is unknown while there is none. It is made for
// who asks: of a large table a copy is much, and seldom wanted.
func (c *Client) Snapshot() object.Speaker {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.view.facts()
}

// Each gives every path of Snapshot to take, in no order. Nothing is heard of the speaker meanwhile.
func (c *Client) Each(take func(object.BestPath)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	zoned := c.view.zones()
	var paths []object.BestPath
	for p, w := range c.view.paths {
		paths = w.to(p, zoned, paths[:0])
		for _, x := range paths {
			take(x)
		}
	}
}

// Changes are up to most prefixes whose paths changed since it gave them or Caught, and all paths to them as Snapshot has
// them now, in the order of the prefixes, which is any. more says that there are others; ok is false where they were too many to be
// kept, or where a neighbour is not as it was, until Caught: that the paths of one who begins anew are gone does not say that its
// routes are.
func (c *Client) Changes(most int) (prefixes []netip.Prefix, paths []object.BestPath, more, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	v := &c.view
	if v.missed {
		return nil, nil, false, false
	}
	n := min(most, len(v.changed))
	zoned := v.zones()
	paths = make([]object.BestPath, 0, n)
	prefixes = v.caught(n, func(p netip.Prefix, w ways) { paths = w.to(p, zoned, paths) })
	return prefixes, paths, len(v.changed) > 0, true
}

// Caught forgets what changed, for one who is about to take a whole Snapshot.
func (c *Client) Caught() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.view.caught(len(c.view.changed), nil)
	c.view.missed = false
}

// Neighbours are the speaker's, in order, and whether it was heard at all.
func (c *Client) Neighbours() ([]Neighbour, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.view.inOrder(), c.view.known
}

func (v *view) inOrder() []Neighbour {
	return slices.SortedFunc(maps.Values(v.neighbours), func(a, b Neighbour) int { return a.Addr.Compare(b.Addr) })
}

// Read asks a running speaker once for everything that it knows.
func (c *Client) Read(ctx context.Context) (object.Speaker, []Neighbour, error) {
	l, err := c.link(ctx)
	if err != nil {
		return object.Speaker{}, nil, err
	}
	defer l.close()
	c.mu.Lock()
	v := newView(c.most)
	c.mu.Unlock()
	if err := l.follow(func(t frameType, b []byte) error {
		if _, err := v.take(t, b); err != nil {
			return err
		}
		if v.known {
			return errEnough
		}
		return nil
	}); err != errEnough {
		return object.Speaker{}, nil, fmt.Errorf("asking the speaker what it knows: %w", err)
	}
	return v.facts(), v.inOrder(), nil
}

var errEnough = fmt.Errorf("enough")

// follow asks for the rib and gives each frame to take until that or the connection fails.
func (l *link) follow(take func(frameType, []byte) error) error {
	if err := writeJSON(l.conn, frameRequest, request{Op: opWatch}); err != nil {
		return err
	}
	var buf []byte
	for {
		t, b, err := readFrame(l.r, &buf)
		if err != nil {
			return err
		}
		if err := take(t, b); err != nil {
			return err
		}
	}
}

// Watch keeps the client's view of the speaker, and its kinds, connected until ctx ends; a speaker that restarts is found
// again. It always returns ctx's cause.
func (c *Client) Watch(ctx context.Context) error {
	const first, most = 10 * time.Millisecond, time.Second
	pause := first
	for {
		l, err := c.link(ctx)
		if err == nil {
			if err = c.connect(l.hello); err == nil {
				pause = first
				err = l.follow(c.heard)
			}
			l.close()
			c.lost(err)
			var excess *Excess
			if errors.As(err, &excess) {
				pause = most
			}
		}
		if wait(ctx, pause) != nil {
			return context.Cause(ctx)
		}
		pause = min(2*pause, most)
	}
}

func (c *Client) heard(t frameType, b []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	changed, err := c.view.take(t, b)
	if changed {
		c.anew, c.view.anew = c.anew || c.view.anew, false
		c.poke()
	}
	return err
}

// lost forgets the speaker: unknown, which is not empty.
func (c *Client) lost(why error) {
	c.disconnect()
	c.mu.Lock()
	defer c.mu.Unlock()
	was := c.view.known
	c.view = newView(c.most)
	var excess *Excess
	if errors.As(why, &excess) {
		c.trouble, c.troubled = why, time.Now()
	}
	if was {
		c.anew = true
		c.poke()
	}
}
