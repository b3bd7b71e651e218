package bgp

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"netd/testenv/netns"
	"netd/testenv/router"
	"netd/testenv/stream"
)

// flow is a stream between two hosts of a crossing, or of the containers there.
type flow struct {
	from, to int
	every    time.Duration
	*stream.Stream
}

// crossed are the streams between all hosts of a crossing, each way.
type crossed struct {
	crossing
	flows []flow
}

func (x crossing) flows(t *testing.T, in map[int]*netns.NS, at map[int]netip.Addr) *crossed {
	t.Helper()
	pairs := [][2]int{{numOne, numRouter}, {numRouter, numOne}}
	if x.role != asToR {
		pairs = [][2]int{{numOne, numRouter}, {numRouter, numThree}, {numThree, numOne}}
	}
	every := 5 * time.Millisecond
	if x.back {
		every = time.Millisecond
	}
	out := &crossed{crossing: x}
	for _, p := range pairs {
		out.flows = append(out.flows, flow{p[0], p[1], every, stream.Start(t, in[p[0]], at[p[0]], in[p[1]], at[p[1]], every)})
	}
	for _, f := range out.flows {
		f.Flowing(t)
	}
	return out
}

// most is how long nothing may arrive without graceful restart: a hold time, and what either end takes to connect again.
const most = 15 * time.Second

// ended waits until all streams arrive after a restart, and ends them. took is what the router's kernel lost of its routes meanwhile.
func (x *crossed) ended(t *testing.T, restarted, took string) {
	t.Helper()
	for _, f := range x.flows {
		f.Again(t)
	}
	for _, f := range x.flows {
		r := f.Stop()
		text := fmt.Sprintf("%s restarted: %d to %d: %s", restarted, f.from, f.to, r)
		t.Log(text)
		// What FRR's own host refuses to send is no loss of netd's, where FRR took the route out of its own kernel (see TestPairs).
		if f.from == numRouter && x.program == router.FRR && strings.Contains(took, "Deleted "+x.block(f.to)+" ") {
			r.Lost -= r.Refused
		}
		// FRR as a reflector tells the first that comes back an End-of-RIB before it has heard the other.
		ofReflector := x.role == asReflector && restarted == "frr" && f.from != numRouter && f.to != numRouter
		switch {
		case x.back && !ofReflector, restarted == "netd" && f.from == numOne: // a speaker that dies takes no route along, even so
			if r.Lost != 0 {
				t.Error(text)
			}
		case time.Duration(r.Lost)*f.every > most:
			t.Errorf("%s; %s are the most", text, most)
		}
	}
}
