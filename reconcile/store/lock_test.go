package store

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestLookers has many look at a lock while one takes it and gives it back: who looks never stands in the way, and sees who
// holds it.
func TestLookers(t *testing.T) {
	dir := t.TempDir()
	if err := LookAt(dir, "daemon.lock"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a lock that never was: %v", err)
	}
	stop := make(chan struct{})
	var lookers sync.WaitGroup
	for range 4 {
		lookers.Add(1)
		go func() {
			defer lookers.Done()
			for {
				select {
				case <-stop:
					return
				default:
					_ = LookAt(dir, "daemon.lock")
				}
			}
		}()
	}
	for i := range 200 {
		l, err := TakeLock(dir, "daemon.lock", "run")
		if err != nil {
			t.Fatal(err)
		}
		var held *Held
		if err := LookAt(dir, "daemon.lock"); !errors.As(err, &held) || !strings.Contains(held.Holder, "netd run") {
			t.Errorf("a lock that is held: %v", err)
		}
		if i%100 != 0 {
			l.Release()
			continue
		}
		if _, err := TakeLock(dir, "daemon.lock", "apply"); !errors.As(err, &held) || !strings.Contains(held.Holder, "netd run") {
			t.Errorf("taken twice: %v", err)
		}
		l.Release()
		if t.Failed() {
			break
		}
	}
	close(stop)
	lookers.Wait()

	// One that stands still while it looks, as on a busy machine.
	f, err := os.Open(filepath.Join(dir, "daemon.lock"))
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_SH); err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(time.Second, func() { _ = f.Close() })
	l, err := TakeLock(dir, "daemon.lock", "run")
	if err != nil {
		t.Fatal("while it is looked at:", err)
	}
	l.Release()
}
