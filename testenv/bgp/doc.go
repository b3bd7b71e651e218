// Package bgp is the laboratory of netd's BGP: the program as it is built, in network namespaces, beside BIRD, FRR and
// whoever else sits on the wire. It has tests alone.
//
//	lab_test.go      hosts on a wire: netd, a router, or neither
//	killed_test.go   what is killed and what is upgraded, under a stream of packets each way
//	restart_test.go  what dies, falls silent and comes back
//	families_test.go a router that comes back with one family of two
//	interop_test.go, pairs_test.go   BIRD and FRR in every way that a peer block knows; either end first, both restarted
//	cross_test.go, cross_streams_test.go BIRD and FRR as switch, client and reflector, over either family, with each pair of options, and
//	                 what it costs that either end is restarted
//	otherlink_test.go, communities_test.go routers on another link; communities of every kind, both ways
//	drain_test.go    a switch that asks to be left before it goes down
//	labels_test.go   which nodes a peer is of, its port, and the next hop of what it is told
//	peer_test.go, rack_test.go       every attribute, edited under a living session; two switches and a next hop for each
//	subnets_test.go, dual_test.go    next hops on no link; both families over each kind of session
//	spread_test.go, policy_test.go   flows over several switches, and who sets back by what they are spread
//	flap_test.go     a router that flaps beside one that does not
//	hostile_test.go, outside_test.go what a node and a router may not say, and who may not even connect
//	opens_test.go, toomany_test.go   connections without end; 100,000 prefixes where 1,000 are allowed
//	flood_test.go    prefixes over and over
//	reflector_test.go, many_test.go  route reflectors; many nodes
//	look_test.go, privilege_test.go  what people see; what the speaker may
//	docs_test.go     the configurations that the documentation shows
package bgp
