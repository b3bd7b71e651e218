package speaker

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	api "github.com/osrg/gobgp/v3/api"
)

const nobodyDials = "nobody dials: it is down, filtered, or does not know this node as a neighbour"

// silence gives words to sessions on which nothing happens: this end waits to be dialled, and nobody dials, or the kernel
// drops what they send. A wrong password is dropped there without a word to anyone; all that it leaves is a count for the
// whole network namespace (Documentation/networking/snmp_counter.rst, TcpExtTCPMD5*).
func (s *sessions) silence(ctx context.Context) {
	const every = 3 * time.Second
	before := md5Failures()
	for wait(ctx, every) == nil {
		now := md5Failures()
		for _, addr := range s.waiting(every) {
			if now > before {
				s.failed(addr, fmt.Sprintf("nobody dials: MD5 mismatch or wrong address (the kernel dropped %d segments with a wrong or missing signature)", now-before))
			} else {
				s.failed(addr, nobodyDials)
			}
		}
		before = now
	}
}

// waiting are the neighbours that are to dial and have not for a while.
func (s *sessions) waiting(since time.Duration) []netip.Addr {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []netip.Addr
	for addr, x := range s.peers {
		if x.state == api.PeerState_ACTIVE && x.conf.GetConf().GetDescription() == describeListens && time.Since(x.since) > since {
			out = append(out, addr)
		}
	}
	return out
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
