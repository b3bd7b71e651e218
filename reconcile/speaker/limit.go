package speaker

import (
	"fmt"
	"net/netip"
	"time"

	api "github.com/osrg/gobgp/v3/api"
)

// A neighbour that tells more prefixes than it may loses its session, and gobgp leaves it shut down for ever. Here it, and one
// that tells faster than can be taken (backlog.go), is tried again: after limitFirst, then after twice as long each time, and at once where the limit itself is changed. One
// that then holds for limitSettled begins anew.
var (
	limitFirst   = 60 * time.Second
	limitMost    = 16 * time.Minute
	limitSettled = 10 * time.Minute
)

// limited notes that a session was closed for its prefixes. s.mu is held.
func (s *sessions) limited(addr netip.Addr, x *session, held time.Duration) {
	most := uint32(0)
	for _, f := range x.conf.GetAfiSafis() {
		most = max(most, f.GetPrefixLimits().GetMaxPrefixes())
	}
	words := fmt.Sprintf("max_prefixes: it told more than %d prefixes and was closed", most)
	if ofNode(x.conf) {
		words = fmt.Sprintf("it told more than %d prefixes, which is more than the file lets that node tell, and was closed", most)
	}
	s.closed(addr, x, held, words)
}

// closed notes that a session was closed for telling too much, and has it tried again later. s.mu is held.
func (s *sessions) closed(addr netip.Addr, x *session, held time.Duration, words string) {
	if x.reopen != nil {
		return
	}
	if held > limitSettled {
		x.limits = 0
	}
	pause := min(limitFirst<<min(x.limits, 10), limitMost)
	x.limits++
	x.reopen = time.AfterFunc(pause, func() { s.reopened(addr) })
	words = fmt.Sprintf("%s; tried again after %s", words, pause)
	s.rib.neighbour(addr, func(n *Neighbour) {
		n.why.lost = words // in place of gobgp's
		n.fails(words, false, time.Now())
	})
}

// reopened tries a session again that was closed for telling too much.
func (s *sessions) reopened(addr netip.Addr) {
	s.mu.Lock()
	x := s.peers[addr]
	if x == nil || x.reopen == nil {
		s.mu.Unlock()
		return
	}
	x.reopen.Stop()
	x.reopen = nil
	s.dials(addr, x) // where it waits for that
	s.mu.Unlock()
	s.api.Lock()
	defer s.api.Unlock()
	if s.look(addr).GetState().GetAdminState() != api.PeerState_PFX_CT {
		return
	}
	s.renew(addr) // gobgp's own switch leaves it idle for another five seconds
}
