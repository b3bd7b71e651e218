package speaker

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"time"
)

// The protocol of paths.sock. Each frame is its payload's length (4 bytes, big endian), a type (1 byte) and the payload.
// The speaker greets with a hello; the client sends one request; what follows depends on its Op.
//
//	hello, request, answer, neighbours   JSON
//	paths                                entries, each: prefix address, prefix length (1 byte), number of hops (1 byte, 0: the
//	                                     prefix is gone), and for each hop: next hop address, neighbour's address, the first AS of the path (4 bytes)
//	mark                                 empty: everything that was there at the time of the request has been sent
//
// An address is its length in bytes (0, 4 or 16) and its bytes. The neighbour of a path of this host's own is empty.
const (
	protocolVersion = 2
	maxFrame        = 1 << 20
)

type frameType byte

const (
	frameHello      frameType = 'H'
	frameRequest    frameType = 'Q'
	frameAnswer     frameType = 'A'
	framePaths      frameType = 'P'
	frameNeighbours frameType = 'N'
	frameMark       frameType = 'M'
)

// hello is the first frame of every connection.
type hello struct {
	Protocol int    `json:"protocol"`
	Version  string `json:"version"`  // of netd
	Instance string `json:"instance"` // of this process: another one means that everything is gone
	PID      int    `json:"pid"`
	Fresh    bool   `json:"fresh"` // it has had no neighbour until just now: its sessions are restarts

	// Changes counts the requests that may have changed what gobgp is set to, each when it begins and when it has ended,
	// and so the messages of a stream.
	Changes uint64 `json:"changes"`
}

// What a client may ask for.
const (
	opWatch = "watch" // paths, neighbours, a mark, then changes until the client hangs up
	opLocal = "local" // answers with the prefixes announced by this host
	opHold  = "hold"  // nothing: the connection ends when the speaker does
	opStop  = "stop"  // close all sessions with a CEASE, answer, exit
	opExit  = "exit"  // answer and exit without a word to the neighbours, who wait for a restart
)

type request struct {
	Op string `json:"op"`
}

type answer struct {
	Error string         `json:"error,omitempty"`
	Local []netip.Prefix `json:"local,omitempty"`
}

// Neighbour is what the speaker says of one of its peers.
type Neighbour struct {
	Name    string     `json:"name,omitempty"` // the file's; the speaker knows none
	Addr    netip.Addr `json:"addr"`
	State   string     `json:"state"` // "idle", "active", "opensent", "openconfirm", "established"
	Since   time.Time  `json:"since"` // since when it is up, or is not
	Synced  bool       `json:"synced"`
	Error   string     `json:"error,omitempty"` // the last one, in words; it may be over
	ErrorAt time.Time  `json:"error_at,omitzero"`
	Gone    bool       `json:"gone,omitempty"` // on the wire only: it was removed

	why reasons // the speaker's own
}

// Established reports whether the session is up.
func (n Neighbour) Established() bool { return n.State == stateEstablished }

// Who is the neighbour as people are told of it.
func (n Neighbour) Who() string {
	if n.Name == "" {
		return n.Addr.String()
	}
	return n.Name + " (" + n.Addr.String() + ")"
}

// LastError is the last error, with when it was where it is over.
func (n Neighbour) LastError() string {
	if n.Error == "" || !n.Established() {
		return n.Error
	}
	return "(" + n.ErrorAt.Format(time.DateTime) + ": " + n.Error + ")"
}

const stateEstablished = "established"

func writeFrame(w io.Writer, t frameType, payload []byte) error {
	if len(payload) > maxFrame {
		return fmt.Errorf("writing a frame of type %c: %d bytes are more than a frame may have", t, len(payload))
	}
	var head [5]byte
	binary.BigEndian.PutUint32(head[:], uint32(len(payload)))
	head[4] = byte(t)
	if _, err := w.Write(head[:]); err != nil {
		return err
	}
	_, err := w.Write(payload)
	return err
}

func writeJSON(w io.Writer, t frameType, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return writeFrame(w, t, b)
}

// readFrame returns the next frame. The payload is valid until the next call with the same buf.
func readFrame(r *bufio.Reader, buf *[]byte) (frameType, []byte, error) {
	var head [5]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > maxFrame {
		return 0, nil, fmt.Errorf("reading a frame of type %q: %d bytes are more than a frame may have", head[4], n)
	}
	if cap(*buf) < int(n) {
		*buf = make([]byte, n)
	}
	b := (*buf)[:n]
	if _, err := io.ReadFull(r, b); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return 0, nil, err
	}
	return frameType(head[4]), b, nil
}

// readJSON reads a frame that must be of one type.
func readJSON(r *bufio.Reader, want frameType, v any) error {
	var buf []byte
	t, b, err := readFrame(r, &buf)
	if err != nil {
		return err
	}
	if t != want {
		return fmt.Errorf("a frame of type %q where %q was expected", byte(t), byte(want))
	}
	return json.Unmarshal(b, v)
}

// hop is one way to a prefix.
type hop struct {
	nextHop netip.Addr
	peer    netip.Addr // invalid for a path of this host's own
	firstAS uint32     // that its AS_PATH begins with; 0: it is empty, or begins with a set
}

func appendAddr(b []byte, a netip.Addr) []byte {
	s := a.AsSlice()
	return append(append(b, byte(len(s))), s...)
}

// appendHops encodes the ways to a prefix. At most 255 fit; gobgp's multipath has no bound of its own, the kernel's is lower.
func appendHops(b []byte, hops []hop) []byte {
	hops = hops[:min(len(hops), 255)]
	b = append(b, byte(len(hops)))
	for _, h := range hops {
		b = binary.BigEndian.AppendUint32(appendAddr(appendAddr(b, h.nextHop), h.peer), h.firstAS)
	}
	return b
}

// appendEntry encodes a prefix and its ways, which are encoded already. Empty ways say that the prefix is gone.
func appendEntry(b []byte, p netip.Prefix, hops string) []byte {
	b = append(appendAddr(b, p.Addr()), byte(p.Bits()))
	if hops == "" {
		return append(b, 0)
	}
	return append(b, hops...)
}

var errTruncated = errors.New("a frame of paths ends within an entry")

func cutAddr(b []byte) (netip.Addr, []byte, error) {
	if len(b) == 0 || len(b) < 1+int(b[0]) {
		return netip.Addr{}, nil, errTruncated
	}
	n := int(b[0])
	if n == 0 {
		return netip.Addr{}, b[1:], nil
	}
	a, ok := netip.AddrFromSlice(b[1 : 1+n])
	if !ok {
		return netip.Addr{}, nil, fmt.Errorf("a frame of paths: an address of %d bytes", n)
	}
	return a, b[1+n:], nil
}

// cutEntry decodes the first entry of a frame of paths and returns the rest. hops is nil where the prefix is gone.
func cutEntry(b []byte, reuse []hop) (p netip.Prefix, hops []hop, rest []byte, err error) {
	addr, b, err := cutAddr(b)
	if err != nil {
		return p, nil, nil, err
	}
	if len(b) < 2 {
		return p, nil, nil, errTruncated
	}
	p = netip.PrefixFrom(addr, int(b[0]))
	if !p.IsValid() || p != p.Masked() {
		return p, nil, nil, fmt.Errorf("a frame of paths: %s/%d is no prefix", addr, b[0])
	}
	n := int(b[1])
	b = b[2:]
	hops = reuse[:0]
	for range n {
		var h hop
		if h.nextHop, b, err = cutAddr(b); err != nil {
			return p, nil, nil, err
		}
		if h.peer, b, err = cutAddr(b); err != nil {
			return p, nil, nil, err
		}
		if len(b) < 4 {
			return p, nil, nil, errTruncated
		}
		h.firstAS, b = binary.BigEndian.Uint32(b), b[4:]
		hops = append(hops, h)
	}
	if n == 0 {
		hops = nil
	}
	return p, hops, b, nil
}
