package speaker

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"runtime"
	"runtime/metrics"
	"strings"
	"testing"
	"time"
	"unicode"

	api "github.com/osrg/gobgp/v3/api"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"netd/reconcile/object"
)

// taken is a speaker that fell to a neighbour: both sockets are served by whoever took it over.
type taken struct {
	api.UnimplementedGobgpApiServer
	says  func(c net.Conn)                              // on paths.sock, after the hello and the request
	peers func(api.GobgpApi_ListPeerServer) error       // on speaker.sock
	table func(api.GobgpApi_ListPathServer) error       // likewise
	bgp   func() (*api.GetBgpResponse, error)           // likewise
	sets  func(api.GobgpApi_ListDefinedSetServer) error // likewise
}

func (x *taken) ListPeer(_ *api.ListPeerRequest, s api.GobgpApi_ListPeerServer) error {
	return x.peers(s)
}
func (x *taken) ListPath(_ *api.ListPathRequest, s api.GobgpApi_ListPathServer) error {
	return x.table(s)
}
func (x *taken) GetBgp(context.Context, *api.GetBgpRequest) (*api.GetBgpResponse, error) {
	return x.bgp()
}
func (x *taken) ListDefinedSet(_ *api.ListDefinedSetRequest, s api.GobgpApi_ListDefinedSetServer) error {
	return x.sets(s)
}

// serve opens both sockets and returns a client of them.
func (x *taken) serve(t *testing.T) *Client {
	t.Helper()
	dir := t.TempDir()
	g := grpc.NewServer(grpc.MaxSendMsgSize(64 << 20))
	api.RegisterGobgpApiServer(g, x)
	l, err := net.Listen("unix", filepath.Join(dir, apiSocket))
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { defer close(done); _ = g.Serve(l) }()
	paths, err := net.Listen("unix", filepath.Join(dir, pathsSocket))
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for n := 0; ; n++ {
			c, err := paths.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_ = writeJSON(c, frameHello, hello{Protocol: protocolVersion, Version: testVersion, Instance: fmt.Sprint(n)})
				var buf [256]byte
				if _, err := c.Read(buf[:]); err == nil && x.says != nil {
					x.says(c)
				}
			}()
		}
	}()
	t.Cleanup(func() { g.Stop(); <-done; _ = paths.Close() })
	c := Open(dir, Secrets{})
	if err := c.connect(hello{Instance: "x"}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// endless are frames of paths without end: each prefix another one.
func endless(c net.Conn, hops int) {
	var set []hop
	for i := range hops {
		set = append(set, hop{nextHop: netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), peer: netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)})})
	}
	var b []byte
	for i := uint32(0); ; {
		for b = b[:0]; len(b) < bytesAFrame; i++ {
			if hops > 0 {
				set[0].firstAS = i // no two sets are alike
			}
			a := netip.AddrFrom4([4]byte{byte(i >> 24), byte(i >> 16), byte(i >> 8), byte(i)})
			b = appendEntry(b, netip.PrefixFrom(a, 32), string(appendHops(nil, set)))
		}
		if writeFrame(c, framePaths, b) != nil {
			return
		}
	}
}

// kept is how much memory the last collection of garbage found to be in use. What it has not come to yet is as much again, and
// more the busier the machine is.
func kept() uint64 {
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(live)
	return live[0].Value.Uint64()
}

// TestTakenFrames: what a speaker that fell tells without end is not kept without end, and what it was is said.
func TestTakenFrames(t *testing.T) {
	text := strings.Repeat("\x1b[2Jall is well ", 40_000)
	for _, x := range []struct {
		name string
		says func(net.Conn)
		want string
	}{
		{"prefixes", func(c net.Conn) { endless(c, 1) }, "more than 1058576 paths"},
		{"next hops", func(c net.Conn) { endless(c, 255) }, "more than 1058576 paths"},
		{"after the mark", func(c net.Conn) { _ = writeFrame(c, frameMark, nil); endless(c, 1) }, "more than 1058576 paths"},
		{"neighbours", func(c net.Conn) {
			for i := 0; ; i++ {
				a := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
				if writeJSON(c, frameNeighbours, []Neighbour{{Addr: a, State: "established", Error: text[:len(text)/100]}}) != nil {
					return
				}
			}
		}, "more than 16384 neighbours"},
		{"a zone", func(c net.Conn) {
			_ = writeJSON(c, frameNeighbours, []Neighbour{{Addr: netip.MustParseAddr("fe80::1%" + strings.Repeat("x", 1000))}})
			_, _ = c.Read(make([]byte, 1))
		}, "a neighbour on a link of 1000 letters"},
	} {
		t.Run(x.name, func(t *testing.T) {
			fallen := &taken{says: x.says}
			c := fallen.serve(t)
			c.Allow(10_000)
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan struct{})
			go func() { defer close(done); _ = c.Watch(ctx) }()
			defer func() { cancel(); <-done }()
			runtime.GC() // what the case before left
			most := uint64(0)
			for deadline := time.Now().Add(time.Minute); c.Trouble() == nil; time.Sleep(5 * time.Millisecond) {
				if most = max(most, kept()); most > 500<<20 {
					t.Fatalf("%d MB are kept of it", most>>20)
				}
				if time.Now().After(deadline) {
					t.Fatal("it is listened to without end")
				}
			}
			if got := c.Trouble().Error(); !strings.Contains(got, x.want) {
				t.Errorf("it is said that %q, want %q", got, x.want)
			}
			t.Logf("at most %d MB", most>>20)
		})
	}
}

// TestTakenWords: what a speaker that fell says in words is fit for a terminal and short, wherever it says it.
func TestTakenWords(t *testing.T) {
	text := strings.Repeat("\x1b[2J\u009b31mall is well\r\n", 10_000)
	fallen := &taken{
		says: func(c net.Conn) {
			_ = writeJSON(c, frameNeighbours, []Neighbour{{Addr: netip.MustParseAddr("10.0.0.1"), State: text, Error: text}})
			_ = writeFrame(c, frameMark, nil)
			_, _ = c.Read(make([]byte, 1))
		},
		peers: func(s api.GobgpApi_ListPeerServer) error { return status.Error(codes.Internal, text) },
		table: func(s api.GobgpApi_ListPathServer) error { return status.Error(codes.Internal, text) },
		sets:  func(s api.GobgpApi_ListDefinedSetServer) error { return status.Error(codes.Internal, text) },
		bgp:   func() (*api.GetBgpResponse, error) { return nil, status.Error(codes.Internal, text) },
	}
	c := fallen.serve(t)
	legible := func(what, s string) {
		t.Helper()
		if strings.ContainsFunc(s, unicode.IsControl) || len(s) > textMost+256 || !strings.Contains(s, "all is well") {
			t.Errorf("%s: %d bytes: %.100q", what, len(s), s)
		}
	}
	for _, kind := range c.Kinds() {
		_, _, err := kind.List(t.Context(), nil)
		if err == nil {
			t.Fatalf("%s: no error", kind.Name())
		}
		legible(kind.Name(), err.Error())
	}
	_, err := c.Routes(t.Context(), LocRIB, netip.Addr{})
	legible("a table", err.Error())
	_, neighbours, err := c.Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	legible("a state", neighbours[0].State)
	legible("an error", neighbours[0].Error)
	// What it says of a neighbour's session is compared, and shown where it differs.
	p, err := peerOf(&api.Peer{Conf: &api.PeerConf{NeighborAddress: "10.0.0.1", Description: text, AllowOwnAsn: ownASMost}, Transport: &api.Transport{PassiveMode: true}}, func(string) string { return "" })
	if err != nil {
		t.Fatal(err)
	}
	legible("how it opens", string(p.Opens))
	if _, err := peerOf(&api.Peer{Conf: &api.PeerConf{NeighborAddress: text}}, func(string) string { return "" }); err == nil {
		t.Error("an address that is none")
	} else {
		legible("an address that is none", err.Error())
	}
}

// TestTakenAnswers: answers over gRPC have an end too.
func TestTakenAnswers(t *testing.T) {
	fallen := &taken{
		peers: func(s api.GobgpApi_ListPeerServer) error {
			p := &api.ListPeerResponse{Peer: &api.Peer{Conf: &api.PeerConf{NeighborAddress: "10.0.0.1", Description: strings.Repeat("x", 3<<20)}}}
			for s.Send(p) == nil {
			}
			return nil
		},
		table: func(s api.GobgpApi_ListPathServer) error {
			p, _ := apiPath(object.Path{Prefix: netip.MustParsePrefix("10.0.0.0/24"), NextHop: netip.MustParseAddr("10.0.0.1")})
			d := &api.Destination{}
			for range 1000 {
				d.Paths = append(d.Paths, p)
			}
			for s.Send(&api.ListPathResponse{Destination: d}) == nil {
			}
			return nil
		},
	}
	c := fallen.serve(t)
	c.most = 100_000
	var excess *Excess
	if _, _, err := (peerKind{c}).List(t.Context(), nil); !errors.As(err, &excess) {
		t.Errorf("neighbours without end: %v", err)
	}
	if _, err := c.Counts(t.Context()); !errors.As(err, &excess) {
		t.Errorf("counts without end: %v", err)
	}
	if _, err := c.Routes(t.Context(), LocRIB, netip.Addr{}); !errors.As(err, &excess) {
		t.Errorf("a table without end: %v", err)
	}
}

// TestSetsAreBounded: sets of next hops that come and go are not kept.
func TestSetsAreBounded(t *testing.T) {
	v := newView(pathsMost)
	p := netip.MustParsePrefix("10.0.0.0/24")
	for i := range uint32(100_000) {
		b := appendEntry(nil, p, string(appendHops(nil, []hop{{nextHop: netip.MustParseAddr("10.0.0.1"), firstAS: i}})))
		if _, err := v.take(framePaths, b); err != nil {
			t.Fatal(err)
		}
	}
	if len(v.sets) > 2000 || v.hops != 1 {
		t.Errorf("%d sets, %d hops of one path", len(v.sets), v.hops)
	}
	if err := json.NewEncoder(&bytes.Buffer{}).Encode(v.facts()); err != nil {
		t.Error(err)
	}
}
