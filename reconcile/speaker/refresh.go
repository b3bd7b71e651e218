package speaker

import (
	"encoding/binary"
	"time"

	api "github.com/osrg/gobgp/v3/api"
	"github.com/osrg/gobgp/v3/pkg/packet/bgp"
)

// A neighbour may ask as often as it likes for all that it is told (RFC 2918), and for each time gobgp goes through its whole table and the policies,
// in the one goroutine that takes everybody's UPDATEs: 46 KB of requests kept it busy for half a minute, with 50,000 prefixes. So one that asks
// again soon is told once more, later, for all the times that it asked until then.

// refreshEvery is how often a neighbour is told all of a family because it asks for that.
const refreshEvery = 5 * time.Second

// early reports whether a ROUTE-REFRESH is not for gobgp, since it comes too soon after another of its family. Then what it asks for is told later.
func (v *sieve) early(refresh []byte) bool {
	i, ok := place(bgp.AfiSafiToRouteFamily(binary.BigEndian.Uint16(refresh[headerLen:]), refresh[headerLen+3]))
	if !ok { // it is passed over (§4), and gobgp would write a line of it each time
		return true
	}
	now, due := time.Now(), v.refreshed[i].Add(refreshEvery)
	switch {
	case v.refreshed[i].After(now): // what is told then is what it asks for
	case due.After(now):
		v.refreshed[i] = due
		v.s.start(func() {
			if wait(v.s.ctx, time.Until(due)) == nil {
				v.s.tellAll(v)
			}
		})
	default:
		v.refreshed[i] = now
		return false
	}
	return true
}

// tellAll tells a neighbour all once more, if its session is still the same.
func (s *sessions) tellAll(v *sieve) {
	s.api.RLock()
	defer s.api.RUnlock()
	address := v.addr.String()
	s.sieves.mu.Lock()
	same := s.sieves.of[address] == v
	s.sieves.mu.Unlock()
	if !same {
		return
	}
	if err := s.bgp.ResetPeer(s.ctx, &api.ResetPeerRequest{Address: address, Soft: true, Direction: api.ResetPeerRequest_OUT}); err != nil {
		s.log("warn", "telling a neighbour all again", map[string]any{"peer": address, "error": err.Error()})
	}
}
