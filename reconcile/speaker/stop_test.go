package speaker

import (
	"context"
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
	note, err := Open(h.options().Dir(), Secrets{}).Stop(context.Background())
	if err != nil || note == "" {
		t.Errorf("stopping it: %q, %v", note, err)
	}
	<-h.process.Done
}
