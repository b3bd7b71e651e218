package main

import (
	"slices"
	"time"
)

// lately remembers the tunnels that a network which came to mode bgp still needed a moment ago: the other end may learn the
// way back later than this one, and sends through the tunnel until then. It serves the goroutine that compiles.
type lately struct {
	until map[string]time.Time
	over  *time.Timer
}

// tunnelStays is for how long after the last block that went by it a tunnel stays.
const tunnelStays = 10 * time.Second

// keep notes the tunnels that are needed now. When the time of the last one is over, over is called, if there is such a
// function; without it nobody would look again, and nothing is kept.
func (l *lately) keep(needed []string, over func()) {
	if len(needed) == 0 || over == nil {
		return
	}
	if l.until == nil {
		l.until = map[string]time.Time{}
	}
	for _, dev := range needed {
		l.until[dev] = time.Now().Add(tunnelStays)
	}
	if l.over != nil {
		l.over.Stop()
	}
	l.over = time.AfterFunc(tunnelStays+time.Millisecond, over)
}

// names are the tunnels whose time is not over, sorted.
func (l *lately) names(now time.Time) (out []string) {
	for dev, until := range l.until {
		if now.Before(until) {
			out = append(out, dev)
		} else {
			delete(l.until, dev)
		}
	}
	slices.Sort(out)
	return out
}
