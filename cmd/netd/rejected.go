package main

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"netd/reconcile/object"
	"netd/reconcile/speaker"
)

// rejectedView is what `status` says of a neighbour's routes that are not taken.
type rejectedView struct {
	Count  int          `json:"count"`
	More   bool         `json:"more,omitempty"` // there are more, or may be: they were not all looked at
	Prefix netip.Prefix `json:"prefix"`         // an example, and why it is not taken
	Reason string       `json:"reason"`
	Lies   int          `json:"lies,omitempty"` // of a node: it tells what the file does not have it tell
}

// words are what is rejected and what to type for the rest.
func (r *rejectedView) words(name string) string {
	more, example := "", ""
	if r.More {
		more = "at least "
	}
	if r.Count > 1 {
		example = "such as "
	}
	return fmt.Sprintf("%s%s rejected, %s%s: %s (netd show peers %s --routes rejected)", more, count(r.Count, "route"), example, r.Prefix, r.Reason, name)
}

// gravity is how much the reason for which a route is not taken tells of what is wrong.
type gravity int

const (
	looped   gravity = iota // as any router may that knows no better; this is what loops are looked for
	unlisted                // whoever wrote the list wanted that
	wrong                   // it is not for this neighbour to tell, or to tell so
)

// rejects gathers what of a neighbour's routes is not taken.
type rejects struct {
	count   int
	reasons map[rejectReason]*rejected
}

type rejectReason struct {
	gravity gravity
	words   string
}

type rejected struct {
	count int
	first netip.Prefix
}

func (r *rejects) add(p netip.Prefix, g gravity, words string) {
	r.count++
	if r.reasons == nil {
		r.reasons = map[rejectReason]*rejected{}
	}
	x := r.reasons[rejectReason{g, words}]
	if x == nil {
		x = &rejected{first: p}
		r.reasons[rejectReason{g, words}] = x
	}
	if x.count++; p.Compare(x.first) < 0 {
		x.first = p
	}
}

// view is nil where everything is taken. The reason is the most telling one, of several the one with the most routes.
func (r *rejects) view(node bool) *rejectedView {
	if r.count == 0 {
		return nil
	}
	v := &rejectedView{Count: r.count}
	var best rejectReason
	for k, x := range r.reasons {
		if node && k.gravity == wrong {
			v.Lies += x.count
		}
		switch at := r.reasons[best]; {
		case at == nil, k.gravity > best.gravity, k.gravity == best.gravity && x.count > at.count,
			k.gravity == best.gravity && x.count == at.count && x.first.Compare(at.first) < 0:
			best = k
		}
	}
	v.Prefix, v.Reason = r.reasons[best].first, best.words
	return v
}

// weigh is why a neighbour's route is not taken, "" where it is, as far as that can be told of the route alone.
func (l *looker) weigh(r speaker.Route) (gravity, string) {
	if why := l.ownAS(r); why != "" {
		return looped, why
	}
	if why := l.reflected(r); why != "" {
		return looped, why
	}
	switch no := l.judge(r.BestPath()); {
	case no.Unlisted:
		return unlisted, no.Why
	default:
		return wrong, no.Why
	}
}

// rejectedMost are the routes of a neighbour, of each family, that status looks at for the reasons.
const rejectedMost = 10_000

// rejected looks at the routes of those neighbours of whom not all is taken. Where it fails, it has those that it came to.
// looked is how many routes it went through.
func (l *looker) rejected(ctx context.Context) (out map[netip.Addr]*rejectedView, looked int, err error) {
	received, err := l.client.Received(ctx)
	if err != nil {
		return nil, 0, err
	}
	taken := map[netip.Addr]int{}
	l.client.Each(func(p object.BestPath) {
		looked++
		if l.judge(p).Why == "" {
			taken[p.Peer]++
		}
	})
	out = map[netip.Addr]*rejectedView{}
	for _, n := range l.peers {
		// A route that is taken and not the best of its prefix counts as none here, and is found to be taken.
		told := received[n.Addr]
		if told.Received <= taken[n.Addr] && told.Loops == 0 {
			out[n.Addr] = nil
			continue
		}
		var not rejects
		seen := 0
		if err := l.client.Told(ctx, n.Addr, rejectedMost, func(r speaker.Route) {
			seen++
			if g, why := l.weigh(r); why != "" {
				not.add(r.Prefix, g, why)
			}
		}); err != nil {
			return out, looked, err
		}
		looked += seen
		v := not.view(l.isNode(n.Addr))
		if v != nil {
			v.More = seen >= rejectedMost && seen < told.Received
		}
		out[n.Addr] = v
	}
	return out, looked, nil
}

func (l *looker) isNode(a netip.Addr) bool {
	for _, n := range l.config.Nodes {
		if n.Address.Addr() == a || n.Address6.Addr() == a {
			return true
		}
	}
	return false
}

// looking is the daemon's look at what its neighbours tell and is not taken.
type looking struct {
	sync.Mutex           // held while someone looks
	last       time.Time // when someone had looked
	rest       time.Duration
}

// Bounds of looking: whoever asks for the status waits for it no longer than lookWithin, and tables of lookMany routes or more
// are looked at no more than a part in lookShare of the time, however often someone asks.
const (
	lookWithin = 1500 * time.Millisecond
	lookMany   = rejectedMost
	lookShare  = 20
)

// lookAtRejected has the next status tell what is rejected. Where someone looked while this one waited, that will do.
func (d *daemonState) lookAtRejected(ctx context.Context) {
	asked := time.Now()
	d.looking.Lock()
	defer d.looking.Unlock()
	if d.looking.last.After(asked) || time.Since(d.looking.last) < d.looking.rest {
		return
	}
	l, err := d.looker(ctx)
	if err != nil || l == nil { // no speaker, which is told already, or no sessions
		return
	}
	begin := time.Now()
	ctx, cancel := context.WithTimeout(ctx, lookWithin)
	defer cancel()
	seen, looked, err := l.rejected(ctx)
	d.looking.last, d.looking.rest = time.Now(), 0
	if took := time.Since(begin); looked >= lookMany {
		d.looking.rest = lookShare * took
	} else if err != nil {
		d.looking.rest = took // the speaker is busy
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if err != nil {
		for a, v := range d.rejected {
			if _, now := seen[a]; !now && seen != nil {
				seen[a] = v
			}
		}
	}
	if seen != nil {
		d.rejected = seen
	}
}
