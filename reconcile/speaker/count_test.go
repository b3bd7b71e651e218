package speaker

import (
	"context"
	"testing"
	"time"

	api "github.com/osrg/gobgp/v3/api"
	"github.com/osrg/gobgp/v3/pkg/config/oc"
	gobgplog "github.com/osrg/gobgp/v3/pkg/log"
	"github.com/osrg/gobgp/v3/pkg/packet/bgp"
	"github.com/osrg/gobgp/v3/pkg/server"
	"google.golang.org/grpc"
)

// TestCount: gobgp has a neighbour's limit from the UPDATE on by which the neighbour may have passed it, in either family, and not
// while that is far; its answers tell it always. TestMaxPrefixes has the neighbour pass it.
func TestCount(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	s := newSessions(ctx, newRIB(), func(level, msg string, fields map[string]any) { t.Log(level, msg, fields) })
	bgp4 := server.NewBgpServer(server.LoggerOption(&gobgpLog{log: s.log, heard: nil, update: s.announced}))
	go bgp4.Serve()
	s.bgp = bgp4
	defer s.close()
	defer cancel()
	const addr = "192.0.2.1"
	if err := bgp4.StartBgp(ctx, &api.StartBgpRequest{Global: &api.Global{Asn: 64512, RouterId: "192.0.2.2", ListenPort: -1}}); err != nil {
		t.Fatal(err)
	}
	defer bgp4.Stop()
	peer := func(most, percent uint32) *api.Peer {
		p := &api.Peer{Conf: &api.PeerConf{NeighborAddress: addr, PeerAsn: 64512}, Transport: &api.Transport{PassiveMode: true}}
		for _, f := range []*api.Family{ipv4, ipv6} {
			p.AfiSafis = append(p.AfiSafis, &api.AfiSafi{Config: &api.AfiSafiConfig{Family: f, Enabled: true},
				PrefixLimits: &api.PrefixLimit{Family: f, MaxPrefixes: most, ShutdownThresholdPct: percent}})
		}
		return p
	}
	has := func() (most [2]uint32) {
		t.Helper()
		if err := withNeighbour(bgp4, addr, func(conf *oc.Neighbor) {
			for i, f := range conf.AfiSafis {
				most[i] = f.PrefixLimit.Config.MaxPrefixes
			}
		}); err != nil {
			t.Fatal(err)
		}
		return most
	}
	tells := func() (most [2]uint32) {
		p := s.look(mustAddr(addr))
		s.limits.tell(p)
		for i, f := range p.GetAfiSafis() {
			most[i] = f.GetPrefixLimits().GetMaxPrefixes()
		}
		return most
	}
	is := func(when string, want, told uint32) {
		t.Helper()
		if got := has(); got != [2]uint32{want, want} {
			t.Errorf("%s gobgp has the limits %d, want %d", when, got, want)
		}
		if got := tells(); got != [2]uint32{told, told} {
			t.Errorf("%s it tells the limits %d, want %d", when, got, told)
		}
	}
	update := func(v4, v6 int) {
		mp := &bgp.PathAttributeMpReachNLRI{AFI: bgp.AFI_IP6, Value: make([]bgp.AddrPrefixInterface, v6)}
		(&gobgpLog{update: s.announced}).Debug("received update", gobgplog.Fields{"Key": addr, "nlri": make([]*bgp.IPAddrPrefix, v4),
			"attributes": []bgp.PathAttributeInterface{bgp.NewPathAttributeOrigin(0), mp}})
	}
	settled := func() { // counted: it has told nothing in truth
		t.Helper()
		for deadline := time.Now().Add(30 * time.Second); has() != [2]uint32{}; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("the limit stays, although nothing is near it")
			}
		}
	}
	// held keeps the neighbour from being counted meanwhile.
	held := func(f func()) {
		s.list.Lock()
		defer s.list.Unlock()
		f()
	}
	order := func(method string, req any, handle grpc.UnaryHandler) {
		t.Helper()
		if _, err := s.unary(ctx, req, &grpc.UnaryServerInfo{FullMethod: "/apipb.GobgpApi/" + method}, handle); err != nil {
			t.Fatal(err)
		}
	}
	update4 := func(ctx context.Context, req any) (any, error) {
		return bgp4.UpdatePeer(ctx, req.(*api.UpdatePeerRequest))
	}
	order("AddPeer", &api.AddPeerRequest{Peer: peer(10, 0)}, func(ctx context.Context, req any) (any, error) {
		return nil, bgp4.AddPeer(ctx, req.(*api.AddPeerRequest))
	})
	is("at first", 0, 10)
	update(10, 10)
	is("at the limit", 0, 10)
	held(func() {
		update(1, 0)
		is("past the limit", 10, 10)
	})
	settled()
	held(func() {
		update(0, 11)
		is("past the limit by IPv6", 10, 10)
	})
	settled()
	order("UpdatePeer", &api.UpdatePeerRequest{Peer: peer(20, 0)}, update4)
	is("after a change", 0, 20)
	update(20, 20)
	is("at the new limit", 0, 20)
	held(func() {
		update(1, 1)
		is("past the new limit", 20, 20)
	})
	settled()
	order("UpdatePeer", &api.UpdatePeerRequest{Peer: peer(30, 75)}, update4)
	is("where another wants to be warned", 30, 30)
	order("UpdatePeer", &api.UpdatePeerRequest{Peer: peer(0, 0)}, update4)
	update(1000, 1000)
	is("without a limit", 0, 0)
}
