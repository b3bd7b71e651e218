package main

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"netd/testenv/console"
	"netd/testenv/netns"
)

// TestTutorial runs every command of docs/tutorial.md, in order, and compares what it prints with what the page says; then those of
// the README and of the help that bring a lab up.
func TestTutorial(t *testing.T) {
	netns.Need(t)
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
		"netd.hcl":        string(file),
		"netd":            "#!/bin/sh\nNETD_TEST_PROGRAM=1 exec " + exe + " \"$@\"\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	shell := console.Shell{Dir: dir, Env: append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH")+":/usr/sbin:/sbin"), Limit: 3 * time.Minute}
	t.Cleanup(func() { _, _ = shell.Run(t, "netd lab down") })
	shell.Check(t, *update, "docs/tutorial.md")
	shell.Check(t, *update, "README.md", "Try it on one machine")
	shell.Check(t, *update, "docs/reference.md", "netd lab", "netd lab up FILE", "netd lab exec NODE CMD...", "netd lab test [flags]", "netd lab down")
}
