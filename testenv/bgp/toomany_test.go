package bgp

import (
	"encoding/binary"
	"net/netip"
	"strings"
	"testing"
	"time"

	"netd/testenv/router"
	"netd/testenv/stream"
)

// TestTooMany has a router tell 100,000 prefixes where it may tell 1,000: its session is closed with that reason and none of
// its routes stays, while the other router's session and routes are as they were, and a stream by way of it loses nothing.
func TestTooMany(t *testing.T) {
	const many = 100_000
	before, after, _ := strings.Cut(flapping, `peer "flapper"`)
	after = strings.NewReplacer(`["172.28.0.0/14 le 24"]`, `["20.0.0.0/8 le 25"]`, "20000", "1000").Replace(after)
	l := newLab(t, before+`peer "flapper"`+after)
	node, a, b := l.host("node", "192.168.170.137/24"), l.host("steady", "192.168.170.1/24"), l.host("flapper", "192.168.170.2/24")
	node.start()
	steady, flapper := l.socket(a, 65101, node), l.socket(b, 65102, node)
	l.tell(steady, a, 65101, false, numbered("10.64.0.0", 10))
	l.say(steady, router.EndOfRIB())
	count := func(via string) int {
		return strings.Count(node.Run(t, "ip route show proto 142"), "via "+via+" ")
	}
	l.wait("the steady router's routes", func() string {
		if count("192.168.170.1") != 10 {
			return node.must("show", "peers")
		}
		return ""
	})
	far := netip.MustParseAddr("10.64.0.9") // beyond the steady router
	a.Run(t, "ip addr add 10.64.0.9/32 dev lo")
	s := stream.Start(t, node.NS, node.addr, a.NS, far, time.Millisecond)
	s.Flowing(t)
	pid, since := node.speaker(), node.sinceOf(a.addr)
	for i := 0; i < many; i += 500 {
		part := make([]netip.Prefix, 500)
		for j := range part {
			var at [4]byte
			binary.BigEndian.PutUint32(at[:], 20<<24|uint32(i+j)<<7)
			part[j] = netip.PrefixFrom(netip.AddrFrom4(at), 25)
		}
		if _, err := flapper.Write(router.Update(nil, append(append(router.Origin(), router.ASPath(65102)...), router.NextHop(b.addr)...), part...)); err != nil {
			break // it was hung up on
		}
	}
	closed := time.Now()
	l.wait("the reason", func() string {
		return missing(node.degraded("status"), "max_prefixes: it told more than 1000 prefixes and was closed; tried again after 1m0s")
	})
	l.wait("its routes gone", func() string {
		if count("192.168.170.2") != 0 {
			return node.must("show", "peers")
		}
		return ""
	})
	if n := count("192.168.170.1"); n != 10 || node.sinceOf(a.addr) != since || node.speaker() != pid {
		t.Errorf("the other router has %d routes, a session since %s (%s before), by speaker %d (%d before)", n, node.sinceOf(a.addr), since, node.speaker(), pid)
	}
	if got := s.Stop(); got.Lost != 0 {
		t.Errorf("the stream by way of the other router: %s", got)
	} else {
		t.Log(got)
	}
	if !soak() { // the pause is a minute
		return
	}
	l.within(90*time.Second, "another try", func() string {
		for _, p := range node.status().Peers {
			if p.Addr == b.addr && p.State == "active" {
				return ""
			}
		}
		return node.must("show", "peers")
	})
	flapper = l.socket(b, 65102, node)
	l.tell(flapper, b, 65102, false, numbered("20.0.0.0", 10))
	l.say(flapper, router.EndOfRIB())
	l.wait("the routes of a router that behaves", func() string {
		if count("192.168.170.2") != 10 {
			return node.must("show", "peers")
		}
		return ""
	})
	took := time.Since(closed)
	t.Logf("back %s after it was closed", took.Round(time.Second))
	if took < 55*time.Second {
		t.Errorf("it was tried again after %s", took)
	}
	node.up(2)
}

// TestTooManyOfNode has a node tell 200,000 prefixes that the file has nowhere, each once: its session is closed with that reason before
// they cost the host its memory, the other nodes' streams lose nothing, and it is back when it behaves.
func TestTooManyOfNode(t *testing.T) {
	const many = 200_000
	l := newLab(t, threeNodes)
	one, two, three := l.host("one", "192.168.170.137/24"), l.host("two", "192.168.170.138/24"), l.host("three", "192.168.170.139/24")
	c, d := l.container("web"), l.container("app")
	one.start()
	two.start()
	r := l.rogue(three)
	l.say(r, router.Announce(three.addr, nil, prefixes("10.10.3.0/24")...), router.EndOfRIB())
	l.wait("the node's route", func() string { return missing(one.routes("10.10.3.0/24"), "via 192.168.170.139") })
	var streams []*stream.Stream
	for _, s := range []*stream.Stream{stream.Start(t, c, web, d, app, time.Millisecond), stream.Start(t, d, app, c, web, time.Millisecond)} {
		s.Flowing(t)
		streams = append(streams, s)
	}
	pid, since := one.speaker(), one.sinceOf(two.addr)
	before, most, told := memory([]int{pid}), 0, 0
	attributes := append(append(append(router.Origin(), router.ASPath()...), router.NextHop(three.addr)...), router.LocalPref(100)...)
	for ; told < many; told += 500 {
		part := make([]netip.Prefix, 500)
		for j := range part {
			var at [4]byte
			binary.BigEndian.PutUint32(at[:], 20<<24|uint32(told+j)<<7)
			part[j] = netip.PrefixFrom(netip.AddrFrom4(at), 25)
		}
		if _, err := r.Write(router.Update(nil, attributes, part...)); err != nil {
			break // it was hung up on
		}
		most = max(most, memory([]int{pid}))
	}
	closed := time.Now()
	for time.Since(closed) < 3*time.Second { // what stands in its queue is taken yet
		most = max(most, memory([]int{pid}))
	}
	t.Logf("%d prefixes told; the speaker had %d MB, and %d MB at most", told, before>>20, most>>20)
	if most > before+96<<20 { // 48 MB are room between two collections; without the limit it is 165 MB
		t.Errorf("the speaker grew from %d MB to %d MB", before>>20, most>>20)
	}
	l.wait("the reason", func() string {
		return missing(one.degraded("status"), "it told more than 1002 prefixes, which is more than the file lets that node tell, and was closed; tried again after 1m0s")
	})
	l.wait("the reason beside the peer", func() string {
		return missing(one.must("show", "peers"), "it told more than 1002 prefixes")
	})
	l.wait("its route gone", func() string { return one.routes("10.10.3.0/24") })
	if now := one.sinceOf(two.addr); now != since || one.speaker() != pid {
		t.Errorf("the other node's session is up since %s (%s before), by speaker %d (%d before)", now, since, one.speaker(), pid)
	}
	if soak() { // the pause is a minute
		r.Close()
		l.within(90*time.Second, "another try", func() string {
			for _, p := range one.status().Peers {
				if p.Addr == three.addr && p.State == "active" {
					return ""
				}
			}
			return one.must("show", "peers")
		})
		r = l.rogue(three)
		l.say(r, router.Announce(three.addr, nil, prefixes("10.10.3.0/24")...), router.EndOfRIB())
		l.wait("the route of a node that behaves", func() string { return missing(one.routes("10.10.3.0/24"), "via 192.168.170.139") })
		if took := time.Since(closed); took < 55*time.Second {
			t.Errorf("it was tried again after %s", took)
		}
	}
	for _, s := range streams {
		if got := s.Stop(); got.Lost != 0 {
			t.Errorf("the stream between the others: %s", got)
		} else {
			t.Log(got)
		}
	}
}
