package main

import (
	"fmt"
	"strings"

	"netd/reconcile"
	"netd/reconcile/object"
)

// resets says which BGP sessions a plan ends to begin them anew, and what for. Those that it changes as they run, begins
// or ends are in the plan as they are.
func resets(p reconcile.Plan, want reconcile.Want) []string {
	var out []string
	router := ""
	for _, c := range p.Changes {
		if c.Phase != reconcile.Teardown {
			continue
		}
		w, wanted := want.State[c.Key]
		switch c.Key.Kind {
		case object.KindBGP:
			router = "the router changes: " + reconcile.Difference(c.Have, w)
		case object.KindPeer:
			if !wanted {
				continue
			}
			who := c.Key.Name
			if why := want.Because(c.Key).Text; why != "" {
				who += " (" + why + ")"
			}
			what := differenceOf(c.Have.(object.Peer), w.(object.Peer))
			if what == "" {
				what = "the router changes"
			}
			out = append(out, fmt.Sprintf("the session with %s is reset: %s", who, what))
		}
	}
	if router != "" {
		out = append(out, router)
	}
	return out
}

// differenceOf is how two neighbours differ, without what only looks like a password.
func differenceOf(have, want object.Peer) string {
	changed := have.Password != want.Password
	have.Password = want.Password
	var parts []string
	if d := reconcile.Difference(have, want); d != "" {
		parts = append(parts, d)
	}
	if changed {
		parts = append(parts, "password (changed)")
	}
	return strings.Join(parts, ", ")
}
