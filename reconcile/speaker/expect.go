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
	missing := func(what string) error {
		return fmt.Errorf("waiting for the clients of a reflector that restarts: this version of gobgp has no %s", what)
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
	families := (*(**oc.Neighbor)(conf.Addr().UnsafePointer())).AfiSafis
	for i := range families {
		families[i].MpGracefulRestart.State.Received = true
	}
	return nil
}
