package speaker

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"

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

// killListener ends the process that serves paths.sock, as the kernel names it. That is who called listen, which may be over:
// a speaker that fell could let another process have its number, one of root's, and have it killed from here. So that one
// is ended only which is, under a descriptor that keeps it from being another, of the user that the folder is of.
func killListener(dir string) error {
	pid, err := listenerPID(dir)
	if err != nil {
		return fmt.Errorf("killing the speaker: %w", err)
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("killing the speaker, process %d: %w", pid, err)
	}
	defer func() { _ = unix.Close(fd) }()
	var folder unix.Stat_t
	if err := unix.Stat(dir, &folder); err != nil {
		return fmt.Errorf("killing the speaker: reading %s: %w", dir, err)
	}
	uid, err := uidOf(pid)
	if err != nil {
		return fmt.Errorf("killing the speaker: %w", err)
	}
	if uid != folder.Uid {
		return fmt.Errorf("killing the speaker: process %d is of user %d, and %s of user %d: end it by hand, or remove the folder", pid, uid, dir, folder.Uid)
	}
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("killing the speaker, process %d: %w", pid, err)
	}
	return nil
}

// uidOf is the real user of a process. The owner of its folder in /proc is not: that is root for one that is not dumpable.
func uidOf(pid int) (uint32, error) {
	path := fmt.Sprintf("/proc/%d/status", pid)
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if list, ok := strings.CutPrefix(line, "Uid:"); ok {
			if uids := strings.Fields(list); len(uids) > 0 {
				uid, err := strconv.ParseUint(uids[0], 10, 32)
				return uint32(uid), err
			}
		}
	}
	return 0, fmt.Errorf("%s names no user", path)
}
