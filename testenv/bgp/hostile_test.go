package bgp

import (
	"context"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"netd/testenv/router"
	"netd/testenv/stream"
)

// threeNodes is a mesh in which node three is hostile.
const threeNodes = `network "lab" {
  pools = ["10.10.0.0/16"]
  mode  = "bgp"
}

node "one" {
  address = "192.168.170.137/24"
  blocks  = ["10.10.40.128/26"]
}

node "two" {
  address = "192.168.170.138/24"
  blocks  = ["10.10.194.128/26"]
}

node "three" {
  address = "192.168.170.139/24"
  blocks  = ["10.10.3.0/24"]
}

workload "web" {
  node    = "one"
  address = "10.10.40.129"
  netns   = "/run/netns/LAB-web"
}

workload "app" {
  node    = "two"
  address = "10.10.194.134"
  netns   = "/run/netns/LAB-app"
}
`

// hostility is what a neighbour does that it may not, and what comes of it.
type hostility struct {
	name    string
	say     []byte
	becomes fate
	words   string // what status says of it; of a lie the reason why it is refused
}

// fate is what becomes of what was said, and of the session.
type fate int

const (
	nothing   fate = iota // it is no harm, and taken
	refused               // not taken; the session stands
	withdrawn             // taken for a withdrawal (RFC 7606); the session stands
	closed                // with the session
)

// header is a message with a length and a marker of one's own.
func header(length uint16, marker byte) []byte {
	b := router.Keepalive()
	for i := range 16 {
		b[i] = marker
	}
	b[16], b[17] = byte(length>>8), byte(length)
	return b
}

func hostilities(three netip.Addr) []hostility {
	p := netip.MustParsePrefix("10.10.3.0/24")
	update := func(attributes ...[]byte) []byte { return router.Update(nil, slices.Concat(attributes...), p) }
	origin, path, hop, pref := router.Origin(), router.ASPath(), router.NextHop(three), router.LocalPref(100)
	as4 := router.Attribute(router.Optional|router.Transitive, 17, 2, 1, 0, 0, 0xfd, 0xe9)
	say := func(hop netip.Addr, as []uint32, told string) []byte {
		return router.Announce(hop, as, prefixes(told)...)
	}
	const taken = "it sent a malformed UPDATE, which is taken for a withdrawal: "
	return []hostility{
		{"a message of an unknown type", router.Frame(99, nil), closed, "a message of the unknown type 99"},
		{"an AS4_PATH before the AS_PATH", update(origin, hop, pref, as4, router.ASPath(65001)), nothing, ""},
		{"a bad marker", header(19, 0), closed, "a message whose marker is not all ones"},
		{"a message shorter than its header", header(18, 0xff), closed, "a message of 18 bytes"},
		{"a message longer than any", header(0xffff, 0xff), closed, "a message of 65535 bytes"},
		{"a truncated UPDATE", router.Frame(router.TypeUpdate, []byte{0, 9, 24, 10}), closed, "malformed attribute list"},
		{"an UPDATE shorter than any", router.Frame(router.TypeUpdate, []byte{0, 9, 24}), closed, "an UPDATE of 22 bytes"},
		{"a prefix longer than 32 bits", router.Frame(router.TypeUpdate, []byte{0, 0, 0, 0, 77, 10, 10, 3}), closed, "malformed attribute list"},
		{"another OPEN", router.Open{ASN: 64512, ID: three, HoldTime: 9 * time.Second}.Bytes(), closed, "an OPEN in a session that is up"},
		{"an ORIGIN of two bytes", update(router.Attribute(router.Transitive, 1, 0, 0), path, hop, pref), withdrawn, taken},
		{"a NEXT_HOP of three bytes", update(origin, path, router.Attribute(router.Transitive, 3, 1, 2, 3), pref), withdrawn, taken},
		{"no NEXT_HOP", update(origin, path, pref), withdrawn, taken},
		{"an unknown well-known attribute", update(origin, path, hop, pref, router.Attribute(router.Transitive, 200, 1)), closed, "unrecognized well-known attribute"},
		{"attributes twice", update(origin, origin, path, path, hop, hop, pref), nothing, ""},
		{"4,060 bytes of attributes", update(origin, path, hop, pref, router.Attribute(router.Optional|router.Transitive, 200, make([]byte, 4030)...)), withdrawn, "it sent a path with 4055 bytes of attributes, which is taken for a withdrawal"},
		{"a withdrawal of VPLS", router.Update(nil, router.Attribute(router.Optional, 15, 0, 25, 65, 0, 0)), closed, "an UPDATE that gobgp does not survive"},
		{"a malformed Prefix-SID", update(origin, path, hop, pref, router.Attribute(router.Optional|router.Transitive, 40, 6, 0, 0, 0, 0x40, 0x30, 0x30, 0x30)), withdrawn, "it sent attributes which gobgp does not survive"},
		{"an AS4_AGGREGATOR alone", update(origin, path, hop, pref, router.Attribute(router.Optional|router.Transitive, 18, 0, 0, 0xfd, 0xe9, 1, 2, 3, 4)), nothing, ""},
		{"a prefix withdrawn and announced", router.Update([]netip.Prefix{p}, slices.Concat(origin, path, hop, pref), p), nothing, ""},
		{"an empty AS_PATH segment", update(origin, router.Attribute(router.Transitive, 2, 2, 0), hop, pref), withdrawn, taken},
		{"an attribute that reaches beyond the message", update(origin, path, hop, pref, []byte{router.Optional | router.Transitive, 8, 200}), closed, "an UPDATE that cannot be read to its end"},
		{"a next hop of three bytes in MP_REACH_NLRI", router.Update(nil, slices.Concat(origin, path, pref, router.Attribute(router.Optional, 14, 0, 1, 1, 3, 1, 2, 3, 0, 24, 10, 10, 3))), closed, "an UPDATE with a next hop of 3 bytes"},
		{"another's block", say(three, nil, "10.10.194.128/26"), refused, "it is of node two, and node three is no reflector"},
		{"a part of another's block", say(three, nil, "10.10.194.128/27"), refused, "it is more specific than 10.10.194.128/26, a block of node two"},
		{"this node's block", say(three, nil, "10.10.40.128/26"), refused, "it lies in 10.10.40.128/26, a block of this node"},
		{"an address of this node's block", say(three, nil, "10.10.40.129/32"), refused, "it lies in 10.10.40.128/26, a block of this node"},
		{"a default route", say(three, nil, "0.0.0.0/0"), refused, "it is no block of that node"},
		{"a third host as next hop", say(netip.MustParseAddr("192.168.170.138"), nil, "10.10.3.0/24"), refused, "its next hop 192.168.170.138 is not node three"},
		{"this node as next hop", say(netip.MustParseAddr("192.168.170.137"), nil, "10.10.3.0/24"), refused, "its next hop 192.168.170.137 is this host"},
		{"a loop", say(three, []uint32{65001, 64512}, "10.10.3.0/24"), refused, "a loop: this node's AS 64512 is in its path"},
		{"a NOTIFICATION", router.Frame(router.TypeNotification, []byte{6, 2}), closed, "it closed the session: administrative shutdown (6/2)"},
	}
}

// TestHostile has a node of the mesh say everything that it must not, one after another. The stream between the other two
// loses nothing, status says what happened, or show peers why it is refused, and once the node behaves its session and its
// route are back.
func TestHostile(t *testing.T) {
	l := newLab(t, threeNodes)
	one, two, three := l.host("one", "192.168.170.137/24"), l.host("two", "192.168.170.138/24"), l.host("three", "192.168.170.139/24")
	c, d := l.container("web"), l.container("app")
	one.start()
	two.start()
	route := func(there bool) {
		t.Helper()
		l.wait("the hostile node's route", func() string {
			if out := one.routes("10.10.3.0/24"); (out != "") != there {
				return "routes: " + out + "\n" + one.must("show", "peers")
			}
			return ""
		})
	}
	behave := func() *router.Raw {
		t.Helper()
		begin := time.Now()
		r := l.rogue(three)
		l.say(r, router.Announce(three.addr, nil, prefixes("10.10.3.0/24")...), router.EndOfRIB())
		route(true)
		l.wait("the daemon to know the hostile node's session", func() string {
			for _, p := range one.status().Peers {
				if p.Addr == three.addr && p.State == "established" && p.Synced && p.Since.After(begin) {
					return ""
				}
			}
			return one.must("show", "peers")
		})
		return r
	}
	r := behave()
	var streams []*stream.Stream
	for _, s := range []*stream.Stream{stream.Start(t, c, web, d, app, time.Millisecond), stream.Start(t, d, app, c, web, time.Millisecond)} {
		s.Flowing(t)
		streams = append(streams, s)
	}
	says := func(words string) string { out, _ := one.ask("status"); return missing(out, words) }
	for i, x := range hostilities(three.addr) {
		begin, up, pid := time.Now(), one.sinceOf(three.addr), one.speaker()
		l.say(r, x.say)
		switch x.becomes {
		case nothing:
			marker := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 99, byte(i), 0}), 24)
			l.say(r, router.Announce(three.addr, nil, marker))
			l.wait(x.name+": what comes after it", func() string {
				return missing(one.must("show", "peers", "three", "--routes", "received"), marker.String())
			})
			l.say(r, router.Update([]netip.Prefix{marker}, nil))
			route(true)
		case refused:
			rejected := func() string { return one.must("show", "peers", "three", "--routes", "rejected") }
			l.wait(x.name+": the reason", func() string { return missing(rejected(), x.words) })
			l.wait(x.name+": words", func() string { return says("1 route rejected, ") + says(x.words) })
			if out := one.routes("10.10.3.0/24"); out != "" && missing(out, "via 192.168.170.139") != "" {
				t.Errorf("%s: the route is %s", x.name, out)
			}
			l.say(r, router.Update(prefixes("10.10.194.128/26", "10.10.194.128/27", "10.10.40.128/26", "10.10.40.129/32", "0.0.0.0/0"), nil),
				router.Announce(three.addr, nil, prefixes("10.10.3.0/24")...))
			l.wait(x.name+": the lie taken back", func() string { return missing(rejected(), "No routes.") })
			route(true)
		case withdrawn:
			route(false)
			l.wait(x.name+": words", func() string { return says(x.words) })
			l.say(r, router.Announce(three.addr, nil, prefixes("10.10.3.0/24")...))
			route(true)
		case closed:
			l.wait(x.name+": words", func() string { return says(x.words) })
			r.Close()
			r = behave()
		}
		if now := one.speaker(); now != pid {
			t.Errorf("%s: the speaker died of it", x.name)
		}
		if since := one.sinceOf(three.addr); x.becomes < closed && since != up {
			t.Errorf("%s: the session did not stand: up since %s, then %s", x.name, up, since)
		}
		t.Logf("%s: well again after %s", x.name, time.Since(begin).Round(time.Millisecond))
	}
	for _, s := range streams {
		if got := s.Stop(); got.Lost != 0 {
			t.Errorf("the stream between the others: %s", got)
		} else {
			t.Log(got)
		}
	}
}

// TestStrangers dial the port of BGP: an address that is no peer is dropped by the kernel, counted, and nobody hears of it;
// a peer beyond a router (its packets have lost some of their TTL) opens no session.
// The stream between two nodes loses nothing meanwhile.
func TestStrangers(t *testing.T) {
	l := newLab(t, threeNodes)
	one, two, three := l.host("one", "192.168.170.137/24"), l.host("two", "192.168.170.138/24"), l.host("three", "192.168.170.139/24")
	c, d := l.container("web"), l.container("app")
	one.start()
	two.start()
	l.wait("the route to node two", func() string { return missing(one.routes("10.10.194.128/26"), "via 192.168.170.138") })
	s := stream.Start(t, c, web, d, app, time.Millisecond)
	s.Flowing(t)
	three.Run(t, "ip addr add 192.168.170.99/24 dev eth0")
	dropped := func() int {
		t.Helper()
		n := 0
		for _, line := range strings.Split(one.Run(t, "nft list table inet netd"), "\n") {
			if _, after, ok := strings.Cut(line, "counter packets "); ok && strings.Contains(line, "tcp dport 179") && strings.Contains(line, "drop") {
				k, _ := strconv.Atoi(strings.Fields(after)[0])
				n += k
			}
		}
		return n
	}
	before := dropped()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second) // the dialler's own patience is less
	defer cancel()
	stranger := router.End{NS: three.NS, Local: netip.MustParseAddr("192.168.170.99"), Remote: one.addr, TTL: 255}
	if r, err := stranger.Dial(ctx); err == nil {
		r.Close()
		t.Error("an address that is no peer got a connection")
	}
	if now := dropped(); now <= before {
		t.Errorf("the drop is not counted: %d, then %d\n%s", before, now, one.Run(t, "nft list table inet netd"))
	}
	if log := one.log.String(); strings.Contains(log, "192.168.170.99") {
		t.Errorf("the daemon heard of it:\n%s", log)
	}

	far := router.End{NS: three.NS, Local: three.addr, Remote: one.addr, TTL: 254}
	ctx, cancel = context.WithTimeout(context.Background(), 3*time.Second) // for which it tries
	defer cancel()
	if r, err := far.Dial(ctx); err == nil {
		// Its OPEN may be there before the kernel is told to drop what has lost some of its TTL; nothing after it is.
		_ = r.Establish(ctx, router.Open{ASN: 64512, ID: three.addr, HoldTime: 9 * time.Second})
		defer r.Close()
	}
	l.wait("words", func() string {
		for _, p := range one.status().Peers {
			if p.Addr == three.addr && p.State == "established" {
				t.Fatalf("a session with a TTL of 254: %+v", p)
			}
		}
		out := one.degraded("status")
		if strings.Contains(out, "one end drops the other's packets for their TTL") { // its OPEN came before that
			return ""
		}
		return missing(out, "its TTL is too low (ttl_security), or it hangs")
	})
	begin := time.Now()
	l.say(l.rogue(three), router.EndOfRIB())
	one.up(2)
	t.Logf("the session was up %s after it behaved", time.Since(begin).Round(time.Millisecond))
	if got := s.Stop(); got.Lost != 0 {
		t.Errorf("the stream between the others: %s", got)
	}
}
