package speaker

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	api "github.com/osrg/gobgp/v3/api"
	"golang.org/x/sys/unix"
)

// A speaker that answers nothing any more is ended all the same, and that is told.
func TestStopOfOneThatHangs(t *testing.T) {
	h := newHosts(t, 1)[0]
	h.launch()
	if err := unix.Kill(h.process.PID, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	for state := ""; !strings.Contains(state, ") T "); { // a thread that still runs would answer the first question, and the last is waited for longer
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", h.process.PID))
		if err != nil {
			t.Fatal(err)
		}
		state = string(b)
	}
	note, err := Open(h.options().Dir(), Secrets{}).Stop(context.Background())
	if err != nil || note == "" {
		t.Errorf("stopping it: %q, %v", note, err)
	}
	<-h.process.Done
}

// TestStopWhileCounting: no neighbour is taken out of gobgp's table while somebody looks at it, not even at the end: Go ends a process that does so.
func TestStopWhileCounting(t *testing.T) {
	s, _, _ := counting(t)
	s.order(t, &api.AddPeerRequest{Peer: countedPeer()})
	p := &process{sessions: s}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	s.list.Lock()
	err := p.stop(ctx)
	if s.look(mustAddr(countAddr)) == nil || err == nil {
		t.Errorf("the neighbour is taken out meanwhile: %v", err)
	}
	s.list.Unlock()
	for s.look(mustAddr(countAddr)) != nil && wait(t.Context(), time.Millisecond) == nil { // the stop that was given up comes to its end
	}
}
