// Package vagrant has the test of the Vagrantfile and of its page: image.sh makes what they need, run.sh runs the test in it.
package vagrant

import (
	"flag"
	"os"
	"os/exec"
	"testing"
	"time"

	"netd/testenv/console"
)

var update = flag.Bool("update", false, "write docs/how-to/two-machines.md anew")

// TestTwoMachines brings the machines of the Vagrantfile up and runs every command of docs/how-to/two-machines.md.
func TestTwoMachines(t *testing.T) {
	if os.Getenv("NETD_VAGRANT_INSIDE") == "" {
		t.Skip("two virtual machines take minutes: make vagrant-test runs them")
	}
	// Vagrant would look for the Vagrantfile's box at its maker's: this one has its name. Progress is a thousand lines.
	cmd := exec.Command("bash", "-o", "pipefail", "-c", `{ vagrant box add --name debian/bookworm64 /box/box.tar && vagrant up; } 2>&1 |
		stdbuf -oL tr '\r' '\n' | grep --line-buffered -v -E 'Progress:|^$'`)
	cmd.Dir, cmd.Stdout, cmd.Stderr = "../..", os.Stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("vagrant up: %v", err)
	}
	console.Shell{Dir: "../..", Env: os.Environ(), Limit: 5 * time.Minute}.Check(t, *update, "docs/how-to/two-machines.md")
}
