package speaker

import (
	"fmt"
	"net/netip"
	"sync"
	"time"

	api "github.com/osrg/gobgp/v3/api"
	"github.com/osrg/gobgp/v3/pkg/config/oc"
	gobgplog "github.com/osrg/gobgp/v3/pkg/log"
)

// A neighbour that restarts gracefully may open its session and lose it again before it is up: a router whose links are not up yet
// does. RFC 4724 §4.2 has its routes kept until the restart time is over. gobgp drops them at the first such failure (handleFSMMessage in
// its pkg/server/server.go: the neighbour restarts, and the next state is IDLE). It tells of each change of state in its log, at the
// level "debug", before it acts on it, in its one goroutine and holding the neighbour's lock: from there until its next state
// gobgp has the neighbour for one that does not restart. TestRestartInTries fails where a version of gobgp tells nothing.

// tries are the neighbours whose stale routes are kept so.
type tries struct {
	mu   sync.Mutex
	lost map[string]time.Time // when the session went, by address as gobgp writes it
	kept map[string]bool      // those that gobgp has for ones that do not restart
}

// keeps reports whether a neighbour restarts although gobgp says that it does not.
func (x *tries) keeps(address string) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.kept[address]
}

func (x *tries) forget(address string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.lost, address)
	delete(x.kept, address)
}

// changesState hears of a change of a neighbour's state that gobgp is about to make, in its one goroutine, which holds the neighbour's lock.
func (s *sessions) changesState(f gobgplog.Fields) {
	address, _ := f["Key"].(string)
	s.tried(address, f)
	s.begins(address, fmt.Sprint(f["new"]))
}

// tried has a neighbour that restarts and fails be one for gobgp that does not, until its next state.
func (s *sessions) tried(address string, f gobgplog.Fields) {
	idle := f["new"] == "BGP_FSM_IDLE"
	s.tries.mu.Lock()
	defer s.tries.mu.Unlock()
	switch {
	case idle && f["old"] == "BGP_FSM_ESTABLISHED":
		s.tries.lost[address] = time.Now()
		return
	case idle == s.tries.kept[address]:
		return
	case idle:
		switch fmt.Sprint(f["reason"]) {
		case "restart-timer-expired", "admin-down", "dying", "de-configured":
			return
		}
	}
	err := withLocked(s.bgp, address, func(conf *oc.Neighbor) {
		state := &conf.GracefulRestart.State
		switch {
		case !idle:
			delete(s.tries.kept, address)
			state.PeerRestarting = true
		case state.PeerRestarting:
			s.tries.kept[address] = true
			state.PeerRestarting = false
			// gobgp's own timer for this is lost where it fires in IDLE.
			left := time.Until(s.tries.lost[address].Add(time.Duration(state.PeerRestartTime) * time.Second))
			s.start(func() {
				if wait(s.ctx, max(left, 0)+time.Second) == nil {
					s.restartOver(address)
				}
			})
		}
	})
	if err != nil {
		s.log("warn", err.Error(), nil)
	}
}

// restartOver takes the stale routes of a neighbour away whose restart time is over, if gobgp has not.
func (s *sessions) restartOver(address string) {
	addr, err := netip.ParseAddr(address)
	if err != nil {
		return
	}
	s.api.Lock()
	defer s.api.Unlock()
	p := s.look(addr)
	s.tries.mu.Lock()
	kept, lost := s.tries.kept[address], s.tries.lost[address]
	s.tries.mu.Unlock()
	again := time.Since(lost) < time.Duration(p.GetGracefulRestart().GetPeerRestartTime())*time.Second // it was back meanwhile
	if p == nil || again || !kept && !p.GetGracefulRestart().GetPeerRestarting() || p.GetState().GetSessionState() == api.PeerState_ESTABLISHED {
		return
	}
	s.failed(addr, "did not come back within its restart time", true)
	s.renew(addr)
	if p.GetState().GetAdminState() == api.PeerState_DOWN {
		if err := s.bgp.DisablePeer(s.ctx, &api.DisablePeerRequest{Address: address}); err != nil {
			s.log("warn", "shutting a neighbour down again", map[string]any{"peer": address, "error": err.Error()})
		}
	}
}
