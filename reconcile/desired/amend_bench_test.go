package desired_test

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"netd/reconcile"
	"netd/reconcile/desired"
	"netd/reconcile/object"
)

// holds is a kind of a host that does what it is told, at no cost.
type holds struct{ name string }

func (h *holds) Name() string { return h.name }
func (h *holds) List(_ context.Context, want []reconcile.Resource) (own []reconcile.Resource, foreign []reconcile.Holder, err error) {
	return want, nil, nil
}
func (h *holds) Create(context.Context, reconcile.Resource) error        { return nil }
func (h *holds) Update(_ context.Context, _, _ reconcile.Resource) error { return nil }
func (h *holds) Delete(context.Context, reconcile.Resource) error        { return nil }

// tells is one that answers what it made.
type tells struct{ holds }

func (t *tells) Get(_ context.Context, _ []reconcile.Key, want []reconcile.Resource) (own []reconcile.Resource, foreign []reconcile.Holder, err error) {
	return want, nil, nil
}
func (t *tells) Batch(_ context.Context, changes []reconcile.Change) []error {
	return make([]error, len(changes))
}
func (t *tells) Tell(_ context.Context, changes []reconcile.Change) ([]error, []reconcile.Resource) {
	made := make([]reconcile.Resource, len(changes))
	for i, c := range changes {
		made[i] = c.Want
	}
	return make([]error, len(changes)), made
}

// BenchmarkAmend has a router tell 100,000 prefixes and withdraw them, 4,096 at a time, to a daemon's loop whose host does at no cost
// what it is told: what netd's own part of that costs.
func BenchmarkAmend(b *testing.B) {
	c, n, f := policy(b, `
peer "a" {
  address = "192.168.170.1"
  asn     = 65101
  import  = ["20.0.0.0/8 le 32"]
}
`)
	f.Sessions = true
	f.Speaker.Known = true
	f.Speaker.Peers = append(f.Speaker.Peers, object.SpeakerPeer{Addr: netip.MustParseAddr("192.168.170.1"), Synced: true})
	const all, most = 100_000, 4096
	prefixes, paths := make([]netip.Prefix, all), make([]object.BestPath, all)
	for i := range prefixes {
		p := netip.PrefixFrom(netip.AddrFrom4([4]byte{20, byte(i >> 16), byte(i >> 8), byte(i)}), 32)
		prefixes[i], paths[i] = p, told(c, n, "192.168.170.1", p.String(), "192.168.170.1")
	}
	var learning *desired.Learning
	at, gone := 0, false
	e := &reconcile.Engine{}
	kinds := map[string]bool{}
	done := make(chan struct{}, 1)
	loop := &reconcile.Loop{Engine: e, Pokes: reconcile.NewPokes(), Resync: time.Hour,
		Compile: func(context.Context) (reconcile.Want, bool, error) {
			f.Speaker.Paths = paths[:1] // the first route by a link is not amended
			r, err := desired.Compile(c, n, f)
			if err != nil {
				return r.Want, false, err
			}
			learning = r.Learning
			for k := range r.Want.State {
				if !kinds[k.Kind] {
					kinds[k.Kind] = true
					if k.Kind == object.KindRoute {
						e.Kinds = append(e.Kinds, &tells{holds{k.Kind}})
					} else {
						e.Kinds = append(e.Kinds, &holds{k.Kind})
					}
				}
			}
			return r.Want, true, nil
		},
		Amend: func(was reconcile.State) (reconcile.Amendment, bool) {
			from, to := at, min(at+most, all)
			at = to
			var now []object.BestPath
			if !gone {
				now = paths[from:to]
			}
			a, ok := learning.Amend(was, prefixes[from:to], now)
			if a.More = to < all; !a.More {
				done <- struct{}{}
			}
			return a, ok
		},
		Report: func(r reconcile.Report) {
			if r.Err != nil {
				b.Error(r.Err)
			}
		},
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error)
	calls := make(chan func(context.Context))
	loop.Calls = calls
	go func() { ended <- loop.Run(ctx) }()
	defer func() { stop(); <-ended }()
	idle := func() {
		still := make(chan struct{})
		calls <- func(context.Context) { close(still) }
		<-still
	}
	idle()
	b.ReportAllocs()
	for b.Loop() {
		for _, gone = range []bool{false, true} {
			at = 1
			loop.Pokes.Add(reconcile.Poke{Amend: true})
			<-done
			idle()
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/(2*all), "ns/change")
}
