// Package netns gives tests network namespaces of their own: the whole test process runs in a fresh one, so that nothing
// that a test does can reach the machine, and containers and further hosts are namespaces below it.
//
//	func TestMain(m *testing.M) { netns.Main(m) }
//
// Main runs the test binary again with a new network and mount namespace. Every thread is inside, /run is empty and
// private, /sys shows the namespace's links. Nothing outlives the process: the mounts go with it, and with them the
// namespaces that they hold.
package netns

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

const mark = "NETD_TEST_INSIDE"

// Main runs the tests of a package (m is its testing.M) in a network namespace of their own and exits. Without root they run where they are;
// those that need a namespace say so by Need.
func Main(m interface{ Run() int }) {
	if os.Getenv(mark) != "" {
		if err := settle(); err != nil {
			fmt.Fprintln(os.Stderr, "netns: preparing the test's namespace:", err)
			os.Exit(125)
		}
		os.Exit(m.Run())
	}
	if os.Geteuid() != 0 {
		os.Exit(m.Run())
	}
	os.Exit(again())
}

// again runs this very program in fresh namespaces and returns its exit code.
func again() int {
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), mark+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS}
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGQUIT)
	if err := cmd.Start(); err != nil {
		fmt.Fprintln(os.Stderr, "netns: starting the tests in a namespace:", err)
		return 125
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	for {
		select {
		case s := <-signals:
			_ = cmd.Process.Signal(s)
		case err := <-done:
			var exit *exec.ExitError
			switch {
			case err == nil:
				return 0
			case errors.As(err, &exit) && exit.ExitCode() >= 0:
				return exit.ExitCode()
			default:
				fmt.Fprintln(os.Stderr, "netns: the tests ended with:", err)
				return 125
			}
		}
	}
}

// settle makes the new namespaces usable: mounts private, an own /run, /sys of this namespace, lo up.
func settle() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("making mounts private: %w", err)
	}
	for _, dir := range []string{"/run", "/sys"} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	if err := unix.Mount("tmpfs", "/run", "tmpfs", 0, "mode=0755"); err != nil {
		return fmt.Errorf("mounting /run: %w", err)
	}
	if err := unix.Mount("sysfs", "/sys", "sysfs", 0, ""); err != nil && !errors.Is(err, unix.EBUSY) {
		return fmt.Errorf("mounting /sys: %w", err)
	}
	if err := os.MkdirAll("/run/netns", 0o755); err != nil {
		return err
	}
	return loopbackUp()
}

// loopbackUp brings lo up in the namespace of the calling thread.
func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("bringing lo up: %w", err)
	}
	defer unix.Close(fd)
	ifr, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	ifr.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, ifr); err != nil {
		return fmt.Errorf("bringing lo up: %w", err)
	}
	return nil
}

// Inside reports whether the process runs in a namespace that Main made.
func Inside() bool { return os.Getenv(mark) != "" }

// Need stops a test that cannot run outside a namespace of its own: it fails where CI is set, so that nothing goes
// untested there unnoticed, and is skipped with the reason elsewhere.
func Need(t testing.TB) {
	t.Helper()
	if Inside() {
		return
	}
	if os.Getenv("CI") != "" {
		t.Fatal("needs root, for network namespaces")
	}
	t.Skip("needs root, for network namespaces")
}

// NS is a named network namespace.
type NS struct {
	Name string
	path string
}

// Path is the file that holds the namespace, as `ip netns` has it.
func (n *NS) Path() string { return n.path }

// At makes a network namespace with lo up, held by a file at path.
func At(path string) (*NS, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDONLY, 0o444)
	if err != nil {
		return nil, fmt.Errorf("making the network namespace %s: %w", path, err)
	}
	_ = f.Close()
	err = onOwnThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("unshare: %w", err)
		}
		if err := loopbackUp(); err != nil {
			return err
		}
		return unix.Mount("/proc/thread-self/ns/net", path, "", unix.MS_BIND, "")
	})
	if err != nil {
		_ = os.Remove(path)
		return nil, fmt.Errorf("making the network namespace %s: %w", path, err)
	}
	return &NS{Name: filepath.Base(path), path: path}, nil
}

// Open is a namespace that is there already.
func Open(path string) *NS { return &NS{Name: filepath.Base(path), path: path} }

// Remove gives the namespace up. It goes when no process, socket or descriptor holds it any more.
func (n *NS) Remove() error {
	if err := unix.Unmount(n.path, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("removing the network namespace %s: %w", n.path, err)
	}
	if err := os.Remove(n.path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// New makes a namespace /run/netns/<name> for one test and removes it at its end.
func New(t testing.TB, name string) *NS {
	t.Helper()
	Need(t)
	n, err := At("/run/netns/" + name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Remove(); err != nil {
			t.Error(err)
		}
	})
	return n
}

// onOwnThread runs f on a thread that ends with it, since a thread that changed its namespace is fit for nothing else.
func onOwnThread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: the runtime ends the thread with the goroutine
		if unix.Gettid() == unix.Getpid() {
			// Not the first thread, which the runtime cannot end: whoever enters the process's namespace, by its number, enters
			// this thread's. While it is held here the next try is on another.
			defer runtime.UnlockOSThread()
			done <- onOwnThread(f)
			return
		}
		done <- f()
	}()
	return <-done
}

// Do runs f on a thread inside the namespace. What f starts on other goroutines is not inside.
func (n *NS) Do(f func() error) error {
	return onOwnThread(func() error {
		if err := n.enter(); err != nil {
			return err
		}
		return f()
	})
}

func (n *NS) enter() error {
	fd, err := unix.Open(n.path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("entering the network namespace %s: %w", n.path, err)
	}
	defer unix.Close(fd)
	if err := unix.Setns(fd, unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("entering the network namespace %s: %w", n.path, err)
	}
	return nil
}

// Start starts cmd inside the namespace. The child must not ask for Pdeathsig: the thread that forks it ends at once.
func (n *NS) Start(cmd *exec.Cmd) error { return n.Do(cmd.Start) }

// Output runs a command inside the namespace and returns what it printed on both outputs.
func (n *NS) Output(name string, args ...string) (string, error) {
	var out []byte
	err := n.Do(func() (err error) {
		out, err = exec.Command(name, args...).CombinedOutput()
		return err
	})
	if err != nil {
		err = fmt.Errorf("in %s: %s %s: %w: %s", n.Name, name, strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return string(out), err
}

// Run runs a command line (split at blanks) inside the namespace; the test fails if it does.
func (n *NS) Run(t testing.TB, line string) string {
	t.Helper()
	f := strings.Fields(line)
	out, err := n.Output(f[0], f[1:]...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// Run runs a command line in the test's own namespace; the test fails if it does.
func Run(t testing.TB, line string) string {
	t.Helper()
	Need(t)
	f := strings.Fields(line)
	out, err := exec.Command(f[0], f[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v: %s", line, err, out)
	}
	return string(out)
}
