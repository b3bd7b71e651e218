// Package bgp is the laboratory of netd's BGP: the program as it is built, in network namespaces, beside BIRD, FRR and
// whoever else sits on the wire. It has tests alone.
//
//	lab_test.go      hosts on a wire: netd, a router, or neither
//	restart_test.go  what dies and comes back, under a stream of packets
package bgp
