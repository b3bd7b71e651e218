package probe

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestUnread: answers that came in time count, though on a busy host nobody got to read them before it was over: here nobody reads.
func TestUnread(t *testing.T) {
	near, _ := hosts(t)
	if err := near.Do(func() (err error) {
		s := &socket{wake: []chan struct{}{make(chan struct{}, 1)}, sent: map[uint32]request{}, rtt: map[uint32]time.Duration{}, errs: map[uint32]error{}}
		if s.v4, err = listen("ip4:icmp", "0.0.0.0", nil); err != nil {
			return err
		}
		if s.v6, err = listen("ip6:ipv6-icmp", "::", [][3]int{{unix.IPPROTO_IPV6, unix.IPV6_DONTFRAG, 1}}); err != nil {
			return err
		}
		defer s.close()
		for _, a := range []string{"10.77.0.1", "2001:db8:77::1"} {
			e := s.send(0, Target{Addr: netip.MustParseAddr(a)}, 1000)
			s.answers(t.Context(), []echo{e}, time.Second)
			if rtt, err := s.outcome(e); rtt == 0 {
				t.Errorf("%s: the answer is lost: %v", a, err)
			}
			var left int
			for _, c := range []*net.IPConn{s.v4, s.v6} {
				unread(c, func([]byte, netip.Addr) { left++ })
			}
			if left != 0 {
				t.Errorf("%s: %d messages are left", a, left)
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}
