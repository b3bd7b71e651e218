package speaker

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
)

// TestRib: whatever order paths come, change and go in, and however slowly they read, readers end with what there is, and nothing is kept
// of ways that no prefix has any more.
func TestRib(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	rib := newRIB()
	want := map[netip.Prefix]string{}
	type client struct {
		reader *reader
		has    map[netip.Prefix]string
	}
	var clients []*client
	read := func(c *client) (more bool) {
		b, _, more := rib.take(c.reader, nil)
		for len(b) > 0 {
			p, hops, rest, err := cutEntry(b, nil)
			if err != nil {
				t.Fatal(err)
			}
			if b = rest; hops == nil {
				delete(c.has, p)
			} else {
				c.has[p] = fmt.Sprint(hops)
			}
		}
		return more
	}
	prefixes := []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0"), netip.MustParsePrefix("255.255.255.255/32"),
		netip.MustParsePrefix("::ffff:0:0/96"), netip.MustParsePrefix("::ffff:10.1.0.0/128"), netip.MustParsePrefix("10.1.0.0/32")}
	for i := range 3 * pathsAFrame {
		prefixes = append(prefixes, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 2, byte(i >> 8), byte(i)}), 32), netip.PrefixFrom(netip.AddrFrom16([16]byte{0x20, 1, 14: byte(i >> 8), 15: byte(i)}), 128))
	}
	hopTo := func() hop {
		return hop{nextHop: netip.AddrFrom4([4]byte{192, 0, 2, byte(rnd.IntN(8))}), peer: netip.AddrFrom4([4]byte{192, 0, 2, byte(rnd.IntN(2))}), firstAS: uint32(rnd.IntN(2))}
	}
	for range 300 {
		var ways []news
		before := map[netip.Prefix]string{} // of those that are told
		for range rnd.IntN(400) {
			p := prefixes[rnd.IntN(len(prefixes))]
			if _, again := before[p]; !again {
				before[p] = want[p]
			}
			var hops []hop
			for n := range rnd.IntN(4) {
				hops = append(hops, hopTo())
				ways = append(ways, news{at: pack(p), hop: hops[n], more: n > 0})
			}
			if len(hops) > 0 {
				want[p] = fmt.Sprint(hops)
			} else {
				ways = append(ways, news{at: pack(p), gone: true})
				delete(want, p)
			}
		}
		n := rib.set(ways)
		maps.DeleteFunc(before, func(p netip.Prefix, hops string) bool { return want[p] == hops })
		if n < len(before) {
			t.Fatalf("%d prefixes are said to have changed, at least %d have", n, len(before))
		}
		if n := rib.set(slices.DeleteFunc(ways, func(w news) bool { return !w.gone || want[w.at.prefix()] != "" })); n != 0 {
			t.Fatalf("what is gone changed %d prefixes by going again", n)
		}
		switch rnd.IntN(60) {
		case 0, 1:
			clients = append(clients, &client{rib.follow(), map[netip.Prefix]string{}})
		case 2:
			if n := len(clients) - 1; n > 2 { // it leaves, and has not seen all
				rib.unfollow(clients[n].reader)
				clients = clients[:n]
			}
		}
		if len(clients) > 0 {
			read(clients[rnd.IntN(len(clients))])
		}
	}
	if len(clients) < 2 {
		t.Fatal("nobody read")
	}
	for i, c := range clients {
		for read(c) {
		}
		if !maps.Equal(c.has, want) {
			t.Errorf("reader %d has %d prefixes, and not the %d that there are", i, len(c.has), len(want))
		}
	}
	rib.forget()
	for i, c := range clients {
		for read(c) {
		}
		if len(c.has) > 0 {
			t.Errorf("reader %d has %d prefixes of a router that is no more", i, len(c.has))
		}
	}
	if len(rib.paths)+len(rib.number)+len(rib.free) > 0 || len(rib.sets.number) > 0 || len(rib.sets.free) != len(rib.sets.encoded)-1 {
		t.Errorf("of no prefix there are %d numbers, %d ways, %d numbers free of %d", len(rib.paths), len(rib.sets.number), len(rib.sets.free), len(rib.sets.encoded)-1)
	}
}
