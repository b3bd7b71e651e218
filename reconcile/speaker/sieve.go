package speaker

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
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
// begins. It tells of each change of state in its one goroutine before the state begins (changesState): there the sieve is put in, while
// no state runs, and there it stays. What would have fsm.conn be of TCP, the TTLs of a living session, does not come so far
// (ttl.go). TestSieve fails where a version of gobgp has no fsm.conn.

// sieve is a neighbour's connection as gobgp reads and writes it. One goroutine reads, another writes.
type sieve struct {
	net.Conn
	s    *sessions
	addr netip.Addr
	in   *bufio.Reader
	buf  []byte // what gobgp is told
	told []byte // of that what it has not read
	end  error  // what comes after it

	stage     uint8             // of the session: the subcode of what it may not hear (RFC 6608)
	inside    bool              // with this AS
	four      bool              // it knows ASes of four octets
	owed      []bgp.RouteFamily // in which it restarted and has not said End-of-RIB
	refusal   atomic.Pointer[[]byte]
	vain      atomic.Uint64 // bytes of prefixes that it withdrew
	refreshed [2]time.Time  // when it was told all of a family because it asked, or will be; see place
	closed    chan struct{}
	once      sync.Once
}

const (
	headerLen  = 19   // of a message (RFC 4271 §4.1)
	messageMax = 4096 // gobgp knows no longer ones (RFC 8654)
	sieveBuf   = 4 * messageMax

	prefixBytes = 5 // of a prefix in an UPDATE, more or less
)

// marker begins each message.
var marker = [16]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

// sieves are those of the neighbours that have a connection.
type sieves struct {
	mu sync.Mutex
	of map[string]*sieve // by address as gobgp writes it
}

// begins puts the sieve in for a state that gobgp is about to begin, in its one goroutine, which holds the neighbour's lock.
func (s *sessions) begins(address, state string) {
	stage := stages[state]
	if stage == 0 {
		s.sieves.forget(address)
		return
	}
	at, err := connOf(s.bgp, address)
	if err != nil {
		s.log("error", err.Error(), nil)
		return
	}
	v, is := (*at).(*sieve)
	if !is {
		v = &sieve{Conn: *at, s: s, addr: mustAddr(address), in: bufio.NewReaderSize(*at, sieveBuf), closed: make(chan struct{})}
		*at = v
		s.sieves.mu.Lock()
		s.sieves.of[address] = v
		s.sieves.mu.Unlock()
	}
	if v.stage = stage; v.up() {
		if err := withLocked(s.bgp, address, v.session); err != nil {
			s.log("warn", err.Error(), nil)
		}
	}
}

// stages are the states in which gobgp reads, by the subcode of an error in them (RFC 6608).
var stages = map[string]uint8{
	"BGP_FSM_OPENSENT":    bgp.BGP_ERROR_SUB_RECEIVE_UNEXPECTED_MESSAGE_IN_OPENSENT_STATE,
	"BGP_FSM_OPENCONFIRM": bgp.BGP_ERROR_SUB_RECEIVE_UNEXPECTED_MESSAGE_IN_OPENCONFIRM_STATE,
	"BGP_FSM_ESTABLISHED": bgp.BGP_ERROR_SUB_RECEIVE_UNEXPECTED_MESSAGE_IN_ESTABLISHED_STATE,
}

// up reports whether the session is.
func (v *sieve) up() bool {
	return v.stage == bgp.BGP_ERROR_SUB_RECEIVE_UNEXPECTED_MESSAGE_IN_ESTABLISHED_STATE
}

// expected reports whether a message may come in the state (RFC 4271 §8.2.2).
func (v *sieve) expected(kind byte) bool {
	switch v.stage {
	case bgp.BGP_ERROR_SUB_RECEIVE_UNEXPECTED_MESSAGE_IN_OPENSENT_STATE:
		return kind == bgp.BGP_MSG_OPEN || kind == bgp.BGP_MSG_NOTIFICATION
	case bgp.BGP_ERROR_SUB_RECEIVE_UNEXPECTED_MESSAGE_IN_OPENCONFIRM_STATE:
		return kind == bgp.BGP_MSG_KEEPALIVE || kind == bgp.BGP_MSG_NOTIFICATION
	}
	return kind != bgp.BGP_MSG_OPEN
}

// named are the messages in words.
var named = map[byte]string{bgp.BGP_MSG_OPEN: "an OPEN", bgp.BGP_MSG_UPDATE: "an UPDATE", bgp.BGP_MSG_NOTIFICATION: "a NOTIFICATION",
	bgp.BGP_MSG_KEEPALIVE: "a KEEPALIVE", bgp.BGP_MSG_ROUTE_REFRESH: "a ROUTE-REFRESH"}

// when are the states in words.
var when = map[uint8]string{
	bgp.BGP_ERROR_SUB_RECEIVE_UNEXPECTED_MESSAGE_IN_OPENSENT_STATE:    "before an OPEN",
	bgp.BGP_ERROR_SUB_RECEIVE_UNEXPECTED_MESSAGE_IN_OPENCONFIRM_STATE: "between OPEN and KEEPALIVE",
	bgp.BGP_ERROR_SUB_RECEIVE_UNEXPECTED_MESSAGE_IN_ESTABLISHED_STATE: "in a session that is up",
}

// shortest are the lengths of the shortest messages (RFC 4271 §6.1).
var shortest = map[byte]int{bgp.BGP_MSG_OPEN: 29, bgp.BGP_MSG_UPDATE: 23, bgp.BGP_MSG_NOTIFICATION: 21, bgp.BGP_MSG_KEEPALIVE: headerLen, bgp.BGP_MSG_ROUTE_REFRESH: headerLen}

// refreshLen is that of each ROUTE-REFRESH without filters, which nobody is told to send (RFC 2918 §3, RFC 5291).
const refreshLen = headerLen + 4

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
	s.limits.told.Store(false)
	s.deliver()
	s.takeOver()
}

func (v *sieve) Read(p []byte) (int, error) {
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
	case length < shortest[kind] || kind == bgp.BGP_MSG_KEEPALIVE && length > headerLen:
		v.refuse(bgp.BGP_ERROR_MESSAGE_HEADER_ERROR, bgp.BGP_ERROR_SUB_BAD_MESSAGE_LENGTH, head[16:18], fmt.Sprintf("%s of %d bytes", named[kind], length))
		return
	case !v.expected(kind):
		v.refuse(bgp.BGP_ERROR_FSM_ERROR, v.stage, []byte{kind}, named[kind]+" "+when[v.stage])
		return
	}
	msg, err := v.in.Peek(length)
	if err != nil {
		v.over(err)
		return
	}
	remark, taken := "", true
	switch {
	case kind == bgp.BGP_MSG_ROUTE_REFRESH && length != refreshLen:
		v.refuse(bgp.BGP_ERROR_ROUTE_REFRESH_MESSAGE_ERROR, bgp.BGP_ERROR_SUB_INVALID_MESSAGE_LENGTH, msg[:min(length, messageMax-headerLen-2)], fmt.Sprintf("%s of %d bytes", named[kind], length))
		return
	case kind == bgp.BGP_MSG_ROUTE_REFRESH && v.early(msg):
	case kind == bgp.BGP_MSG_UPDATE:
		v.s.rib.slack.Changed(length / prefixBytes) // before gobgp has made its own of them
		v.buf, remark, taken = v.sift(v.buf, msg)
	case kind == bgp.BGP_MSG_KEEPALIVE || survived(msg):
		v.buf = append(v.buf, msg...)
		v.four = v.four || kind == bgp.BGP_MSG_OPEN && fourOctets(msg)
	default:
		taken = false
	}
	if !taken {
		v.refuse(faultOf(msg))
		return
	}
	_, _ = v.in.Discard(length)
	if remark != "" {
		v.s.failed(v.addr, remark, true)
	}
}

// faultOf is what is wrong with an OPEN or UPDATE that gobgp must not have (RFC 4271 §6.2 and §6.3), and that in words.
func faultOf(msg []byte) (code, subcode uint8, data []byte, words string) {
	kind := msg[headerLen-1]
	words = named[kind] + " that gobgp does not survive"
	if kind == bgp.BGP_MSG_OPEN { // its parameters
		return bgp.BGP_ERROR_OPEN_MESSAGE_ERROR, 0, nil, words
	}
	switch u, ok := cutUpdate(msg[headerLen:]); {
	case ok && u.astray != nil:
		a, _, _ := cutAttribute(u.astray)
		return bgp.BGP_ERROR_UPDATE_MESSAGE_ERROR, bgp.BGP_ERROR_SUB_OPTIONAL_ATTRIBUTE_ERROR, u.astray, fmt.Sprintf("%s with a next hop of %d bytes", named[kind], a.value[3])
	case ok && u.foreign != nil:
		return bgp.BGP_ERROR_UPDATE_MESSAGE_ERROR, bgp.BGP_ERROR_SUB_OPTIONAL_ATTRIBUTE_ERROR, u.foreign, words
	}
	return bgp.BGP_ERROR_UPDATE_MESSAGE_ERROR, bgp.BGP_ERROR_SUB_MALFORMED_ATTRIBUTE_LIST, nil, words
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
	if !v.up() {
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

func (v *sieve) Write(b []byte) (int, error) {
	out := b
	if len(b) > headerLen+1 && b[headerLen-1] == bgp.BGP_MSG_NOTIFICATION {
		if r := v.refusal.Load(); r != nil && len(*r) > 0 {
			out = *r
		} else if b[headerLen] == 0 { // gobgp has no code for prefixes of a family that is not the session's
			out = slices.Clone(b)
			out[headerLen], out[headerLen+1] = bgp.BGP_ERROR_UPDATE_MESSAGE_ERROR, bgp.BGP_ERROR_SUB_OPTIONAL_ATTRIBUTE_ERROR
		}
	}
	if _, err := v.Conn.Write(out); err != nil {
		return 0, err
	}
	return len(b), nil
}

func (v *sieve) Close() error {
	v.once.Do(func() { close(v.closed) })
	return v.Conn.Close()
}
