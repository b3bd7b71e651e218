// Package workload finds the containers that the file declares.
package workload

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"netd/reconcile/object"
)

// Pending is a workload that cannot be attached now.
type Pending struct {
	ID      object.Place `json:"id"`
	Reason  string       `json:"reason"`
	Refused bool         `json:"refused"` // it is there, and netd will not touch it
}

// inode tells network namespaces apart.
type inode struct{ dev, ino uint64 }

// Look tells which endpoints have a namespace that can be attached: one that is there, not the host's own, and not that of
// an endpoint before it. It keeps no descriptor, which would pin the namespace.
func Look(es []object.Endpoint) (present []object.Endpoint, pending []Pending) {
	taken := map[inode]object.Place{}
	if own, err := identify("/proc/thread-self/ns/net"); err == nil {
		taken[own] = ""
	}
	for _, e := range es {
		id, err := identify(e.Netns)
		holder, held := taken[id]
		switch {
		case errors.Is(err, fs.ErrNotExist):
			pending = append(pending, Pending{ID: e.ID, Reason: fmt.Sprintf("no network namespace %s", e.Netns)})
		case err != nil:
			pending = append(pending, Pending{ID: e.ID, Reason: err.Error()})
		case held && holder == "":
			pending = append(pending, Pending{ID: e.ID, Reason: e.Netns + " is the host's own network namespace", Refused: true})
		case held:
			pending = append(pending, Pending{ID: e.ID, Reason: fmt.Sprintf("%s is the namespace of %s too", e.Netns, holder), Refused: true})
		default:
			taken[id] = e.ID
			present = append(present, e)
		}
	}
	return present, pending
}

const nsfsMagic = 0x6e736673 // include/uapi/linux/magic.h

func identify(path string) (inode, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return inode{}, err
	}
	defer f.Close()
	var fs unix.Statfs_t
	var st unix.Stat_t
	if err := unix.Fstatfs(int(f.Fd()), &fs); err != nil {
		return inode{}, fmt.Errorf("%s: %w", path, err)
	}
	if fs.Type != nsfsMagic {
		return inode{}, fmt.Errorf("%s is no network namespace (yet)", path)
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
