// Package reconcile is the middle of netd: what a host should look like, what it looks like, and the way from one to the
// other. It knows no kernel, no file format and no network, and stands on the standard library alone.
//
//	/etc/netd.hcl ──config──▶ Config ──desired──▶ Want ──┐
//	                          facts ────────────────▲    ├─ Diff ─▶ Plan ─▶ Apply ─▶ Events
//	kernel, BGP speaker ──Observe──────────────▶ Have ───┘    (printed, sent and executed: one value)
//
// A Resource is a plain comparable value: a link, an address, a route, a set element, a BGP neighbour. Kinds read and
// change the resources of one kind. An Engine has kinds in their soft order and does the rest: Observe, Diff, Apply, and
// the proof by reading back.
//
// # Three phases
//
// A plan runs in three phases. Teardown deletes what cannot be changed in place, with everything that stands on it.
// Build creates and updates what is wanted, footing first. Leftover deletes what is not wanted any more, deepest first,
// and only if nothing before it failed. One phase does not do: a link takes its addresses, routes and neighbours with it,
// so that a replaced link's routes have to be built again although they were there when the host was observed, and a
// route that moves from one device to another has to be moved before the device goes.
//
// What guards (Guard) comes before what it guards and goes after it, and where it could not be built, that is not built either.
//
// # Whole and narrow passes
//
// A whole pass observes everything. A narrow pass (PlanAt) reads only the places that an event named, and what stands on
// them, so that one route of 100,000 is put back in milliseconds. Both go through the same Diff. Events are hints (Pokes):
// they may be lost, and the periodic whole pass of Loop finds what they missed.
//
// What is wanted may change at single places too (Amendment): the routes of some prefixes of a table of 100,000. Such a
// change costs those places, from what is wanted there to reading it back, and while it is made the next ones become known.
// Only what the whole state would have at those places may be amended; where it cannot be told, all of it is compiled anew. Of a
// Teller's kind what comes is not read before, since what is there refuses it, nor after, since the kernel answers with what it
// made; what goes is read after.
//
// # What is foreign
//
// Kinds tell from the object itself whether it is netd's. What is not is never changed; where it holds a wanted place it
// becomes a Conflict of the plan, and what would stand there is left out.
//
// Read state.go and kind.go for the values, diff.go for the comparison, apply.go for the execution, loop.go for the daemon.
package reconcile
