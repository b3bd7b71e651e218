package speaker

import (
	"errors"
	"net"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// listenerPID is the process that listens on paths.sock: SO_PEERCRED of a connected socket is the credentials of the
// listener at the time of listen (unix(7)).
func listenerPID(dir string) (int, error) {
	c, err := net.Dial("unix", filepath.Join(dir, pathsSocket))
	if err != nil {
		return 0, err
	}
	defer c.Close()
	raw, err := c.(*net.UnixConn).SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *unix.Ucred
	var serr error
	if err := raw.Control(func(fd uintptr) { cred, serr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); err != nil {
		return 0, err
	}
	if serr != nil {
		return 0, serr
	}
	if cred.Pid <= 1 {
		return 0, errors.New("the kernel does not name it")
	}
	return int(cred.Pid), nil
}
