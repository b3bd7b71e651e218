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
	s := newSessions(ctx, newRIB(), func(string, string, map[string]any) {}, nil)
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

// unread is a stream whose client reads nothing.
type unread struct {
	grpc.ServerStream
	asked, end chan struct{}
}

func (u unread) SendMsg(any) error {
	close(u.asked)
	<-u.end
	return context.Canceled
}

// TestListUnread: a client that asks for the neighbours and does not read the answers holds nobody else up.
func TestListUnread(t *testing.T) {
	s := newSessions(t.Context(), newRIB(), func(string, string, map[string]any) {}, nil)
	u := unread{asked: make(chan struct{}), end: make(chan struct{})}
	done := make(chan error)
	go func() {
		done <- s.stream(nil, u, &grpc.StreamServerInfo{FullMethod: "/apipb.GobgpApi/ListPeer"}, func(_ any, ss grpc.ServerStream) error {
			return ss.SendMsg(&api.ListPeerResponse{})
		})
	}()
	<-u.asked
	if s.api.TryLock() {
		s.api.Unlock()
	} else {
		t.Error("no neighbour can be taken out and put back meanwhile, and no other request is answered")
	}
	close(u.end)
	if err := <-done; err == nil {
		t.Error("what its client did not take is said to be told")
	}
}
