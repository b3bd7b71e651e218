package speaker

import (
	"context"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	api "github.com/osrg/gobgp/v3/api"
	"github.com/osrg/gobgp/v3/pkg/packet/bgp"
	"github.com/osrg/gobgp/v3/pkg/server"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// TestBest: what gobgp's private events say of its paths is read as its API would have said it, and what is of no use is named.
func TestBest(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var mu sync.Mutex
	logged := ""
	fatal := make(chan error, 1)
	s := newSessions(ctx, newRIB(), func(_, msg string, fields map[string]any) {
		mu.Lock()
		defer mu.Unlock()
		logged += msg + " " + fmt.Sprint(fields) + "\n"
	}, fatal)
	s.bgp = server.NewBgpServer(server.TimingHookOption(s))
	go s.bgp.Serve()
	if err := s.watch(ctx); err != nil {
		t.Fatal(err)
	}
	if err := s.bgp.StartBgp(ctx, &api.StartBgpRequest{Global: &api.Global{Asn: 64512, RouterId: "192.0.2.2", ListenPort: -1, UseMultiplePaths: true}}); err != nil {
		t.Fatal(err)
	}
	defer s.bgp.Stop()
	any := func(m proto.Message) *anypb.Any {
		a, err := anypb.New(m)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	path := func(prefix, via string, as ...uint32) *api.Path {
		p := netip.MustParsePrefix(prefix)
		out := &api.Path{Family: familyOf(p.Addr()), Nlri: any(&api.IPAddressPrefix{Prefix: p.Addr().String(), PrefixLen: uint32(p.Bits())}), Pattrs: []*anypb.Any{any(&api.OriginAttribute{})}}
		if len(as) > 0 {
			out.Pattrs = append(out.Pattrs, any(&api.AsPathAttribute{Segments: []*api.AsSegment{{Type: api.AsSegment_AS_SEQUENCE, Numbers: as}}}))
		}
		if p.Addr().Is4() {
			out.Pattrs = append(out.Pattrs, any(&api.NextHopAttribute{NextHop: via}))
		} else {
			out.Pattrs = append(out.Pattrs, any(&api.MpReachNLRIAttribute{Family: ipv6, NextHops: []string{via}, Nlris: []*anypb.Any{out.Nlri}}))
		}
		return out
	}
	set := path("172.30.6.0/24", "192.0.2.9")
	set.Pattrs = append(set.Pattrs, any(&api.AsPathAttribute{Segments: []*api.AsSegment{{Type: api.AsSegment_AS_SET, Numbers: []uint32{65101}}}}))
	vpn := path("172.30.7.0/24", "192.0.2.9")
	vpn.Family = &api.Family{Afi: api.Family_AFI_IP, Safi: api.Family_SAFI_MPLS_VPN}
	vpn.Nlri = any(&api.LabeledVPNIPAddressPrefix{Labels: []uint32{1}, Rd: any(&api.RouteDistinguisherTwoOctetASN{Admin: 1, Assigned: 1}), PrefixLen: 24, Prefix: "172.30.7.0"})
	for _, p := range []*api.Path{path("172.30.0.0/24", "192.0.2.9"), path("172.30.1.0/24", "192.0.2.8", 65101, 65102), path("172.30.2.0/24", "192.0.2.8", 4200000000),
		path("172.30.1.0/24", "192.0.2.7", 65103), // in the place of the other: from the same neighbour
		path("0.0.0.0/0", "192.0.2.9"), path("2001:db8:30::/48", "2001:db8::9", 65101), path("172.30.5.0/24", "192.0.2.9", 65101), set, vpn} {
		if _, err := s.bgp.AddPath(ctx, &api.AddPathRequest{TableType: api.TableType_GLOBAL, Path: p}); err != nil {
			t.Fatal(err)
		}
	}
	gone := path("172.30.5.0/24", "192.0.2.9", 65101)
	if err := s.bgp.DeletePath(ctx, &api.DeletePathRequest{TableType: api.TableType_GLOBAL, Family: gone.Family, Path: gone}); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"172.30.0.0/24": "192.0.2.9 0", "172.30.1.0/24": "192.0.2.7 65103", "172.30.2.0/24": "192.0.2.8 4200000000", "0.0.0.0/0": "192.0.2.9 0",
		"2001:db8:30::/48": "2001:db8::9 65101", "172.30.6.0/24": "192.0.2.9 0"}
	var got map[string]string
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		got = map[string]string{}
		s.rib.mu.Lock()
		for _, e := range s.rib.paths {
			p := e.at.prefix()
			_, hops, _, err := cutEntry(appendEntry(nil, p, s.rib.sets.of(e.set)), nil)
			if e.set == 0 {
				continue
			}
			if err != nil || len(hops) != 1 || hops[0].peer.IsValid() {
				t.Errorf("%s: %v, %v", p, hops, err)
				continue
			}
			got[p.String()] = fmt.Sprint(hops[0].nextHop, hops[0].firstAS)
		}
		s.rib.mu.Unlock()
		if maps.Equal(got, want) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("known are\n%v\nand not\n%v", got, want)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if !strings.Contains(logged, "1:1:172.30.7.0/24 is none of IPv4 or IPv6") {
		t.Errorf("of a path of another family it says %q", logged)
	}
	if len(fatal) > 0 {
		t.Error(<-fatal)
	}
}

// TestBestBefore: paths are in the rib before anyone hears of what gobgp tells after them.
func TestBestBefore(t *testing.T) {
	s := newSessions(t.Context(), newRIB(), nil, nil)
	for i, kind := range []string{"peerstate", "eor"} {
		s.pending = append(s.pending, news{at: pack(netip.PrefixFrom(netip.AddrFrom4([4]byte{172, 30, byte(i)}), 24)), hop: hop{nextHop: netip.MustParseAddr("192.0.2.9")}})
		if !s.filters()[kind](nil) {
			t.Errorf("nobody is told of a %s", kind)
		}
		if len(s.pending) > 0 || len(s.rib.number) != i+1 {
			t.Errorf("at a %s %d paths are kept back, and %d in the rib", kind, len(s.pending), len(s.rib.number))
		}
	}
}

// event and its paths are of gobgp's shape.
type event struct {
	PathList      []*toldPath
	MultiPathList [][]*toldPath
}

type toldPath struct {
	IsWithdraw bool
	prefix     string
	attributes []bgp.PathAttributeInterface
}

type toldBy struct{ Address net.IP }

func (p *toldPath) GetNlri() bgp.AddrPrefixInterface           { return bgp.NewIPv6AddrPrefix(48, p.prefix) }
func (p *toldPath) GetPathAttrs() []bgp.PathAttributeInterface { return p.attributes }
func (p *toldPath) IsLocal() bool                              { return false }
func (p *toldPath) GetSource() *toldBy                         { return &toldBy{net.ParseIP("192.0.2.1")} }

// TestBestNowhere: of a best path that leads nowhere the one before does not stay, since what becomes of that nobody tells any more.
func TestBestNowhere(t *testing.T) {
	s := newSessions(t.Context(), newRIB(), func(string, string, map[string]any) {}, nil)
	via := func(hop string) *toldPath {
		return &toldPath{prefix: "2001:db8:30::", attributes: []bgp.PathAttributeInterface{bgp.NewPathAttributeMpReachNLRI(hop, nil)}}
	}
	for _, x := range []struct {
		name  string
		event *event
		ways  int
	}{
		{"a way", &event{PathList: []*toldPath{via("2001:db8::9")}}, 1},
		{"nowhere", &event{PathList: []*toldPath{via("")}}, 0},
		{"one of two nowhere", &event{MultiPathList: [][]*toldPath{{via(""), via("2001:db8::9")}}}, 1},
		{"both nowhere", &event{MultiPathList: [][]*toldPath{{via(""), via("")}}}, 0},
	} {
		s.heard(x.event)
		s.deliver()
		ways := 0
		for _, e := range s.rib.paths {
			_, hops, _, err := cutEntry(appendEntry(nil, e.at.prefix(), s.rib.sets.of(e.set)), nil)
			if err != nil {
				t.Fatal(err)
			}
			ways += len(hops)
		}
		if ways != x.ways {
			t.Errorf("%s: %d ways are left, want %d", x.name, ways, x.ways)
		}
	}
}

// TestBestElsewhere: a version of gobgp whose events are others is refused by name, not taken for one without paths.
func TestBestElsewhere(t *testing.T) {
	type watchEventBestPath struct{ PathList []*gobgpLog }
	if _, err := (&best{}).read(&watchEventBestPath{}, nil, nil); err == nil || !strings.Contains(err.Error(), "MultiPathList") {
		t.Errorf("an event without several ways: %v", err)
	}
	if err := overhear(server.NewBgpServer(), map[string]func(any) bool{"bestpath": nil}); err == nil || !strings.Contains(err.Error(), "nobody watches its bestpath") {
		t.Errorf("a gobgp without a watcher: %v", err)
	}
}
