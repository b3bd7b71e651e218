package object

import (
	"net/netip"
	"strconv"
)

// Host is what desired state depends on of a host's kernel besides what netd owns there.
type Host struct {
	Name          string // hostname
	Links         []HostLink
	DefaultLinks  []string // links that an IPv4 default route leaves by, sorted
	DefaultLinks6 []string // likewise IPv6
	IPForward     bool     // net.ipv4.ip_forward
	IPv6Forward   bool     // IPv6Forwarding, as it is without netd
	RPFilterAll   int      // net.ipv4.conf.all.rp_filter
	HasTunl0      bool     // tunl0 is there: the ipip module is loaded
	IPv6          bool     // the kernel speaks IPv6 at all: it has net.ipv6
	LearnedRoutes []Learned
	TunnelRoutes  []Learned    // of netd in the main table, by one of its tunnels
	Lately        []string     // tunnels that a network of mode bgp still needed a moment ago; whoever keeps the time says so
	Filter        string       // the chains of iptables in which what is forwarded has to be accepted, with a space between; empty: none drops it
	Filter6       string       // likewise ip6tables
	Ways          []Way        // to next hops that the speaker gave
	Tunnels       []HostTunnel // ipip devices that are not netd's, besides tunl0
}

// HostTunnel is an ipip device of somebody else. An end that it leaves open is invalid.
type HostTunnel struct {
	Name          string
	Local, Remote netip.Addr
}

// HostLink is a link that is not netd's.
type HostLink struct {
	Name      string
	Index     int
	MTU       int
	Up        bool
	NoCarrier bool // up, and nothing at its other end
	Loopback  bool
	Port      bool           // of a bridge or bond, or a VRF's: what comes in is another link's
	Addrs     []netip.Prefix // not masked

	// As they are without netd, and read of the links that netd might switch only: the IPv4 forwarding switch, and whether
	// the link heeds IPv6 router advertisements (0 no, 1 while IPv6 forwarding is off, 2 always).
	Forwarding bool
	AcceptRA   int
}

// Learned is a unicast route of netd in the main table with a gateway and no tunnel, or one of several: what a BGP session gave. Where no
// speaker can say what it knows, such a route is kept as long as the file still admits it.
type Learned struct {
	Prefix  netip.Prefix
	NextHop netip.Addr
	Link    string
}

// Way is how the host reaches an address that is on none of its links: by the most specific route that is not netd's.
type Way struct {
	To     netip.Addr
	Prefix netip.Prefix // of the route
	Hops   string       // Hops
}

// Endpoint is a container that is attached to the network on this host, or is to be.
type Endpoint struct {
	ID        Place  // "file/<workload>", "cni/<container id>/<interface>", "docker/<endpoint id>"
	Name      string // what people call the container, where its runtime says so
	Netns     string // path of its network namespace, which was there when it was looked at
	Interface string // in the container
	IPv4      netip.Addr
	IPv6      netip.Addr // one of the two at least is valid
	MAC       MAC
	MTU       int    // at most; 0: the network's
	Beside    bool   // another endpoint has the default route of its namespace
	Second    bool   // its runtime knows of no gateway by it: a default route is netd's own, and gives way to the runtime's
	Handed    bool   // its runtime takes the container's end from the host's namespace and puts address and routes on it
	Network   string // whose MTU it has, and whose mode an address that lies in no pool any more
	Ports     []Port // that this host publishes for it
}

// Who is the container in words.
func (e Endpoint) Who() string { return e.ID.Called(e.Name) }

// Port is a port of a container that a host publishes at its own addresses.
type Port struct {
	Proto string     `json:"proto"`       // "tcp", "udp"
	At    netip.Addr `json:"at,omitzero"` // the host's address; 0.0.0.0, ::: each of that family; invalid: each that it has
	On    uint16     `json:"on"`          // the host's port
	Port  uint16     `json:"port"`        // the container's
}

// String is the port as Docker writes it: "192.168.170.137:8080->80/tcp".
func (p Port) String() string {
	at := strconv.Itoa(int(p.On))
	if p.At.IsValid() {
		at = netip.AddrPortFrom(p.At, p.On).String()
	}
	return at + "->" + strconv.Itoa(int(p.Port)) + "/" + p.Proto
}

// Wild reports whether a port is not of one host address alone.
func (p Port) Wild() bool { return !p.At.IsValid() || p.At.IsUnspecified() }

// Meets reports whether two ports are of one host address at least.
func (p Port) Meets(o Port) bool {
	return p.Proto == o.Proto && p.On == o.On && (p.covers(o.At) || o.covers(p.At))
}

// covers reports whether what a stands for is of a port's host addresses.
func (p Port) covers(a netip.Addr) bool {
	return !p.At.IsValid() || p.At == a || p.At.IsUnspecified() && a.IsValid() && a.Is6() == p.At.Is6()
}

// Addrs are the addresses that a container has, IPv4 first.
func (e Endpoint) Addrs() []netip.Addr {
	out := make([]netip.Addr, 0, 2)
	for _, a := range []netip.Addr{e.IPv4, e.IPv6} {
		if a.IsValid() {
			out = append(out, a)
		}
	}
	return out
}

// Speaker is what the BGP speaker knows. The zero value is a speaker that cannot be asked: unknown, not empty.
type Speaker struct {
	Known bool // it answered with a whole snapshot
	Peers []SpeakerPeer
	Paths []BestPath
}

// SpeakerPeer is a neighbour of the speaker.
type SpeakerPeer struct {
	Addr   netip.Addr
	Synced bool // its table is known: End-of-RIB was received, or the deferral time is over
}

// BestPath is a path that the speaker selected.
type BestPath struct {
	Prefix  netip.Prefix
	NextHop netip.Addr
	Peer    netip.Addr // who sent it
	FirstAS uint32     // that its AS_PATH begins with; 0: it is empty, or begins with a set
}
