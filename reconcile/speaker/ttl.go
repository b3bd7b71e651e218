package speaker

import (
	"errors"
	"fmt"
	"net"

	api "github.com/osrg/gobgp/v3/api"
	"github.com/osrg/gobgp/v3/pkg/config/oc"
	"golang.org/x/sys/unix"
)

// gobgp sets TTLs that an update changes on the neighbour's connection, which it takes for one of TCP (setPeerConnTTL in its pkg/server/fsm.go),
// and dies of any other: the sieve is there. So it is given the TTLs before the update: it finds them the same and sets none, and a connection that
// there is gets them from here.

// ttls are those of a neighbour as gobgp has them.
type ttls struct {
	hops     oc.EbgpMultihopConfig
	security oc.TtlSecurityConfig
}

// ttlsOf are those of a neighbour as gobgp's API has it.
func ttlsOf(p *api.Peer) ttls {
	t := ttls{oc.EbgpMultihopConfig{Enabled: p.GetEbgpMultihop().GetEnabled(), MultihopTtl: uint8(p.GetEbgpMultihop().GetMultihopTtl())},
		oc.TtlSecurityConfig{Enabled: p.GetTtlSecurity().GetEnabled(), TtlMin: uint8(p.GetTtlSecurity().GetTtlMin())}}
	switch { // as SetDefaultNeighborConfigValues has it in its pkg/config/oc/default.go
	case t.hops.Enabled && t.hops.MultihopTtl == 0:
		t.hops.MultihopTtl = 255
	case !t.hops.Enabled && t.security.Enabled && t.security.TtlMin == 0:
		t.security.TtlMin = 255
	}
	return t
}

// giveTTLs gives a neighbour its TTLs, and says which it had.
func (s *sessions) giveTTLs(address string, t ttls) (before ttls, err error) {
	var serr error
	err = withNeighbour(s.bgp, address, func(conf *oc.Neighbor) {
		if before = (ttls{conf.EbgpMultihop.Config, conf.TtlSecurity.Config}); before != t {
			conf.EbgpMultihop.Config, conf.TtlSecurity.Config = t.hops, t.security
			serr = s.sieves.setTTLs(address, conf)
		}
	})
	return before, errors.Join(err, serr)
}

// setTTLs sets the TTLs of a neighbour on its connection, as gobgp does.
func (x *sieves) setTTLs(address string, conf *oc.Neighbor) error {
	x.mu.Lock()
	v := x.of[address]
	x.mu.Unlock()
	if v == nil {
		return nil
	}
	conn, ok := v.Conn.(*net.TCPConn)
	if !ok {
		return nil
	}
	ttl, least := 0, 0
	switch {
	case conf.TtlSecurity.Config.Enabled:
		ttl, least = 255, int(conf.TtlSecurity.Config.TtlMin)
	case conf.Config.PeerAs != 0 && conf.Config.PeerType == oc.PEER_TYPE_EXTERNAL && conf.EbgpMultihop.Config.Enabled:
		ttl = int(conf.EbgpMultihop.Config.MultihopTtl)
	case conf.Transport.Config.Ttl != 0:
		ttl = int(conf.Transport.Config.Ttl)
	case conf.Config.PeerAs != 0 && conf.Config.PeerType == oc.PEER_TYPE_EXTERNAL:
		ttl = 1
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return fmt.Errorf("setting the TTLs of %s: %w", address, err)
	}
	var serr error
	if err := raw.Control(func(fd uintptr) { serr = setTTLs(int(fd), v.addr.Is6(), ttl, least) }); err != nil {
		return nil // it is closed
	}
	return serr
}

// setTTLs sets the TTL of what a connection sends, where that is not 0, and the least TTL of what it takes.
func setTTLs(fd int, is6 bool, ttl, least int) error {
	level, name, minimum := unix.IPPROTO_IP, unix.IP_TTL, unix.IP_MINTTL
	if is6 {
		level, name, minimum = unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS, unix.IPV6_MINHOPCOUNT
	}
	if ttl != 0 {
		if err := unix.SetsockoptInt(fd, level, name, ttl); err != nil {
			return fmt.Errorf("setting the TTL: %w", err)
		}
	}
	if err := unix.SetsockoptInt(fd, level, minimum, least); err != nil {
		return fmt.Errorf("setting the minimum TTL: %w", err)
	}
	return nil
}
