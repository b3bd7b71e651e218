package main

import (
	"errors"
	"fmt"
	"net"
	"strings"

	"go.uber.org/zap"

	"netd/reconcile"
	"netd/reconcile/object"
)

// failures are what passes could not do, as the log and the status tell of it: what fails alike is one line, and what fails
// again and again is logged once, until it is over. What fails because a container ended is no failure.
type failures struct {
	told map[alike]bool

	// What belongs to a container that ended meanwhile; nil: nothing does. It is in nobody's way: the next pass wants it no more.
	ended func(reconcile.Event) bool
	once  bool // the last pass that could tell found something not as it was set
}

// unsettled reports whether a pass failed for nothing but that something was not as it had been set, for the first time: who ended
// between the two, as a container may, is not there the next time, which is at once.
func (f *failures) unsettled(r reconcile.Report) bool {
	var u *reconcile.Unsettled
	is := errors.As(r.Err, &u)
	first := is && !f.once
	if is || r.Whole && r.Err == nil {
		f.once = is
	}
	return first
}

// alike is what failures have in common.
type alike struct{ op, kind, err string }

// failed is failures that are alike.
type failed struct {
	alike
	first reconcile.Event
	more  int
}

// tell logs what is new among a pass's failures and returns them in words, empty where there are none; none says that all there
// were are of containers that ended. A whole pass in which
// one does not come again ends it.
func (f *failures) tell(log *zap.Logger, r reconcile.Report) (text string, none bool) {
	var all []*failed
	of := map[alike]*failed{}
	skipped, over := 0, 0
	for _, e := range r.Events {
		switch {
		case e.Err == nil:
			continue
		case e.Skipped:
			skipped++
			continue
		case f.ended != nil && f.ended(e):
			log.Debug("its container has ended", zap.String("kind", e.Change.Key.Kind), zap.String("name", e.Change.Key.Name), zap.Error(e.Err))
			over++
			continue
		}
		a := alike{e.Change.Op.String(), e.Change.Key.Kind, e.Err.Error()}
		if of[a] != nil {
			of[a].more++
			continue
		}
		of[a] = &failed{alike: a, first: e}
		all = append(all, of[a])
	}
	if r.Whole {
		for a := range f.told {
			if of[a] == nil {
				delete(f.told, a)
			}
		}
	}
	var words []string
	for _, x := range all {
		words = append(words, x.String())
		if f.told[x.alike] {
			continue
		}
		if f.told == nil {
			f.told = map[alike]bool{}
		}
		f.told[x.alike] = true
		c := x.first.Change
		log.Error("failed", zap.String("op", x.op), zap.String("kind", x.kind), zap.String("name", c.Key.Name), zap.Int("more", x.more),
			zap.String("text", c.Text()), zap.String("cause", c.Because.Text), zap.Int("skipped", skipped), zap.String("error", x.why()))
	}
	if skipped > 0 && len(words) > 0 {
		words = append(words, fmt.Sprintf("skipped because of that: %d", skipped))
	}
	return strings.Join(words, "\n"), over > 0 && len(words) == 0
}

// String is as reconcile.Outcome has it of one failure.
func (x *failed) String() string {
	text := fmt.Sprintf("%s %s: %s", x.op, x.first.Change.Key, x.why())
	if x.more > 0 {
		text += fmt.Sprintf(" (and %d more of kind %s)", x.more, x.kind)
	}
	return text
}

// why is the kernel's word, and for a route whose link is down that it waits: the kernel says a gateway is unreachable then.
func (x *failed) why() string {
	if route, ok := x.first.Change.Want.(object.Route); ok && route.In == "" && route.Dev != "" {
		if l, err := net.InterfaceByName(route.Dev); err == nil && l.Flags&net.FlagUp == 0 {
			return fmt.Sprintf("link %s is down, and routes wait for it: %s", route.Dev, x.err)
		}
	}
	return x.err
}
