package speaker

import (
	"net/netip"
	"testing"

	"netd/reconcile/object"
)

// TestMarksShow: the marks of an own path are not shown as communities; what a neighbour sends that looks the same is.
func TestMarksShow(t *testing.T) {
	p, err := apiPath(object.Path{Prefix: netip.MustParsePrefix("10.10.40.128/26"), NextHop: netip.MustParseAddr("192.168.170.137"), To: "192.168.170.1 nodes"})
	if err != nil {
		t.Fatal(err)
	}
	p.NeighborIp = "<nil>" // as gobgp says it of an own one
	own, err := routeOf(p)
	if err != nil || len(own.Communities) != 0 || len(own.marks) != 2 {
		t.Errorf("an own path: %d marks, communities %v, %v", len(own.marks), own.Communities, err)
	}
	p.NeighborIp = "192.168.170.1"
	if told, err := routeOf(p); err != nil || len(told.Communities) != 2 || len(told.marks) != 0 {
		t.Errorf("a neighbour's path: %d marks, communities %v, %v", len(told.marks), told.Communities, err)
	}
}
