package speaker

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	api "github.com/osrg/gobgp/v3/api"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"netd/reconcile/object"
)

// gobgp itself never dials: its peers are all passive, and the speaker's own dialler opens the connection where the
// description says so. That field is the only one that gobgp keeps and gives back as it was.
const (
	describeDials   = "netd dials"
	describeListens = "netd listens"
	describesNode   = ", a node" // after one of them
)

var (
	ipv4 = &api.Family{Afi: api.Family_AFI_IP, Safi: api.Family_SAFI_UNICAST}
	ipv6 = &api.Family{Afi: api.Family_AFI_IP6, Safi: api.Family_SAFI_UNICAST}
)

// familyOf is the family of an address or prefix.
func familyOf(a netip.Addr) *api.Family {
	if a.Is6() {
		return ipv6
	}
	return ipv4
}

// apiFamilies are a session's.
func apiFamilies(f object.Family) []*api.Family {
	switch f {
	case object.Dual:
		return []*api.Family{ipv4, ipv6}
	case object.IPv6:
		return []*api.Family{ipv6}
	}
	return []*api.Family{ipv4}
}

// apiPeer is a neighbour as gobgp takes it. restarting says that this speaker takes the place of one that died (RFC 4724).
func apiPeer(p object.Peer, secret string, restarting bool) *api.Peer {
	description := describeListens
	if p.Opens == object.Dials {
		description = describeDials
	}
	if !p.Outside {
		description += describesNode
	}
	out := &api.Peer{
		Conf: &api.PeerConf{NeighborAddress: p.Addr.String(), PeerAsn: p.ASN, AuthPassword: secret, Description: description, AdminDown: !p.Up,
			ReplacePeerAsn: p.UntellLoops, AllowOwnAsn: ownASMost},
		Timers: &api.Timers{Config: &api.TimersConfig{
			ConnectRetry: 1, HoldTime: uint64(p.HoldTime / time.Second), KeepaliveInterval: uint64(p.Keepalive / time.Second),
			IdleHoldTimeAfterReset: 1, // hurry leaves IDLE after this
		}},
		Transport:    &api.Transport{LocalAddress: p.Local.String(), RemotePort: uint32(p.Port), PassiveMode: true},
		TtlSecurity:  &api.TtlSecurity{Enabled: p.TTLSecurity},
		EbgpMultihop: &api.EbgpMultihop{Enabled: p.Multihop != 0, MultihopTtl: uint32(p.Multihop)},
	}
	if p.Addr.Zone() != "" { // gobgp compares the session's own end as text, without a zone
		out.Transport.LocalAddress = "::"
	}
	for _, f := range apiFamilies(p.Family) {
		out.AfiSafis = append(out.AfiSafis, &api.AfiSafi{
			Config:            &api.AfiSafiConfig{Family: f, Enabled: true},
			MpGracefulRestart: &api.MpGracefulRestart{Config: &api.MpGracefulRestartConfig{Enabled: p.GracefulRestart != 0}},
			PrefixLimits:      &api.PrefixLimit{Family: f, MaxPrefixes: p.MaxPrefixes},
		})
	}
	if p.TTLSecurity {
		out.TtlSecurity.TtlMin = 255
	}
	if p.Cluster.IsValid() {
		out.RouteReflector = &api.RouteReflector{RouteReflectorClient: true, RouteReflectorClusterId: p.Cluster.String()}
	}
	if p.GracefulRestart != 0 {
		out.GracefulRestart = &api.GracefulRestart{Enabled: true, RestartTime: uint32(p.GracefulRestart / time.Second),
			DeferralTime: uint32(deferral / time.Second), LocalRestarting: restarting}
		if !p.Outside && !p.Reflected {
			out.GracefulRestart.DeferralTime = uint32(ownDeferral / time.Second)
		}
	}
	return out
}

// dials reports whether netd opens the session with a neighbour of gobgp's, listens whether the neighbour does, and ofNode whether that is a node.
func dials(p *api.Peer) bool   { return described(p) == describeDials }
func listens(p *api.Peer) bool { return described(p) == describeListens }
func ofNode(p *api.Peer) bool  { return strings.HasSuffix(p.GetConf().GetDescription(), describesNode) }

func described(p *api.Peer) string {
	return strings.TrimSuffix(p.GetConf().GetDescription(), describesNode)
}

// ownASMost is how often a path may have this host's AS in it for gobgp to ask the import policy, which refuses it and so takes
// away what the neighbour told before. Of a path that gobgp refuses itself it looks no further (handleUpdate in its
// pkg/server/peer.go): what was told before stayed, in the kernel too. Of two equal ways to a prefix, one by a router whose own
// had come to lead back here, that one kept half of the flows, which went round. More than this it cannot: what has it more often is taken for a withdrawal (sift.go).
const ownASMost = 255

// ownDeferral is how long a speaker that restarts waits for what others tell before it tells a node its own blocks, which
// depend on nobody. gobgp looks whether it has heard all only when a neighbour tells its last that was there when it began to
// wait: it begins when the first one is up, and where that one is the last to tell, those that were added after it are told nothing
// until their time is over. In a mesh of 20 nodes that were started together, the blocks of one or two came after 20 s.
const ownDeferral = time.Second

// peerOf reads back what netd manages of a neighbour, and nothing else: gobgp fills in defaults, loses fields and returns
// passwords in clear. Import is not gobgp's to tell; see policy.go.
func peerOf(p *api.Peer, fingerprint func(string) string) (object.Peer, error) {
	conf, timers, transport := p.GetConf(), p.GetTimers().GetConfig(), p.GetTransport()
	addr, err := netip.ParseAddr(conf.GetNeighborAddress())
	if err != nil {
		return object.Peer{}, fmt.Errorf("reading a neighbour: %w", legible(err))
	}
	local, _ := netip.ParseAddr(transport.GetLocalAddress()) // invalid shows as a difference
	out := object.Peer{
		Addr: addr, ASN: conf.GetPeerAsn(), Local: local, Port: uint16(transport.GetRemotePort()),
		Opens: object.Opens("as " + strconv.Quote(printable(conf.GetDescription()))), Password: fingerprint(conf.GetAuthPassword()),
		TTLSecurity: p.GetTtlSecurity().GetEnabled() && p.GetTtlSecurity().GetTtlMin() == 255,
		HoldTime:    time.Duration(timers.GetHoldTime()) * time.Second, Keepalive: time.Duration(timers.GetKeepaliveInterval()) * time.Second,
		Up:          p.GetState().GetAdminState() != api.PeerState_DOWN, // closed by max_prefixes is not shut down by hand
		UntellLoops: conf.GetReplacePeerAsn(),
	}
	if h := p.GetEbgpMultihop(); h.GetEnabled() {
		out.Multihop = uint8(h.GetMultihopTtl())
	}
	if r := p.GetRouteReflector(); r.GetRouteReflectorClient() {
		out.Cluster, _ = netip.ParseAddr(r.GetRouteReflectorClusterId())
	}
	if addr.Zone() != "" { // while the session is up, gobgp tells the address that the kernel chose
		out.Local = netip.IPv6Unspecified().WithZone(addr.Zone())
	}
	switch {
	case conf.GetAllowOwnAsn() != ownASMost:
		out.Opens = "leaves what came back to gobgp"
	case !transport.GetPassiveMode():
		out.Opens = "dials by gobgp"
	case dials(p):
		out.Opens = object.Dials
	case listens(p):
		out.Opens = object.Listens
	}
	restarts := len(p.GetAfiSafis()) > 0
	var names []string
	for i, f := range p.GetAfiSafis() {
		restarts = restarts && f.GetMpGracefulRestart().GetConfig().GetEnabled()
		names = append(names, familyText([]*api.Family{f.GetConfig().GetFamily()}))
		limit := f.GetPrefixLimits().GetMaxPrefixes()
		if i > 0 && limit != out.MaxPrefixes {
			limit = 0 // they differ, which shows
		}
		out.MaxPrefixes = limit
	}
	slices.Sort(names)
	switch text := strings.Join(names, " "); text {
	case familyText([]*api.Family{ipv4}):
		out.Family = object.IPv4
	case familyText([]*api.Family{ipv6}):
		out.Family = object.IPv6
	case familyText([]*api.Family{ipv4, ipv6}):
		out.Family = object.Dual
	default:
		out.Family = object.Family(text)
	}
	if gr := p.GetGracefulRestart(); gr.GetEnabled() && restarts && !gr.GetHelperOnly() {
		out.GracefulRestart = time.Duration(gr.GetRestartTime()) * time.Second
	}
	return out, nil
}

// apiPath is a prefix of this host's own as gobgp takes it, with its marks.
func apiPath(p object.Path) (*api.Path, error) {
	attrs := []proto.Message{&api.OriginAttribute{Origin: 0}} // IGP
	nlri, err := anypb.New(&api.IPAddressPrefix{Prefix: p.Prefix.Addr().String(), PrefixLen: uint32(p.Prefix.Bits())})
	if err != nil {
		return nil, err
	}
	family := familyOf(p.Prefix.Addr())
	if family == ipv4 {
		attrs = append(attrs, &api.NextHopAttribute{NextHop: p.NextHop.String()})
	} else {
		attrs = append(attrs, &api.MpReachNLRIAttribute{Family: family, NextHops: []string{p.NextHop.String()}, Nlris: []*anypb.Any{nlri}})
	}
	if p.To != "" {
		attrs = append(attrs, marksOf(p.To))
	}
	out := &api.Path{Family: family, Nlri: nlri}
	for _, a := range attrs {
		x, err := anypb.New(a)
		if err != nil {
			return nil, err
		}
		out.Pattrs = append(out.Pattrs, x)
	}
	return out, nil
}

// pathOf reads back a prefix of this host's own.
func pathOf(p *api.Path) (ownPath, error) {
	prefix, h, err := readPath(p)
	if err != nil {
		return ownPath{}, err
	}
	out := ownPath{Path: object.Path{Prefix: prefix, NextHop: h.nextHop}}
	for _, a := range p.GetPattrs() {
		if !a.MessageIs((*api.LargeCommunitiesAttribute)(nil)) {
			continue
		}
		out.marks = &api.LargeCommunitiesAttribute{}
		if err := a.UnmarshalTo(out.marks); err != nil {
			return out, fmt.Errorf("reading the marks of %s: %w", prefix, err)
		}
	}
	return out, nil
}
