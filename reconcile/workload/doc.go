// Package workload attaches containers. A container is attached when the kernel has its wire (see desired), and the store
// says so and which addresses it has:
//
//	declared in the file      Look ─────────────────────────────┐
//	CNI (cni/), Docker        Core.Attach ─▶ store ─▶ Host.Wire ─┴▶ the endpoints of the desired state
//
// Core is what fronts of runtimes call: Attach, Detach and Check, each by an id that never changes, each as often as one
// likes. Its caller is the daemon, on its loop's goroutine, or a front's own process under the host's lock. The order of
// writes makes it safe to die anywhere: an address is written down before the kernel has it, and is free only after the
// kernel has it no more.
//
// # Addresses
//
// An address comes from this node's blocks in the file's order: the one that the container had before, else one that was
// never used, else the one unused for longest. Never one that a container holds, nor the tunnel's, a declared workload's or
// a reserved one.
//
// # Namespaces
//
// Which namespace a path means is told by the kernel's cookie of it (Identify), since paths and inode numbers are used
// again. A container whose namespace went without a word is swept: Live finds it gone, and Sweep frees its address when it is
// gone at a second look, Sightings later.
//
// Read core.go first, then address.go.
package workload
