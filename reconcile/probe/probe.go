package probe

import (
	"cmp"
	"context"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// Target is an address to be asked. The kernel chooses the source where From is not valid.
type Target struct {
	Addr netip.Addr
	From netip.Addr
	MTU  int // of the link by which packets to it leave: how large they are tried at most; 0: no sizes are tried
}

// Result is what was found of one target.
type Result struct {
	Sent, Received int
	RTT            time.Duration // the mean of those received
	MTU            int           // the largest packet that was answered, in bytes with its IP header; 0: none was tried
	Err            error         // why nothing could be sent, or what a router said of it
}

// Loss is the share of the echo requests that was not answered, 0 to 1.
func (r Result) Loss() float64 {
	if r.Sent == 0 {
		return 1
	}
	return float64(r.Sent-r.Received) / float64(r.Sent)
}

// Options are how it is asked; each has its default where it is 0.
type Options struct {
	Count    int           // echo requests for each target; 5
	Interval time.Duration // between two of them; 50 ms
	Wait     time.Duration // for the answer to the last; 1 s
}

// smallest is what every link carries: RFC 791 and RFC 8200, section 5.
func smallest(a netip.Addr) int {
	if a.Is4() {
		return 68
	}
	return 1280
}

// ways is how many sizes are tried at once: 3 rounds of 15 find one of 4,096.
const ways = 15

// Ping asks all targets at once, each at its own pace: that of one which loses packets is nobody else's. The error is of this
// host: results are whole or not there.
func Ping(ctx context.Context, targets []Target, o Options) ([]Result, error) {
	o.Count, o.Interval, o.Wait = cmp.Or(o.Count, 5), cmp.Or(o.Interval, 50*time.Millisecond), cmp.Or(o.Wait, time.Second)
	s, err := open(targets)
	if err != nil {
		return nil, err
	}
	defer s.close()
	results := make([]Result, len(targets))
	var asked sync.WaitGroup
	for i, t := range targets {
		asked.Go(func() { results[i] = s.ask(ctx, i, t, o) })
	}
	asked.Wait()
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return results, nil
}

// ask asks one target whether it answers, and then what its path carries. It ends early where ctx does.
func (s *socket) ask(ctx context.Context, i int, t Target, o Options) (r Result) {
	var sent []echo
	for round := range o.Count {
		if round > 0 && !sleep(ctx, o.Interval) {
			return r
		}
		sent = append(sent, s.send(i, t, 0))
		r.Sent++
	}
	s.answers(ctx, sent, o.Wait)
	var total, slowest time.Duration
	for _, e := range sent {
		switch rtt, err := s.outcome(e); {
		case err != nil:
			r.Err = err
		case rtt > 0:
			r.Received++
			total += rtt
			slowest = max(slowest, rtt)
		}
	}
	if r.Received == 0 {
		return r
	}
	r.RTT = total / time.Duration(r.Received)
	if t.MTU > 0 {
		copies := 2 // of which one gets through
		if r.Received < r.Sent {
			copies = 6
		}
		// A reply takes as long as before, and a busy host some time more.
		r.MTU = s.pathMTU(ctx, i, t, copies, min(3*slowest+400*time.Millisecond, o.Wait))
	}
	return r
}

// pathMTU is the largest packet that a target answers, in bytes; 0 where it is none that each link has to carry.
func (s *socket) pathMTU(ctx context.Context, i int, t Target, copies int, wait time.Duration) int {
	passed, lost := min(smallest(t.Addr), t.MTU)-1, t.MTU+1 // passed < MTU < lost
	for first := true; lost-passed > 1 && ctx.Err() == nil; first = false {
		var sent []echo
		for _, size := range between(passed, lost, first) {
			for range copies {
				sent = append(sent, s.send(i, t, size))
			}
		}
		s.answers(ctx, sent, wait)
		answered := map[int]bool{}
		for _, e := range sent {
			rtt, _ := s.outcome(e)
			answered[e.size] = answered[e.size] || rtt > 0
		}
		for size, ok := range answered {
			if ok {
				passed = max(passed, size)
			}
		}
		for size, ok := range answered {
			if !ok && size > passed {
				lost = min(lost, size)
			}
		}
	}
	if passed < smallest(t.Addr) {
		return 0
	}
	return passed
}

// between are the sizes to be tried next: at first the largest alone, since that is the answer nearly always.
func between(passed, lost int, first bool) []int {
	if first || lost-passed <= 1 {
		return []int{lost - 1}
	}
	var out []int
	for i := 1; i <= ways; i++ {
		if size := passed + (lost-passed)*i/(ways+1); size > passed && !slices.Contains(out, size) {
			out = append(out, size)
		}
	}
	if last := lost - 1; lost-passed <= ways+1 && !slices.Contains(out, last) {
		out = append(out, last)
	}
	return out
}

func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
