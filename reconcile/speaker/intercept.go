package speaker

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"path"
	"strings"
	"time"

	api "github.com/osrg/gobgp/v3/api"
	"google.golang.org/grpc"
)

// asks reports whether a method of gobgp's API only asks.
func asks(fullMethod string) bool {
	name := path.Base(fullMethod)
	return strings.HasPrefix(name, "Get") || strings.HasPrefix(name, "List") || strings.HasPrefix(name, "Watch")
}

// unary sees every request of gobgp's API that changes something, netd's or another client's.
func (s *sessions) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	if !asks(info.FullMethod) {
		s.changes.Add(1)
		defer s.changes.Add(1)
	}
	s.api.RLock()
	defer s.api.RUnlock()
	switch req.(type) {
	case *api.AddPeerRequest, *api.UpdatePeerRequest, *api.DeletePeerRequest, *api.StartBgpRequest, *api.StopBgpRequest:
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
			s.entered(r.GetPeer())
			s.lift(r.GetPeer().GetConf().GetNeighborAddress())
		}
		return resp, err
	case *api.UpdatePeerRequest:
		if r.GetPeer().GetConf().GetPeerGroup() != "" {
			return nil, errGroup
		}
		resp, err := s.rewrites(r.GetPeer(), func() (any, error) { return handle(ctx, req) })
		if err == nil {
			s.updated(r.GetPeer())
		}
		return resp, err
	case *api.UpdatePeerGroupRequest:
		return nil, errGroup
	case *api.DeletePeerRequest:
		resp, err := handle(ctx, req)
		if addr, perr := netip.ParseAddr(r.GetAddress()); err == nil && perr == nil {
			s.removed(addr)
		}
		return resp, err
	case *api.EnablePeerRequest:
		resp, err := handle(ctx, req)
		if err == nil {
			err = s.switched(ctx, r.GetAddress(), true)
		}
		return resp, err
	case *api.DisablePeerRequest:
		resp, err := handle(ctx, req)
		if err == nil {
			err = s.switched(ctx, r.GetAddress(), false)
		}
		return resp, err
	case *api.StartBgpRequest:
		resp, err := handle(ctx, req)
		if err == nil {
			s.started(r.GetGlobal())
		}
		return resp, err
	case *api.StopBgpRequest:
		resp, err := handle(ctx, req)
		s.stopped()
		return resp, err
	}
	return handle(ctx, req)
}

// errGroup refuses what another client of gobgp's API may ask for: gobgp would set the TTLs of a group on connections of its members (ttl.go).
var errGroup = errors.New("neighbours of a peer group are not updated: take them out and put them in again")

// rewrites carries a request out by which gobgp writes a neighbour anew, and has it keep what it would forget. s.list is held.
func (s *sessions) rewrites(p *api.Peer, handle func() (any, error)) (any, error) {
	address := p.GetConf().GetNeighborAddress()
	restore, err := remember(s.bgp, address)
	if err != nil {
		return nil, err
	}
	before, err := s.giveTTLs(address, ttlsOf(p))
	if err != nil {
		return nil, err
	}
	s.lay(address)
	resp, err := handle()
	warn := func(err error) {
		if err != nil {
			s.log("warn", err.Error(), map[string]any{"peer": address})
		}
	}
	if err != nil {
		_, terr := s.giveTTLs(address, before)
		warn(terr)
	}
	warn(restore())
	s.queues(address)
	s.lift(address) // also where it failed, half-way or at once
	return resp, err
}

// switched waits until an administrative order, which gobgp carries out later, is carried out. One that is not while its caller
// waits may be after all, when its request is counted and over: that is counted as another change.
func (s *sessions) switched(ctx context.Context, address string, up bool) error {
	addr, err := netip.ParseAddr(address)
	if err != nil {
		return nil
	}
	done := func() bool {
		p := s.look(addr)
		return p == nil || (p.GetState().GetAdminState() == api.PeerState_UP) == up
	}
	within, cancel := context.WithTimeout(ctx, rpcTimeout) // gobgp has room for one such order and loses the next without a word
	defer cancel()
	for !done() {
		if err := wait(within, 2*time.Millisecond); err != nil {
			s.start(func() { s.late(done) })
			return fmt.Errorf("switching %s: %w", addr, err)
		}
	}
	return nil
}

// late counts a change once it is made. For longer than an answer holds nobody has to look for it.
func (s *sessions) late(done func() bool) {
	ctx, cancel := context.WithTimeout(s.ctx, believed)
	defer cancel()
	for wait(ctx, 50*time.Millisecond) == nil {
		if done() {
			s.changes.Add(1)
			return
		}
	}
}

// stream keeps the list of neighbours whole. Other streams, and clients that do not read what they asked for, may stay for ever and must
// not hold anything up.
func (s *sessions) stream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
	if !asks(info.FullMethod) {
		s.changes.Add(1)
		defer s.changes.Add(1)
		ss = &counted{ss, s}
	}
	if info.FullMethod == "/apipb.GobgpApi/ListPeer" {
		t := &telling{ServerStream: ss, s: s}
		s.api.RLock()
		err := handle(srv, t)
		s.api.RUnlock()
		return errors.Join(err, t.tell())
	}
	return handle(srv, ss)
}

// counted is a stream of which each message changes something, however long it stays open: when the next is asked for, the
// last one has been carried out.
type counted struct {
	grpc.ServerStream
	s *sessions
}

func (c *counted) RecvMsg(m any) error {
	c.s.changes.Add(1)
	defer c.s.changes.Add(1)
	return c.ServerStream.RecvMsg(m)
}

// mustAddr reads an address that was read before.
func mustAddr(a string) netip.Addr {
	addr, _ := netip.ParseAddr(a)
	return addr
}
