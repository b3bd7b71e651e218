package speaker

import (
	"testing"
	"time"
)

// TestReasons plays what is heard of a session that does not come up, at moments in seconds, and reads what is said of it.
func TestReasons(t *testing.T) {
	type heard struct {
		at      int
		words   string // "" for a session that came up
		opening bool
		want    string
	}
	const lost, refused, as, unanswered, malformedUpdate = "it closed the session: shutdown", "it refuses", "AS 2 offered, 1 expected", "no answer", "it sent a malformed UPDATE"
	for _, x := range []struct {
		name string
		was  bool // it was up until the first second, and lost for what is heard before
		say  []heard
	}{
		{"of two connections one says why", false, []heard{{5, as, true, as}, {8, closedEarly, true, as}, {70, closedEarly, true, closedEarly}, {71, as, true, as}}},
		{"what is over is not kept", false, []heard{{5, unanswered, false, unanswered}, {8, closedEarly, true, closedEarly}}},
		{"nobody dials since then", false, []heard{{5, as, true, as}, {100, nobodyDials, false, as}}},
		{"what came of it", false, []heard{{5, as, true, as}, {5, connectionLost, true, as}}},
		{"why it was lost stays", true, []heard{{0, lost, true, lost}, {2, refused, false, refused + "; before that: " + lost}, {30, refused, false, refused + "; before that: " + lost},
			{31, unanswered, false, unanswered + "; before that: " + lost}, {32, nobodyDials, false, unanswered + "; before that: " + lost}}},
		{"what is over is not told again", true, []heard{{0, lost, true, lost}, {2, refused, false, refused + "; before that: " + lost}, {9, "", false, ""}, {10, malformedUpdate, true, malformedUpdate}}},
		{"its routes went", true, []heard{{0, connectionLost, true, connectionLost}, {2, refused, false, refused}, {20, neverBack, true, neverBack}, {21, refused, false, refused + "; before that: " + neverBack}}},
		{"that it was lost says nothing", true, []heard{{0, connectionLost, true, connectionLost}, {2, refused, false, refused}}},
	} {
		t.Run(x.name, func(t *testing.T) {
			begin := time.Now()
			n := &Neighbour{State: "idle", Since: begin.Add(-time.Hour)}
			if x.was {
				n.State = stateEstablished
			}
			for _, h := range x.say {
				if h.at == 2 && n.Established() {
					n.ends()
					n.State = "idle"
				}
				if h.words == "" {
					n.begins()
					n.State, n.Since = stateEstablished, begin.Add(time.Duration(h.at)*time.Second)
					continue
				}
				n.fails(h.words, h.opening, begin.Add(time.Duration(h.at)*time.Second))
				if n.Error != h.want {
					t.Errorf("after %d s and %q: %q, want %q", h.at, h.words, n.Error, h.want)
				}
			}
		})
	}
}
