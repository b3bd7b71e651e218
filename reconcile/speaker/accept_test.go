package speaker

import (
	"bytes"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"netd/reconcile"
	"netd/reconcile/object"
)

// TestEarly: a router that dials a speaker which has no neighbour yet is not refused, and is answered when that comes.
func TestEarly(t *testing.T) {
	hosts := newHosts(t, 2)
	h, far := hosts[0], hosts[1]
	h.start()
	w := h.want(hosts)
	before := reconcile.Want{}
	router := object.BGP{}
	for _, r := range w.State {
		if b, ok := r.(object.BGP); ok {
			router = b
		}
	}
	before.Put(router, reconcile.Cause{})
	h.converge(before)
	var conn net.Conn
	err := far.ns.Do(func() (err error) {
		d := net.Dialer{Timeout: 5 * time.Second, LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(far.addr, 0))}
		conn, err = d.Dial("tcp", netip.AddrPortFrom(h.addr, 179).String())
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	head := make([]byte, 19)
	if err := conn.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
		t.Fatal(err)
	}
	if n, err := conn.Read(head); n > 0 || err == nil || !err.(net.Error).Timeout() {
		t.Fatalf("without a neighbour: %d bytes, %v", n, err)
	}
	peer := h.peer(far)
	peer.TTLSecurity = false // a Dialer's packets have a TTL of 64
	before.Put(peer, reconcile.Cause{})
	h.converge(before)
	if err := conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(conn, head); err != nil || !bytes.Equal(head[:16], marker[:]) || head[18] != 1 {
		t.Errorf("it is answered with %x, %v", head, err)
	}
}
