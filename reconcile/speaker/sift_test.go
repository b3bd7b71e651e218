package speaker

import (
	"errors"
	"maps"
	"net/netip"
	"slices"
	"testing"

	"github.com/osrg/gobgp/v3/pkg/packet/bgp"

	"netd/testenv/router"
)

// prefixesIn are the prefixes of an UPDATE as gobgp reads it.
func prefixesIn(u *bgp.BGPUpdate) (announced, withdrawn map[string]bool) {
	announced, withdrawn = map[string]bool{}, map[string]bool{}
	for _, p := range u.NLRI {
		announced[p.String()] = true
	}
	for _, p := range u.WithdrawnRoutes {
		withdrawn[p.String()] = true
	}
	for _, a := range u.PathAttributes {
		switch a := a.(type) {
		case *bgp.PathAttributeMpReachNLRI:
			for _, p := range a.Value {
				announced[p.String()] = true
			}
		case *bgp.PathAttributeMpUnreachNLRI:
			for _, p := range a.Value {
				withdrawn[p.String()] = true
			}
		}
	}
	return announced, withdrawn
}

// readUpdate reads an UPDATE as gobgp does. decent is false where gobgp takes it for a withdrawal, or ends the session.
func readUpdate(t *testing.T, msg []byte) (u *bgp.BGPUpdate, decent bool) {
	t.Helper()
	u, decent, _ = readUpdateOf(t, msg, false)
	return u, decent
}

// readUpdateOf is readUpdate of a neighbour inside this AS or not, and says whether the session ends.
func readUpdateOf(t *testing.T, msg []byte, outside bool) (u *bgp.BGPUpdate, decent, ends bool) {
	t.Helper()
	var e *bgp.MessageError
	m, err := bgp.ParseBGPMessage(msg)
	if err != nil {
		if !errors.As(err, &e) {
			t.Fatalf("gobgp dies of an error that is none of its own: %v", err)
		}
		return nil, false, e.ErrorHandling == bgp.ERROR_HANDLING_SESSION_RESET
	}
	u = m.Body.(*bgp.BGPUpdate)
	_, err = bgp.ValidateUpdateMsg(u, map[bgp.RouteFamily]bgp.BGPAddPathMode{bgp.RF_IPv4_UC: 0, bgp.RF_IPv6_UC: 0}, outside, false, false)
	if err != nil && !errors.As(err, &e) {
		t.Fatalf("gobgp dies of an error that is none of its own: %v", err)
	}
	return u, err == nil || e.ErrorHandling == bgp.ERROR_HANDLING_ATTRIBUTE_DISCARD, err != nil && e.ErrorHandling == bgp.ERROR_HANDLING_SESSION_RESET
}

// FuzzSift has a neighbour send any UPDATE, inside this AS or outside, with ASes of four octets or two. What gobgp is told in its place are
// whole messages that it survives and that end no session which the UPDATE itself would not, about the same prefixes: what was announced is, or
// all of it is withdrawn, and what was withdrawn and not announced is withdrawn, and nothing else. There are no more sessions: netd asks gobgp
// for no ADD-PATH, and for no families but two.
func FuzzSift(f *testing.F) {
	p, q, six := netip.MustParsePrefix("10.10.3.0/24"), netip.MustParsePrefix("10.10.2.0/23"), netip.MustParsePrefix("2001:db8::/32")
	two := netip.MustParseAddr("192.168.170.138")
	plain := slices.Concat(router.Origin(), router.ASPath(65001), router.NextHop(two), router.LocalPref(100))
	transitive := byte(router.Optional | router.Transitive)
	as4 := router.Attribute(transitive, 17, 2, 1, 0, 0, 0xfd, 0xe9)
	reach := router.Attribute(router.Optional, 14, slices.Concat([]byte{0, 2, 1, 16}, make([]byte, 17), router.Prefixes(six))...)
	unreach := router.Attribute(router.Optional, 15, slices.Concat([]byte{0, 2, 1}, router.Prefixes(six))...)
	for _, b := range [][]byte{
		router.EndOfRIB(),
		router.Update(nil, plain, p),
		router.Update([]netip.Prefix{p, q}, plain, p),
		router.Update(nil, slices.Concat(as4, router.Origin(), router.Attribute(router.Transitive, 2, 2, 2, 0xfd, 0xe9, 0, 7, 1, 1, 0xfc, 0), router.NextHop(two)), p),
		router.Update(nil, slices.Concat(router.Origin(), router.Attribute(router.Transitive, 2, 1, 2, 0x5b, 0xa0, 0, 7), router.NextHop(two), router.Attribute(transitive, 17, 1, 2, 0, 3, 0xd, 0x40, 0, 0, 0, 7)), p),
		router.Update(nil, slices.Concat(as4, plain), p),
		router.Update([]netip.Prefix{q}, slices.Concat(plain, router.Attribute(transitive, 18, 0, 0, 1, 1, 1, 2, 3, 4), unreach, reach), p),
		router.Update(nil, slices.Concat(plain, router.Attribute(router.Optional, 9, 192, 168, 170, 137)), p),
		router.Update([]netip.Prefix{p}, slices.Concat(plain, router.Attribute(transitive, 200, make([]byte, 3500)...), reach), q),
		router.Update(nil, unreach),
		router.Update(nil, slices.Concat(router.Attribute(router.Optional, 14, 0, 25, 65, 0, 0), router.Attribute(router.Optional, 14, 0, 2, 1))),
		router.Update(nil, slices.Concat(plain, router.Attribute(router.Optional, 14, slices.Concat([]byte{0, 2, 1, 0, 0}, router.Prefixes(six))...))),
		router.Update(nil, router.Attribute(router.Optional, 15, 0, 25, 65, 0, 0)),
		router.Update(nil, slices.Concat(plain, router.Attribute(router.Optional, 14, 0, 2, 1)), p),
		router.Update(nil, slices.Concat(plain, router.Attribute(router.Optional, 14, 0, 2, 133, 4, 1, 2, 3, 4, 0, 1, 1, 1)), p),
		router.Update(nil, slices.Concat(plain, router.Attribute(transitive, 40, 6, 0, 0, 0, 0x40, 0x30, 0x30, 0x30)), p),
		router.Update(nil, slices.Concat(plain, router.Attribute(transitive, 16, 0, 3, 0, 0, 0, 0, 0, 1), router.Attribute(transitive, 23, 0, 8, 0, 4, 1, 2, 0, 0)), p),
	} {
		f.Add(b[headerLen:])
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		if len(body) > messageMax-headerLen {
			return
		}
		for _, four := range []bool{false, true} {
			for _, outside := range []bool{false, true} {
				sifted(t, body, four, outside)
			}
		}
	})
}

// has4 reports whether an UPDATE has AS4_PATH or AS4_AGGREGATOR.
func has4(body []byte) bool {
	u, _ := cutUpdate(body)
	return u.four != nil || u.aggregator4 != nil
}

func sifted(t *testing.T, body []byte, four, outside bool) {
	own := netip.MustParseAddr("192.168.170.137")
	v := &sieve{s: &sessions{}, inside: !outside, four: four}
	v.s.router.Store(&own)
	msg := router.Frame(router.TypeUpdate, body)
	told, _, taken := v.sift(nil, msg)
	survives := survived(msg)                            // or else it dies where it is told
	if u, ok := cutUpdate(body); ok && u.astray != nil { // nobody knows which prefixes it is about
		if taken {
			t.Fatalf("taken: %x", body)
		}
		return
	}
	if survives && !taken {
		t.Fatalf("refused: %x", body)
	}
	var was *bgp.BGPUpdate
	decent, ended := false, false
	if survives {
		was, decent, ended = readUpdateOf(t, msg, outside)
	}
	announced, withdrawn, named := map[string]bool{}, map[string]bool{}, map[string]bool{}
	for len(told) > 0 {
		n := int(told[16])<<8 | int(told[17])
		if len(told) < n || n < headerLen || n > 2*messageMax { // an AS_PATH may be wider, and gobgp minds no length
			t.Fatalf("told a message of %d bytes of %d", n, len(told))
		}
		u, ok, ends := readUpdateOf(t, told[:n], outside)
		told = told[n:]
		if decent && !ok {
			t.Fatalf("what was decent is not any more: %x", body)
		}
		if survives && ends && !ended && !has4(body) { // a malformed AS4_PATH keeps gobgp from what else is wrong
			t.Fatalf("what ended no session does: %x", body)
		}
		if u == nil {
			continue
		}
		size := 0
		for _, a := range u.PathAttributes {
			switch a.GetType() {
			case bgp.BGP_ATTR_TYPE_MP_REACH_NLRI, bgp.BGP_ATTR_TYPE_MP_UNREACH_NLRI:
			case bgp.BGP_ATTR_TYPE_AS4_PATH, bgp.BGP_ATTR_TYPE_AS4_AGGREGATOR:
				t.Fatalf("an %s: %x", a.GetType(), body)
			default:
				size += a.Len()
			}
		}
		a, w := prefixesIn(u)
		if ok && len(a) > 0 && size > pathMost {
			t.Fatalf("a path of %d bytes: %x", size, body)
		}
		if ok {
			for p := range a {
				if w[p] {
					t.Fatalf("%s is withdrawn and announced: %x", p, body)
				}
			}
		}
		for p := range w {
			delete(announced, p)
		}
		maps.Copy(withdrawn, w)
		maps.Copy(announced, a)
	}
	if !decent {
		return
	}
	a, w := prefixesIn(was)
	maps.Copy(named, a)
	maps.Copy(named, w)
	for p := range withdrawn {
		if !named[p] {
			t.Fatalf("%s is withdrawn, which nobody named: %x", p, body)
		}
	}
	if !maps.Equal(a, announced) {
		if len(announced) > 0 {
			t.Fatalf("announced %v, told %v: %x", a, announced, body)
		}
		maps.Copy(w, a)
	}
	for p := range w {
		if !a[p] && !withdrawn[p] || len(announced) == 0 && !withdrawn[p] {
			t.Fatalf("%s is not withdrawn: %x", p, body)
		}
	}
}
