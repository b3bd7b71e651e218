// Package fakehost is a host's kernel in memory, as strict as the real one, for tests of the engine that want ten thousand
// hosts in seconds. It holds the values of package object and treats them as Linux does:
//
//	link     takes its addresses, neighbours, forwarding entries, next hop objects, settings and routes along
//	addr     goes with the routes that prefer it as source; the last one of a link with that link's routes
//	nexthop  takes the routes by it along
//	route    needs its link up, its next hop object, and its preferred source on some link
//	neigh, fdb, sysctl need their link
//	nft      a chain needs its sets, an element its set, all of them their table, which takes everything along; a set that a
//	         chain looks up stays
//
// It has no containers (veths), knows the kernel's rules for IPv4 alone, and no link of it goes down: a route that needs its
// link up is refused, and a link that is set down takes nothing along. Those are proved on the kernel itself.
//
// Nothing is made twice, nothing is changed in place that the kernel does not change in place, and what is foreign is never
// overwritten. That the fake is right is itself proved: reconcile/kernel runs the same random operations on it and on the
// kernel.
package fakehost
