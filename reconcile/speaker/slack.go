package speaker

import (
	"runtime/debug"
	"sync"
	"time"
)

// Slack gives memory back to the host. While a large table comes in the heap grows to twice what is kept of it, and Go returns
// what it has over that only when it collects again, which a process at rest does every two minutes and little by little. Here
// it is done once, when all is quiet after much has changed. The zero value is ready.
type Slack struct {
	mu      sync.Mutex
	changed int
	timer   *time.Timer
}

const slackMuch = 10_000 // changes; fewer leave nothing worth a collection

var slackQuiet = 10 * time.Second

// Changed notes so many changes.
func (s *Slack) Changed(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.changed += n
	switch {
	case s.changed < slackMuch:
	case s.timer == nil:
		s.timer = time.AfterFunc(slackQuiet, s.free)
	default:
		s.timer.Reset(slackQuiet)
	}
}

func (s *Slack) free() {
	s.mu.Lock()
	s.changed, s.timer = 0, nil
	s.mu.Unlock()
	debug.FreeOSMemory()
}
