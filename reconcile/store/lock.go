package store

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Lock is a lock of this host that is held; the kernel frees it when its holder dies.
type Lock struct{ f *os.File }

// Held is the error of a lock that someone else holds.
type Held struct {
	Path   string
	Holder string // "pid 4711 (netd apply)"
}

func (h *Held) Error() string { return fmt.Sprintf("%s is held by %s", h.Path, h.Holder) }

// TakeLock takes the lock of that name in the run directory: "lock" around writes, "daemon.lock" for a daemon's life. A
// *Held is returned where someone has it.
func TakeLock(runDir, name, command string) (*Lock, error) {
	if err := os.MkdirAll(runDir, 0o755); err != nil {
		return nil, fmt.Errorf("taking the lock: %w", err)
	}
	path := filepath.Join(runDir, name)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("taking the lock: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		b, _ := io.ReadAll(io.LimitReader(f, 256))
		_ = f.Close()
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("taking the lock %s: %w", path, err)
		}
		holder := strings.TrimSpace(string(b))
		if holder == "" {
			holder = "another process"
		}
		return nil, &Held{Path: path, Holder: holder}
	}
	err = f.Truncate(0)
	if err == nil {
		_, err = fmt.Fprintf(f, "pid %d (netd %s)\n", os.Getpid(), command)
	}
	if err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("taking the lock %s: %w", path, err)
	}
	return &Lock{f}, nil
}

// Release gives the lock back.
func (l *Lock) Release() { _ = l.f.Close() }
