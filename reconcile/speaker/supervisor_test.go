package speaker

import (
	"context"
	"errors"
	"io"
	"os"
	"slices"
	"testing"
	"time"
)

// TestBackOff: a speaker that cannot be started is tried again after pauses that double, up to half a minute, and three deaths in a
// minute are said, with what it wrote last.
func TestBackOff(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	run := t.TempDir()
	var pauses []string
	s := &Supervisor{Options: StartOptions{RunDir: run, Log: func(_, msg string, fields map[string]any) {
		if msg == "no speaker: trying again" {
			if pauses = append(pauses, fields["pause"].(string)); len(pauses) == 4 {
				cancel()
			}
		}
	}}, Launch: func(context.Context, StartOptions) (*Process, error) { return nil, errors.New("no such user") }}
	if err := os.WriteFile(s.Options.LogFile(), []byte("first\nlast\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.Run(ctx); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if want := []string{"50ms", "100ms", "200ms", "400ms"}; !slices.Equal(pauses, want) {
		t.Errorf("it was tried again after %v, want %v", pauses, want)
	}
	if st := s.State(); !st.Failing() || st.Deaths != 4 || st.PID != 0 || st.Err == nil || !slices.Contains(st.Said, "last") {
		t.Errorf("what is known of it: %+v", st)
	}
}

// TestMostPause: whoever else starts the speaker makes the pauses, and it is found soon after each.
func TestMostPause(t *testing.T) {
	for _, x := range []struct {
		external bool
		err      error
		want     time.Duration
	}{
		{false, io.EOF, supervisorMost},
		{true, io.EOF, supervisorLook},
		{true, ErrNotRunning, supervisorLook},
		{true, &VersionError{Have: "1"}, supervisorMost}, // it stays as it is until someone replaces it, and each look is a line of the log
	} {
		if got := (&Supervisor{External: x.external}).most(x.err); got != x.want {
			t.Errorf("external %v, %v: at most %s, want %s", x.external, x.err, got, x.want)
		}
	}
}
