package speaker

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/osrg/gobgp/v3/pkg/packet/bgp"

	"netd/reconcile"
	"netd/reconcile/object"
	"netd/testenv/router"
)

// TestASPath: what gobgp has for the way of a neighbour that knows no ASes of four octets, and of one that does. What is malformed is taken
// for a withdrawal (RFC 7606 §7.2), an AS4_PATH that is, left out (RFC 6793 §6).
func TestASPath(t *testing.T) {
	at, p := netip.MustParseAddr("192.168.170.138"), netip.MustParsePrefix("10.10.3.0/24")
	transitive := byte(router.Optional | router.Transitive)
	const withdrawn = "withdrawn"
	for _, x := range []struct {
		name       string
		four       bool // it knows ASes of four octets
		path       []byte
		as4        []byte
		aggregator []byte // attributes
		want       string // the way, and the aggregator
		words      string
	}{
		{name: "of two octets", path: []byte{2, 2, 0xfd, 0xe9, 0, 7}, want: "65001 7"},
		{name: "of two octets, which may be read as of four", path: []byte{2, 2, 0xfd, 0xe9, 0, 7, 1, 1, 0xfc, 0}, want: "65001 7 {64512}"},
		{name: "of four octets, sent by one of two", path: []byte{2, 1, 0, 0, 0xfd, 0xe9}, want: withdrawn, words: malformedPath},
		{name: "of two octets, sent by one of four", four: true, path: []byte{2, 2, 0xfd, 0xe9, 0, 7}, want: withdrawn, words: malformedPath},
		{name: "of four octets", four: true, path: []byte{2, 1, 0, 0, 0xfd, 0xe9}, want: "65001"},
		{name: "empty, inside", path: []byte{}, want: ""},
		{name: "a segment without ASes", path: []byte{2, 0}, want: withdrawn, words: malformedPath},
		{name: "an odd length", path: []byte{2, 1, 0, 1, 2}, want: withdrawn, words: malformedPath},
		{name: "a segment of an unknown type", path: []byte{5, 1, 0, 1}, want: withdrawn, words: malformedPath},
		{name: "AS 0", path: []byte{2, 2, 0xfd, 0xe9, 0, 0}, want: withdrawn, words: malformedPath},
		{name: "AS 0, of one of four", four: true, path: []byte{2, 1, 0, 0, 0xfd, 0xe9, 1, 1, 0, 0, 0, 0}, want: withdrawn, words: malformedPath},
		{name: "AS 0 in AS4_PATH", path: []byte{2, 2, 0xfd, 0xe9, 0x5b, 0xa0}, as4: []byte{2, 1, 0, 0, 0, 0}, want: "65001 23456", words: leftOut + "AS4_PATH"},
		{name: "AGGREGATOR AS 0", path: []byte{2, 1, 0xfd, 0xe9}, aggregator: router.Attribute(transitive, 7, 0, 0, 1, 2, 3, 4), want: "65001", words: leftOut + "AGGREGATOR"},
		{name: "AGGREGATOR AS 0, of one of four", four: true, path: []byte{2, 1, 0, 0, 0xfd, 0xe9}, aggregator: router.Attribute(transitive, 7, 0, 0, 0, 0, 1, 2, 3, 4), want: "65001",
			words: leftOut + "AGGREGATOR"},
		{name: "AS4_AGGREGATOR AS 0", path: []byte{2, 1, 0xfd, 0xe9},
			aggregator: slices.Concat(router.Attribute(transitive, 7, 0x5b, 0xa0, 1, 2, 3, 4), router.Attribute(transitive, 18, 0, 0, 0, 0, 1, 2, 3, 4)), want: "65001 by 23456", words: leftOut + "AS4_AGGREGATOR"},
		{name: "AS4_PATH", path: []byte{2, 2, 0xfd, 0xe9, 0x5b, 0xa0}, as4: []byte{2, 1, 0, 3, 0xd, 0x40}, want: "65001 200000"},
		{name: "AS4_PATH of the whole way", path: []byte{2, 2, 0xfd, 0xe9, 0x5b, 0xa0}, as4: []byte{2, 2, 0, 0, 0xfd, 0xe9, 0, 3, 0xd, 0x40}, want: "65001 200000"},
		{name: "AS4_PATH longer than AS_PATH", path: []byte{2, 1, 0xfd, 0xe9}, as4: []byte{2, 2, 0, 0, 0xfd, 0xe9, 0, 3, 0xd, 0x40}, want: "65001"},
		{name: "AS4_PATH and a confederation before what is kept", path: []byte{3, 1, 0, 9, 2, 2, 0xfd, 0xe9, 0x5b, 0xa0}, as4: []byte{2, 2, 0, 0, 0xfd, 0xe9, 0, 3, 0xd, 0x40}, want: "(9) 65001 200000"},
		{name: "AS4_PATH and a confederation beside what is kept", path: []byte{2, 1, 0xfd, 0xe9, 3, 1, 0, 9, 2, 1, 0x5b, 0xa0}, as4: []byte{2, 1, 0, 3, 0xd, 0x40}, want: "65001 (9) 200000"},
		{name: "AS4_PATH and a confederation behind what is kept", path: []byte{2, 1, 0xfd, 0xe9, 2, 1, 0x5b, 0xa0, 3, 1, 0, 9}, as4: []byte{2, 1, 0, 3, 0xd, 0x40}, want: "65001 200000"},
		{name: "AS4_PATH that begins with a set", path: []byte{2, 1, 0xfd, 0xe9, 1, 2, 0x5b, 0xa0, 0, 7}, as4: []byte{1, 2, 0, 3, 0xd, 0x40, 0, 0, 0, 7}, want: "65001 {200000,7}"},
		{name: "AS4_PATH that begins with a set, of the whole way", path: []byte{1, 2, 0x5b, 0xa0, 0, 7}, as4: []byte{1, 2, 0, 3, 0xd, 0x40, 0, 0, 0, 7}, want: "{200000,7}"},
		{name: "AS4_PATH that begins with a set in place of a sequence", path: []byte{2, 1, 0x5b, 0xa0}, as4: []byte{1, 1, 0, 3, 0xd, 0x40}, want: "{200000}"},
		{name: "AS4_PATH of a segment without ASes", path: []byte{2, 1, 0xfd, 0xe9}, as4: []byte{2, 0}, want: "65001", words: leftOut + "AS4_PATH"},
		{name: "AS4_PATH of an odd length", path: []byte{2, 1, 0xfd, 0xe9}, as4: []byte{2, 1, 0, 3, 0xd, 0x40, 0}, want: "65001", words: leftOut + "AS4_PATH"},
		{name: "AS4_PATH without anything", path: []byte{2, 1, 0xfd, 0xe9}, as4: []byte{}, want: "65001", words: leftOut + "AS4_PATH"},
		{name: "AS4_PATH with ASes of two octets", path: []byte{2, 1, 0xfd, 0xe9}, as4: []byte{2, 1, 0xfd, 0xe9}, want: "65001", words: leftOut + "AS4_PATH"},
		{name: "AS4_PATH with a confederation", path: []byte{2, 2, 0xfd, 0xe9, 0x5b, 0xa0}, as4: []byte{3, 1, 0, 0, 0, 9, 2, 1, 0, 3, 0xd, 0x40, 4, 1, 0, 0, 0, 8}, want: "65001 200000",
			words: leftOut + "confederations in AS4_PATH"},
		{name: "AS4_PATH of a confederation alone", path: []byte{2, 1, 0xfd, 0xe9}, as4: []byte{3, 1, 0, 0, 0, 9}, want: "65001", words: leftOut + "confederations in AS4_PATH"},
		{name: "AS4_AGGREGATOR", path: []byte{2, 2, 0xfd, 0xe9, 0x5b, 0xa0}, as4: []byte{2, 1, 0, 3, 0xd, 0x40},
			aggregator: slices.Concat(router.Attribute(transitive, 18, 0, 3, 0xd, 0x40, 1, 2, 3, 4), router.Attribute(transitive, 7, 0x5b, 0xa0, 1, 2, 3, 4)), want: "65001 200000 by 200000"},
		{name: "AS4_AGGREGATOR and an aggregator that knew nothing of it", path: []byte{2, 2, 0xfd, 0xe9, 0x5b, 0xa0}, as4: []byte{2, 1, 0, 3, 0xd, 0x40},
			aggregator: slices.Concat(router.Attribute(transitive, 7, 0, 9, 1, 2, 3, 4), router.Attribute(transitive, 18, 0, 3, 0xd, 0x40, 1, 2, 3, 4)), want: "65001 23456 by 9"},
		{name: "AS4_AGGREGATOR of another length", path: []byte{2, 1, 0xfd, 0xe9},
			aggregator: slices.Concat(router.Attribute(transitive, 7, 0x5b, 0xa0, 1, 2, 3, 4), router.Attribute(transitive, 18, 0, 3)), want: "65001 by 23456", words: leftOut + "AS4_AGGREGATOR"},
		{name: "AS4_AGGREGATOR alone", path: []byte{2, 1, 0xfd, 0xe9}, aggregator: router.Attribute(transitive, 18, 0, 3, 0xd, 0x40, 1, 2, 3, 4), want: "65001",
			words: leftOut + "AS4_AGGREGATOR without AGGREGATOR"},
		{name: "AS4_PATH and AS4_AGGREGATOR of one of four octets", four: true, path: []byte{2, 1, 0, 0, 0xfd, 0xe9}, as4: []byte{2, 1, 0, 3, 0xd, 0x40},
			aggregator: slices.Concat(router.Attribute(transitive, 18, 0, 3, 0xd, 0x40, 1, 2, 3, 4), router.Attribute(transitive, 7, 0, 0, 0x5b, 0xa0, 1, 2, 3, 4)), want: "65001 by 23456"},
		{name: "255 times this AS, which the import policy refuses", four: true, path: slices.Concat([]byte{2, 255}, slices.Repeat([]byte{0, 0, 0xfc, 0}, 255)),
			want: strings.TrimSpace(strings.Repeat("64512 ", 255))},
		{name: "256 times this AS, of which gobgp would look no further", four: true, path: slices.Concat([]byte{2, 255}, slices.Repeat([]byte{0, 0, 0xfc, 0}, 255), []byte{1, 1, 0, 0, 0xfc, 0}), want: withdrawn},
		{name: "256 times this AS, of one of two octets", path: slices.Concat([]byte{2, 255}, slices.Repeat([]byte{0xfc, 0}, 255), []byte{2, 1, 0xfc, 0}), want: withdrawn},
	} {
		for _, first := range []bool{true, false} { // they come in any order
			as4 := []byte(nil)
			if x.as4 != nil {
				as4 = router.Attribute(transitive, 17, x.as4...)
			}
			attributes := slices.Concat(router.Origin(), router.Attribute(router.Transitive, 2, x.path...), router.NextHop(at), x.aggregator, as4)
			if first {
				attributes = slices.Concat(as4, attributes)
			}
			v := &sieve{s: &sessions{}, four: x.four}
			v.s.asn.Store(64512)
			told, words, taken := v.sift(nil, router.Update(nil, attributes, p))
			if !taken || words != x.words {
				t.Errorf("%s: taken %v, %q", x.name, taken, words)
			}
			if got := way(t, told); got != x.want {
				t.Errorf("%s: %q, want %q", x.name, got, x.want)
			}
		}
	}
}

// way is what gobgp makes of an UPDATE.
func way(t *testing.T, told []byte) (words string) {
	t.Helper()
	u, decent := readUpdate(t, told)
	if !decent || len(u.NLRI) == 0 {
		return "withdrawn"
	}
	for _, a := range u.PathAttributes {
		switch a := a.(type) {
		case *bgp.PathAttributeAsPath:
			words = bgp.AsPathString(a) + words
		case *bgp.PathAttributeAggregator:
			words += " by " + strings.Split(strings.TrimPrefix(a.String(), "{Aggregate: {AS: "), ",")[0]
		case *bgp.PathAttributeAs4Path, *bgp.PathAttributeAs4Aggregator:
			words += " and " + a.GetType().String()
		}
	}
	return words
}

// TestPrependTooMany: what is told of a way to which this AS and prepends are added that do not fit into its first segment (RFC 4271 §5.1.2):
// a new segment, which a router of four octets, one of two, and BIRD read as the whole way.
func TestPrependTooMany(t *testing.T) {
	hosts := newHosts(t, 5)
	h, far, four, two, third := hosts[0], hosts[1], hosts[2], hosts[3], hosts[4]
	h.start()
	var w reconcile.Want
	w.Put(object.BGP{ASN: 64512, RouterID: h.addr, Listen: h.addr.String(), Port: 179, Refuse: true}, reconcile.Cause{})
	w.Put(h.outsider(far, 65101), reconcile.Cause{})
	for i, o := range []*host{four, two, third} {
		p := h.outsider(o, uint32(65102+i))
		p.Prepend = 10
		w.Put(p, reconcile.Cause{})
	}
	h.converge(w)
	bird := router.New(t, router.BIRD, third.ns, fmt.Sprintf(`router id %s;
protocol device {}
protocol bgp netd { local %s as 65104; neighbor %s as 64512; connect delay time 1; connect retry time 1; error wait time 1, 1; ipv4 { import all; export none; }; }
`, third.addr, third.addr, h.addr))
	sinks := map[*host]*router.Raw{four: h.session(four, router.Open{ASN: 65102}), two: h.session(two, router.Open{ASN: 65103, TwoOctet: true})}
	r := h.session(far, router.Open{ASN: 65101})
	as := func(kind byte, n int) []byte {
		return slices.Concat([]byte{kind, byte(n)}, slices.Repeat([]byte{0, 3, 0xd, 0x40}, n))
	}
	first := []byte{2, 1, 0, 0, 0xfe, 0x4d} // 65101
	for i, path := range [][]byte{
		first, slices.Concat([]byte{2, 244}, first[2:], as(2, 243)[2:]), slices.Concat([]byte{2, 245}, first[2:], as(2, 244)[2:]), slices.Concat([]byte{2, 255}, first[2:], as(2, 254)[2:]),
		slices.Concat([]byte{2, 255}, first[2:], as(2, 254)[2:], as(2, 100)), slices.Concat([]byte{2, 255}, first[2:], as(2, 254)[2:], as(1, 20)),
	} {
		p := netip.PrefixFrom(netip.AddrFrom4([4]byte{172, 30, byte(i), 0}), 24)
		if _, err := r.Write(router.Update(nil, slices.Concat(router.Origin(), router.Attribute(router.Transitive, 2, path...), router.NextHop(far.addr)), p)); err != nil {
			t.Fatal(err)
		}
		want := slices.Concat(slices.Repeat([]uint32{64512}, 11), ases(pathSegments(path, 4)))
		for o, sink := range sinks {
			var got []byte
			h.within(20*time.Second, fmt.Sprintf("%s to hear of %s", o.addr, p), func() bool { got = told(t, sink, p, o == two); return got != nil })
			if !isPath(got, 4) || got[0] != bgp.BGP_ASPATH_ATTR_TYPE_SEQ || !slices.Equal(ases(pathSegments(got, 4)), want) {
				t.Errorf("%s is told of %s: %x", o.addr, p, got)
			}
		}
		n := fmt.Sprint(11 + length(pathSegments(path, 4))) // BIRD shows no more of it than some
		h.within(20*time.Second, "BIRD to have "+p.String()+" by "+n+" ASes", func() bool {
			return strings.Contains(bird.Ask("show", "route", "where", "net", "=", p.String(), "&&", "bgp_path.first", "=", "64512", "&&", "bgp_path.len", "=", n), p.String())
		})
	}
	if h.dead() {
		t.Error("the speaker died")
	}
}

func ases(path []pathSegment) (out []uint32) {
	for _, p := range path {
		for i := 0; i < len(p.as); i += 4 {
			out = append(out, binary.BigEndian.Uint32(p.as[i:]))
		}
	}
	return out
}

// told is the way to a prefix that was told on a connection, with four octets for each AS: of a router that knows such of two, as it puts it together.
func told(t *testing.T, r *router.Raw, p netip.Prefix, old bool) (path []byte) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_ = r.Until(ctx, func(got []router.Message, _ error) bool {
		for _, m := range got {
			if m.Type != router.TypeUpdate || !strings.HasSuffix(string(m.Body), string(router.Prefixes(p))) {
				continue
			}
			u, ok := cutUpdate(m.Body)
			if !ok {
				t.Fatalf("told an UPDATE that cannot be read: %x", m.Body)
			}
			if path = u.path; old {
				if !isPath(path, 2) {
					t.Fatalf("told an AS_PATH that cannot be read: %x", path)
				}
				_, path, _ = u.wide()
			}
		}
		return path != nil
	})
	return path
}
