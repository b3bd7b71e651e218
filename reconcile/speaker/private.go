package speaker

import (
	"fmt"
	"net"
	"reflect"
	"sync"

	"github.com/eapache/channels"
	"github.com/osrg/gobgp/v3/pkg/config/oc"
	"github.com/osrg/gobgp/v3/pkg/server"
)

// What netd does for gobgp's sessions needs fields of gobgp's that no request of its API reaches. go.mod holds it at the last release of its v3; where
// another version lacks a field, or has it with another type, the error names it, and the test of the file that needs it fails. Watchers are in best.go.

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

// connOf is where gobgp keeps the connection of a neighbour.
func connOf(s *server.BgpServer, address string) (*net.Conn, error) {
	fsm, err := machine(s, address)
	if err != nil {
		return nil, err
	}
	if !fsm.IsValid() {
		return nil, fmt.Errorf("reaching the connection of %s: gobgp has no such neighbour", address)
	}
	f := fsm.Elem().FieldByName("conn")
	if !f.IsValid() || f.Type() != reflect.TypeFor[net.Conn]() {
		return nil, fmt.Errorf("reaching the connection of %s: this version of gobgp has no fsm.conn", address)
	}
	return (*net.Conn)(f.Addr().UnsafePointer()), nil
}

// queueOf is where what a neighbour says waits for gobgp. It stays the same for as long as gobgp has the neighbour. Nobody else may change meanwhile which neighbours it has.
func queueOf(s *server.BgpServer, address string) (*channels.InfiniteChannel, error) {
	fsm, err := machine(s, address)
	if err != nil || !fsm.IsValid() {
		return nil, err
	}
	q := fsm.Elem().FieldByName("incomingCh")
	if !q.IsValid() || q.Type() != reflect.TypeFor[*channels.InfiniteChannel]() {
		return nil, fmt.Errorf("looking at what waits for gobgp: this version of it has no fsm.incomingCh")
	}
	return *(**channels.InfiniteChannel)(q.Addr().UnsafePointer()), nil
}

// acceptChannel is where gobgp has the channel of the connections that its listeners accepted. Its one goroutine alone may look there.
func acceptChannel(s *server.BgpServer) (*chan *net.TCPConn, error) {
	f := reflect.ValueOf(s).Elem().FieldByName("acceptCh")
	if !f.IsValid() || f.Type() != reflect.TypeFor[chan *net.TCPConn]() {
		return nil, fmt.Errorf("handing a connection to gobgp: this version of it has no acceptCh")
	}
	return (*chan *net.TCPConn)(f.Addr().UnsafePointer()), nil
}
