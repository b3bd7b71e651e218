package speaker

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"

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
