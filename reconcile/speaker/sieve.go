package speaker

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/osrg/gobgp/v3/pkg/config/oc"
	"github.com/osrg/gobgp/v3/pkg/packet/bgp"
	"github.com/osrg/gobgp/v3/pkg/server"
)

// gobgp reads what a neighbour sends from a net.Conn, message by message, and does not survive some of them: of a type that it does not know,
// an OPEN in a session, an AS4_PATH before the AS_PATH, attributes that leave no room in a message for what it adds to them, prefixes of
// families that nobody speaks here and that it reads nevertheless. Others it takes in a way that the RFCs do not (sift.go). So there is a
// sieve between the connection and gobgp: what is harmless goes through as it came, what RFCs have read otherwise is rewritten, and what
// nobody may send ends the session with the NOTIFICATION that is meant for it.
//
// gobgp takes connections of TCP alone (acceptChannel), but keeps what it took as a net.Conn (fsm.conn), from which each state takes it as it
// begins. It tells of each change of state in its one goroutine before the state begins (changesState): there the sieve is put
// in. It sets the TTLs of a living session on fsm.conn, as one of TCP, or dies of it. So the sieve is taken out of there as soon as the
// state has it, which it has when it reads first; the goroutine does nothing else meanwhile (Observe). TestSieve fails where a version
// of gobgp has no fsm.conn.

// sieve is a neighbour's connection as gobgp reads and writes it. One goroutine reads, another writes.
type sieve struct {
	net.Conn
	s    *sessions
	addr netip.Addr
	in   *bufio.Reader
	buf  []byte // what gobgp is told
	told []byte // of that what it has not read
	end  error  // what comes after it

	// Of the state that gobgp begins: it has read, and goes on when the sieve is out of fsm.conn.
	took, out chan struct{}
	begun     bool

	up      bool              // the session is
	inside  bool              // with this AS
	four    bool              // it knows ASes of four octets
	owed    []bgp.RouteFamily // in which it restarted and has not said End-of-RIB
	refusal atomic.Pointer[[]byte]
	vain    atomic.Uint64 // bytes of prefixes that it withdrew
	closed  chan struct{}
	once    sync.Once
}

const (
	headerLen  = 19   // of a message (RFC 4271 §4.1)
	messageMax = 4096 // gobgp knows no longer ones (RFC 8654)
	sieveBuf   = 4 * messageMax
)

// marker begins each message.
var marker = [16]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

// sieves are those of the neighbours that have a connection.
type sieves struct {
	mu sync.Mutex
	of map[string]*sieve // by address as gobgp writes it

	// Of gobgp's one goroutine: the sieve that is in fsm.conn, and what takes it out.
	in   *sieve
	take func()
}

// begins puts the sieve in for a state that gobgp is about to begin, in its one goroutine, which holds the neighbour's lock.
func (s *sessions) begins(address, state string) {
	switch state {
	case "BGP_FSM_OPENSENT", "BGP_FSM_OPENCONFIRM", "BGP_FSM_ESTABLISHED":
	default:
		s.sieves.forget(address)
		return
	}
	at, err := connOf(s.bgp, address)
	if err != nil {
		s.log("error", err.Error(), nil)
		return
	}
	s.sieves.mu.Lock()
	v := s.sieves.of[address]
	if v == nil || v.Conn != *at {
		v = &sieve{Conn: *at, s: s, addr: mustAddr(address), in: bufio.NewReaderSize(*at, sieveBuf), closed: make(chan struct{})}
		s.sieves.of[address] = v
	}
	s.sieves.mu.Unlock()
	v.took, v.out, v.begun = make(chan struct{}), make(chan struct{}), false
	if v.up = state == "BGP_FSM_ESTABLISHED"; v.up {
		if err := withLocked(s.bgp, address, v.session); err != nil {
			s.log("warn", err.Error(), nil)
		}
	}
	*at = v
	s.sieves.in, s.sieves.take = v, func() { *at = v.Conn }
}

func (x *sieves) forget(address string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.of, address)
}

// vainest is the neighbour that withdrew most in its session, and how many bytes of prefixes.
func (x *sieves) vainest() (addr netip.Addr, n uint64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, v := range x.of {
		if m := v.vain.Load(); m > n {
			addr, n = v.addr, m
		}
	}
	return addr, n
}

// session notes what a session that is up begins with.
func (v *sieve) session(conf *oc.Neighbor) {
	v.inside, v.owed = conf.State.PeerType == oc.PEER_TYPE_INTERNAL, nil
	for _, f := range conf.AfiSafis {
		if gr := f.MpGracefulRestart.State; conf.GracefulRestart.State.PeerRestarting && gr.Enabled && gr.Received {
			v.owed = append(v.owed, f.State.Family)
		}
	}
}

// Observe is called by gobgp in its one goroutine when it has done what there was to do, before it does anything else.
func (s *sessions) Observe(server.FSMOperation, time.Duration, time.Duration) {
	s.takeOver()
	v := s.sieves.in
	if v == nil {
		return
	}
	select {
	case <-v.took: // the state has only begun, and reads before it does anything that may take time
	case <-time.After(beginsWithin):
		s.neverRead(v)
	}
	s.sieves.take()
	s.sieves.in, s.sieves.take = nil, nil
	close(v.out)
}

// neverRead closes a connection that gobgp does not read: no other neighbour may wait for it. What becomes of the state that did not begin
// in time then ends with the connection, whether it has the sieve or not, and nothing comes past the sieve.
func (s *sessions) neverRead(v *sieve) {
	words := fmt.Sprintf("this end closed the connection: it did not begin to read it within %s; the neighbour is tried again", beginsWithin)
	s.log("error", words, map[string]any{"peer": v.addr.String()})
	s.failed(v.addr, words, true)
	_ = v.Close()
}

// connOf is where gobgp keeps the connection of a neighbour. It is reached as expect's fields are.
func connOf(s *server.BgpServer, address string) (*net.Conn, error) {
	fsm, err := machine(s, address)
	if err != nil {
		return nil, err
	}
	if !fsm.IsValid() {
		return nil, fmt.Errorf("reaching the connection of %s: gobgp has no such neighbour", address)
	}
	f := fsm.Elem().FieldByName("conn")
	if !f.IsValid() || f.Type() != reflect.TypeFor[net.Conn]() {
		return nil, fmt.Errorf("reaching the connection of %s: this version of gobgp has no fsm.conn", address)
	}
	return (*net.Conn)(f.Addr().UnsafePointer()), nil
}

func (v *sieve) Read(p []byte) (int, error) {
	if !v.begun {
		v.begun = true
		close(v.took)
		<-v.out
	}
	for len(v.told) == 0 {
		if v.end != nil {
			return 0, v.end
		}
		v.next()
	}
	n := copy(p, v.told)
	v.told = v.told[n:]
	return n, nil
}

// next takes the next message up, or the end.
func (v *sieve) next() {
	v.buf = v.buf[:0]
	defer func() { v.told = v.buf }()
	head, err := v.in.Peek(headerLen)
	if err != nil {
		v.over(err)
		return
	}
	length, kind := int(binary.BigEndian.Uint16(head[16:])), head[18]
	switch {
	case [16]byte(head) != marker:
		v.refuse(bgp.BGP_ERROR_MESSAGE_HEADER_ERROR, bgp.BGP_ERROR_SUB_CONNECTION_NOT_SYNCHRONIZED, nil, "a message whose marker is not all ones")
		return
	case length < headerLen || length > messageMax:
		v.refuse(bgp.BGP_ERROR_MESSAGE_HEADER_ERROR, bgp.BGP_ERROR_SUB_BAD_MESSAGE_LENGTH, head[16:18], fmt.Sprintf("a message of %d bytes", length))
		return
	case kind < bgp.BGP_MSG_OPEN || kind > bgp.BGP_MSG_ROUTE_REFRESH:
		v.refuse(bgp.BGP_ERROR_MESSAGE_HEADER_ERROR, bgp.BGP_ERROR_SUB_BAD_MESSAGE_TYPE, head[18:19], fmt.Sprintf("a message of the unknown type %d", kind))
		return
	case kind == bgp.BGP_MSG_OPEN && v.up:
		v.refuse(bgp.BGP_ERROR_FSM_ERROR, bgp.BGP_ERROR_SUB_RECEIVE_UNEXPECTED_MESSAGE_IN_ESTABLISHED_STATE, []byte{kind}, "an OPEN in a session that is up")
		return
	}
	msg, err := v.in.Peek(length)
	if err != nil {
		v.over(err)
		return
	}
	remark, taken := "", true
	switch {
	case kind == bgp.BGP_MSG_UPDATE && v.up:
		v.buf, remark, taken = v.sift(v.buf, msg)
	case kind == bgp.BGP_MSG_KEEPALIVE || survived(msg):
		v.buf = append(v.buf, msg...)
		v.four = v.four || kind == bgp.BGP_MSG_OPEN && fourOctets(msg)
	default:
		taken = false
	}
	if !taken {
		code, subcode, what := uint8(bgp.BGP_ERROR_UPDATE_MESSAGE_ERROR), uint8(bgp.BGP_ERROR_SUB_MALFORMED_ATTRIBUTE_LIST), "an UPDATE"
		if kind != bgp.BGP_MSG_UPDATE {
			code, subcode, what = bgp.BGP_ERROR_OPEN_MESSAGE_ERROR, 0, fmt.Sprintf("a message of type %d", kind)
		}
		v.refuse(code, subcode, nil, what+" that gobgp does not survive")
		return
	}
	_, _ = v.in.Discard(length)
	if remark != "" {
		v.s.failed(v.addr, remark, true)
	}
}

// survived tries whether gobgp can read a message: it would die of an error of another kind as well.
func survived(msg []byte) (ok bool) {
	defer func() {
		if recover() != nil {
			ok = false
		}
	}()
	m, err := bgp.ParseBGPMessage(msg)
	if err != nil {
		_, ok = err.(*bgp.MessageError)
		return ok
	}
	if u, is := m.Body.(*bgp.BGPUpdate); is {
		for _, a := range u.PathAttributes { // as it does when it takes them, and when it is asked for them
			_, _ = a.Serialize()
			_ = a.String()
		}
	}
	return true
}

// fourOctets reports whether an OPEN says that its sender knows ASes of four octets.
func fourOctets(msg []byte) bool {
	m, err := bgp.ParseBGPMessage(msg)
	if err != nil {
		return false
	}
	for _, p := range m.Body.(*bgp.BGPOpen).OptParams {
		if c, is := p.(*bgp.OptionParameterCapability); is && slices.ContainsFunc(c.Capability, func(c bgp.ParameterCapabilityInterface) bool {
			return c.Code() == bgp.BGP_CAP_FOUR_OCTET_AS_NUMBER
		}) {
			return true
		}
	}
	return false
}

// over ends what is read. A neighbour that restarted and goes again before its End-of-RIB loses what it had before it restarted and has
// not told since (RFC 4724 §4.2). gobgp would keep that with the rest, as if it had just been told: it does not after an End-of-RIB.
func (v *sieve) over(err error) {
	v.end = err
	for _, f := range v.owed {
		b, err := bgp.NewEndOfRib(f).Serialize()
		if err == nil {
			v.buf = append(v.buf, b...)
		}
	}
	v.owed = nil
}

// refuse ends the session for a message that nobody may send. Of one that is up gobgp is asked to close it, so that the neighbour's routes
// go: its own NOTIFICATION says less, and this one is sent in its place.
func (v *sieve) refuse(code, subcode uint8, data []byte, words string) {
	b, err := bgp.NewBGPNotificationMessage(code, subcode, slices.Clone(data)).Serialize()
	if err != nil {
		b = nil
	}
	v.end = errors.New(words)
	if !v.up {
		_, _ = v.Conn.Write(b)
		v.s.failed(v.addr, "this end closed the session: "+words, true)
		return
	}
	v.refusal.Store(&b)
	v.s.start(func() { v.s.unread(v.addr, words) })
	select {
	case <-v.closed:
	case <-time.After(refuseWithin): // it had no room for that: it is a lost connection then
	}
}

const refuseWithin = 5 * time.Second

var beginsWithin = 5 * time.Second // a state reads as soon as it is begun

func (v *sieve) Write(b []byte) (int, error) {
	if r := v.refusal.Load(); r != nil && len(*r) > 0 && len(b) >= headerLen && b[headerLen-1] == bgp.BGP_MSG_NOTIFICATION {
		if _, err := v.Conn.Write(*r); err != nil {
			return 0, err
		}
		return len(b), nil
	}
	return v.Conn.Write(b)
}

func (v *sieve) Close() error {
	v.once.Do(func() { close(v.closed) })
	return v.Conn.Close()
}
