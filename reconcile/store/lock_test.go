package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
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

// TestWaitLockGivesUp: who waits in vain again and again has one thread and one descriptor in the row, which is there for who
// comes then; a row that nobody wants any more keeps the lock from nobody.
func TestWaitLockGivesUp(t *testing.T) {
	dir := t.TempDir()
	l, err := TakeLock(dir, "lock", "apply")
	if err != nil {
		t.Fatal(err)
	}
	open := func() int {
		list, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(list)
	}
	wait := func(patience time.Duration) (*Lock, error) {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		return WaitLock(ctx, dir, "lock", "run")
	}
	threads, files := runtime.NumGoroutine(), open()
	for range 30 {
		var held *Held
		if l, err := wait(2 * time.Millisecond); !errors.As(err, &held) || !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("%v, %v", l, err)
		}
	}
	if more, opened := runtime.NumGoroutine()-threads, open()-files; more > 2 || opened > 2 {
		t.Errorf("30 waits left %d goroutines and %d descriptors", more, opened)
	}
	path := filepath.Join(dir, "lock")
	if err := os.Rename(path, path+".old"); err != nil {
		t.Fatal(err)
	}
	if other, err := wait(10 * time.Second); err != nil { // of a file that nobody has
		t.Fatal(err)
	} else {
		other.Release()
	}
	if err := os.Rename(path+".old", path); err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(20*time.Millisecond, l.Release)
	again, err := wait(10 * time.Second)
	if err != nil {
		t.Fatal(err)
	}
	var held *Held
	if _, err := wait(2 * time.Millisecond); !errors.As(err, &held) || held.Holder != fmt.Sprintf("pid %d (netd run)", os.Getpid()) {
		t.Fatalf("taken twice: %v", err)
	}
	again.Release()
	for ; LookAt(dir, "lock") != nil; runtime.Gosched() { // the row that was left is over
		if t.Context().Err() != nil {
			t.Fatal("it is held")
		}
	}
	if last, err := wait(10 * time.Second); err != nil {
		t.Fatal(err)
	} else {
		last.Release()
	}
}
