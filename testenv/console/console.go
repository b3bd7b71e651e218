// Package console runs the pages of the documentation: every command that they show, in order, each with what it prints. A block
// that is marked console has commands behind "$ " and what each prints; one marked sh has commands that have to succeed.
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
	Enter []string // what a command line begins with, where the shell is another host's
	Dir   string
	Env   []string
	Limit time.Duration // of one command
}

// Run returns what a command prints, on either stream, and whether it failed.
func (s Shell) Run(t *testing.T, command string) (string, error) {
	t.Helper()
	out, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	line := append(append([]string{}, s.Enter...), "bash", "-c", command)
	cmd := exec.Command(line[0], line[1:]...)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = s.Dir, s.Env, out, out // a file: what goes on in the background does not hold it up
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stuck := time.AfterFunc(s.Limit, func() { _ = cmd.Process.Kill() })
	defer stuck.Stop()
	failed := cmd.Wait()
	b, err := os.ReadFile(out.Name())
	if err != nil {
		t.Fatal(err)
	}
	return string(b), failed
}

// Check runs every command of a page, or of the sections of it that are named, in that order, and compares what it prints with what
// the page says; with update it writes the page anew. A page is named by its path in the repository, a section by its heading, and
// ends at the next one. A test of the repository finds the calls, and every block that none of them runs: name both literally.
func (s Shell) Check(t *testing.T, update bool, page string, sections ...string) {
	t.Helper()
	path := filepath.Join(root(t), page)
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	all := Sections(string(text))
	run := map[string]bool{}
	for i := range all {
		if len(sections) == 0 {
			s.section(t, update, page, &all[i])
		}
	}
	for _, title := range sections {
		for i := range all {
			if all[i].Title == title {
				s.section(t, update, page, &all[i])
				run[title] = true
			}
		}
		if !run[title] {
			t.Errorf("%s has no section %q", page, title)
		}
	}
	if update {
		var b strings.Builder
		for _, x := range all {
			b.WriteString(x.Text)
		}
		if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// section runs a section's commands, and puts what they print in the place of what it said.
func (s Shell) section(t *testing.T, update bool, page string, x *Section) {
	t.Helper()
	var got strings.Builder
	kind, open := "", ""
	for line := range strings.Lines(x.Text) {
		command, isCommand := strings.CutPrefix(line, "$ ")
		switch marker, isFence := strings.CutPrefix(line, "```"); {
		case isFence && kind == "":
			kind = strings.TrimSpace(marker) + "\n"
		case isFence:
			kind = ""
		case kind == "sh\n":
			open += line
			if strings.HasSuffix(line, "\\\n") {
				break // goes on
			}
			if out, err := s.Run(t, open); err != nil {
				t.Fatalf("%s, %s: %v\n%s%s", page, x.Title, err, open, out)
			}
			open = ""
		case kind == "console\n" && !isCommand:
			continue // printed by the command above
		}
		got.WriteString(line)
		if kind == "console\n" && isCommand {
			out, _ := s.Run(t, strings.TrimSuffix(command, "\n")) // what is wrong with it stands there
			for out := range strings.Lines(out) {
				fmt.Fprintln(&got, strings.TrimRight(out, " \r\n"))
			}
		}
	}
	said := x.Text
	x.Text = got.String()
	if want, have := steady(said), steady(x.Text); !update && want != have {
		old := strings.Split(want, "\n")
		for i, line := range strings.Split(have, "\n") {
			if i >= len(old) || old[i] != line {
				t.Fatalf("%s, line %d of %q, is not what happens (the same test with -update writes it anew):\n%s\nThe whole section:\n%s", page, i+1, x.Title, line, x.Text)
			}
		}
		t.Fatalf("%s, %q, says more than what happens", page, x.Title)
	}
}

// root is the folder of the repository.
func root(t *testing.T) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		if dir == "/" {
			t.Fatal("no go.mod in any folder above")
		}
		dir = filepath.Dir(dir)
	}
}

// steady hides what is another each time: times, process numbers, MAC addresses and indexes that the kernel gives.
func steady(s string) string {
	for _, x := range []struct{ pattern, with string }{
		{`(?m)^netd: waiting for .*\n`, ""}, // where it takes longer than 2 s
		{`time[= ][0-9.]+ ?ms`, "time"},
		{`rtt min/avg/max/mdev = .*`, "rtt"},
		{`pid [0-9]+, version [^,]+, up [0-9a-z.]+`, "pid"},
		{`  by pid [0-9]+ \([a-z]+\)`, ""}, // a program that ended before netd could look is not named
		{`[0-9]+ (added|destroyed)`, "some $1"},
		{`[0-9]{2}:[0-9]{2}:[0-9]{2}  route`, "at  route"},
		{`IP [0-9.]+\.[0-9]{4,5} > 192`, "IP port > 192"},
		{`(?m) +\([0-9]{4}-[0-9]{2}-[0-9]{2} [0-9:]{8}: .*\)$`, ""}, // what a session failed by before it came up, where another host was late
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
