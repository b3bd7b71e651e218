package speaker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// Supervisor sees to it that a speaker runs. One that runs already is adopted; one of another version is replaced, without
// a word to its neighbours; one that dies is started again. Life is judged by the socket: an adopted speaker is not a
// child, and a process that lives and does not answer is of no use.
type Supervisor struct {
	Options  StartOptions
	External bool // someone else starts it: only look, and wait

	// Launch starts a speaker; nil: Start.
	Launch func(context.Context, StartOptions) (*Process, error)

	mu     sync.Mutex
	state  SupervisorState
	deaths []time.Time
}

// SupervisorState is what is known of the speaker's process.
type SupervisorState struct {
	PID     int // 0: none runs
	Adopted bool
	Since   time.Time
	Starts  int   // times that it was started or adopted
	Err     error // why none runs

	Deaths int      // within deathsWithin
	Said   []string // the last lines that one that died wrote
}

// Failing reports whether it dies again and again.
func (s SupervisorState) Failing() bool { return s.Deaths >= 3 }

// deathsWithin is the time in which three deaths are more than bad luck.
const deathsWithin = time.Minute

// Pauses before a speaker that died is started again. The first is short: its neighbours wait. One that lived for
// supervisorSettled died of something new. Where someone else starts it, the pauses are theirs to make, and a look whether it is there costs little.
const (
	supervisorFirst   = 50 * time.Millisecond
	supervisorMost    = 30 * time.Second
	supervisorLook    = time.Second
	supervisorSettled = 30 * time.Second
)

// most bounds the pause before a speaker is looked for again, or started, after err.
func (s *Supervisor) most(err error) time.Duration {
	var other *VersionError
	if s.External && !errors.As(err, &other) {
		return supervisorLook
	}
	return supervisorMost
}

// State returns what is known now.
func (s *Supervisor) State() SupervisorState {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.deaths = slices.DeleteFunc(s.deaths, func(at time.Time) bool { return time.Since(at) > deathsWithin })
	s.state.Deaths = len(s.deaths)
	return s.state
}

// died notes the end of a speaker, with what it said last.
func (s *Supervisor) died() {
	said := lastWords(s.Options.LogFile())
	if s.External {
		said = journalWords()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.deaths = append(s.deaths, time.Now())
	s.state.Said = said
}

func (s *Supervisor) set(change func(*SupervisorState)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.state)
}

// Run keeps a speaker running until ctx ends, and leaves it running then. It always returns ctx's cause.
func (s *Supervisor) Run(ctx context.Context) error {
	pause := supervisorFirst
	for ctx.Err() == nil {
		began := time.Now()
		err := s.once(ctx)
		if ctx.Err() != nil {
			break
		}
		if !errors.Is(err, ErrNotRunning) {
			s.died()
		}
		if time.Since(began) > supervisorSettled {
			pause = supervisorFirst
		}
		pause = min(pause, s.most(err))
		s.set(func(st *SupervisorState) { st.PID, st.Err, st.Since = 0, err, time.Now() })
		if !s.External || !errors.Is(err, ErrNotRunning) {
			s.Options.Log("warn", "no speaker: trying again", map[string]any{"error": err.Error(), "pause": pause.String()})
		}
		if wait(ctx, pause) != nil {
			break
		}
		pause *= 2
	}
	return context.Cause(ctx)
}

// once finds or starts a speaker and stays with it until it ends. The error says how.
func (s *Supervisor) once(ctx context.Context) error {
	l, err := openLink(ctx, s.Options.Dir())
	var other *VersionError
	switch {
	case err == nil && l.hello.Version == s.Options.Version:
		s.Options.Log("info", "adopted the speaker that runs", map[string]any{"pid": l.hello.PID})
		return s.stay(ctx, l, true)
	case err == nil:
		other = &VersionError{Have: l.hello.Version}
		if !s.External {
			_, err = l.ask(opExit)
		}
		l.close()
	case errors.As(err, &other) && !s.External:
		err = killListener(s.Options.Dir()) // it speaks another protocol
	case errors.Is(err, ErrNotRunning):
		err = nil
	}
	if other != nil && s.External {
		return other
	}
	if err != nil {
		return err
	}
	if s.External {
		return ErrNotRunning
	}
	if other != nil {
		s.Options.Log("info", "replacing the speaker that runs", map[string]any{"version": other.Have})
		c := Open(s.Options.Dir(), Secrets{})
		if err := c.gone(ctx); err != nil {
			return err
		}
	}
	launch := s.Launch
	if launch == nil {
		launch = Start
	}
	p, err := launch(ctx, s.Options)
	if err != nil {
		return err
	}
	s.Options.Log("info", "started the speaker", map[string]any{"pid": p.PID})
	l, err = openLink(ctx, s.Options.Dir())
	if err != nil {
		return err
	}
	return s.stay(ctx, l, false)
}

// stay holds on to a speaker until it or ctx ends.
func (s *Supervisor) stay(ctx context.Context, l *link, adopted bool) error {
	defer l.close()
	s.set(func(st *SupervisorState) {
		*st = SupervisorState{PID: l.hello.PID, Adopted: adopted, Since: time.Now(), Starts: st.Starts + 1, Said: st.Said}
	})
	if err := writeJSON(l.conn, frameRequest, request{Op: opHold}); err != nil {
		return fmt.Errorf("the speaker ended: %w", err)
	}
	_, err := l.r.ReadByte()
	return fmt.Errorf("the speaker, process %d, ended: %w", l.hello.PID, err)
}

// gone waits until no speaker answers.
func (c *Client) gone(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	for {
		l, err := c.link(ctx)
		if errors.Is(err, ErrNotRunning) {
			return nil
		}
		if err == nil {
			l.close()
		}
		if werr := wait(ctx, 2*time.Millisecond); werr != nil {
			return fmt.Errorf("waiting for the speaker to end: %w", werr)
		}
	}
}
