package speaker

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	api "github.com/osrg/gobgp/v3/api"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// FuzzFrames gives the daemon's end of paths.sock whatever a speaker that fell to its neighbours may send. It may refuse;
// what it takes are prefixes, next hops and neighbours, in order, and no more memory than frames may have.
func FuzzFrames(f *testing.F) {
	frame := func(t frameType, payload []byte) []byte {
		var b bytes.Buffer
		if err := writeFrame(&b, t, payload); err != nil {
			f.Fatal(err)
		}
		return b.Bytes()
	}
	two, prefix := netip.MustParseAddr("192.168.170.138"), netip.MustParsePrefix("10.10.194.128/26")
	entry := appendEntry(nil, prefix, string(appendHops(nil, []hop{{two, two, 65001}, {netip.MustParseAddr("2001:db8::1"), netip.Addr{}, 0}})))
	neighbours, err := json.Marshal([]Neighbour{{Addr: two, State: "established", Since: time.Unix(0, 0), Synced: true}, {Addr: two, Gone: true}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(slices.Concat(frame(framePaths, entry), frame(frameNeighbours, neighbours), frame(frameMark, nil)))
	f.Add(slices.Concat(frame(framePaths, appendEntry(entry, prefix, "")), frame(frameMark, nil)))
	f.Add(frame(framePaths, entry[:len(entry)-1]))
	f.Add(frame(framePaths, []byte{4, 10, 10, 3, 0, 77, 1}))
	f.Add(frame(framePaths, []byte{4, 10, 10, 3, 1, 24, 255}))
	f.Add(frame(framePaths, []byte{3, 10, 10, 3, 24, 0}))
	f.Add(slices.Concat(frame(frameNeighbours, []byte(`[{"addr":"192.168.170.138","state":"\u001b[2J","error":"\u009b31m\r\nin sync"}]`)), frame(frameMark, nil)))
	f.Add(frame('X', nil))
	f.Add(binary.BigEndian.AppendUint32(nil, 1<<31))
	f.Add([]byte(`{"instance":1}`))
	f.Fuzz(func(t *testing.T, sent []byte) {
		v := newView(pathsMost)
		r := bufio.NewReader(bytes.NewReader(sent))
		var buf []byte
		for {
			kind, b, err := readFrame(r, &buf)
			if err != nil {
				break
			}
			if _, err := v.take(kind, b); err != nil {
				break
			}
		}
		if cap(buf) > maxFrame {
			t.Fatalf("a buffer of %d bytes", cap(buf))
		}
		s := v.facts()
		if !v.known && (s.Known || len(s.Paths) > 0 || len(s.Peers) > 0) {
			t.Fatalf("known before the mark: %+v", s)
		}
		for _, n := range v.inOrder() { // they are printed on root's terminal
			if strings.ContainsFunc(n.State+n.Error, unicode.IsControl) {
				t.Fatalf("a neighbour %q, %q", n.State, n.Error)
			}
		}
		for i, p := range s.Paths {
			if !p.Prefix.IsValid() || p.Prefix != p.Prefix.Masked() || !p.Peer.IsValid() {
				t.Fatalf("a path %+v", p)
			}
			if i > 0 && p.Prefix.Compare(s.Paths[i-1].Prefix) < 0 {
				t.Fatalf("%s after %s", p.Prefix, s.Paths[i-1].Prefix)
			}
		}
	})
}

// FuzzPath gives the speaker paths as gobgp hands them on, made by whoever told them. It may refuse, and must not fail:
// nobody would catch it.
func FuzzPath(f *testing.F) {
	path := func(nlri proto.Message, attributes ...proto.Message) []byte {
		p := &api.Path{NeighborIp: "192.168.170.138", Family: ipv4}
		p.Nlri, _ = anypb.New(nlri)
		for _, a := range attributes {
			x, _ := anypb.New(a)
			p.Pattrs = append(p.Pattrs, x)
		}
		b, err := proto.Marshal(p)
		if err != nil {
			f.Fatal(err)
		}
		return b
	}
	prefix := &api.IPAddressPrefix{Prefix: "10.10.194.128", PrefixLen: 26}
	f.Add(path(prefix, &api.OriginAttribute{}, &api.NextHopAttribute{NextHop: "192.168.170.138"}, &api.AsPathAttribute{Segments: []*api.AsSegment{{Numbers: []uint32{65001}}}}))
	f.Add(path(prefix, &api.OriginAttribute{Origin: 77}, &api.NextHopAttribute{NextHop: "none"}))
	f.Add(path(&api.IPAddressPrefix{Prefix: "10.10.194.128", PrefixLen: 4000000000}, &api.NextHopAttribute{NextHop: "192.168.170.138"}))
	f.Add(path(&api.IPAddressPrefix{Prefix: "2001:db8::", PrefixLen: 64}, &api.MpReachNLRIAttribute{NextHops: []string{"::", "fe80::1"}}, &api.ClusterListAttribute{Ids: []string{"x"}}))
	f.Add(path(&api.OriginAttribute{}, &api.MpReachNLRIAttribute{}, &api.LargeCommunitiesAttribute{Communities: []*api.LargeCommunity{nil}}))
	f.Fuzz(func(t *testing.T, sent []byte) {
		p := &api.Path{}
		if err := proto.Unmarshal(sent, p); err != nil {
			return
		}
		r, err := routeOf(p)
		if err != nil {
			return
		}
		if !r.Prefix.IsValid() || r.Prefix != r.Prefix.Masked() || !p.GetIsWithdraw() && !r.NextHop.IsValid() {
			t.Fatalf("taken: %+v", r)
		}
		_ = r.Attributes()
		if _, err := json.Marshal(r); err != nil {
			t.Fatal(err)
		}
	})
}
