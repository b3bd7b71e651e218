package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
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
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, above, _ := strings.Cut(string(readme), "```hcl\n") // what README has one put into netd.hcl
	above, _, _ = strings.Cut(above, "```")
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{
		"walkthrough.hcl": string(file),
		"netd.hcl":        above,
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

// TestDemo runs `make demo`'s script: what the README promises of it happens, and nothing stays.
func TestDemo(t *testing.T) {
	netns.Need(t)
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(t.TempDir(), "netd")
	if err := os.WriteFile(program, []byte("#!/bin/sh\nNETD_TEST_PROGRAM=1 exec "+exe+" \"$@\"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("../../testenv/demo.sh", program).CombinedOutput()
	if err != nil {
		t.Errorf("%v", err)
	}
	for _, want := range []string{"Plan: ", "2 packets transmitted, 2 received, 0% packet loss", "Last repairs:\n", "240 packets transmitted, 240 received, 0% packet loss",
		"10.10.194.128/26 via 192.168.170.138 dev ens33", "nginx-node    nginx-master  10.10.40.129   ok, "} {
		if !strings.Contains(strings.ReplaceAll(string(out), "proto netd", "proto 142"), want) {
			t.Errorf("it does not say %q", want)
		}
	}
	if _, err := os.Stat("/run/netd-lab"); err == nil {
		t.Error("the lab is still up")
	}
	if t.Failed() {
		t.Logf("%s", out)
	}
}
