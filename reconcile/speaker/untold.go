package speaker

import (
	"encoding/binary"
	"net/netip"
	"slices"

	api "github.com/osrg/gobgp/v3/api"
	"github.com/osrg/gobgp/v3/pkg/packet/bgp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// Where a path has an attribute that gobgp's API has no message for, an extended community of EVPN say, the API tells none of its attributes
// (MarshalPathAttributes in its pkg/apiutil/attribute.go), and so no next hop. Such a one may come from far, by way of decent routers. It is asked for
// again as it was on the wire, and what a Route has is read from that.

// untold reports whether gobgp told no attribute of a path.
func untold(p *api.Path) bool { return len(p.GetPattrs()) == 0 }

// attributesOf are a path's attributes as the API would have them, without those that nobody asks for.
func attributesOf(wire [][]byte) (out []*anypb.Any) {
	for _, b := range wire {
		a, _, ok := cutAttribute(b)
		if !ok {
			continue
		}
		if m := attributeOf(a); m != nil {
			if x, err := anypb.New(m); err == nil {
				out = append(out, x)
			}
		}
	}
	return out
}

// attributeOf is nil where the value is of another length than the attribute has.
func attributeOf(a attribute) proto.Message {
	v, n := a.value, len(a.value)
	address := func(b []byte) string {
		addr, _ := netip.AddrFromSlice(b)
		return addr.String()
	}
	switch bgp.BGPAttrType(a.kind) {
	case bgp.BGP_ATTR_TYPE_ORIGIN:
		if n == 1 {
			return &api.OriginAttribute{Origin: uint32(v[0])}
		}
	case bgp.BGP_ATTR_TYPE_AS_PATH:
		if isPath(v, 4) {
			out := &api.AsPathAttribute{}
			for _, p := range pathSegments(v, 4) {
				out.Segments = append(out.Segments, &api.AsSegment{Type: api.AsSegment_Type(p.kind), Numbers: uint32s(p.as)})
			}
			return out
		}
	case bgp.BGP_ATTR_TYPE_NEXT_HOP:
		if n == 4 || n == 16 {
			return &api.NextHopAttribute{NextHop: address(v)}
		}
	case bgp.BGP_ATTR_TYPE_MP_REACH_NLRI:
		if n > 3 && hopFits(v) && n >= 4+int(v[3]) {
			return &api.MpReachNLRIAttribute{NextHops: []string{address(v[4 : 4+min(v[3], 16)])}}
		}
	case bgp.BGP_ATTR_TYPE_MULTI_EXIT_DISC:
		if n == 4 {
			return &api.MultiExitDiscAttribute{Med: binary.BigEndian.Uint32(v)}
		}
	case bgp.BGP_ATTR_TYPE_LOCAL_PREF:
		if n == 4 {
			return &api.LocalPrefAttribute{LocalPref: binary.BigEndian.Uint32(v)}
		}
	case bgp.BGP_ATTR_TYPE_COMMUNITIES:
		if n%4 == 0 {
			return &api.CommunitiesAttribute{Communities: uint32s(v)}
		}
	case bgp.BGP_ATTR_TYPE_LARGE_COMMUNITY:
		if n%12 == 0 {
			out := &api.LargeCommunitiesAttribute{}
			for c := range slices.Chunk(uint32s(v), 3) {
				out.Communities = append(out.Communities, &api.LargeCommunity{GlobalAdmin: c[0], LocalData1: c[1], LocalData2: c[2]})
			}
			return out
		}
	case bgp.BGP_ATTR_TYPE_ORIGINATOR_ID:
		if n == 4 {
			return &api.OriginatorIdAttribute{Id: address(v)}
		}
	case bgp.BGP_ATTR_TYPE_CLUSTER_LIST:
		if n%4 == 0 {
			out := &api.ClusterListAttribute{}
			for id := range slices.Chunk(v, 4) {
				out.Ids = append(out.Ids, address(id))
			}
			return out
		}
	}
	return nil
}

// uint32s are the numbers of four octets in a value that has nothing else.
func uint32s(v []byte) (out []uint32) {
	for b := range slices.Chunk(v, 4) {
		out = append(out, binary.BigEndian.Uint32(b))
	}
	return out
}
