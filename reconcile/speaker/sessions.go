package speaker

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/eapache/channels"
	api "github.com/osrg/gobgp/v3/api"
	"github.com/osrg/gobgp/v3/pkg/server"
	"google.golang.org/protobuf/proto"
)

// deferral is how long the table of a neighbour may stay unknown: after that, what it has not announced is taken to be
// gone. gobgp's own default is six minutes; an End-of-RIB comes within a second where there is anyone to send it.
const deferral = 20 * time.Second

// sessions does for the neighbours what gobgp does not: it dials, gets a lost session up again soon, takes the routes of a
// neighbour away that fell silent, and knows whose table is known. It learns of neighbours by the requests of gobgp's API,
// which pass through its interceptors, and of their state by gobgp's events.
type sessions struct {
	bgp   *server.BgpServer
	rib   *rib
	log   LogFunc
	ctx   context.Context // the process's: parent of everything started here
	fatal chan<- error    // ends the process

	// api is held for reading by every request, and for writing while a neighbour is taken out and put back, so that no
	// request ever sees it missing or shut down.
	api sync.RWMutex

	list sync.Mutex // held while a request changes which neighbours gobgp has

	changes atomic.Uint64 // see hello.Changes; never 0

	limits limits
	tries  tries
	sieves sieves

	accept   atomic.Pointer[chan *net.TCPConn] // of the router that runs now; see accept.go
	acceptAt *chan *net.TCPConn                // where gobgp has it
	noMore   context.CancelFunc                // ends what its listeners accept; of gobgp's one goroutine
	router   atomic.Pointer[netip.Addr]        // its identifier
	asn      atomic.Uint32                     // its AS

	// Of gobgp's one goroutine: what it told of best paths, and how much of that changed the rib.
	best    best
	pending []news
	stirred int

	mu    sync.Mutex
	peers map[netip.Addr]*session
	first time.Time // when this process was given its first neighbour
	tasks sync.WaitGroup
}

// session is one neighbour. Its fields are guarded by sessions.mu.
type session struct {
	conf     *api.Peer // as it was last given
	state    api.PeerState_SessionState
	since    time.Time
	hurries  int                       // times a lost session was hurried since it last held
	stopDial context.CancelFunc        // nil where nobody dials
	told     map[string]bool           // families whose End-of-RIB came in this session
	limits   int                       // times it was closed for telling too much
	reopen   *time.Timer               // until it is tried again after that; nil: it is not closed
	queue    *channels.InfiniteChannel // where what it says waits for gobgp; nil: that is not known
	unknown  *time.Timer               // ends the time in which its table is unknown
	looked   *time.Timer               // when it is looked at, where it stands still
	md5      uint64                    // md5Failures since when it waits
}

func newSessions(ctx context.Context, t *rib, log LogFunc, fatal chan<- error) *sessions {
	s := &sessions{rib: t, log: log, ctx: ctx, fatal: fatal, peers: map[netip.Addr]*session{}, limits: limits{of: map[string]*limit{}}}
	s.sieves.of = map[string]*sieve{}
	s.tries = tries{lost: map[string]time.Time{}, kept: map[string]bool{}}
	s.changes.Store(1)
	return s
}

// fresh reports whether this process had no neighbour until just now: then its sessions are restarts of those that its
// predecessor had, and it says so in its OPENs (RFC 4724 §4.1).
func (s *sessions) fresh() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.first.IsZero() || time.Since(s.first) < 5*time.Second
}

// start runs f in a goroutine that close waits for.
func (s *sessions) start(f func()) {
	s.tasks.Add(1)
	go func() {
		defer s.tasks.Done()
		f()
	}()
}

// added notes a neighbour. It must be known before gobgp has it, or its first events would be taken for a stranger's.
func (s *sessions) added(conf *api.Peer) (undo func(), err error) {
	addr, err := netip.ParseAddr(conf.GetConf().GetNeighborAddress())
	if err != nil {
		return nil, fmt.Errorf("adding a neighbour: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.peers[addr] != nil { // gobgp will say so
		return func() {}, nil
	}
	if s.first.IsZero() {
		s.first = time.Now()
	}
	x := &session{conf: proto.Clone(conf).(*api.Peer)}
	s.enter(addr, x, api.PeerState_IDLE)
	s.peers[addr] = x
	s.rib.addNeighbour(addr)
	x.unknown = time.AfterFunc(deferral, func() { s.synced(addr) })
	return func() { s.removed(addr) }, nil
}

func (s *sessions) updated(conf *api.Peer) {
	addr, err := netip.ParseAddr(conf.GetConf().GetNeighborAddress())
	if err != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	x := s.peers[addr]
	if x == nil {
		return
	}
	x.conf = proto.Clone(conf).(*api.Peer)
	if x.reopen != nil { // the limit may be another
		x.limits = 0
		s.start(func() { s.reopened(addr) })
	}
	if x.stopDial != nil { // with the new password, or not at all
		x.stopDial()
		x.stopDial = nil
		s.dials(addr, x)
	}
}

func (s *sessions) removed(addr netip.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if x := s.peers[addr]; x != nil {
		x.end()
		delete(s.peers, addr)
		s.rib.removeNeighbour(addr)
		s.limits.mu.Lock()
		s.limits.set(x.conf.GetConf().GetNeighborAddress(), nil)
		s.limits.mu.Unlock()
		s.tries.forget(x.conf.GetConf().GetNeighborAddress())
		s.sieves.forget(x.conf.GetConf().GetNeighborAddress())
	}
}

func (x *session) end() {
	if x.reopen != nil {
		x.reopen.Stop()
		x.reopen = nil
	}
	x.unknown.Stop()
	if x.looked != nil {
		x.looked.Stop()
	}
	if x.stopDial != nil {
		x.stopDial()
		x.stopDial = nil
	}
}

// stopped forgets all neighbours.
func (s *sessions) stopped() {
	s.mu.Lock()
	for addr, x := range s.peers {
		x.end()
		delete(s.peers, addr)
		s.rib.removeNeighbour(addr)
	}
	s.mu.Unlock()
	s.limits.mu.Lock()
	clear(s.limits.of)
	s.limits.some.Store(false)
	s.limits.mu.Unlock()
	s.rib.forget()
}

// started takes up the router that was started.
func (s *sessions) started(g *api.Global) {
	id := mustAddr(g.GetRouterId())
	s.router.Store(&id)
	s.asn.Store(g.GetAsn())
}

// is reports whether an identifier is that of the router.
func (s *sessions) is(id netip.Addr) bool {
	own := s.router.Load()
	return own != nil && *own == id
}

// close ends everything that was started here. The context must be over.
func (s *sessions) close() {
	s.mu.Lock()
	for _, x := range s.peers {
		x.end()
	}
	s.mu.Unlock()
	s.tasks.Wait()
}

// synced notes that the table of a neighbour is known.
func (s *sessions) synced(addr netip.Addr) {
	s.rib.neighbour(addr, func(n *Neighbour) { n.Synced = true })
}

// failed notes why a session is not up, or what became of it: opening where it failed on its way up, and not for want of a connection.
func (s *sessions) failed(addr netip.Addr, words string, opening bool) {
	s.rib.neighbour(addr, func(n *Neighbour) { n.fails(words, opening, time.Now()) })
}

// moved follows the state machine of a neighbour.
func (s *sessions) moved(addr netip.Addr, state api.PeerState_SessionState, admin api.PeerState_AdminState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if x := s.peers[addr]; x != nil {
		s.move(addr, x, state, admin)
	}
}

// move is moved where s.mu is held.
func (s *sessions) move(addr netip.Addr, x *session, state api.PeerState_SessionState, admin api.PeerState_AdminState) {
	before, held := x.state, time.Since(x.since)
	if state == before && state != api.PeerState_ACTIVE {
		return
	}
	s.enter(addr, x, state)
	if before == api.PeerState_ESTABLISHED {
		x.told = nil
	}
	s.rib.neighbour(addr, func(n *Neighbour) {
		was := n.Established()
		if n.State = strings.ToLower(state.String()); n.Established() != was {
			n.Since = x.since // one that is down tries and tries, and goes from state to state: what counts is since when it is down
		}
	})
	if state != api.PeerState_ACTIVE && x.stopDial != nil {
		x.stopDial()
		x.stopDial = nil
	}
	if x.reopen != nil && state > api.PeerState_ACTIVE { // it dials, and is not tried yet
		s.start(func() { hangUp(addr) })
	}
	switch state {
	case api.PeerState_ACTIVE:
		s.dials(addr, x)
	case api.PeerState_ESTABLISHED:
		s.rib.neighbour(addr, (*Neighbour).begins)
		// Its table is known at its End-of-RIB; a neighbour that sends none, since it knows no graceful restart, has this long.
		x.unknown.Reset(deferral)
		since := x.since
		s.start(func() { s.returned(addr, since) })
	case api.PeerState_IDLE:
		if admin == api.PeerState_PFX_CT {
			s.limited(addr, x, held)
		}
		if admin == api.PeerState_UP && (before == api.PeerState_OPENSENT || before == api.PeerState_OPENCONFIRM) {
			s.failed(addr, closedEarly, true)
		}
		if before == api.PeerState_ESTABLISHED && held > 5*time.Second {
			x.hurries = 0
		}
		// What fails again and again is a mistake of the configuration: gobgp's pause of five seconds is right for it.
		if admin == api.PeerState_UP && before != api.PeerState_ACTIVE && before != api.PeerState_IDLE && x.hurries < 3 {
			x.hurries++
			s.start(func() { s.hurry(addr) })
		}
	}
}

// enter begins a state. s.mu is held.
func (s *sessions) enter(addr netip.Addr, x *session, state api.PeerState_SessionState) {
	if x.looked != nil {
		x.looked.Stop()
	}
	if x.state == api.PeerState_ESTABLISHED {
		s.rib.neighbour(addr, (*Neighbour).ends)
	}
	x.state, x.since = state, time.Now()
	if x.waits() {
		x.md5 = md5Failures()
	}
	since := x.since
	x.watch(func() { s.still(addr, since) })
}

// dials begins to dial a neighbour that this end dials. s.mu is held.
func (s *sessions) dials(addr netip.Addr, x *session) {
	if x.stopDial != nil || x.reopen != nil || !dials(x.conf) || x.state != api.PeerState_ACTIVE {
		return
	}
	t := target{addr: addr, port: uint16(x.conf.GetTransport().GetRemotePort()), password: x.conf.GetConf().GetAuthPassword(),
		ttlSecurity: x.conf.GetTtlSecurity().GetEnabled()}
	if t.port == 0 {
		t.port = 179
	}
	var err error
	if t.local, err = netip.ParseAddr(x.conf.GetTransport().GetLocalAddress()); err != nil {
		s.failed(addr, "no local address to dial from", false)
		return
	}
	ctx, cancel := context.WithCancel(s.ctx)
	x.stopDial = cancel
	s.start(func() {
		defer cancel()
		dial(ctx, t, s.hand, func(err error) { s.failed(addr, err.Error(), false) })
	})
}

// hand gives gobgp a connection as if it had accepted it.
func (s *sessions) hand(ctx context.Context, conn *net.TCPConn) error {
	ch := s.accept.Load()
	if ch == nil {
		return fmt.Errorf("the router is not started")
	}
	select {
	case *ch <- conn:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
