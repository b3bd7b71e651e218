package speaker

import (
	"context"
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	api "github.com/osrg/gobgp/v3/api"
	"github.com/osrg/gobgp/v3/pkg/config/oc"
	gobgplog "github.com/osrg/gobgp/v3/pkg/log"
	"github.com/osrg/gobgp/v3/pkg/packet/bgp"
	"github.com/osrg/gobgp/v3/pkg/server"
	"google.golang.org/grpc"
)

// countAddr is the neighbour of these tests.
const countAddr = "192.0.2.1"

// counting is a gobgp of which limits hears, and what was logged.
func counting(t *testing.T) (s *sessions, l *gobgpLog, logged func() []string) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var mu sync.Mutex
	var lines []string
	s = newSessions(ctx, newRIB(), func(level, msg string, fields map[string]any) {
		mu.Lock()
		defer mu.Unlock()
		lines = append(lines, fmt.Sprint(level, " ", msg, " ", fields))
		t.Log(level, msg, fields)
	}, nil)
	l = &gobgpLog{log: s.log, update: s.announced, state: s.changesState, limited: s.limits.listen, heard: func(netip.Addr, string, remedy) {}}
	s.bgp = server.NewBgpServer(server.LoggerOption(l))
	go s.bgp.Serve()
	if err := s.bgp.StartBgp(ctx, &api.StartBgpRequest{Global: &api.Global{Asn: 64512, RouterId: "192.0.2.2", ListenPort: -1}}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.list.Lock()
		s.bgp.Stop()
		s.list.Unlock()
		cancel()
		s.close()
	})
	return s, l, func() []string {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(lines)
	}
}

// order carries a request of gobgp's API out as its server does.
func (s *sessions) order(t *testing.T, req any) {
	t.Helper()
	if _, err := s.carry(req); err != nil {
		t.Error(err)
	}
}

func (s *sessions) carry(req any) (any, error) {
	return s.unary(s.ctx, req, &grpc.UnaryServerInfo{FullMethod: fmt.Sprintf("/apipb.GobgpApi/%T", req)}, func(ctx context.Context, req any) (any, error) {
		switch r := req.(type) {
		case *api.AddPeerRequest:
			return nil, s.bgp.AddPeer(ctx, r)
		case *api.UpdatePeerRequest:
			return s.bgp.UpdatePeer(ctx, r)
		case *api.AddPeerGroupRequest:
			return nil, s.bgp.AddPeerGroup(ctx, r)
		case *api.StopBgpRequest:
			return nil, s.bgp.StopBgp(ctx, r)
		}
		return nil, fmt.Errorf("%T", req)
	})
}

// familiesOf are those of a neighbour as gobgp has them.
func (s *sessions) familiesOf(t *testing.T) (families []oc.AfiSafi) {
	t.Helper()
	if err := withNeighbour(s.bgp, countAddr, func(conf *oc.Neighbor) { families = conf.AfiSafis }); err != nil {
		t.Fatal(err)
	}
	return families
}

func limitsOf(families []oc.AfiSafi) (most []uint32) {
	for _, f := range families {
		most = append(most, f.PrefixLimit.Config.MaxPrefixes)
	}
	return most
}

func countedPeer(most ...*api.PrefixLimit) *api.Peer {
	p := &api.Peer{Conf: &api.PeerConf{NeighborAddress: countAddr, PeerAsn: 64512}, Transport: &api.Transport{PassiveMode: true}}
	for _, m := range most {
		p.AfiSafis = append(p.AfiSafis, &api.AfiSafi{Config: &api.AfiSafiConfig{Family: m.Family, Enabled: true}, PrefixLimits: m})
	}
	return p
}

// announce is an UPDATE as gobgp's log tells of it.
func announce(l *gobgpLog, v4 int) {
	l.Debug("received update", gobgplog.Fields{"Key": countAddr, "nlri": make([]*bgp.IPAddrPrefix, v4)})
}

// TestCountOtherClients: what another client of gobgp's API may do to a neighbour, which netd does not, loses no limit.
func TestCountOtherClients(t *testing.T) {
	evpn := &api.Family{Afi: api.Family_AFI_L2VPN, Safi: api.Family_SAFI_EVPN}
	held := func(s *sessions, f func()) { // the neighbour is not counted meanwhile
		s.list.Lock()
		defer s.list.Unlock()
		f()
	}
	is := func(t *testing.T, s *sessions, when string, want ...uint32) {
		t.Helper()
		if got := limitsOf(s.familiesOf(t)); !slices.Equal(got, want) {
			t.Errorf("%s gobgp has the limits %d, want %d", when, got, want)
		}
	}
	t.Run("families", func(t *testing.T) {
		s, l, _ := counting(t)
		s.order(t, &api.AddPeerRequest{Peer: countedPeer(&api.PrefixLimit{Family: ipv4, MaxPrefixes: 10}, &api.PrefixLimit{Family: ipv6, MaxPrefixes: 10},
			&api.PrefixLimit{Family: evpn})})
		is(t, s, "at first", 0, 0, 0)
		held(s, func() {
			announce(l, 11)
			is(t, s, "past the limit", 10, 10, 0)
		})
	})
	t.Run("a limit of another family", func(t *testing.T) {
		s, _, _ := counting(t)
		s.order(t, &api.AddPeerRequest{Peer: countedPeer(&api.PrefixLimit{Family: ipv4, MaxPrefixes: 10}, &api.PrefixLimit{Family: evpn, MaxPrefixes: 20})})
		is(t, s, "at first", 10, 20)
	})
	t.Run("groups", func(t *testing.T) {
		s, l, _ := counting(t)
		group := func(most uint32) *api.PeerGroup {
			return &api.PeerGroup{Conf: &api.PeerGroupConf{PeerGroupName: "g", PeerAsn: 64512}, AfiSafis: []*api.AfiSafi{{
				Config: &api.AfiSafiConfig{Family: ipv4, Enabled: true}, PrefixLimits: &api.PrefixLimit{Family: ipv4, MaxPrefixes: most}}}}
		}
		s.order(t, &api.AddPeerGroupRequest{PeerGroup: group(10)})
		p := countedPeer(&api.PrefixLimit{Family: ipv4, MaxPrefixes: 100})
		p.Conf.PeerGroup = "g"
		s.order(t, &api.AddPeerRequest{Peer: p})
		is(t, s, "at first", 0)
		held(s, func() {
			announce(l, 11)
			is(t, s, "past the group's limit", 10)
		})
	})
	t.Run("another router", func(t *testing.T) {
		s, l, _ := counting(t)
		s.order(t, &api.AddPeerRequest{Peer: countedPeer(&api.PrefixLimit{Family: ipv4, MaxPrefixes: 10})})
		if l.GetLevel() != gobgplog.DebugLevel {
			t.Error("gobgp tells of no UPDATE where a neighbour has a limit")
		}
		announce(l, 1)
		if l.GetLevel() == gobgplog.DebugLevel {
			t.Error("once it has told of an UPDATE gobgp tells of each prefix in it")
		}
		s.Observe(server.FSMMessage, 0, 0)
		if l.GetLevel() != gobgplog.DebugLevel {
			t.Error("gobgp does not tell of the next UPDATE")
		}
		s.order(t, &api.StopBgpRequest{})
		if l.GetLevel() == gobgplog.DebugLevel || len(s.limits.of) != 0 {
			t.Errorf("limits of a router that is no more: %v", s.limits.of)
		}
	})
}

// TestCountCosts: a neighbour that tells the same again and again while others have the list of neighbours piles nothing up; gobgp
// may read what it has of a neighbour meanwhile; what is not changed is not said to be.
func TestCountCosts(t *testing.T) {
	s, l, logged := counting(t)
	if l.GetLevel() == gobgplog.DebugLevel {
		t.Error("gobgp tells of what nobody hears")
	}
	peer := countedPeer(&api.PrefixLimit{Family: ipv4, MaxPrefixes: 5})
	s.order(t, &api.AddPeerRequest{Peer: peer})
	s.list.Lock()
	read := s.familiesOf(t)
	before := runtime.NumGoroutine()
	for range 1000 {
		announce(l, 6)
	}
	if n := runtime.NumGoroutine() - before; n > 10 {
		t.Errorf("%d goroutines wait to count one neighbour", n)
	}
	if got := limitsOf(s.familiesOf(t)); got[0] != 5 {
		t.Errorf("past the limit gobgp has %d", got)
	}
	if got := limitsOf(read); got[0] != 0 {
		t.Error("what gobgp reads without its lock was written to")
	}
	s.list.Unlock()
	for deadline := time.Now().Add(30 * time.Second); limitsOf(s.familiesOf(t))[0] != 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the limit stays, although nothing is near it")
		}
	}
	s.order(t, &api.UpdatePeerRequest{Peer: peer})
	for _, line := range logged() {
		if strings.Contains(line, "prefix limit") {
			t.Errorf("the limit is the same: %s", line)
		}
	}
}

// TestCount: gobgp has a neighbour's limit from the UPDATE on by which the neighbour may have passed it, in either family, and not
// while that is far; its answers tell it always. TestMaxPrefixes has the neighbour pass it.
func TestCount(t *testing.T) {
	s, log, _ := counting(t)
	bgp4, addr := s.bgp, countAddr
	peer := func(most, percent uint32) *api.Peer {
		p := &api.Peer{Conf: &api.PeerConf{NeighborAddress: addr, PeerAsn: 64512}, Transport: &api.Transport{PassiveMode: true}}
		for _, f := range []*api.Family{ipv4, ipv6} {
			p.AfiSafis = append(p.AfiSafis, &api.AfiSafi{Config: &api.AfiSafiConfig{Family: f, Enabled: true},
				PrefixLimits: &api.PrefixLimit{Family: f, MaxPrefixes: most, ShutdownThresholdPct: percent}})
		}
		return p
	}
	has := func() (most [2]uint32) {
		t.Helper()
		if err := withNeighbour(bgp4, addr, func(conf *oc.Neighbor) {
			for i, f := range conf.AfiSafis {
				most[i] = f.PrefixLimit.Config.MaxPrefixes
			}
		}); err != nil {
			t.Fatal(err)
		}
		return most
	}
	tells := func() (most [2]uint32) {
		p := s.look(mustAddr(addr))
		s.limits.tell(p)
		for i, f := range p.GetAfiSafis() {
			most[i] = f.GetPrefixLimits().GetMaxPrefixes()
		}
		return most
	}
	is := func(when string, want, told uint32) {
		t.Helper()
		if got := has(); got != [2]uint32{want, want} {
			t.Errorf("%s gobgp has the limits %d, want %d", when, got, want)
		}
		if got := tells(); got != [2]uint32{told, told} {
			t.Errorf("%s it tells the limits %d, want %d", when, got, told)
		}
	}
	update := func(v4, v6 int) {
		mp := &bgp.PathAttributeMpReachNLRI{AFI: bgp.AFI_IP6, Value: make([]bgp.AddrPrefixInterface, v6)}
		log.Debug("received update", gobgplog.Fields{"Key": addr, "nlri": make([]*bgp.IPAddrPrefix, v4),
			"attributes": []bgp.PathAttributeInterface{bgp.NewPathAttributeOrigin(0), mp}})
	}
	settled := func() { // counted: it has told nothing in truth
		t.Helper()
		for deadline := time.Now().Add(30 * time.Second); has() != [2]uint32{}; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("the limit stays, although nothing is near it")
			}
		}
	}
	// held keeps the neighbour from being counted meanwhile.
	held := func(f func()) {
		s.list.Lock()
		defer s.list.Unlock()
		f()
	}
	s.order(t, &api.AddPeerRequest{Peer: peer(10, 0)})
	is("at first", 0, 10)
	update(10, 10)
	is("at the limit", 0, 10)
	held(func() {
		update(1, 0)
		is("past the limit", 10, 10)
	})
	settled()
	held(func() {
		update(0, 11)
		is("past the limit by IPv6", 10, 10)
	})
	settled()
	s.order(t, &api.UpdatePeerRequest{Peer: peer(20, 0)})
	is("after a change", 0, 20)
	update(20, 20)
	is("at the new limit", 0, 20)
	held(func() {
		update(1, 1)
		is("past the new limit", 20, 20)
	})
	settled()
	s.order(t, &api.UpdatePeerRequest{Peer: peer(30, 75)})
	is("where another wants to be warned", 30, 30)
	s.order(t, &api.UpdatePeerRequest{Peer: peer(0, 0)})
	update(1000, 1000)
	is("without a limit", 0, 0)
}
