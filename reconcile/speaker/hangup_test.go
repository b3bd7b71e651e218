package speaker

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"netd/testenv/netns"
)

// TestHangUpOnLink: of two routers with the same link-local address, each on a link of its own, as two switches of a rack have it, one
// is hung up on.
func TestHangUpOnLink(t *testing.T) {
	netns.Need(t)
	conns := map[string]net.Conn{}
	for i := range 2 {
		link := fmt.Sprintf("hang%d", i)
		far := netns.New(t, link)
		netns.Run(t, fmt.Sprintf("ip link add %s type veth peer name eth0 netns %s", link, far.Name))
		t.Cleanup(func() { netns.Run(t, "ip link del "+link) })
		netns.Run(t, fmt.Sprintf("ip addr add fe80::%d/64 dev %s nodad", i+2, link))
		netns.Run(t, "ip link set "+link+" up")
		far.Run(t, "ip addr add fe80::1/64 dev eth0 nodad")
		far.Run(t, "ip link set eth0 up")
		var l net.Listener
		if err := far.Do(func() (err error) {
			l, err = net.Listen("tcp6", "[::]:1790")
			return err
		}); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Close() })
		for begin := time.Now(); conns[link] == nil; {
			d := net.Dialer{Timeout: time.Second}
			c, err := d.Dial("tcp6", "[fe80::1%"+link+"]:1790")
			if err != nil && time.Since(begin) < 20*time.Second {
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			conns[link] = c
			t.Cleanup(func() { _ = c.Close() })
		}
	}
	if !hangUp(netip.MustParseAddr("fe80::1%hang0")) {
		t.Fatal("found no connection")
	}
	lost := func(link string) bool {
		_ = conns[link].SetReadDeadline(time.Now().Add(200 * time.Millisecond))
		_, err := conns[link].Read(make([]byte, 1))
		return !errors.Is(err, os.ErrDeadlineExceeded)
	}
	if !lost("hang0") {
		t.Error("the connection stands")
	}
	if lost("hang1") {
		t.Error("the connection with the router on the other link was hung up on as well")
	}
}
