package speaker

import (
	"context"
	"errors"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"netd/reconcile"
	"netd/reconcile/object"
	"netd/testenv/netns"
	"netd/testenv/router"
)

// BenchmarkTable has a router of another AS tell 110,000 prefixes, 800 an UPDATE, and take them back, until a client of paths.sock has been told
// all of it. Told are the processor time and the memory that one prefix costs each way, the other ends' included: what they write is made
// before, and little of it is theirs.
func BenchmarkTable(b *testing.B) {
	netns.Need(b)
	const many, each = 110_000, 800
	dir, self, far := b.TempDir(), netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("127.0.0.2")
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() {
		served <- serve(ctx, dir, ServeOptions{Version: testVersion, Log: func(string, string, map[string]any) {}})
	}()
	b.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			b.Error(err)
		}
	})
	var client *Client
	for client == nil {
		c, err := Dial(ctx, dir, Secrets{})
		if err != nil && !errors.Is(err, ErrNotRunning) {
			b.Fatal(err)
		}
		client = c
	}
	var w reconcile.Want
	w.Put(object.BGP{ASN: 64512, RouterID: self, Listen: self.String(), Port: 179, Refuse: true}, reconcile.Cause{})
	w.Put(object.Peer{Addr: far, ASN: 65101, Local: self, Port: 179, Opens: object.Listens, HoldTime: 90 * time.Second, Keepalive: 30 * time.Second,
		GracefulRestart: 2 * time.Minute, MaxPrefixes: 1_000_000, Up: true, Import: "11.0.0.0/8 le 32", NextHops: far.String(), FirstAS: 65101, Outside: true, UntellLoops: true, Self: self},
		reconcile.Cause{})
	if _, _, err := (&reconcile.Engine{Kinds: client.Kinds()}).Converge(ctx, w, nil, nil); err != nil {
		b.Fatal(err)
	}
	client.Close()
	r, err := router.End{NS: netns.Open("/proc/self/ns/net"), Local: far, Remote: self}.Dial(ctx)
	if err != nil {
		b.Fatal(err)
	}
	defer r.Close()
	if err := r.Establish(ctx, router.Open{ASN: 65101, ID: far, HoldTime: 90 * time.Second}); err != nil {
		b.Fatal(err)
	}
	var tell, untell []byte
	for first := 0; first < many; first += each {
		var ps []netip.Prefix
		for i := first; i < min(first+each, many); i++ {
			ps = append(ps, netip.PrefixFrom(netip.AddrFrom4([4]byte{11, byte(i >> 16), byte(i >> 8), byte(i)}), 32))
		}
		tell = append(tell, router.Announce(far, []uint32{65101, 65102}, ps...)...)
		untell = append(untell, router.Update(ps, nil)...)
	}
	heard, err := openLink(ctx, dir)
	if err != nil {
		b.Fatal(err)
	}
	defer heard.close()
	if err := writeJSON(heard.conn, frameRequest, request{Op: opWatch}); err != nil {
		b.Fatal(err)
	}
	var costs [2]cost
	for b.Loop() {
		for i, bytes := range [][]byte{tell, untell} {
			before := spent()
			if _, err := r.Write(bytes); err != nil {
				b.Fatal(err)
			}
			var buf []byte
			for n := 0; n < many; {
				t, frame, err := readFrame(heard.r, &buf)
				if err != nil {
					b.Fatal(err)
				}
				var hops []hop
				for t == framePaths && len(frame) > 0 {
					if _, hops, frame, err = cutEntry(frame, hops); err != nil {
						b.Fatal(err)
					}
					n++
				}
			}
			costs[i].add(spent(), before)
		}
	}
	for i, what := range []string{"told", "untold"} {
		n := float64(b.N) * many
		b.ReportMetric(float64(costs[i].time.Nanoseconds())/n, "ns-cpu/"+what)
		b.ReportMetric(float64(costs[i].bytes)/n, "B/"+what)
		b.ReportMetric(float64(costs[i].allocs)/n, "allocs/"+what)
	}
}

// cost is what this process has used.
type cost struct {
	time          time.Duration // of the processor
	bytes, allocs uint64
}

func spent() cost {
	var u unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_SELF, &u)
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return cost{time.Duration(u.Utime.Nano() + u.Stime.Nano()), m.TotalAlloc, m.Mallocs}
}

func (c *cost) add(now, before cost) {
	c.time, c.bytes, c.allocs = c.time+now.time-before.time, c.bytes+now.bytes-before.bytes, c.allocs+now.allocs-before.allocs
}
