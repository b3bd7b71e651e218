package speaker

import (
	"runtime"
	"runtime/metrics"
	"testing"
	"time"
)

// TestSlack: after many changes and some quiet what they needed for a while is the host's again; a few change nothing.
func TestSlack(t *testing.T) {
	defer func(was time.Duration) { slackQuiet = was }(slackQuiet)
	slackQuiet = 50 * time.Millisecond
	const size = 256 << 20
	held := func() uint64 { // of the host: what is used, free, and not given back
		sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/heap/free:bytes"}, {Name: "/memory/classes/heap/unused:bytes"}}
		metrics.Read(sample)
		return sample[0].Value.Uint64() + sample[1].Value.Uint64() + sample[2].Value.Uint64()
	}
	garbage := make([]byte, size)
	for i := 0; i < size; i += 4096 {
		garbage[i] = 1
	}
	runtime.KeepAlive(garbage)
	full := held()
	var s Slack
	s.Changed(slackMuch - 1)
	if s.timer != nil {
		t.Error("a few changes are worth a collection")
	}
	percent := func() uint64 {
		sample := []metrics.Sample{{Name: "/gc/gogc:percent"}}
		metrics.Read(sample)
		return sample[0].Value.Uint64()
	}
	if was := percent(); was != gcPercent {
		t.Fatalf("GOGC is %d: run this without it", was)
	}
	runtime.GC() // garbage is gone, so that little is in use
	s.Changed(1)
	if now := percent(); now <= gcPercent {
		t.Errorf("while much changes GOGC is %d", now)
	}
	room := []metrics.Sample{{Name: "/gc/heap/goal:bytes"}, {Name: "/gc/heap/live:bytes"}}
	metrics.Read(room)
	if got := room[0].Value.Uint64() - room[1].Value.Uint64(); got < slackRoom*9/10 || got > slackRoom*11/10 {
		t.Errorf("the room above %d MB in use is %d MB, not %d", room[1].Value.Uint64()>>20, got>>20, slackRoom>>20)
	}
	for deadline := time.Now().Add(10 * time.Second); held() > full-size/2 || percent() != gcPercent; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d MB were held, and still %d; GOGC is %d", full>>20, held()>>20, percent())
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.changed != 0 || s.timer != nil {
		t.Error("the next changes are not counted from nothing")
	}
}
