package speaker

import (
	"context"
	"net/netip"

	api "github.com/osrg/gobgp/v3/api"
	"google.golang.org/grpc"
)

// unary sees every request of gobgp's API that changes something, netd's or another client's.
func (s *sessions) unary(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	s.api.RLock()
	defer s.api.RUnlock()
	switch req.(type) {
	case *api.AddPeerRequest, *api.DeletePeerRequest, *api.StartBgpRequest, *api.StopBgpRequest:
		s.list.Lock() // one at a time: see expect
		defer s.list.Unlock()
	}
	switch r := req.(type) {
	case *api.AddPeerRequest:
		undo, err := s.added(r.GetPeer())
		if err != nil {
			return nil, err
		}
		resp, err := handle(ctx, req)
		if err != nil && s.look(mustAddr(r.GetPeer().GetConf().GetNeighborAddress())) == nil {
			undo()
		}
		if err == nil {
			s.awaits(r.GetPeer())
		}
		return resp, err
	case *api.UpdatePeerRequest:
		resp, err := handle(ctx, req)
		if err == nil {
			s.updated(r.GetPeer())
		}
		return resp, err
	case *api.DeletePeerRequest:
		resp, err := handle(ctx, req)
		if addr, perr := netip.ParseAddr(r.GetAddress()); err == nil && perr == nil {
			s.removed(addr)
		}
		return resp, err
	case *api.StartBgpRequest:
		resp, err := handle(ctx, req)
		if err == nil {
			err = s.started()
		}
		return resp, err
	case *api.StopBgpRequest:
		resp, err := handle(ctx, req)
		s.stopped()
		return resp, err
	}
	return handle(ctx, req)
}

// stream keeps the list of neighbours whole. Other streams may stay open for ever and must not hold anything up.
func (s *sessions) stream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
	if info.FullMethod == "/apipb.GobgpApi/ListPeer" {
		s.api.RLock()
		defer s.api.RUnlock()
	}
	return handle(srv, ss)
}

// mustAddr reads an address that was read before.
func mustAddr(a string) netip.Addr {
	addr, _ := netip.ParseAddr(a)
	return addr
}
