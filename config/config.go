package config

import (
	"net/netip"
	"slices"
	"time"

	"github.com/hashicorp/hcl/v2"
)

// Config is a whole configuration with every default filled in. It was checked: blocks lie in pools, names resolve,
// nothing overlaps. Two files that mean the same give equal values except for positions.
type Config struct {
	Networks  []Network
	Nodes     []Node
	BGP       BGP
	Peers     []Peer
	Workloads []Workload
	Daemon    Daemon
	Variables []string // the names of those that the files declare, sorted: what else is set from outside has no effect
	Digest    string   // SHA-256 of everything read (bytes, variables, files), hex; people are shown its first 7 digits

	nodes map[string]int // position in Nodes
	pools []poolOf       // sorted
}

// Pos is where the file says something: file, 1-based line and column.
type Pos struct {
	File         string
	Line, Column int
}

// Mode is how packets between nodes travel.
type Mode string

const (
	ModeIPIP  Mode = "ipip"  // IP in IP (RFC 2003), by tunl0
	ModeVXLAN Mode = "vxlan" // Ethernet in UDP (RFC 7348)
	ModeBGP   Mode = "bgp"   // bare, by routes learned over BGP (RFC 4271)
)

// Encapsulate says when a network's packets are wrapped.
type Encapsulate string

const (
	Always      Encapsulate = "always"
	CrossSubnet Encapsulate = "cross-subnet"
)

// Network is a set of pools that share a mode.
type Network struct {
	Name         string
	Pools        []netip.Prefix // masked
	Mode         Mode
	Encapsulate  Encapsulate
	Receive      []Mode
	NATOutgoing  bool
	NATOutgoing6 bool
	NATExempt    []netip.Prefix
	MTU          int // 0: derived from the underlay link
	VNI          uint32
	Port         uint16
	SecondPort   bool           // vxlan: another network has the same VNI, at a lower port
	Family6      bool           // vxlan: the tunnel runs over address6
	Reserved     []netip.Prefix // single addresses are /32 and /128
	Pos          Pos

	rng, poolsRange, mtuRange, vxlanRange hcl.Range
}

// Uses reports whether a network's packets may travel in a mode: its own, or one that it receives besides.
func (n Network) Uses(m Mode) bool { return n.Mode == m || slices.Contains(n.Receive, m) }

// Node is one host.
type Node struct {
	Name           string
	Address        netip.Prefix // as on the interface, not masked; invalid where only Address6 is given
	Address6       netip.Prefix
	RouterID       netip.Addr
	Blocks         []netip.Prefix // masked, in the file's order, which counts
	Interface      string         // empty: the link that holds Address
	ASN            uint32
	RouteReflector netip.Addr // cluster id; invalid: no reflector
	Labels         map[string]string
	Pos            Pos
	BlocksPos      Pos

	rng, blocksRange, addressRange hcl.Range

	addressUnsure, blocksUnsure bool // what is written is wrong, and reported
}

// BGP holds what all sessions share.
type BGP struct {
	ASN             uint32
	Mesh            bool
	MeshSet         bool // mesh is written; else it is on while no node is a reflector
	ListenPort      uint16
	PasswordFile    string
	GracefulRestart time.Duration
	HoldTime        time.Duration
	Multipath       bool
	Advertise       []string // "blocks", "workloads"
	TTLSecurity     bool
	TTLSecuritySet  bool // ttl_security is written; else it is on where two nodes share a subnet
	Pos             Pos
}

// PrefixRange is an entry of a prefix list: prefixes within Prefix whose length is from Min to Max.
type PrefixRange struct {
	Prefix   netip.Prefix
	Min, Max int
}

// Peer is a router outside the file.
type Peer struct {
	Name         string
	Address      netip.Addr
	ASN          uint32
	Nodes        []string // names of the nodes that have this session, in the file's order of nodes
	MatchLabels  map[string]string
	Port         uint16
	PasswordFile string
	Multihop     int // 0: directly attached
	TTLSecurity  bool
	Passive      bool
	HoldTime     time.Duration
	Import       []PrefixRange
	Export       []PrefixRange
	ExportSet    bool // export is written; else a node exports its own blocks
	ImportSet    bool
	Communities  []string
	Prepend      int
	LocalPref    int // -1: not set
	MaxPrefixes  int
	NextHopSelf  bool
	DefaultRoute bool
	Pos          Pos

	rng, nodesRange hcl.Range
}

// Workload is a container declared in the file.
type Workload struct {
	Name       string
	Node       string
	Addresses  []netip.Addr // one, or an IPv4 and an IPv6
	Docker     string       // one of these three is set
	Containerd string
	Netns      string
	Interface  string
	MAC        [6]byte // zero: computed from the name
	Network    string  // the network whose pool holds the first address
	Pos        Pos

	rng, addressRange, nodeRange, networkRange hcl.Range
}

// Daemon is how `netd run` behaves.
type Daemon struct {
	Hold bool   // on_change = "hold"
	HTTP string // empty: none
	Pos  Pos
}

// Node returns the node of that name.
func (c *Config) Node(name string) (Node, bool) {
	i, ok := c.nodes[name]
	if !ok {
		return Node{}, false
	}
	return c.Nodes[i], true
}

// NetworkOf returns the network with the pool that p lies in.
func (c *Config) NetworkOf(p netip.Prefix) (Network, bool) {
	// Pools do not overlap: only the last one that begins at or before p can hold it.
	i, _ := slices.BinarySearchFunc(c.pools, p.Addr(), func(pool poolOf, a netip.Addr) int {
		if pool.prefix.Addr().Compare(a) <= 0 {
			return -1
		}
		return 1
	})
	if i == 0 {
		return Network{}, false
	}
	if pool := c.pools[i-1]; pool.prefix.Bits() <= p.Bits() && pool.prefix.Contains(p.Addr()) {
		return c.Networks[pool.network], true
	}
	return Network{}, false
}

// BlocksIn returns the node's blocks of one network, in the file's order.
func (c *Config) BlocksIn(n Node, network string) []netip.Prefix {
	var in []netip.Prefix
	for _, b := range n.Blocks {
		if net, ok := c.NetworkOf(b); ok && net.Name == network {
			in = append(in, b)
		}
	}
	return in
}

// Tunnel is the address that a node's tunnel device of a network and family holds: the first address of its first block
// there with more than one address. ok is false where it has none.
func (c *Config) Tunnel(n Node, network string, v6 bool) (addr netip.Addr, ok bool) {
	for _, b := range c.BlocksIn(n, network) {
		if b.Addr().Is6() == v6 && !b.IsSingleIP() {
			return b.Addr(), true
		}
	}
	return netip.Addr{}, false
}
