package main

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	"netd/reconcile/desired"
)

// session is the connection that this process's user is logged in over; its zero value where there is none or it cannot be
// told. SSH_CONNECTION names it (sshd(8)); sudo drops that variable, so that else an ancestor's connection is looked for.
func session(env string) desired.Session {
	if f := strings.Fields(env); len(f) == 4 {
		there, err1 := netip.ParseAddr(f[0])
		here, err2 := netip.ParseAddr(f[2])
		if err1 == nil && err2 == nil {
			return desired.Session{Here: here.Unmap(), There: there.Unmap()}
		}
	}
	for pid := os.Getppid(); pid > 1; pid = parentOf(pid) {
		if s, ok := sessionOf(pid); ok {
			return s
		}
	}
	return desired.Session{}
}

func parentOf(pid int) int {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	i := strings.LastIndexByte(string(b), ')') // the name may hold blanks and brackets
	if f := strings.Fields(string(b[i+1:])); len(f) > 1 {
		n, _ := strconv.Atoi(f[1])
		return n
	}
	return 0
}

// sessionOf is the first connection of another host's that a process holds.
func sessionOf(pid int) (desired.Session, bool) {
	var inodes []string
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		to, _ := os.Readlink(dir + "/" + e.Name())
		if inode, ok := strings.CutPrefix(to, "socket:["); ok {
			inodes = append(inodes, strings.TrimSuffix(inode, "]"))
		}
	}
	if len(inodes) == 0 {
		return desired.Session{}, false
	}
	for _, table := range []string{"tcp", "tcp6"} {
		f, err := os.Open(fmt.Sprintf("/proc/%d/net/%s", pid, table))
		if err != nil {
			continue
		}
		s, ok := established(f, inodes)
		_ = f.Close()
		if ok {
			return s, true
		}
	}
	return desired.Session{}, false
}

// established finds the connection of one of the sockets in a table of the kernel's (proc(5), /proc/net/tcp).
func established(table io.Reader, inodes []string) (desired.Session, bool) {
	for lines := bufio.NewScanner(table); lines.Scan(); {
		f := strings.Fields(lines.Text())
		if len(f) < 10 || f[3] != "01" || !slices.Contains(inodes, f[9]) {
			continue
		}
		here, ok1 := procAddr(f[1])
		there, ok2 := procAddr(f[2])
		if ok1 && ok2 && !there.IsLoopback() {
			return desired.Session{Here: here, There: there}, true
		}
	}
	return desired.Session{}, false
}

// procAddr reads "8AAAA8C0:0016": words of 32 bits, each as the processor has it, here little-endian.
func procAddr(s string) (netip.Addr, bool) {
	s, _, _ = strings.Cut(s, ":")
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != 4 && len(b) != 16 {
		return netip.Addr{}, false
	}
	for i := 0; i < len(b); i += 4 {
		slices.Reverse(b[i : i+4])
	}
	a, ok := netip.AddrFromSlice(b)
	return a.Unmap(), ok
}
