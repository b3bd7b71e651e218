// Package console runs the pages of the documentation: every command of their console blocks, in order, each with what it prints.
package console

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// Shell runs commands one after the other, by bash in Dir with Env.
type Shell struct {
	Dir   string
	Env   []string
	Limit time.Duration // of one command
}

// Run returns what a command prints, on either stream. What is wrong with it stands there.
func (s Shell) Run(t *testing.T, command string) string {
	t.Helper()
	out, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	cmd := exec.Command("bash", "-c", command)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = s.Dir, s.Env, out, out // a file: what goes on in the background does not hold it up
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stuck := time.AfterFunc(s.Limit, func() { _ = cmd.Process.Kill() })
	defer stuck.Stop()
	_ = cmd.Wait()
	b, err := os.ReadFile(out.Name())
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// Check runs every command of the page at path and compares what it prints with what the page says; with update it writes the
// page anew. A page of fewer than least commands is a fault: most likely its blocks are no longer found.
func (s Shell) Check(t *testing.T, path string, least int, update bool) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	commands := 0
	console := false
	for line := range strings.Lines(string(text)) {
		command, isCommand := strings.CutPrefix(line, "$ ")
		switch {
		case line == "```console\n":
			console = true
		case line == "```\n":
			console = false
		case console && !isCommand:
			continue // printed by the command above
		}
		got.WriteString(line)
		if console && isCommand {
			commands++
			for out := range strings.Lines(s.Run(t, strings.TrimSuffix(command, "\n"))) {
				fmt.Fprintln(&got, strings.TrimRight(out, " \r\n"))
			}
		}
	}
	if commands < least {
		t.Errorf("%d commands", commands)
	}
	if update {
		if err := os.WriteFile(path, []byte(got.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, have := steady(string(text)), steady(got.String())
	if want == have {
		return
	}
	old := strings.Split(want, "\n")
	for i, line := range strings.Split(have, "\n") {
		if i >= len(old) || old[i] != line {
			t.Fatalf("%s, line %d, is not what happens (the same test with -update writes it anew):\n%s\nThe whole page:\n%s", path, i+1, line, got.String())
		}
	}
	t.Fatalf("%s says more than what happens", path)
}

// steady hides what is another each time: times, process numbers, MAC addresses and indexes that the kernel gives.
func steady(s string) string {
	for _, x := range []struct{ pattern, with string }{
		{`(?m)^netd: waiting for the daemon\n`, ""}, // where it takes longer than 2 s
		{`time[= ][0-9.]+ ?ms`, "time"},
		{`rtt min/avg/max/mdev = .*`, "rtt"},
		{`pid [0-9]+, version [^,]+, up [0-9a-z.]+`, "pid"},
		{`  by pid [0-9]+ \([a-z]+\)`, ""}, // a program that ended before netd could look is not named
		{`[0-9]+ (added|destroyed)`, "some $1"},
		{`[0-9]{2}:[0-9]{2}:[0-9]{2}  route`, "at  route"},
		{`IP [0-9.]+\.[0-9]{4,5} > 192`, "IP port > 192"},
		{`[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]+Z`, "since"},
		{`id [0-9]+, seq [0-9]+`, "id, seq"},
		{`peer_ifindex: [0-9]+`, "peer_ifindex"},
		{`@(if[0-9]+|ens33)`, "@if"},
		{`(STALE|REACHABLE|DELAY|PROBE)`, "STATE"},
		{`(?m)^192\.168\.170\.13[78] dev ens33 lladdr.*$`, "underlay"},
		{`proto (142|netd)`, "proto netd"},
	} {
		s = regexp.MustCompile(x.pattern).ReplaceAllString(s, x.with)
	}
	return s
}
