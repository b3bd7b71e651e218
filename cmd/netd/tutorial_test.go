package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"netd/testenv/netns"
)

// TestTutorial runs every command of docs/tutorial.md, in order, and compares what it prints with what the page says.
func TestTutorial(t *testing.T) {
	netns.Need(t)
	const page = "../../docs/tutorial.md"
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	file, err := os.ReadFile("../../docs/walkthrough.hcl")
	if err != nil {
		t.Fatal(err)
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{
		"walkthrough.hcl": string(file),
		"netd":            "#!/bin/sh\nNETD_TEST_PROGRAM=1 exec " + exe + " \"$@\"\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	shell := func(command string) string {
		t.Helper()
		out, err := os.Create(filepath.Join(dir, "out"))
		if err != nil {
			t.Fatal(err)
		}
		defer out.Close()
		cmd := exec.Command("bash", "-c", command)
		cmd.Dir, cmd.Stdout, cmd.Stderr = dir, out, out // a file: what goes on in the background does not hold it up
		cmd.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH")+":/usr/sbin:/sbin")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		stuck := time.AfterFunc(time.Minute, func() { _ = cmd.Process.Kill() })
		defer stuck.Stop()
		_ = cmd.Wait() // what is wrong with it stands in its output
		b, err := os.ReadFile(out.Name())
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	t.Cleanup(func() { shell("netd lab down") })

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
			for out := range strings.Lines(shell(strings.TrimSuffix(command, "\n"))) {
				fmt.Fprintln(&got, strings.TrimRight(out, " \n"))
			}
		}
	}
	if commands < 20 {
		t.Errorf("%d commands", commands)
	}
	if *update {
		if err := os.WriteFile(page, []byte(got.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, have := steady(string(text)), steady(got.String())
	if want != have {
		for i, line := range strings.Split(have, "\n") {
			if old := strings.Split(want, "\n"); i >= len(old) || old[i] != line {
				t.Fatalf("docs/tutorial.md, line %d, is not what happens (go test ./cmd/netd -run TestTutorial -update):\n%s\nThe whole page:\n%s", i+1, line, got.String())
			}
		}
		t.Fatal("docs/tutorial.md says more than what happens")
	}
}

// steady hides what is another each time: times, process numbers, MAC addresses and indexes that the kernel gives.
func steady(s string) string {
	for _, x := range []struct{ pattern, with string }{
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
