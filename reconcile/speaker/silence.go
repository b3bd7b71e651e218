package speaker

import (
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	api "github.com/osrg/gobgp/v3/api"
)

const nobodyDials = "nobody dials: it is down, filtered, or does not know this node as a neighbour"

// How long a session may stand still before someone looks why.
const (
	stillIdle   = time.Second
	stillActive = 3 * time.Second

	// A neighbour that is connected has this long to send its OPEN. gobgp waits for four minutes, a constant, and closes every
	// other connection of that neighbour meanwhile: one that comes by a router too many, whose packets the kernel drops for
	// their TTL, or one that hangs, would keep its successor out for as long.
	stillOpening = 5 * time.Second

	// One that has sent its OPEN and has this end's answers with a KEEPALIVE at once. gobgp waits for the hold time.
	stillConfirming = 2 * time.Second
)

// still looks at a session that has not moved for a while.
//
// It may have moved unseen: what gobgp tells of a neighbour that was taken out and put back may come out of order, the end of
// the old session after the beginning of the new one, and a session believed to be IDLE is not dialled.
//
// Or nothing happens on it: this end waits to be dialled, and nobody dials, or the kernel drops what they send. A wrong
// password is dropped there without a word to anyone; all that it leaves is a count for the whole network namespace
// (Documentation/networking/snmp_counter.rst, TcpExtTCPMD5*).
func (s *sessions) still(addr netip.Addr, since time.Time) {
	p := s.look(addr)
	s.mu.Lock()
	defer s.mu.Unlock()
	x := s.peers[addr]
	if x == nil || !x.since.Equal(since) {
		return
	}
	if now := p.GetState().GetSessionState(); p != nil && now != x.state {
		s.log("info", "a session moved unseen", map[string]any{"peer": addr.String(), "from": x.state.String(), "to": now.String()})
		s.move(addr, x, now, p.GetState().GetAdminState())
		return
	}
	switch x.state {
	case api.PeerState_OPENSENT:
		if hangUp(addr) {
			s.failed(addr, "it is connected and says nothing: its TTL is too low (ttl_security), or it hangs", true)
		}
	case api.PeerState_OPENCONFIRM:
		s.failed(addr, "it is connected and does not answer this end's OPEN: one end drops the other's packets for their TTL (ttl_security), or it hangs", true)
	case api.PeerState_ACTIVE:
		switch n := md5Failures() - x.md5; {
		case n == 0:
			s.failed(addr, nobodyDials, false)
		case s.alone(addr):
			s.failed(addr, fmt.Sprintf("nobody dials: MD5 mismatch or wrong address (the kernel dropped %d segments with a wrong or missing signature)", n), false)
		default:
			s.failed(addr, fmt.Sprintf("%s; or its password is another (the kernel dropped %d segments with a wrong or missing signature, of one or more that are not up)", nobodyDials, n), false)
		}
	}
	x.watch(func() { s.still(addr, since) })
}

// alone reports whether all sessions but a neighbour's are up, so that what the kernel counts for all is of that one. s.mu is held.
func (s *sessions) alone(addr netip.Addr) bool {
	for a, x := range s.peers {
		if a != addr && x.state != api.PeerState_ESTABLISHED {
			return false
		}
	}
	return true
}

// watch has a session looked at, if it may stand still in its state for the wrong reason.
func (x *session) watch(look func()) {
	after := stillIdle
	switch {
	case x.waits():
		after = stillActive
	case x.state == api.PeerState_OPENSENT:
		after = stillOpening
	case x.state == api.PeerState_OPENCONFIRM:
		after = stillConfirming
	case x.state != api.PeerState_IDLE:
		return
	}
	x.looked = time.AfterFunc(after, look)
}

// waits reports whether a session stands until its neighbour dials.
func (x *session) waits() bool {
	return x.state == api.PeerState_ACTIVE && listens(x.conf)
}

// md5Failures counts the segments that the kernel dropped for their signature.
func md5Failures() uint64 {
	b, err := os.ReadFile("/proc/net/netstat")
	if err != nil {
		return 0
	}
	return md5FailuresIn(string(b))
}

// md5FailuresIn reads /proc/net/netstat: lines in pairs, the names and then the numbers.
func md5FailuresIn(netstat string) (n uint64) {
	lines := strings.Split(netstat, "\n")
	for i := 0; i+1 < len(lines); i += 2 {
		if !strings.HasPrefix(lines[i], "TcpExt:") {
			continue
		}
		names, numbers := strings.Fields(lines[i]), strings.Fields(lines[i+1])
		for j, name := range names {
			if strings.HasPrefix(name, "TCPMD5") && j < len(numbers) {
				k, _ := strconv.ParseUint(numbers[j], 10, 64)
				n += k
			}
		}
	}
	return n
}
