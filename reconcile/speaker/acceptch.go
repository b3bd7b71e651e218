package speaker

import (
	"fmt"
	"net"
	"reflect"

	"github.com/osrg/gobgp/v3/pkg/server"
)

// acceptChannel is where gobgp takes the connections that its listeners accepted. What is put there is given to the
// neighbour with the connection's remote address, as if it had dialled.
//
// The field is private and gobgp offers no other door for a connection that someone else opened; its own dialler waits one
// to two seconds before it tries at all, five after a session was lost, and tells nobody why it failed. gobgp is pinned to
// the last release of its v3, and a test fails where the field is gone. The channel is made by StartBgp and is a new one
// after each.
func acceptChannel(s *server.BgpServer) (chan<- *net.TCPConn, error) {
	f := reflect.ValueOf(s).Elem().FieldByName("acceptCh")
	if !f.IsValid() || f.Type() != reflect.TypeFor[chan *net.TCPConn]() {
		return nil, fmt.Errorf("handing a connection to gobgp: this version of it has no acceptCh")
	}
	return *(*chan *net.TCPConn)(f.Addr().UnsafePointer()), nil
}
