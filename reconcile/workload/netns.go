package workload

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync/atomic"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

var errYet = errors.New("no network namespace (yet)")

const nsfsMagic = 0x6e736673 // include/uapi/linux/magic.h

// Identify tells which network namespace is at a path, in words that no other one has until the next boot and no one after
// it: an inode's number is given again as soon as its namespace is gone. The host's own is refused.
func Identify(path string) (string, error) {
	if path == "" {
		return "", problem(Namespace, "there is no path of a network namespace")
	}
	f, err := open(path)
	if err != nil {
		return "", problem(Namespace, "the network namespace: %w", err)
	}
	defer f.Close()
	id, err := inodeOf(f)
	if err != nil {
		return "", problem(Namespace, "the network namespace: %w", err)
	}
	var own unix.Stat_t
	if err := unix.Stat("/proc/thread-self/ns/net", &own); err != nil {
		return "", fmt.Errorf("looking at the own network namespace: %w", err)
	}
	if (inode{uint64(own.Dev), own.Ino}) == id {
		return "", problem(Namespace, "%s is the host's own network namespace", path)
	}
	boot, err := bootID()
	if err != nil {
		return "", err
	}
	switch c, err := cookie(f); {
	case err == nil:
		return fmt.Sprintf("%s/%d", boot, c), nil
	case errors.Is(err, unix.ENOPROTOOPT), errors.Is(err, unix.EPERM): // before Linux 5.14, or not root: an error follows
		return fmt.Sprintf("%s/%d:%d", boot, id.dev, id.ino), nil
	default:
		return "", fmt.Errorf("telling which network namespace %s is: %w", path, err)
	}
}

var boot atomic.Pointer[[]byte]

// bootID is the kernel's name of this boot.
func bootID() ([]byte, error) {
	if id := boot.Load(); id != nil {
		return *id, nil
	}
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return nil, err
	}
	b = bytes.TrimSpace(b)
	boot.Store(&b)
	return b, nil
}

// cookie is the kernel's number of a network namespace, of which each is given once (include/net/net_namespace.h).
func cookie(f *os.File) (n uint64, err error) {
	err = inNamespace(f, func() error {
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		n, err = unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
		return err
	})
	return n, err
}

// inNamespace calls look with its thread in a network namespace.
func inNamespace(f *os.File, look func() error) error {
	runtime.LockOSThread()
	home, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		runtime.UnlockOSThread()
		return err
	}
	defer unix.Close(home)
	if err := unix.Setns(int(f.Fd()), unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		return err
	}
	err = look()
	if back := unix.Setns(home, unix.CLONE_NEWNET); back != nil {
		return back // still locked: the thread, in a foreign namespace, ends with its goroutine
	}
	runtime.UnlockOSThread()
	return err
}

func linkExists(name string) bool {
	_, err := netlink.LinkByName(name) // net.InterfaceByName reads all links that there are
	return err == nil
}

func open(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0) // a fifo must not hold us
}

func identify(path string) (inode, error) {
	f, err := open(path)
	if err != nil {
		return inode{}, err
	}
	defer f.Close()
	return inodeOf(f)
}

func inodeOf(f *os.File) (inode, error) {
	path := f.Name()
	var fs unix.Statfs_t
	var st unix.Stat_t
	if err := unix.Fstatfs(int(f.Fd()), &fs); err != nil {
		return inode{}, fmt.Errorf("%s: %w", path, err)
	}
	if fs.Type != nsfsMagic {
		return inode{}, fmt.Errorf("%s is %w", path, errYet)
	}
	kind, err := unix.IoctlRetInt(int(f.Fd()), unix.NS_GET_NSTYPE)
	if err != nil {
		return inode{}, fmt.Errorf("%s: %w", path, err)
	}
	if kind != unix.CLONE_NEWNET {
		return inode{}, fmt.Errorf("%s is a namespace of another kind than network", path)
	}
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return inode{}, fmt.Errorf("%s: %w", path, err)
	}
	return inode{uint64(st.Dev), st.Ino}, nil
}
