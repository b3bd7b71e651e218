// Package fakehost is a host's kernel in memory, as strict as the real one, for tests of the engine that want ten thousand
// hosts in seconds. It holds the values of package object and treats them as Linux does:
//
//	link     takes its addresses, neighbours, forwarding entries, next hop objects, settings and routes along; a veth goes
//	         with its peer in the workload's namespace and all that is on that
//	link     that is set down takes its routes along, those of IPv4 without a word, its next hop objects, its neighbours
//	down     and its IPv6 addresses; its IPv4 addresses and blackholes stay
//	addr     of IPv4 goes with the routes that prefer it as source; the last one of a link with that link's routes and
//	         neighbours of IPv4. Of IPv6 the routes stay, and lose that preference where the address goes alone
//	nexthop  takes the routes by it along
//	route    needs its link up, its next hop object, and its preferred source on some link; of IPv4 a way to its next hop
//	neigh, fdb, sysctl need their link
//	nft      a chain needs its sets, an element its set, all of them their table, which takes everything along; a set that a
//	         chain looks up stays
//
// Nothing is made twice, nothing is changed in place that the kernel does not change in place, and what is foreign is never
// overwritten. That the fake is right is itself proved: reconcile/kernel runs the same random operations, and the same
// disturbances by others, on it and on the kernel.
package fakehost
