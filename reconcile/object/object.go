package object

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"netd/reconcile"
)

// Names of the kinds, as keys and plans spell them.
const (
	KindNft     = "nft"
	KindAccept  = "accept"
	KindLink    = "link"
	KindSysctl  = "sysctl"
	KindAddr    = "addr"
	KindNexthop = "nexthop"
	KindNeigh   = "neigh"
	KindFDB     = "fdb"
	KindRoute   = "route"
	KindBGP     = "bgp"
	KindPeer    = "peer"
	KindPath    = "path"
)

// The marks of what is netd's (docs: ownership).
const (
	Protocol  = 142 // rtnetlink protocol of routes, rules and next hops, IFA_PROTO of addresses
	LinkGroup = 142 // IFLA_GROUP of links
)

// MAC is an Ethernet address as a comparable value.
type MAC [6]byte

func (m MAC) String() string {
	const digit = "0123456789abcdef"
	var b [17]byte
	for i, x := range m {
		if i > 0 {
			b[3*i-1] = ':'
		}
		b[3*i], b[3*i+1] = digit[x>>4], digit[x&15]
	}
	return string(b[:])
}

// ParseMAC reads an Ethernet address of six bytes.
func ParseMAC(s string) (MAC, error) {
	hw, err := net.ParseMAC(s)
	if err != nil || len(hw) != 6 {
		return MAC{}, fmt.Errorf("%q is no MAC address of six bytes", s)
	}
	return MAC(hw), nil
}

// HostEndMAC is the address of the host's end of every veth. All ends have the same, since each is alone on its wire, so
// that a container that moves keeps a valid neighbour entry for its gateway.
var HostEndMAC = MAC{0xee, 0xee, 0xee, 0xee, 0xee, 0xee}

// Gateway is the next hop of every container's IPv4 default route, held by the host's end of its veth.
var Gateway = netip.MustParseAddr("169.254.1.1")

// Gateway6 is the next hop of every container's IPv6 default route: the link-local address that belongs to HostEndMAC
// (RFC 4291, appendix A).
var Gateway6 = LinkLocal(HostEndMAC)

// LinkLocal is the link-local address that a link with this MAC gives itself: its modified EUI-64 (RFC 4291).
func LinkLocal(m MAC) netip.Addr {
	return netip.AddrFrom16([16]byte{0: 0xfe, 1: 0x80, 8: m[0] ^ 2, 9: m[1], 10: m[2], 11: 0xff, 12: 0xfe, 13: m[3], 14: m[4], 15: m[5]})
}

// VethName is the name of the host's end of the veth of a workload.
func VethName(workload string) string {
	sum := sha256.Sum256([]byte(workload))
	return "netd" + hex.EncodeToString(sum[:])[:11]
}

// IsVethName reports whether a name is of VethName's pattern.
func IsVethName(name string) bool {
	digits, ok := strings.CutPrefix(name, "netd")
	return ok && len(digits) == 11 && strings.Trim(digits, "0123456789abcdef") == ""
}

// PeerName is what the other end is called in the host's namespace, where the runtime takes it from there itself. Its pattern
// is none of VethName's.
func PeerName(workload string) string {
	sum := sha256.Sum256([]byte(workload))
	return PeerPrefix + hex.EncodeToString(sum[:])[:10]
}

// PeerPrefix is what the names of such ends begin with.
const PeerPrefix = "netdp"

// WorkloadMAC is the address that the container's end of the veth gets unless the file gives one: locally administered,
// from the workload's id, so that both ends of every entry about it can be computed.
func WorkloadMAC(workload string) MAC {
	sum := sha256.Sum256([]byte("netd-workload/" + workload))
	return MAC{0x02, sum[0], sum[1], sum[2], sum[3], sum[4]}
}

// VTEPMAC is the address of a node's VXLAN device. Every node computes it from the file, so nothing is exchanged; the
// formula is a wire format and frozen. tunnel is the node's tunnel address, or its underlay address where it has no blocks.
func VTEPMAC(vni uint32, tunnel netip.Addr) MAC {
	sum := sha256.Sum256(fmt.Appendf(nil, "netd-vtep/%d/%s", vni, tunnel))
	return MAC{0x02, sum[0], sum[1], sum[2], sum[3], sum[4]}
}

// VXLANName is the name of the device of a VNI, and of the one at the lowest port where networks share a VNI.
func VXLANName(vni uint32) string {
	if vni == 4096 {
		return "vxlan.netd"
	}
	return "netdvx" + strconv.FormatUint(uint64(vni), 10)
}

// VXLANPortName is the name of the device of a VNI at any port but the lowest: both in hexadecimal, which fills the 15 bytes
// that a link's name may have.
func VXLANPortName(vni uint32, port uint16) string { return fmt.Sprintf("netdx%06x%04x", vni, port) }

// IsVXLANName reports whether a name is one of a VXLAN device of netd's.
func IsVXLANName(name string) bool {
	return name == "vxlan.netd" || strings.HasPrefix(name, "netdvx") || strings.HasPrefix(name, "netdx")
}

// Place is where an object lives: "" is the host's network namespace, anything else the workload's of that id.
type Place string

// In spells a name in the place: "@file/web/eth0" for eth0 in the container of file/web.
func (p Place) In(name string) string {
	if p == "" {
		return name
	}
	return "@" + string(p) + "/" + name
}

// Called is the place with what people call it: "web (docker/588062e674a9)". Ids of Docker's are shortened as it does itself.
func (p Place) Called(name string) string {
	id := string(p)
	if hex, ok := strings.CutPrefix(id, "docker/"); ok && len(hex) > 12 {
		id = "docker/" + hex[:12]
	}
	if name == "" {
		return id
	}
	return name + " (" + id + ")"
}

// Split is the inverse of In for a name in which nothing follows a further "/" (links) or where rest may hold one:
// workload ids have exactly one "/" (file/NAME) or two (cni/ID/IFACE); the id itself is found by known.
func SplitPlace(name string, known func(id string) bool) (Place, string, bool) {
	if !strings.HasPrefix(name, "@") {
		return "", name, true
	}
	for i := 1; i < len(name); i++ {
		if name[i] == '/' && known(name[1:i]) {
			return Place(name[1:i]), name[i+1:], true
		}
	}
	return "", name, false
}

func field(name, value string) reconcile.Field { return reconcile.Field{Name: name, Value: value} }

func onOff(b bool) string {
	if b {
		return "on"
	}
	return "off"
}

func upDown(b bool) string {
	if b {
		return "up"
	}
	return "down"
}

func addrText(a netip.Addr) string {
	if !a.IsValid() {
		return "none"
	}
	return a.String()
}
