// Package containerd finds containers of containerd by what its shims keep under /run: no client, and it holds while
// containerd itself is restarted.
//
//	/run/containerd/io.containerd.runtime.v2.task/<namespace>/<id>/init.pid ──▶ /proc/<pid>/ns/net
//
// The file stays when the process ends, and its number may be another one's then. So the process has to be a child of the
// container's own shim, which is the parent of all that runs in a container and of nothing else, or a child's child.
package containerd

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"netd/reconcile/workload"
)

// Runtime is a containerd of this host. The zero value is the one in the usual place.
type Runtime struct {
	State string // its state folder; "": /run/containerd
	proc  string // tests have their own
}

// Path is the file that tells of a container: it comes when the container starts and goes when its task is deleted.
// container is "namespace/id".
func (r Runtime) Path(container string) string {
	state := r.State
	if state == "" {
		state = "/run/containerd"
	}
	tasks := filepath.Join(state, "io.containerd.runtime.v2.task")
	namespace, id, _ := strings.Cut(container, "/")
	for _, name := range []string{namespace, id} {
		if workload.CheckID("name", name) != nil { // containerd has none that is called so, and a path may mean anything
			return tasks
		}
	}
	return filepath.Join(tasks, namespace, id, "init.pid")
}

// Find is the path of a container's network namespace. Where none runs of that name the error is fs.ErrNotExist.
func (r Runtime) Find(container string) (string, error) {
	b, err := os.ReadFile(r.Path(container))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.EISDIR) {
		return "", fs.ErrNotExist
	}
	if err != nil {
		return "", fmt.Errorf("asking containerd's state: %w", err)
	}
	pid, err := strconv.ParseUint(string(bytes.TrimSpace(b)), 10, 31)
	if err != nil { // it is being written
		return "", fs.ErrNotExist
	}
	proc := r.proc
	if proc == "" {
		proc = "/proc"
	}
	of := strconv.FormatUint(pid, 10)
	for range 2 { // until the container is made, runc is between them, and nothing tells when it ends
		if of, err = parentOf(filepath.Join(proc, of, "stat")); err != nil {
			break
		}
		line, err := os.ReadFile(filepath.Join(proc, of, "cmdline"))
		if err == nil && isShim(strings.Split(string(line), "\x00"), container) {
			return filepath.Join(proc, strconv.FormatUint(pid, 10), "ns", "net"), nil
		}
	}
	return "", fs.ErrNotExist
}

// parentOf reads the fourth field of /proc/PID/stat. The second is a name in brackets, with any characters in it.
func parentOf(stat string) (string, error) {
	b, err := os.ReadFile(stat)
	if err != nil {
		return "", err
	}
	fields := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:])
	if len(fields) < 2 {
		return "", fmt.Errorf("%s: no parent in %q", stat, b)
	}
	return string(fields[1]), nil
}

// isShim reports whether a command line is that of a container's shim (containerd, core/runtime/v2/shim).
func isShim(args []string, container string) bool {
	value := func(flag string) string {
		if i := slices.Index(args, flag); i > 0 && i+1 < len(args) {
			return args[i+1]
		}
		return ""
	}
	return strings.HasPrefix(filepath.Base(args[0]), "containerd-shim") && value("-namespace")+"/"+value("-id") == container
}
