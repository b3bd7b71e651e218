package watch

import (
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"netd/reconcile"
	"netd/reconcile/object"
)

// TestForeignRoutes: of the routes of others, which may change ten thousand times a second, only those are news that stand in a
// wanted place, that a next hop on no link is reached by, or that are a default.
func TestForeignRoutes(t *testing.T) {
	wanted := object.RouteKey("", netip.MustParsePrefix("10.10.194.128/26"), object.MainTable, 0)
	h := hints{Kernel: Kernel{
		Wants: func(k reconcile.Key) bool { return k == wanted },
		Leads: func(p netip.Prefix) bool { return p.Contains(netip.MustParseAddr("192.0.2.1")) },
	}}
	for _, x := range []struct {
		name            string
		protocol, table byte
		bits            byte
		dst             []byte
		want            string
	}{
		{"anywhere", unix.RTPROT_STATIC, unix.RT_TABLE_MAIN, 24, []byte{100, 64, 0, 0}, ""},
		{"in a wanted place", unix.RTPROT_STATIC, unix.RT_TABLE_MAIN, 26, []byte{10, 10, 194, 128}, wanted.String()},
		{"in that place of another table", unix.RTPROT_STATIC, 100, 26, []byte{10, 10, 194, 128}, ""},
		{"netd's own, wanted or not", object.Protocol, unix.RT_TABLE_MAIN, 24, []byte{100, 64, 0, 0}, "route 100.64.0.0/24"},
		{"to a next hop", unix.RTPROT_STATIC, unix.RT_TABLE_MAIN, 24, []byte{192, 0, 2, 0}, "everything"},
		{"the default", unix.RTPROT_STATIC, unix.RT_TABLE_MAIN, 0, nil, "everything"},
	} {
		body := make([]byte, unix.SizeofRtMsg)
		body[0], body[1], body[4], body[5], body[7] = unix.AF_INET, x.bits, x.table, x.protocol, unix.RTN_UNICAST
		if x.dst != nil {
			body = append(append(body, 8, 0, unix.RTA_DST, 0), x.dst...)
		}
		for _, typ := range []uint16{unix.RTM_NEWROUTE, unix.RTM_DELROUTE} {
			p, got := h.of(message{unix.NlMsghdr{Type: typ}, -1, body}), ""
			switch {
			case p.Whole:
				got = "everything"
			case len(p.Keys) == 1:
				got = p.Keys[0].String()
			case len(p.Keys)+len(p.Kinds) > 0:
				got = "more"
			}
			if got != x.want {
				t.Errorf("%s: %q is looked at, want %q", x.name, got, x.want)
			}
			behind := x.want == wanted.String() || x.want == "everything"
			if p := h.of(message{unix.NlMsghdr{Type: typ, Flags: unix.NLM_F_APPEND}, -1, body}); p.Whole != behind {
				t.Errorf("%s, behind another: everything is looked at: %t, want %t", x.name, p.Whole, behind)
			}
		}
	}
}
