package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"

	"netd/testenv/lab"
	"netd/testenv/netns"
)

// TestScripts are the command line's stories, testdata/script/*.txtar: a command's words and exit codes as a user meets them.
// Each story is a host of its own, a network namespace whose link ens33 holds 192.168.170.137/24. Besides the commands of
// testscript a story has
//
//	netd …               netd on this host (exec netd …, exits CODE netd …)
//	ns …                 any program on this host (exec ns ip route)
//	nobody …             as ns, as a user without rights
//	exits CODE CMD…      run CMD, whose exit code must be CODE
//	until PATTERN CMD…   run CMD until what it prints matches PATTERN
//	! stderr '^([^n]|netd: [^w])'   nothing but what it waits for, where that takes long
//	container NAME       make the network namespace /run/netns/NAME
//	plainout FILE        the standard output is FILE word for word, where a line ... stands for any lines
func TestScripts(t *testing.T) {
	netns.Need(t)
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// The test's binary lies where only root gets to; some stories are another user's. /run is this test's own.
	bin := "/run/stories"
	if err := os.MkdirAll(bin, 0o755); err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(bin, "netd.test")
	if err := os.WriteFile(program, nil, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount(exe, program, "", unix.MS_BIND, ""); err != nil {
		t.Fatal("showing the test's binary to other users:", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(program, unix.MNT_DETACH) }) // -count runs it again in this process
	for name, text := range map[string]string{
		"netd":   "exec nsenter --net=$HOST -- env NETD_TEST_PROGRAM=1 " + program + ` "$@"`,
		"ns":     `exec nsenter --net=$HOST -- "$@"`,
		"nobody": `exec nsenter --net=$HOST -- setpriv --reuid 65534 --regid 65534 --clear-groups -- env NETD_TEST_PROGRAM=1 "$@"`,
	} {
		if err := os.WriteFile(filepath.Join(bin, name), []byte("#!/bin/sh\n"+text+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for d := t.TempDir(); d != os.TempDir(); d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		UpdateScripts:       *update,
		Deadline:            time.Now().Add(15 * time.Minute), // what hangs is ended, and said where
		Setup: func(env *testscript.Env) error {
			name := "story-" + strings.TrimSuffix(strings.TrimPrefix(filepath.Base(env.WorkDir), "script-"), ".txtar")
			host, err := netns.At("/run/netns/" + name)
			if err != nil {
				return err
			}
			env.Defer(func() {
				if err := host.Remove(); err != nil {
					t.Error(err)
				}
			})
			if filepath.Base(env.WorkDir) == "script-lab" {
				env.Defer(func() { // of a story that failed in the middle
					if err := lab.Down(); err != nil && !errors.Is(err, fs.ErrNotExist) {
						t.Error(err)
					}
				})
			}
			for _, line := range []string{
				"ip link add ens33 type veth peer name far",
				"ip addr add 192.168.170.137/24 dev ens33",
				"ip link set far up",
				"ip link set ens33 up",
			} {
				f := strings.Fields(line)
				if _, err := host.Output(f[0], f[1:]...); err != nil {
					return err
				}
			}
			if err := os.Chmod(env.WorkDir, 0o755); err != nil {
				return err
			}
			for _, v := range os.Environ() { // what the machine's user has set is no part of a story
				if n, _, _ := strings.Cut(v, "="); strings.HasPrefix(n, "NETD_") {
					env.Setenv(n, "")
				}
			}
			env.Setenv("PATH", bin+":"+env.Getenv("PATH")+":/usr/sbin:/sbin")
			env.Setenv("HOST", host.Path())
			env.Setenv("PROGRAM", program)
			env.Setenv("NETD_CONFIG", "netd.hcl")
			env.Setenv("NETD_STATE_DIR", filepath.Join(env.WorkDir, "state"))
			env.Setenv("NETD_RUN_DIR", filepath.Join(env.WorkDir, "run"))
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": func(ts *testscript.TestScript, neg bool, args []string) {
				if neg || len(args) < 2 {
					ts.Fatalf("usage: exits CODE CMD...")
				}
				want, err := strconv.Atoi(args[0])
				ts.Check(err)
				got := 0
				if err := ts.Exec(args[1], args[2:]...); err != nil {
					var e *exec.ExitError
					if !errors.As(err, &e) {
						ts.Fatalf("%v", err)
					}
					got = e.ExitCode()
				}
				if got != want {
					ts.Fatalf("exit code %d, want %d", got, want)
				}
			},
			"until": func(ts *testscript.TestScript, neg bool, args []string) {
				if neg || len(args) < 2 {
					ts.Fatalf("usage: until PATTERN CMD...")
				}
				pattern, err := regexp.Compile("(?m)" + args[0])
				ts.Check(err)
				for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
					_ = ts.Exec(args[1], args[2:]...)
					if out := ts.ReadFile("stdout") + ts.ReadFile("stderr"); pattern.MatchString(out) {
						return
					} else if time.Now().After(deadline) {
						ts.Fatalf("after a minute %s does not match:\n%s", args[0], out)
					}
				}
			},
			"container": func(ts *testscript.TestScript, neg bool, args []string) {
				for _, name := range args {
					c, err := netns.At("/run/netns/" + name)
					ts.Check(err)
					ts.Defer(func() { _ = c.Remove() })
				}
			},
			"plainout": func(ts *testscript.TestScript, neg bool, args []string) {
				if want, got := ts.ReadFile(args[0]), ts.ReadFile("stdout"); !sameButDots(want, got) {
					ts.Fatalf("want:\n%s\ngot:\n%s", want, got)
				}
			},
		},
	})
}

// sameButDots compares texts by lines; a line "..." of want stands for any number of lines.
func sameButDots(want, got string) bool {
	var b strings.Builder
	b.WriteString("^")
	for line := range strings.Lines(want) {
		if strings.TrimSpace(line) == "..." {
			b.WriteString("(?:.*\n)*")
		} else {
			b.WriteString(regexp.QuoteMeta(line))
		}
	}
	ok, err := regexp.MatchString(b.String()+"$", got)
	if err != nil {
		panic(fmt.Sprintf("%v in %q", err, want))
	}
	return ok
}
