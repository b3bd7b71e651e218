package store

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// netnsName is the abstract socket address that says who writes to a network namespace. Such names are of one network
// namespace each, no file stands for them, and the kernel frees one with its holder (unix(7)): programs with other folders,
// in another mount namespace too, meet here.
const netnsName = "@netd"

// NetnsLock is held by the one program that writes to the network namespace.
type NetnsLock struct {
	// Squatter is who has the name without being root, nil where nobody does. Any user may take it, and is not to be able to
	// stop netd by that: the lock is then as good as held.
	Squatter *Held

	socket net.Listener
	ended  chan struct{}
}

// TakeNetns takes the lock of the network namespace that the calling thread is in. Where another has it, it tries for the
// time given; a *Held is returned after that. It asks who that is at first and in the end alone: a holder that is stopped does
// not take the calls, of which the kernel keeps so many and no more.
func TakeNetns(patience time.Duration) (*NetnsLock, error) {
	asked := false
	for end := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		socket, err := net.Listen("unix", netnsName)
		if err == nil {
			l := &NetnsLock{socket: socket, ended: make(chan struct{})}
			go l.answer()
			return l, nil
		}
		if !errors.Is(err, unix.EADDRINUSE) {
			return nil, fmt.Errorf("taking the lock of the network namespace: %w", err)
		}
		late := time.Now().After(end)
		if asked && !late {
			continue
		}
		holder, root, err := netnsHolder()
		asked = err == nil
		switch {
		case err == nil && !root:
			return &NetnsLock{Squatter: holder}, nil
		case late && err == nil:
			return nil, holder
		case late && !errors.Is(err, unix.ECONNREFUSED) && !errors.Is(err, unix.EAGAIN):
			return nil, fmt.Errorf("asking who has the lock of the network namespace: %w", err)
		case late: // bound without listening, or with a row of callers that nobody answers: no netd does that that is not stopped
			return &NetnsLock{Squatter: &Held{netnsPath, "a process that does not answer"}}, nil
		}
	}
}

// LookAtNetns returns who holds the lock of the calling thread's network namespace, nil where nobody of root's does.
func LookAtNetns() *Held {
	holder, root, err := netnsHolder()
	if err != nil || !root {
		return nil
	}
	return holder
}

// answer takes the calls of those who ask who is here, so that none of them waits.
func (l *NetnsLock) answer() {
	defer close(l.ended)
	for {
		c, err := l.socket.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil {
			_ = c.Close()
			continue
		}
		time.Sleep(10 * time.Millisecond) // no descriptor is free, say
	}
}

// Release gives the lock back.
func (l *NetnsLock) Release() {
	if l.socket != nil {
		_ = l.socket.Close()
		<-l.ended
	}
}

const netnsPath = "this network namespace"

// netnsHolder asks the kernel who listens there, and whether it is root.
func netnsHolder() (holder *Held, root bool, err error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, false, err
	}
	defer unix.Close(fd)
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: netnsName}); err != nil {
		return nil, false, err
	}
	peer, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED) // as it was when it began to listen
	if err != nil {
		return nil, false, err
	}
	return &Held{netnsPath, process(int(peer.Pid))}, peer.Uid == 0, nil
}

// process is a process in words, with how it was called.
func process(pid int) string {
	if pid == 0 {
		return "a process outside this PID namespace"
	}
	text := fmt.Sprintf("pid %d", pid)
	f, err := os.Open(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		return text
	}
	defer f.Close()
	b, _ := io.ReadAll(io.LimitReader(f, 256))
	args := strings.Split(strings.TrimRight(string(b), "\x00"), "\x00")
	args[0] = filepath.Base(args[0])
	if call := strings.Join(args, " "); call != "" && call != "." {
		text += " (" + call + ")"
	}
	return text
}
