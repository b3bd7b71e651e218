package speaker

import (
	"os"
	"runtime/debug"
	"runtime/metrics"
	"sync"
	"time"
)

// Slack lets the process collect its garbage seldom while a large table comes, and gives the memory back to the host after that.
//
// While a heap grows from little, Go collects each time that it has doubled, and each time reads again what it keeps: of 100,000
// prefixes that was a fifth of the work. So while much changes, some room is left between collections, however little is in use; in a large heap
// it is less than it always was, since that is when memory runs short. Once all is quiet everything is as before, and what is free is the host's at once, which a process at rest would give
// back after minutes, little by little. The zero value is ready. Where GOGC is set, that holds.
type Slack struct {
	mu      sync.Mutex
	changed int
	looked  int // changed, when the room was looked at last
	percent int // GOGC as it was set last; 0: as it always was
	timer   *time.Timer
}

const (
	slackMuch = 4096     // changes; fewer leave nothing worth a collection
	slackRoom = 48 << 20 // bytes; a daemon and a speaker with 100,000 prefixes are to stay below 300 MB
	slackPart = 60       // percent of what is in use, where that is more
	gcPercent = 100      // GOGC where nobody sets it
)

var slackQuiet = 10 * time.Second

// Changed notes so many changes.
func (s *Slack) Changed(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.changed += n; s.changed < slackMuch {
		return
	}
	if s.timer == nil {
		s.timer = time.AfterFunc(slackQuiet, s.free)
	} else if s.changed-s.looked < slackMuch {
		return
	}
	s.looked = s.changed
	s.timer.Reset(slackQuiet)
	s.set(gcPercentNow())
}

func (s *Slack) free() {
	s.mu.Lock()
	s.changed, s.looked, s.timer = 0, 0, nil
	s.set(gcPercent)
	s.mu.Unlock()
	debug.FreeOSMemory()
}

// gcPercentNow is the GOGC by which there is slackRoom, or slackPart, above what was in use at the last collection. Go takes it of stacks and of
// global variables too, and of 4 MB where that is more, which in a small process are most of it (heapGoal and heapMinimum in its runtime).
func gcPercentNow() int {
	in := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/gc/scan/stack:bytes"}, {Name: "/gc/scan/globals:bytes"}}
	metrics.Read(in)
	live := in[0].Value.Uint64()
	return max(slackPart, int(min(slackRoom*100/max(live+in[1].Value.Uint64()+in[2].Value.Uint64(), 1), (live+slackRoom)*100/(4<<20))))
}

// set sets GOGC where it is another, which waits for a collection that runs: what was in use at the last one is the same until the next has ended.
func (s *Slack) set(percent int) {
	if percent != s.percent && os.Getenv("GOGC") == "" {
		debug.SetGCPercent(percent)
		s.percent = percent
	}
}
