package speaker

import (
	"errors"
	"fmt"
	"math"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// confined runs start, which starts a process, on a thread that gave up for ever what no speaker needs: programs that
// would give privilege back (PR_SET_NO_NEW_PRIVS), and every capability but the one to listen below port 1024. Both are a
// thread's own and inherited by what it forks; they end with the thread.
func confined(start func() error) error {
	// Descriptors that this process was itself started with may be open for whatever it starts; ExtraFiles are not affected.
	if err := unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC); err != nil && !errors.Is(err, unix.ENOSYS) && !errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("confining the speaker: %w", err) // ENOSYS before 5.9, EINVAL before 5.11
	}
	if os.Geteuid() != 0 {
		return start()
	}
	here, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return fmt.Errorf("confining the speaker: %w", err)
	}
	defer here.Close()
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: the runtime ends the thread with the goroutine
		done <- func() error {
			if err := sameNetwork(here); err != nil {
				return fmt.Errorf("confining the speaker: %w", err)
			}
			if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
				return fmt.Errorf("confining the speaker: %w", err)
			}
			for c := uintptr(0); c <= unix.CAP_LAST_CAP; c++ {
				if c == unix.CAP_NET_BIND_SERVICE {
					continue
				}
				if err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0); err != nil && !errors.Is(err, unix.EINVAL) { // an older kernel has fewer
					return fmt.Errorf("confining the speaker: %w", err)
				}
			}
			return start()
		}()
	}()
	return <-done
}

// sameNetwork takes the calling thread into a network namespace, if it is not there: that of who called may be the
// thread's alone.
func sameNetwork(ns *os.File) error {
	there, err := ns.Stat()
	if err != nil {
		return err
	}
	if now, err := os.Stat("/proc/thread-self/ns/net"); err == nil && os.SameFile(now, there) {
		return nil
	}
	return unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET)
}
