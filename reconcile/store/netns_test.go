package store

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"netd/testenv/netns"
)

// TestNetnsLock: one writes to a network namespace, whoever else would is told which process it is, and the lock goes with its
// holder.
func TestNetnsLock(t *testing.T) {
	netns.Need(t)
	if held := LookAtNetns(); held != nil {
		t.Errorf("nobody holds it: %v", held)
	}
	for range 3 {
		l, err := TakeNetns(0)
		if err != nil || l.Squatter != nil {
			t.Fatalf("%+v, %v", l, err)
		}
		var held *Held
		want := fmt.Sprintf("this network namespace is held by pid %d (", os.Getpid())
		if _, err := TakeNetns(0); !errors.As(err, &held) || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("taken twice: %v, want %s…", err, want)
		}
		if held := LookAtNetns(); held == nil || !strings.HasPrefix(held.Error(), want) {
			t.Errorf("looked at: %v", held)
		}
		time.AfterFunc(50*time.Millisecond, l.Release)
		again, err := TakeNetns(5 * time.Second)
		if err != nil || again.Squatter != nil {
			t.Fatalf("one who waits: %+v, %v", again, err)
		}
		again.Release()
	}
}

// TestStoppedHolder: one of root's who is stopped holds it all the same, however many ask.
func TestStoppedHolder(t *testing.T) {
	netns.Need(t)
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := errors.Join(unix.Bind(fd, &unix.SockaddrUnix{Name: netnsName}), unix.Listen(fd, 10)); err != nil {
		t.Fatal(err)
	}
	var held *Held
	for i := range 5 {
		if l, err := TakeNetns(200 * time.Millisecond); !errors.As(err, &held) {
			t.Fatalf("%d: %+v, %v", i, l, err)
		}
	}
}

// TestSquatter: a user without rights who has the name keeps nobody from writing, however it is held.
func TestSquatter(t *testing.T) {
	if os.Getenv("NETD_TEST_SQUAT") != "" {
		squat(os.Getenv("NETD_TEST_SQUAT"))
		return
	}
	netns.Need(t)
	for _, how := range []string{"listening", "silent", "bound", "full"} {
		t.Run(how, func(t *testing.T) {
			cmd := exec.Command("/proc/self/exe", "-test.run", "^TestSquatter$")
			cmd.Env = []string{"NETD_TEST_SQUAT=" + how} // in the namespaces of this process
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}, Pdeathsig: unix.SIGKILL}
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
			if _, err := fmt.Fscanln(out, new(string)); err != nil {
				t.Fatal("the squatter:", err)
			}
			l, err := TakeNetns(200 * time.Millisecond)
			if err != nil || l.Squatter == nil {
				t.Fatalf("%+v, %v", l, err)
			}
			if who := l.Squatter.Holder; how == "listening" && !strings.HasPrefix(who, fmt.Sprintf("pid %d (", cmd.Process.Pid)) {
				t.Errorf("it is %s, not pid %d", who, cmd.Process.Pid)
			}
			l.Release()
			if held := LookAtNetns(); held != nil {
				t.Errorf("it is not one who writes: %v", held)
			}
		})
	}
}

// squat holds the name as a user may, until it is killed.
func squat(how string) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrUnix{Name: netnsName})
	}
	if err == nil && how != "bound" {
		err = unix.Listen(fd, 0)
	}
	for n := 0; err == nil && how == "full"; n++ {
		var c int
		if c, err = unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK, 0); err == nil {
			if err = unix.Connect(c, &unix.SockaddrUnix{Name: netnsName}); errors.Is(err, unix.EAGAIN) && n > 0 {
				err = nil
				break
			}
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if how == "listening" {
		l, err := net.FileListener(os.NewFile(uintptr(fd), "squatter"))
		if err != nil {
			os.Exit(1)
		}
		go func() {
			for {
				if c, err := l.Accept(); err == nil {
					_ = c.Close()
				}
			}
		}()
	}
	fmt.Println("ready")
	select {}
}
