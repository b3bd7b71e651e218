package speaker

import (
	"errors"
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// fileMost is how large a file the speaker may make, in bytes: its log, which it shortens at LogSize.
const fileMost = 16 * LogSize

// settle makes the process at home in its folder, which it enters by the descriptor that its parent opened: it runs as
// another user, who may not be able to walk there. Sockets are bound by relative names from then on.
func settle(dir string) (unlock func(), err error) {
	if dir == "" {
		err := unix.Fchdir(3)
		if errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.EBADF) { // nobody opened one: 3 may be the Go runtime's
			return nil, errors.New("netd run starts the speaker, with its folder as descriptor 3; by hand, give --dir")
		}
		if err != nil {
			return nil, fmt.Errorf("entering the folder of descriptor 3: %w", err)
		}
		_ = unix.Close(3)
	} else if err := os.Chdir(dir); err != nil {
		return nil, fmt.Errorf("entering the speaker's folder: %w", err)
	}
	unix.Umask(0o177)
	// Best effort: both only make life easier or harder for those who look.
	_ = os.WriteFile("/proc/self/comm", []byte("netd-speaker"), 0)
	// The memory holds passwords, and the user may be `nobody`, whom others are too.
	_ = unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
	// The log is the one file that it may write to, and lies in memory (/run). It is kept short by this process itself, as
	// long as it is its own.
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: fileMost, Max: fileMost}); err != nil {
		return nil, fmt.Errorf("bounding the size of files: %w", err)
	}

	lock, err := os.Open(".")
	if err != nil {
		return nil, fmt.Errorf("opening the speaker's folder: %w", err)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = lock.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, errors.New("another speaker runs in this folder")
		}
		return nil, fmt.Errorf("locking the speaker's folder: %w", err)
	}
	for _, name := range []string{apiSocket, pathsSocket} {
		if err := removeStale(name); err != nil {
			_ = lock.Close()
			return nil, err
		}
	}
	return func() { _ = lock.Close() }, nil
}

// removeStale removes the socket of a speaker that died. One that someone serves is left alone.
func removeStale(name string) error {
	if c, err := net.Dial("unix", name); err == nil {
		_ = c.Close()
		return fmt.Errorf("another process serves %s", name)
	}
	if err := os.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("removing a stale socket: %w", err)
	}
	return nil
}
