package netns

import (
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// TestOwnThread: the first thread, by which others find the process's namespace, is never the one that leaves it.
func TestOwnThread(t *testing.T) {
	tids := make(chan int, 100)
	for range cap(tids) {
		go func() {
			_ = onOwnThread(func() error { tids <- unix.Gettid(); return nil })
		}()
		runtime.Gosched()
	}
	for range cap(tids) {
		if tid := <-tids; tid == unix.Getpid() {
			t.Error("on the first thread")
		}
	}
}
