package bench

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/pprof"
	"strings"
	"syscall"
	"testing"

	"netd/testenv/netns"
)

const roleVariable = "NETD_BENCH_ROLE"

// measured is what one run of one side took: seconds and the like by name.
type measured map[string]float64

// rolesOf are what a child can do. Each runs in a fresh network namespace, alone in its process, so that its memory and its
// garbage are its own.
func rolesOf() map[string]func(args []string) (measured, error) {
	return map[string]func([]string) (measured, error){
		"routes":  routesRole,
		"nothing": nothingRole,
		"gobgp":   gobgpRole,
	}
}

// play is the main function of a child. NETD_BENCH_PROFILE names a folder for a CPU profile of each.
func play(role string, args []string) int {
	f, ok := rolesOf()[role]
	if !ok {
		fmt.Fprintf(os.Stderr, "no such role: %s\n", role)
		return 64
	}
	if dir := os.Getenv("NETD_BENCH_PROFILE"); dir != "" {
		file, err := os.Create(filepath.Join(dir, strings.Join(append([]string{role}, args...), "-")+".pprof"))
		if err == nil {
			err = pprof.StartCPUProfile(file)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer pprof.StopCPUProfile()
	}
	m, err := f(args)
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(m)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// child plays a role in a fresh network namespace and returns what it measured, with the most memory that it ever held (in
// MB) as "memory".
func child(b testing.TB, role string, args ...string) measured {
	b.Helper()
	netns.Need(b)
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), roleVariable+"="+role)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		b.Fatalf("%s %s: %v: %s", role, strings.Join(args, " "), err, said.Bytes())
	}
	var m measured
	if err := json.Unmarshal(out, &m); err != nil {
		b.Fatalf("%s %s said %q: %v", role, strings.Join(args, " "), out, err)
	}
	m["memory"] = peak(cmd)
	return m
}

// peak is the most memory that a command ever held, in MB.
func peak(cmd *exec.Cmd) float64 {
	return float64(cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss) * 1024 / 1e6
}

// shell runs lines of commands, the last word of the caller on an error.
func shell(lines string) error {
	out, err := exec.Command("sh", "-ec", lines).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", strings.TrimSpace(lines), err, bytes.TrimSpace(out))
	}
	return nil
}
