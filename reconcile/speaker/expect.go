package speaker

import (
	"fmt"
	"reflect"
	"sync"

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
// sets and that no request of the API does. It is reached as acceptChannel's is, and a test fails where it is gone.
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

// withNeighbour calls f with what gobgp knows of a neighbour, where it has that one, while it holds gobgp's lock. Nobody else may
// change which neighbours gobgp has meanwhile.
func withNeighbour(s *server.BgpServer, address string, f func(*oc.Neighbor)) error {
	fsm, err := machine(s, address)
	if err != nil || !fsm.IsValid() {
		return err
	}
	lock := fsm.Elem().FieldByName("lock")
	if !lock.IsValid() || lock.Type() != reflect.TypeFor[sync.RWMutex]() {
		return fmt.Errorf("what gobgp has of %s: this version has no fsm.lock", address)
	}
	mu := (*sync.RWMutex)(lock.Addr().UnsafePointer())
	mu.Lock()
	defer mu.Unlock()
	return withLocked(s, address, f)
}

// withLocked is withNeighbour for gobgp's own goroutine while it holds that lock.
func withLocked(s *server.BgpServer, address string, f func(*oc.Neighbor)) error {
	fsm, err := machine(s, address)
	if err != nil || !fsm.IsValid() {
		return err
	}
	conf := fsm.Elem().FieldByName("pConf")
	if !conf.IsValid() || conf.Type() != reflect.TypeFor[*oc.Neighbor]() {
		return fmt.Errorf("what gobgp has of %s: this version has no fsm.pConf", address)
	}
	f(*(**oc.Neighbor)(conf.Addr().UnsafePointer()))
	return nil
}

// machine is gobgp's state machine of a neighbour, invalid where it has no such neighbour.
func machine(s *server.BgpServer, address string) (fsm reflect.Value, err error) {
	peers := reflect.ValueOf(s).Elem().FieldByName("neighborMap")
	if !peers.IsValid() || peers.Kind() != reflect.Map || peers.Type().Key().Kind() != reflect.String {
		return fsm, fmt.Errorf("reaching a neighbour of gobgp's: this version of it has no neighborMap")
	}
	peer := peers.MapIndex(reflect.ValueOf(address))
	if !peer.IsValid() {
		return fsm, nil // it was refused
	}
	fsm = peer.Elem().FieldByName("fsm")
	if !fsm.IsValid() || fsm.Kind() != reflect.Pointer {
		return reflect.Value{}, fmt.Errorf("reaching a neighbour of gobgp's: this version of it has no peer.fsm")
	}
	return fsm, nil
}
