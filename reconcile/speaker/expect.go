package speaker

import (
	api "github.com/osrg/gobgp/v3/api"
	"github.com/osrg/gobgp/v3/pkg/config/oc"
	"github.com/osrg/gobgp/v3/pkg/server"
)

// entered knows a neighbour that gobgp was given better than its API does, and sees to it that what it tells is waited for, where others
// depend on it. Nobody else may change which neighbours gobgp has meanwhile.
func (s *sessions) entered(p *api.Peer) {
	s.queues(p.GetConf().GetNeighborAddress())
	if !p.GetGracefulRestart().GetLocalRestarting() || !p.GetRouteReflector().GetRouteReflectorClient() {
		return
	}
	if err := expect(s.bgp, p.GetConf().GetNeighborAddress()); err != nil {
		s.log("warn", err.Error(), nil)
	}
}

// queues notes where what a neighbour says waits now: an update that begins its session anew has gobgp take another. Nobody else may
// change which neighbours gobgp has meanwhile.
func (s *sessions) queues(address string) {
	queue, err := queueOf(s.bgp, address)
	if err != nil {
		s.log("warn", err.Error(), nil)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if x := s.peers[mustAddr(address)]; x != nil {
		x.queue = queue
	}
}

// expect has a reflector that restarts wait for a client which has not connected yet, before it tells the others that it has
// told everything (RFC 4724 §4.1: until it has the End-of-RIB of all its peers, or the deferral time is over).
//
// gobgp waits for those alone that are connected: the first client to come back is told an End-of-RIB before the others'
// blocks, and takes them out of its kernel until they come. Whether a neighbour owes an End-of-RIB is a field that its OPEN
// sets and that no request of the API does.
func expect(s *server.BgpServer, address string) error {
	return withNeighbour(s, address, func(conf *oc.Neighbor) {
		for i := range conf.AfiSafis {
			conf.AfiSafis[i].MpGracefulRestart.State.Received = true
		}
	})
}

// remember has gobgp not forget by an update that a neighbour restarts gracefully, which it does: it takes the families of the update
// for its own, without what the neighbour's OPEN said of them (updatePrefixLimitConfig in its pkg/server/peer.go). The routes of one
// that crashed after that went at once. restore is for after the update; it leaves alone a session that the update begins anew.
func remember(s *server.BgpServer, address string) (restore func() error, err error) {
	var before *oc.Neighbor
	states := map[oc.AfiSafiType]oc.MpGracefulRestartState{}
	err = withNeighbour(s, address, func(conf *oc.Neighbor) {
		before = conf
		for _, f := range conf.AfiSafis {
			states[f.Config.AfiSafiName] = f.MpGracefulRestart.State
		}
	})
	return func() error {
		return withNeighbour(s, address, func(conf *oc.Neighbor) {
			for i, f := range conf.AfiSafis {
				if was, ok := states[f.Config.AfiSafiName]; ok && conf == before {
					conf.AfiSafis[i].MpGracefulRestart.State = was
				}
			}
		})
	}, err
}
