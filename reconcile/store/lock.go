package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

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
	f, err := openLock(runDir, name)
	if err != nil {
		return nil, err
	}
	for end := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		if err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); !errors.Is(err, unix.EWOULDBLOCK) || time.Now().After(end) {
			break
		}
		// Where it can be shared it is only looked at, however long a busy machine lets one who looks stand still.
		if unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB) != nil {
			break
		}
		_ = unix.Flock(int(f.Fd()), unix.LOCK_UN)
	}
	if err != nil {
		defer f.Close()
		return nil, held(f, err)
	}
	return own(f, command)
}

func openLock(runDir, name string) (*os.File, error) {
	if err := os.MkdirAll(runDir, 0o755); err != nil {
		return nil, fmt.Errorf("taking the lock: %w", advised(err, runDir, "--run-dir"))
	}
	f, err := os.OpenFile(filepath.Join(runDir, name), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("taking the lock: %w", advised(err, runDir, "--run-dir"))
	}
	return f, nil
}

// own writes down who has the lock, where it was another before: on a disk that costs more than the lock.
func own(f *os.File, command string) (*Lock, error) {
	holder := fmt.Appendf(nil, "pid %d (netd %s)\n", os.Getpid(), command)
	if written(f) == string(holder) {
		return &Lock{f}, nil
	}
	err := f.Truncate(0)
	if err == nil {
		_, err = f.WriteAt(holder, 0) // it may have been read
	}
	if err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("taking the lock %s: %w", f.Name(), advised(err, filepath.Dir(f.Name()), "--run-dir"))
	}
	return &Lock{f}, nil
}

// row is a wait for a lock. Nothing takes a thread out of it, so that one who gave up leaves it to who comes next.
type row struct {
	f    *os.File
	done chan error // room for one
	left bool       // nobody waits for done
}

var rows = struct {
	sync.Mutex
	left map[string][]*row // by path
}{left: map[string][]*row{}}

// WaitLock is TakeLock for one who waits until it is free, or until ctx ends: the error is a *Held and ctx's cause then. The
// kernel wakes one who waits at a time.
func WaitLock(ctx context.Context, runDir, name, command string) (*Lock, error) {
	r, err := queue(runDir, name)
	if err != nil {
		return nil, err
	}
	select {
	case err = <-r.done:
	case <-ctx.Done():
		if r.leave() {
			return nil, fmt.Errorf("%w; waiting for it: %w", held(r.f, unix.EWOULDBLOCK), context.Cause(ctx))
		}
		err = <-r.done
	}
	if err != nil {
		_ = r.f.Close()
		return nil, fmt.Errorf("taking the lock %s: %w", r.f.Name(), err)
	}
	return own(r.f, command)
}

// queue is the row that somebody left, or a new one.
func queue(runDir, name string) (*row, error) {
	path := filepath.Join(runDir, name)
	rows.Lock()
	defer rows.Unlock()
	if list := rows.left[path]; len(list) > 0 {
		r := list[len(list)-1]
		was, err := r.f.Stat()
		if is, now := os.Stat(path); err == nil && now == nil && os.SameFile(was, is) { // the folder may be another since
			r.left, rows.left[path] = false, list[:len(list)-1]
			return r, nil
		}
	}
	f, err := openLock(runDir, name)
	if err != nil {
		return nil, err
	}
	if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil { // mostly, and then no thread has to wait
		r := &row{f: f, done: make(chan error, 1)}
		r.done <- nil
		return r, nil
	}
	r := &row{f: f, done: make(chan error, 1)}
	go func() {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX)
		for errors.Is(err, unix.EINTR) {
			err = unix.Flock(int(f.Fd()), unix.LOCK_EX)
		}
		rows.Lock()
		defer rows.Unlock()
		if r.left {
			rows.left[path] = slices.DeleteFunc(rows.left[path], func(o *row) bool { return o == r })
			_ = f.Close()
			return
		}
		r.done <- err
	}()
	return r, nil
}

// leave leaves a row that is not over.
func (r *row) leave() bool {
	rows.Lock()
	defer rows.Unlock()
	if len(r.done) > 0 {
		return false
	}
	r.left = true
	rows.left[r.f.Name()] = append(rows.left[r.f.Name()], r)
	return true
}

// patience is for how long those who look at a lock may stand in the way of TakeLock.
const patience = 10 * time.Second

// LookAt returns the *Held of a lock that someone holds, nil where nobody does, and fs.ErrNotExist where there never was
// one. It leaves the lock to whoever wants it.
func LookAt(runDir, name string) error {
	f, err := os.Open(filepath.Join(runDir, name))
	if err != nil {
		return fmt.Errorf("looking at the lock: %w", err)
	}
	defer f.Close()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB); err != nil {
		return held(f, err)
	}
	return nil
}

// held is the error of a lock that could not be had.
func held(f *os.File, err error) error {
	if !errors.Is(err, unix.EWOULDBLOCK) {
		return fmt.Errorf("taking the lock %s: %w", f.Name(), err)
	}
	holder := strings.TrimSpace(written(f))
	if holder == "" {
		holder = "another process"
	}
	return &Held{Path: f.Name(), Holder: holder}
}

// written is who had a lock last, by the file, from its beginning: a row that somebody left was read before.
func written(f *os.File) string {
	var b [256]byte
	n, _ := f.ReadAt(b[:], 0)
	return string(b[:n])
}

// Release gives the lock back.
func (l *Lock) Release() { _ = l.f.Close() }

// HeldDB tells who has the database of a state directory open, by the kernel's list of locks (proc(5), /proc/locks); nil where
// that does not say.
func HeldDB(dir string) *Held {
	path := filepath.Join(dir, "netd.db")
	var st unix.Stat_t
	if unix.Stat(path, &st) != nil {
		return nil
	}
	locks, err := os.ReadFile("/proc/locks")
	if err != nil {
		return nil
	}
	for line := range strings.Lines(string(locks)) {
		// 1: FLOCK  ADVISORY  WRITE 4711 fe:01:131074 0 EOF
		f := strings.Fields(line)
		if len(f) < 6 || f[1] != "FLOCK" || !strings.HasSuffix(f[5], fmt.Sprintf(":%d", st.Ino)) {
			continue
		}
		pid, err := strconv.Atoi(f[4])
		if err != nil || pid <= 0 || pid == os.Getpid() {
			continue
		}
		name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
		if err != nil {
			continue
		}
		return &Held{path, fmt.Sprintf("pid %d (%s)", pid, strings.TrimSpace(string(name)))}
	}
	return nil
}
