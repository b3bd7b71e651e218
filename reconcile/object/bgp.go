package object

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"netd/reconcile"
)

// BGP is the speaker's router: who it is and where it listens. There is one.
type BGP struct {
	ASN       uint32
	RouterID  netip.Addr
	Listen    string // AddrList of the addresses that the port is open on
	Port      uint16
	Multipath bool

	// Refuse is RFC 8212's default both ways: what no neighbour's lists name is neither taken nor told. Always wanted; here
	// to be repaired.
	Refuse bool
}

// BGPKey is the key of the only BGP resource.
var BGPKey = reconcile.Key{Kind: KindBGP, Name: "speaker"}

func (b BGP) Key() reconcile.Key        { return BGPKey }
func (b BGP) Requires() []reconcile.Key { return nil }
func (b BGP) Fields() []reconcile.Field {
	return []reconcile.Field{
		field("asn", strconv.FormatUint(uint64(b.ASN), 10)), field("router id", addrText(b.RouterID)),
		field("listen", textOr(b.Listen, "nowhere")), field("port", strconv.Itoa(int(b.Port))), field("multipath", onOff(b.Multipath)),
		field("refuse unlisted", onOff(b.Refuse)),
	}
}

// Summary is the router as a plan prints it.
func (b BGP) Summary() string {
	return fmt.Sprintf("AS %d, router id %s, listen %s port %d", b.ASN, addrText(b.RouterID), textOr(b.Listen, "nowhere"), b.Port)
}

// Replaces: only the policy's default can be changed while sessions live. What this takes along, the
// sessions, comes back in the same pass.
func (b BGP) Replaces(have reconcile.Resource) bool {
	h, ok := have.(BGP)
	h.Refuse = b.Refuse
	return !ok || h != b
}

// Opens says which end of a session opens the connection. Two ends that both do collide, and gobgp does not resolve
// collisions (RFC 4271 §6.8), so that exactly one of each pair dials.
type Opens string

const (
	Dials   Opens = "dials"
	Listens Opens = "listens"
)

// Family is what a session carries: IPv4 prefixes, IPv6 prefixes, or both (RFC 4760).
type Family string

const (
	IPv4 Family = ""
	IPv6 Family = "ipv6"
	Dual Family = "ipv4 ipv6"
)

func (f Family) String() string { return textOr(string(f), "ipv4") }

// Has reports whether the session carries addresses like a.
func (f Family) Has(a netip.Addr) bool {
	return f == Dual || (f == IPv6) == a.Is6()
}

// Peer is a neighbour of the speaker: another node of the file, or a router outside it.
//
// What it may tell and what it is told is part of it. A node is told the paths that are marked for nodes (Path.To); an
// outside router those that are marked with its address, and of what was learned from others only what Transit names.
type Peer struct {
	Addr            netip.Addr
	ASN             uint32
	Local           netip.Addr // the session's own end
	Port            uint16     // the neighbour's; of use where this end dials
	Opens           Opens
	Family          Family
	Password        string // Fingerprint of the MD5 key, empty: none. The key itself is in no resource
	TTLSecurity     bool   // GTSM, RFC 5082: the neighbour is on the link, packets with a TTL below 255 are dropped
	Multihop        uint8  // hops that a session with another AS may take; 0: the neighbour is on the link
	HoldTime        time.Duration
	Keepalive       time.Duration
	GracefulRestart time.Duration // restart time announced (RFC 4724); 0: off
	MaxPrefixes     uint32        // of a family, whether taken or not; more close the session. 0: no limit
	Up              bool          // not shut down by hand

	Import    string // PrefixRanges that it may tell; nothing else is taken
	Except    string // PrefixRanges that are not taken though Import has them
	NextHops  string // AddrList of the next hops that it may give; empty: any
	FirstAS   uint32 // that the paths which it tells begin with; 0: any
	LocalPref string // given to what it tells; empty: as it comes

	Cluster   netip.Addr // it is this host's client, a reflector's, under this cluster id (RFC 4456); invalid: it is none
	Reflected bool       // it is told what other nodes told, if that is a node's block by way of that node

	Outside     bool       // a router outside the file
	Transit     string     // PrefixRanges of what others told that it is told too
	UntellLoops bool       // of another AS: what was told is withdrawn once the way leads through its AS (RFC 4271 §9.1.3)
	Self        netip.Addr // next hop of IPv4 prefixes that it is told
	Self6       netip.Addr // of IPv6 prefixes
	KeepNextHop bool       // what others told keeps its next hop
	Communities string     // added to what it is told, in order, separated by blanks
	Prepend     uint8      // times the own AS is put before what it is told
}

// PeerKey is the key of a neighbour.
func PeerKey(addr netip.Addr) reconcile.Key {
	return reconcile.Key{Kind: KindPeer, Name: addr.String()}
}

func (p Peer) Key() reconcile.Key        { return PeerKey(p.Addr) }
func (p Peer) Requires() []reconcile.Key { return []reconcile.Key{BGPKey} }
func (p Peer) Fields() []reconcile.Field {
	return []reconcile.Field{
		field("asn", strconv.FormatUint(uint64(p.ASN), 10)), field("local", addrText(p.Local)), field("port", strconv.Itoa(int(p.Port))),
		field("opens", string(p.Opens)), field("family", p.Family.String()), field("password", textOr(p.Password, "none")),
		field("ttl security", onOff(p.TTLSecurity)), field("multihop", zeroOr(uint64(p.Multihop), "off")), field("hold time", p.HoldTime.String()),
		field("keepalive", p.Keepalive.String()), field("graceful restart", offOr(p.GracefulRestart)),
		field("max prefixes", zeroOr(uint64(p.MaxPrefixes), "any")), field("state", upDown(p.Up)),
		field("import", textOr(p.Import, "nothing")), field("except", textOr(p.Except, "nothing")), field("next hops", textOr(p.NextHops, "any")),
		field("first as", zeroOr(uint64(p.FirstAS), "any")), field("local pref", textOr(p.LocalPref, "as it comes")),
		field("client", textOr(clusterText(p.Cluster), "no")), field("reflected", onOff(p.Reflected)), field("outside", onOff(p.Outside)), field("transit", textOr(p.Transit, "nothing")), field("untell loops", onOff(p.UntellLoops)),
		field("self", addrText(p.Self)), field("self6", addrText(p.Self6)), field("keep next hop", onOff(p.KeepNextHop)),
		field("communities", textOr(p.Communities, "none")), field("prepend", strconv.Itoa(int(p.Prepend))),
	}
}

// Summary is the neighbour as a plan prints it.
func (p Peer) Summary() string {
	words := []string{fmt.Sprintf("AS %d", p.ASN), fmt.Sprintf("%s from %s", p.Opens, addrText(p.Local)), "hold time " + p.HoldTime.String()}
	add := func(there bool, format string, args ...any) {
		if there {
			words = append(words, fmt.Sprintf(format, args...))
		}
	}
	add(p.GracefulRestart != 0, "graceful restart %s", p.GracefulRestart)
	add(p.Password != "", "password")
	add(p.TTLSecurity, "ttl security")
	add(p.Multihop != 0, "multihop %d", p.Multihop)
	add(p.Family != IPv4, "%s", p.Family)
	add(p.MaxPrefixes != 0, "max prefixes %d", p.MaxPrefixes)
	add(p.Cluster.IsValid(), "client of cluster %s", p.Cluster)
	add(p.Import != "", "import %s", few(p.Import))
	add(p.Except != "", "except %s", few(p.Except))
	add(p.LocalPref != "", "local pref %s", p.LocalPref)
	add(p.Transit != "", "transit %s", p.Transit)
	add(p.Communities != "", "communities %s", p.Communities)
	add(p.Prepend != 0, "prepend %d", p.Prepend)
	return strings.Join(words, ", ")
}

// Replaces: what the two ends agree on when a session opens needs a new session. Timers, TTL, administrative state, limits
// and policies change under a living one, with one exception: gobgp does not withdraw what Transit and Reflected no longer
// let out.
func (p Peer) Replaces(have reconcile.Resource) bool {
	h, ok := have.(Peer)
	if !ok || p.Outside != h.Outside || !covers(p.Transit, h.Transit) || h.Reflected && !p.Reflected {
		return true
	}
	h.TTLSecurity, h.Multihop, h.HoldTime, h.Keepalive, h.MaxPrefixes, h.Up = p.TTLSecurity, p.Multihop, p.HoldTime, p.Keepalive, p.MaxPrefixes, p.Up
	h.Import, h.Except, h.NextHops, h.FirstAS, h.LocalPref, h.Reflected = p.Import, p.Except, p.NextHops, p.FirstAS, p.LocalPref, p.Reflected
	h.Transit, h.Self, h.Self6, h.KeepNextHop, h.Communities, h.Prepend = p.Transit, p.Self, p.Self6, p.KeepNextHop, p.Communities, p.Prepend
	return h != p
}

func clusterText(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return "of cluster " + a.String()
}

// few is a list as a plan prints it: the fields have it whole.
func few(list string) string {
	const most = 8
	entries := strings.Split(list, ", ")
	if len(entries) <= most {
		return list
	}
	return fmt.Sprintf("%s … (%d in all)", strings.Join(entries[:3], ", "), len(entries))
}

// covers reports whether every range of small lies in one of large.
func covers(large, small string) bool {
	l, err := ParsePrefixRanges(large)
	s, err2 := ParsePrefixRanges(small)
	if err != nil || err2 != nil {
		return false
	}
	for _, x := range s {
		if !slices.ContainsFunc(l, func(y PrefixRange) bool { return y.Covers(x) }) {
			return false
		}
	}
	return true
}

// Path is a prefix that this host announces.
type Path struct {
	Prefix  netip.Prefix
	NextHop netip.Addr
	To      string // who is told: ToNodes, addresses of outside peers; in order, separated by blanks
}

// ToNodes stands in Path.To for all nodes of the file that this host has sessions with.
const ToNodes = "nodes"

// PathKey is the key of an announced prefix.
func PathKey(p netip.Prefix) reconcile.Key { return reconcile.Key{Kind: KindPath, Name: p.String()} }

func (p Path) Key() reconcile.Key        { return PathKey(p.Prefix) }
func (p Path) Requires() []reconcile.Key { return []reconcile.Key{BGPKey} }
func (p Path) Fields() []reconcile.Field {
	return []reconcile.Field{field("next hop", addrText(p.NextHop)), field("to", textOr(p.To, "nobody"))}
}

// Summary is the path as a plan prints it.
func (p Path) Summary() string {
	return "announced to " + textOr(p.To, "nobody") + ", next hop " + addrText(p.NextHop)
}

func textOr(s, empty string) string {
	if s == "" {
		return empty
	}
	return s
}

func zeroOr(n uint64, zero string) string {
	if n == 0 {
		return zero
	}
	return strconv.FormatUint(n, 10)
}

func offOr(d time.Duration) string {
	if d == 0 {
		return "off"
	}
	return d.String()
}
