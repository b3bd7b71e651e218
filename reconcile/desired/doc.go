// Package desired turns a configuration and the facts about one host into the state that this host should have. It is a
// pure function: no I/O, no clock, no memory. So it can be run for every node of the file on any machine, and the same
// input always gives the same state.
//
//	Config, node, Facts ──▶ Compile ──▶ Result{Want, Notes}
//
// What every mode shares is in desired.go (the node's own blocks, sysctls) and workload.go (a container's wire). Each mode
// is a file that opens with the way of a packet: ipip.go, vxlan.go, bgp.go. firewall.go builds the guards and the
// masquerade. BGP is in neighbours.go (who they are), admit.go (what may be learned from them), bgp.go (what becomes of it)
// and sessions.go (the sessions, and what is announced). What the file may ask for and this version cannot do is in unbuilt.go.
package desired
