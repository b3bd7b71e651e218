package speaker

import (
	"fmt"
	"net/netip"
	"time"

	api "github.com/osrg/gobgp/v3/api"
	"google.golang.org/protobuf/types/known/anypb"

	"netd/reconcile/object"
)

// gobgp itself never dials: its peers are all passive, and the speaker's own dialler opens the connection where the
// description says so. That field is the only one that gobgp keeps and gives back as it was.
const (
	describeDials   = "netd dials"
	describeListens = "netd listens"
)

var ipv4 = &api.Family{Afi: api.Family_AFI_IP, Safi: api.Family_SAFI_UNICAST}

// apiPeer is a neighbour as gobgp takes it. restarting says that this speaker takes the place of one that died (RFC 4724).
func apiPeer(p object.Peer, secret string, restarting bool) *api.Peer {
	description := describeListens
	if p.Opens == object.Dials {
		description = describeDials
	}
	out := &api.Peer{
		Conf: &api.PeerConf{NeighborAddress: p.Addr.String(), PeerAsn: p.ASN, AuthPassword: secret, Description: description, AdminDown: !p.Up},
		Timers: &api.Timers{Config: &api.TimersConfig{
			ConnectRetry: 1, HoldTime: uint64(p.HoldTime / time.Second), KeepaliveInterval: uint64(p.Keepalive / time.Second),
			IdleHoldTimeAfterReset: 1, // hurry leaves IDLE after this
		}},
		Transport: &api.Transport{LocalAddress: p.Local.String(), RemotePort: uint32(p.Port), PassiveMode: true},
		AfiSafis: []*api.AfiSafi{{
			Config:            &api.AfiSafiConfig{Family: ipv4, Enabled: true},
			MpGracefulRestart: &api.MpGracefulRestart{Config: &api.MpGracefulRestartConfig{Enabled: p.GracefulRestart != 0}},
		}},
		TtlSecurity: &api.TtlSecurity{Enabled: p.TTLSecurity},
	}
	if p.TTLSecurity {
		out.TtlSecurity.TtlMin = 255
	}
	if p.GracefulRestart != 0 {
		out.GracefulRestart = &api.GracefulRestart{Enabled: true, RestartTime: uint32(p.GracefulRestart / time.Second),
			DeferralTime: uint32(deferral / time.Second), LocalRestarting: restarting}
	}
	return out
}

// peerOf reads back what netd manages of a neighbour, and nothing else: gobgp fills in defaults, loses fields and returns
// passwords in clear. Import is not gobgp's to tell; see policy.go.
func peerOf(p *api.Peer, fingerprint func(string) string) (object.Peer, error) {
	conf, timers, transport := p.GetConf(), p.GetTimers().GetConfig(), p.GetTransport()
	addr, err := netip.ParseAddr(conf.GetNeighborAddress())
	if err != nil {
		return object.Peer{}, fmt.Errorf("reading a neighbour: %w", err)
	}
	local, _ := netip.ParseAddr(transport.GetLocalAddress()) // invalid shows as a difference
	out := object.Peer{
		Addr: addr, ASN: conf.GetPeerAsn(), Local: local, Port: uint16(transport.GetRemotePort()),
		Opens: object.Opens("as " + fmt.Sprintf("%q", conf.GetDescription())), Password: fingerprint(conf.GetAuthPassword()),
		TTLSecurity: p.GetTtlSecurity().GetEnabled() && p.GetTtlSecurity().GetTtlMin() == 255,
		HoldTime:    time.Duration(timers.GetHoldTime()) * time.Second, Keepalive: time.Duration(timers.GetKeepaliveInterval()) * time.Second,
		Up: p.GetState().GetAdminState() == api.PeerState_UP,
	}
	switch {
	case !transport.GetPassiveMode():
		out.Opens = "dials by gobgp"
	case conf.GetDescription() == describeDials:
		out.Opens = object.Dials
	case conf.GetDescription() == describeListens:
		out.Opens = object.Listens
	}
	family := len(p.GetAfiSafis()) == 1 && p.GetAfiSafis()[0].GetMpGracefulRestart().GetConfig().GetEnabled()
	if gr := p.GetGracefulRestart(); gr.GetEnabled() && family && !gr.GetHelperOnly() {
		out.GracefulRestart = time.Duration(gr.GetRestartTime()) * time.Second
	}
	return out, nil
}

// apiPath is a prefix of this host's own as gobgp takes it.
func apiPath(p object.Path) (*api.Path, error) {
	nlri, err := anypb.New(&api.IPAddressPrefix{Prefix: p.Prefix.Addr().String(), PrefixLen: uint32(p.Prefix.Bits())})
	if err != nil {
		return nil, err
	}
	origin, err := anypb.New(&api.OriginAttribute{Origin: 0}) // IGP
	if err != nil {
		return nil, err
	}
	hop, err := anypb.New(&api.NextHopAttribute{NextHop: p.NextHop.String()})
	if err != nil {
		return nil, err
	}
	return &api.Path{Family: ipv4, Nlri: nlri, Pattrs: []*anypb.Any{origin, hop}}, nil
}
