package speaker

import (
	"context"
	"fmt"
	"net/netip"
	"runtime/debug"
	"runtime/metrics"
	"time"

	"github.com/eapache/channels"
)

// gobgp reads what a neighbour says as fast as it comes, and keeps what it has not got to yet in a queue without bound: one that
// tells the same prefixes over and over, which no max_prefixes counts, took 80 to 220 MB a second. A neighbour whose queue is the
// longest when there is more in use than the file's limits ask for is hung up on, and tried again as one that told too many prefixes is.
//
// A prefix that a neighbour withdraws and has not told leaves an empty entry in gobgp's table of what it told (AdjRib.Update in its
// internal/pkg/table/adj.go), which nothing counts and which goes with the session alone: 420 MB of 840,000. Where that much is in use and stands in no
// queue, the neighbour that withdrew most is hung up on in the same way.
//
// What may be in use is generous: what a neighbour may tell may stand in its queue whole, beside the tables (0.6 KB a prefix).
var (
	backlogFree   uint64 = 256 << 20 // bytes for all that is in no proportion to what neighbours may tell
	backlogPrefix uint64 = 1 << 10   // for each prefix that one may tell
	backlogAny    uint64 = 1_000_000 // that those may tell together at most who have no limit of the file's own: nodes
)

const (
	backlogLook  = 250 * time.Millisecond
	backlogRest  = time.Minute // where more is in use and nobody is to blame for it
	backlogShort = 64          // messages; what stands in a shorter queue is no burden
	backlogVain  = 256 << 10   // bytes of prefixes withdrawn in a session; less is none
)

// backlogs looks at what is in use until ctx ends.
func (s *sessions) backlogs(ctx context.Context) {
	inUse := []metrics.Sample{{Name: "/gc/heap/live:bytes"}} // at the end of the last collection: while much is allocated, a moment ago
	for pause := backlogLook; wait(ctx, pause) == nil; {
		pause = backlogLook
		if metrics.Read(inUse); inUse[0].Value.Uint64() <= s.mayUse() {
			continue
		}
		if addr, n := s.longest(); n > backlogShort {
			s.flooded(addr, fmt.Sprintf("it tells faster than this host takes it: %d messages of its stood in the queue, and it was closed", n))
		} else if addr, n := s.sieves.vainest(); n > backlogVain {
			s.flooded(addr, fmt.Sprintf("it withdrew %d KB of prefixes, told or not, which took more memory than there is for it, and was closed", n>>10))
		} else {
			pause = backlogRest
			continue
		}
		debug.FreeOSMemory() // or what was thrown away would still be counted next time
	}
}

// mayUse is how much may be in use, in bytes.
func (s *sessions) mayUse() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	prefixes, others := uint64(0), uint64(0)
	for _, x := range s.peers {
		for _, f := range x.conf.GetAfiSafis() {
			switch n := uint64(f.GetPrefixLimits().GetMaxPrefixes()); {
			case n == 0:
				others = backlogAny
			case ofNode(x.conf):
				others = min(others+n, backlogAny)
			default:
				prefixes += n
			}
		}
	}
	return backlogFree + backlogPrefix*(prefixes+others)
}

// longest is the neighbour with the longest queue, and how many messages stand in it.
func (s *sessions) longest() (addr netip.Addr, n int) {
	s.mu.Lock()
	queues := make(map[netip.Addr]*channels.InfiniteChannel, len(s.peers))
	for a, x := range s.peers {
		if x.queue != nil {
			queues[a] = x.queue
		}
	}
	s.mu.Unlock()
	for a, q := range queues {
		if m := q.Len(); m > n {
			addr, n = a, m
		}
	}
	return addr, n
}

// flooded hangs up on a neighbour and throws away what it said.
func (s *sessions) flooded(addr netip.Addr, words string) {
	s.api.Lock()
	defer s.api.Unlock()
	s.mu.Lock()
	x := s.peers[addr]
	if x != nil {
		s.closed(addr, x, time.Since(x.since), words)
	}
	s.mu.Unlock()
	if x != nil {
		s.renew(addr)
	}
}
