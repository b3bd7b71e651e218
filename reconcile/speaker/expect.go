package speaker

import (
	"fmt"
	"reflect"
	"sync"

	api "github.com/osrg/gobgp/v3/api"
	"github.com/osrg/gobgp/v3/pkg/config/oc"
	"github.com/osrg/gobgp/v3/pkg/server"
)

// awaits sees to it that what a neighbour tells is waited for, where others depend on it. Nobody else may change which neighbours
// gobgp has meanwhile.
func (s *sessions) awaits(p *api.Peer) {
	if !p.GetGracefulRestart().GetLocalRestarting() || !p.GetRouteReflector().GetRouteReflectorClient() {
		return
	}
	if err := expect(s.bgp, p.GetConf().GetNeighborAddress()); err != nil {
		s.log("warn", err.Error(), nil)
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
	missing := func(what string) error {
		return fmt.Errorf("graceful restart of %s: this version of gobgp has no %s", address, what)
	}
	peers := reflect.ValueOf(s).Elem().FieldByName("neighborMap")
	if !peers.IsValid() || peers.Kind() != reflect.Map || peers.Type().Key().Kind() != reflect.String {
		return missing("neighborMap")
	}
	peer := peers.MapIndex(reflect.ValueOf(address))
	if !peer.IsValid() {
		return nil // it was refused
	}
	fsm := peer.Elem().FieldByName("fsm")
	if !fsm.IsValid() || fsm.Kind() != reflect.Pointer {
		return missing("peer.fsm")
	}
	conf, lock := fsm.Elem().FieldByName("pConf"), fsm.Elem().FieldByName("lock")
	if !conf.IsValid() || conf.Type() != reflect.TypeFor[*oc.Neighbor]() || !lock.IsValid() || lock.Type() != reflect.TypeFor[sync.RWMutex]() {
		return missing("fsm.pConf or fsm.lock")
	}
	mu := (*sync.RWMutex)(lock.Addr().UnsafePointer())
	mu.Lock()
	defer mu.Unlock()
	f(*(**oc.Neighbor)(conf.Addr().UnsafePointer()))
	return nil
}
