package probe

import (
	"cmp"
	"context"
	"net/netip"
	"slices"
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

// Ping asks all targets at once. The error is of this host: results are whole or not there.
func Ping(ctx context.Context, targets []Target, o Options) ([]Result, error) {
	o.Count, o.Interval, o.Wait = cmp.Or(o.Count, 5), cmp.Or(o.Interval, 50*time.Millisecond), cmp.Or(o.Wait, time.Second)
	s, err := open(targets)
	if err != nil {
		return nil, err
	}
	defer s.close()
	results := make([]Result, len(targets))
	var sent []echo
	for round := range o.Count {
		if round > 0 && !sleep(ctx, o.Interval) {
			return nil, context.Cause(ctx)
		}
		for i, t := range targets {
			sent = append(sent, s.send(i, t, 0))
			results[i].Sent++
		}
	}
	if err := s.answers(ctx, sent, o.Wait); err != nil {
		return nil, err
	}
	var total = make([]time.Duration, len(targets))
	slowest := time.Duration(0)
	for _, e := range sent {
		r := &results[e.target]
		switch rtt, err := s.outcome(e); {
		case err != nil:
			r.Err = err
		case rtt > 0:
			r.Received++
			total[e.target] += rtt
			slowest = max(slowest, rtt)
		}
	}
	for i := range results {
		if n := results[i].Received; n > 0 {
			results[i].RTT = total[i] / time.Duration(n)
		}
	}
	// A reply takes as long as before, and a busy host some time more.
	return results, s.sizes(ctx, targets, results, min(3*slowest+400*time.Millisecond, o.Wait))
}

// sizes finds the path MTU of those that answer.
func (s *socket) sizes(ctx context.Context, targets []Target, results []Result, wait time.Duration) error {
	type span struct{ passed, lost int } // passed < MTU < lost
	open := map[int]span{}
	for i, t := range targets {
		if t.MTU > 0 && results[i].Received > 0 {
			open[i] = span{min(smallest(t.Addr), t.MTU) - 1, t.MTU + 1}
		}
	}
	for first := true; len(open) > 0; first = false {
		var sent []echo
		for i, in := range open {
			copies := 2 // of which one gets through
			if results[i].Received < results[i].Sent {
				copies = 6
			}
			for _, size := range between(in.passed, in.lost, first) {
				for range copies {
					sent = append(sent, s.send(i, targets[i], size))
				}
			}
		}
		if err := s.answers(ctx, sent, wait); err != nil {
			return err
		}
		answered := map[int]map[int]bool{}
		for _, e := range sent {
			if answered[e.target] == nil {
				answered[e.target] = map[int]bool{}
			}
			rtt, _ := s.outcome(e)
			answered[e.target][e.size] = answered[e.target][e.size] || rtt > 0
		}
		for i, in := range open {
			var passed, lost []int
			for size, ok := range answered[i] {
				if ok {
					passed = append(passed, size)
				} else {
					lost = append(lost, size)
				}
			}
			in.passed = slices.Max(append(passed, in.passed))
			lost = slices.DeleteFunc(lost, func(n int) bool { return n < in.passed })
			in.lost = slices.Min(append(lost, in.lost))
			if open[i] = in; in.lost-in.passed <= 1 {
				delete(open, i)
				if in.passed >= smallest(targets[i].Addr) {
					results[i].MTU = in.passed
				}
			}
		}
	}
	return nil
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
