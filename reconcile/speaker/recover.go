package speaker

import (
	"context"
	"net/netip"
	"slices"
	"time"

	api "github.com/osrg/gobgp/v3/api"
	"google.golang.org/protobuf/proto"
)

// hurry gets a neighbour out of IDLE. gobgp stays there for five seconds after any failure, a constant.
//
// Where no stale route of the neighbour is kept, it is taken out and put back, which begins anew at once. Where some are,
// that would lose them; but an administrative stop and start resets the pause to IdleHoldTimeAfterReset, which is a second.
// In IDLE, and only there, neither says a word to the neighbour nor drops a route.
func (s *sessions) hurry(addr netip.Addr) {
	s.api.Lock()
	defer s.api.Unlock()
	p := s.look(addr)
	if p == nil || p.GetState().GetSessionState() != api.PeerState_IDLE || p.GetState().GetAdminState() != api.PeerState_UP {
		return
	}
	if !p.GetGracefulRestart().GetPeerRestarting() && !s.tries.keeps(addr.String()) {
		s.renew(addr)
		return
	}
	name := addr.String()
	if err := s.bgp.ResetPeer(s.ctx, &api.ResetPeerRequest{Address: name}); err != nil {
		s.log("warn", "hurrying a session", map[string]any{"peer": name, "error": err.Error()})
		return
	}
	if err := s.bgp.DisablePeer(s.ctx, &api.DisablePeerRequest{Address: name}); err != nil {
		s.log("warn", "hurrying a session", map[string]any{"peer": name, "error": err.Error()})
		return
	}
	// gobgp has room for one such order and loses the next without a word, which would leave the neighbour shut down: also where
	// the stop is carried out so late that it is still seen up and taken to be up again.
	down := s.until(addr, 5*time.Second, func(p *api.Peer) bool { return p.GetState().GetAdminState() == api.PeerState_DOWN })
	for tries := 0; down && tries < 10; tries++ {
		if err := s.bgp.EnablePeer(s.ctx, &api.EnablePeerRequest{Address: name}); err != nil {
			break
		}
		if s.until(addr, 250*time.Millisecond, func(p *api.Peer) bool { return p.GetState().GetAdminState() == api.PeerState_UP }) {
			return
		}
	}
	s.log("warn", "a neighbour stayed shut down: it is added anew", map[string]any{"peer": name})
	s.renew(addr)
}

// until looks at a neighbour until it is as wanted, for so long at most.
func (s *sessions) until(addr netip.Addr, most time.Duration, is func(*api.Peer) bool) bool {
	ctx, cancel := context.WithTimeout(s.ctx, most)
	defer cancel()
	for {
		p := s.look(addr)
		if p == nil {
			return false
		}
		if is(p) {
			return true
		}
		if wait(ctx, time.Millisecond) != nil {
			return false
		}
	}
}

func (s *sessions) look(addr netip.Addr) *api.Peer {
	var found *api.Peer
	_ = s.bgp.ListPeer(s.ctx, &api.ListPeerRequest{Address: addr.String()}, func(p *api.Peer) { found = p })
	return found
}

// remedy does what gobgp leaves undone about a session.
func (s *sessions) remedy(addr netip.Addr, r remedy) {
	switch r {
	case forget:
		s.expired(addr)
	case reset:
		s.unread(addr, "an UPDATE that cannot be read to its end")
	}
}

// expired takes the routes of a neighbour away that was not heard of for its hold time. gobgp takes that for a restart, as
// RFC 8538 would, and keeps the routes of a dead host for two minutes; RFC 4724 knows no such thing, and neither do the
// containers that cannot reach it. What is known of its table stays known, so that the routes do go.
func (s *sessions) expired(addr netip.Addr) {
	s.api.Lock()
	defer s.api.Unlock()
	s.renew(addr)
}

// unread closes the session with a neighbour for a message that nobody may send, or an UPDATE of which gobgp could not read which
// prefixes it is about: what it told of them before is not to stay (RFC 7606 §2), and which that is nobody knows. gobgp's pauses hold for
// one that does it again.
func (s *sessions) unread(addr netip.Addr, words string) {
	s.api.RLock()
	defer s.api.RUnlock()
	if err := s.bgp.ResetPeer(s.ctx, &api.ResetPeerRequest{Address: addr.String(), Communication: words}); err != nil {
		s.log("warn", "closing a session", map[string]any{"peer": addr.String(), "error": err.Error()})
	}
}

// returned takes the stale routes of a neighbour away that came back and does not restart gracefully any more, or not in a family
// in which it did: they are not to be kept (RFC 4724 §4.2). gobgp would keep them until the End-of-RIB of each family in which the
// neighbour ever restarted gracefully, which does not come then, and so for good. It takes another session.
func (s *sessions) returned(addr netip.Addr, since time.Time) {
	s.api.RLock()
	p := s.look(addr)
	s.api.RUnlock()
	if !staleForGood(p) {
		if p.GetGracefulRestart().GetPeerRestarting() && wait(s.ctx, staleMost) == nil {
			s.overdue(addr, since)
		}
		return
	}
	s.api.Lock()
	defer s.api.Unlock()
	if staleForGood(s.look(addr)) {
		s.renew(addr)
	}
}

// staleMost is how long what a neighbour had before it restarted may stay when it is back and does not say End-of-RIB: one that waits
// for its own neighbours first does so for six minutes at most by the usual defaults.
var staleMost = 7 * time.Minute

// overdue begins the session that came up at a moment anew, where the neighbour has not said End-of-RIB, which gobgp waits for without
// end (RFC 4724 §4.2 lets a timer end it).
func (s *sessions) overdue(addr netip.Addr, since time.Time) {
	s.api.Lock()
	defer s.api.Unlock()
	s.mu.Lock()
	x := s.peers[addr]
	same := x != nil && x.since.Equal(since)
	s.mu.Unlock()
	if p := s.look(addr); same && p.GetState().GetSessionState() == api.PeerState_ESTABLISHED && p.GetGracefulRestart().GetPeerRestarting() {
		s.log("info", "no End-of-RIB after a restart: the session is begun anew", map[string]any{"peer": addr.String()})
		s.renew(addr)
	}
}

func staleForGood(p *api.Peer) bool {
	if p.GetState().GetSessionState() != api.PeerState_ESTABLISHED || !p.GetGracefulRestart().GetPeerRestarting() {
		return false
	}
	restarts := map[string]bool{}
	for _, c := range p.GetState().GetRemoteCap() {
		var gr api.GracefulRestartCapability
		if c.MessageIs(&gr) && c.UnmarshalTo(&gr) == nil {
			for _, t := range gr.GetTuples() {
				restarts[familyText([]*api.Family{t.GetFamily()})] = true
			}
		}
	}
	return slices.ContainsFunc(p.GetAfiSafis(), func(f *api.AfiSafi) bool {
		return f.GetMpGracefulRestart().GetState().GetReceived() && !restarts[familyText([]*api.Family{f.GetConfig().GetFamily()})]
	})
}

// renew takes a neighbour out and puts it back as it was. s.api is held for writing.
func (s *sessions) renew(addr netip.Addr) {
	s.mu.Lock()
	x := s.peers[addr]
	if x == nil {
		s.mu.Unlock()
		return
	}
	conf, up := proto.Clone(x.conf).(*api.Peer), x.state == api.PeerState_ESTABLISHED
	s.enter(addr, x, api.PeerState_IDLE) // so that the end of the old session is no loss to be hurried about
	if x.stopDial != nil {
		x.stopDial()
		x.stopDial = nil
	}
	s.mu.Unlock()
	if g := conf.GetGracefulRestart(); g != nil { // until gobgp has heard all, what it tells the others waits for this one too
		g.LocalRestarting = s.look(addr).GetGracefulRestart().GetLocalRestarting()
	}
	name := addr.String()
	if err := s.bgp.DeletePeer(s.ctx, &api.DeletePeerRequest{Address: name}); err != nil {
		s.log("warn", "taking a neighbour out to put it back", map[string]any{"peer": name, "error": err.Error()})
	}
	if !up { // a connection that just came goes with it unread and unclosed, and its other end waits on it, for minutes
		hangUp(addr)
	}
	s.tries.forget(name)
	s.sieves.forget(name)
	if err := s.bgp.AddPeer(s.ctx, &api.AddPeerRequest{Peer: conf}); err != nil {
		s.log("error", "putting a neighbour back", map[string]any{"peer": name, "error": err.Error()})
		s.removed(addr) // it is missing now, and the next pass will find that
		s.changes.Add(1)
		return
	}
	s.entered(conf)
	s.lift(conf.GetConf().GetNeighborAddress())
}
