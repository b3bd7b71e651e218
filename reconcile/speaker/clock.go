package speaker

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"

	api "github.com/osrg/gobgp/v3/api"
	"golang.org/x/sys/unix"
)

// clock follows the host's clock until ctx ends, and has the sessions begun anew that came up at what is the future now.
//
// gobgp passes over what bears a time before that at which the session came up, by the clock of the wall (beforeUptime in its
// pkg/server/server.go). Where the clock is set back, as at a boot whose first sessions are there before NTP is, nothing that a
// neighbour tells, takes back or asks for is heard until that time has come again, which may be hours.
func (s *sessions) clock(ctx context.Context) error {
	fd, err := unix.TimerfdCreate(unix.CLOCK_REALTIME, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK)
	if err != nil {
		return fmt.Errorf("following the clock: %w", err)
	}
	f := os.NewFile(uintptr(fd), "clock")
	defer f.Close()
	never, err := unix.TimeToTimespec(time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC))
	if err != nil {
		return fmt.Errorf("following the clock: %w", err)
	}
	if err := unix.TimerfdSettime(fd, unix.TFD_TIMER_ABSTIME|unix.TFD_TIMER_CANCEL_ON_SET, &unix.ItimerSpec{Value: never}, nil); err != nil {
		return fmt.Errorf("following the clock: %w", err)
	}
	defer context.AfterFunc(ctx, func() { _ = f.SetReadDeadline(time.Now()) })()
	for {
		_, err := f.Read(make([]byte, 8))
		switch {
		case errors.Is(err, unix.ECANCELED): // it was set (timerfd_create(2))
			s.setBack()
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return fmt.Errorf("following the clock: %w", err)
		}
	}
}

// setBack hangs up on the neighbours whose sessions came up in the future. Where both ends restart gracefully, no route goes.
func (s *sessions) setBack() {
	now := time.Now().Unix()
	s.mu.Lock()
	var future []netip.Addr
	for addr, x := range s.peers {
		if x.state == api.PeerState_ESTABLISHED && x.since.Unix() > now {
			future = append(future, addr)
		}
	}
	s.mu.Unlock()
	for _, addr := range future {
		s.log("info", "the clock was set back: the session is begun anew", map[string]any{"peer": addr.String()})
		hangUp(addr)
	}
}
