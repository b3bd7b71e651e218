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
	Listen    netip.Addr // the one address that the port is open on
	Port      uint16
	Multipath bool

	// Refuse is RFC 8212's default: what no neighbour's Import names is refused. Always wanted; here to be repaired.
	Refuse bool
}

// BGPKey is the key of the only BGP resource.
var BGPKey = reconcile.Key{Kind: KindBGP, Name: "speaker"}

func (b BGP) Key() reconcile.Key        { return BGPKey }
func (b BGP) Requires() []reconcile.Key { return nil }
func (b BGP) Fields() []reconcile.Field {
	return []reconcile.Field{
		field("asn", strconv.FormatUint(uint64(b.ASN), 10)), field("router id", addrText(b.RouterID)),
		field("listen", addrText(b.Listen)), field("port", strconv.Itoa(int(b.Port))), field("multipath", onOff(b.Multipath)),
		field("refuse unlisted", onOff(b.Refuse)),
	}
}

// Summary is the router as a plan prints it.
func (b BGP) Summary() string {
	return fmt.Sprintf("AS %d, router id %s, listen %s", b.ASN, addrText(b.RouterID), netip.AddrPortFrom(b.Listen, b.Port))
}

// Replaces: only the default of the import policy can be changed while sessions live. What this takes along, the
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

// Peer is a neighbour of the speaker.
type Peer struct {
	Addr            netip.Addr
	ASN             uint32
	Local           netip.Addr // the session's own end
	Port            uint16     // the neighbour's; of use where this end dials
	Opens           Opens
	Password        string // Fingerprint of the MD5 key, empty: none. The key itself is in no resource
	TTLSecurity     bool   // GTSM, RFC 5082: the neighbour is on the link, packets with a TTL below 255 are dropped
	HoldTime        time.Duration
	Keepalive       time.Duration
	GracefulRestart time.Duration // restart time announced (RFC 4724); 0: off
	Up              bool          // not shut down by hand
	Import          string        // PrefixList of what it may announce, each with itself as next hop; nothing else is taken
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
		field("opens", string(p.Opens)), field("password", textOr(p.Password, "none")), field("ttl security", onOff(p.TTLSecurity)),
		field("hold time", p.HoldTime.String()), field("keepalive", p.Keepalive.String()),
		field("graceful restart", offOr(p.GracefulRestart)), field("state", upDown(p.Up)), field("import", textOr(p.Import, "nothing")),
	}
}

// Summary is the neighbour as a plan prints it.
func (p Peer) Summary() string {
	words := []string{fmt.Sprintf("AS %d", p.ASN), fmt.Sprintf("%s from %s", p.Opens, addrText(p.Local)), "hold time " + p.HoldTime.String()}
	if p.GracefulRestart != 0 {
		words = append(words, "graceful restart "+p.GracefulRestart.String())
	}
	if p.Password != "" {
		words = append(words, "password")
	}
	if p.TTLSecurity {
		words = append(words, "ttl security")
	}
	if p.Import != "" {
		words = append(words, "import "+p.Import)
	}
	return strings.Join(words, ", ")
}

// Replaces: what the two ends agree on when a session opens needs a new session. Timers, TTL, administrative state and
// what is imported change under a living one.
func (p Peer) Replaces(have reconcile.Resource) bool {
	h, ok := have.(Peer)
	h.TTLSecurity, h.HoldTime, h.Keepalive, h.Up, h.Import = p.TTLSecurity, p.HoldTime, p.Keepalive, p.Up, p.Import
	return !ok || h != p
}

// Path is a prefix that this host announces.
type Path struct {
	Prefix  netip.Prefix
	NextHop netip.Addr
}

// PathKey is the key of an announced prefix.
func PathKey(p netip.Prefix) reconcile.Key { return reconcile.Key{Kind: KindPath, Name: p.String()} }

func (p Path) Key() reconcile.Key        { return PathKey(p.Prefix) }
func (p Path) Requires() []reconcile.Key { return []reconcile.Key{BGPKey} }
func (p Path) Fields() []reconcile.Field {
	return []reconcile.Field{field("next hop", addrText(p.NextHop))}
}

// Summary is the path as a plan prints it.
func (p Path) Summary() string { return "announced, next hop " + addrText(p.NextHop) }

// PrefixList is the canonical text of a set of prefixes: in order, each once, separated by blanks.
func PrefixList(prefixes []netip.Prefix) string {
	sorted := slices.Clone(prefixes)
	slices.SortFunc(sorted, netip.Prefix.Compare)
	var b strings.Builder
	for i, p := range slices.Compact(sorted) {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(p.String())
	}
	return b.String()
}

// ParsePrefixList is the inverse of PrefixList.
func ParsePrefixList(list string) ([]netip.Prefix, error) {
	words := strings.Fields(list)
	out := make([]netip.Prefix, 0, len(words))
	for _, w := range words {
		p, err := netip.ParsePrefix(w)
		if err != nil {
			return nil, fmt.Errorf("reading a list of prefixes: %w", err)
		}
		out = append(out, p)
	}
	return out, nil
}

func textOr(s, empty string) string {
	if s == "" {
		return empty
	}
	return s
}

func offOr(d time.Duration) string {
	if d == 0 {
		return "off"
	}
	return d.String()
}
