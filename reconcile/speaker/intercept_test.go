package speaker

import (
	"context"
	"testing"
	"time"

	api "github.com/osrg/gobgp/v3/api"
	"github.com/osrg/gobgp/v3/pkg/server"
	"google.golang.org/grpc"
)

// TestLateOrder: a neighbour that is shut down only after its request gave up waiting for it counts as a change then, so that
// what was read of it between is not believed.
func TestLateOrder(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	bgp := server.NewBgpServer()
	go bgp.Serve()
	s := newSessions(ctx, newRIB(), func(string, string, map[string]any) {})
	s.bgp = bgp
	defer s.close()
	defer cancel()
	const addr = "192.0.2.1"
	if err := bgp.StartBgp(ctx, &api.StartBgpRequest{Global: &api.Global{Asn: 64512, RouterId: "192.0.2.2", ListenPort: -1}}); err != nil {
		t.Fatal(err)
	}
	defer bgp.Stop()
	if err := bgp.AddPeer(ctx, &api.AddPeerRequest{Peer: &api.Peer{Conf: &api.PeerConf{NeighborAddress: addr, PeerAsn: 64512},
		Transport: &api.Transport{PassiveMode: true}}}); err != nil {
		t.Fatal(err)
	}
	impatient, gone := context.WithCancel(ctx)
	gone()
	order := &api.DisablePeerRequest{Address: addr}
	lost := func(context.Context, any) (any, error) { return nil, nil } // gobgp has it and does nothing yet
	if _, err := s.unary(impatient, order, &grpc.UnaryServerInfo{FullMethod: "/apipb.GobgpApi/DisablePeer"}, lost); err == nil {
		t.Fatal("an order that is not carried out is said to be")
	}
	before := s.changes.Load()
	if err := bgp.DisablePeer(ctx, order); err != nil { // now it does
		t.Fatal(err)
	}
	for deadline := time.Now().Add(30 * time.Second); s.changes.Load() == before; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("nobody counted it")
		}
	}
	if got := s.look(mustAddr(addr)).GetState().GetAdminState(); got != api.PeerState_DOWN {
		t.Errorf("it was counted before it was done: %s", got)
	}
}
