package watch

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// culprits finds the process behind a netlink port. The kernel numbers a port by the process that opens it where it can, but
// it may be a process of another pid namespace, or one that chose its number: so the process must hold the socket of that
// port in its hands, or nothing is said. One that has ended already is not known.
type culprits struct {
	known map[uint32]string // of the last moments
	since time.Time
}

const culpritsFor = 200 * time.Millisecond

func newCulprits() *culprits { return &culprits{known: map[uint32]string{}} }

// of is the process behind a port, in words; empty where that is not certain, or it is the kernel itself.
func (c *culprits) of(port uint32) string {
	if port == 0 {
		return ""
	}
	if now := time.Now(); now.Sub(c.since) > culpritsFor { // a number is used again
		clear(c.known)
		c.since = now
	}
	who, ok := c.known[port]
	if !ok {
		who = process(port)
		c.known[port] = who
	}
	return who
}

func process(port uint32) string {
	proc := fmt.Sprintf("/proc/%d/", port)
	comm, err := os.ReadFile(proc + "comm")
	if err != nil {
		return ""
	}
	fds, err := os.ReadDir(proc + "fd")
	if err != nil {
		return ""
	}
	held := map[string]bool{}
	for _, fd := range fds {
		if to, err := os.Readlink(proc + "fd/" + fd.Name()); err == nil && strings.HasPrefix(to, "socket:[") {
			held[strings.TrimSuffix(strings.TrimPrefix(to, "socket:["), "]")] = true
		}
	}
	if len(held) == 0 {
		return ""
	}
	list, err := os.ReadFile("/proc/net/netlink") // sk Eth Pid Groups Rmem Wmem Dump Locks Drops Inode
	if err != nil {
		return ""
	}
	for line := range bytes.Lines(list) {
		f := strings.Fields(string(line))
		if len(f) >= 10 && f[1] == "0" && f[2] == strconv.FormatUint(uint64(port), 10) && held[f[9]] {
			return culprit(port, strings.TrimSpace(string(comm)))
		}
	}
	return ""
}
