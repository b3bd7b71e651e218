package main

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// terminal is a pseudo terminal: what is typed at one end is the input of a command at the other.
func terminal(t *testing.T) (keyboard, input *os.File) {
	t.Helper()
	keyboard, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = keyboard.Close() })
	if err := unix.IoctlSetPointerInt(int(keyboard.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(keyboard.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	input, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = input.Close() })
	return keyboard, input
}

// TestStalePlan: between the plan that is shown and the yes the host and the file change. Nothing is done, and what changed
// is named; by itself and through the daemon.
func TestStalePlan(t *testing.T) {
	l := newLab(t, "vxlan")
	h := l.hosts[0]
	stale := func(change func(), want ...string) {
		t.Helper()
		keyboard, input := terminal(t)
		var out said
		cmd := h.command("apply")
		cmd.Stdin, cmd.Stdout, cmd.Stderr = input, &out, &out
		if err := h.Start(cmd); err != nil {
			t.Fatal(err)
		}
		l.wait("the question", func() string {
			if text := out.String(); !strings.Contains(text, "[y/N]") {
				return "asked nothing: " + text
			}
			return ""
		})
		change()
		if _, err := keyboard.WriteString("y\n"); err != nil {
			t.Fatal(err)
		}
		err := cmd.Wait()
		if e, ok := err.(*exec.ExitError); !ok || e.ExitCode() != exitFailed {
			t.Errorf("the stale plan: %v", err)
		}
		_, text, _ := strings.Cut(out.String(), "[y/N]")
		for _, w := range append(want, "the plan is stale and nothing was done") {
			if !strings.Contains(text, w) {
				t.Errorf("want %q in:\n%s", w, text)
			}
		}
	}
	edit := func(from, to string) {
		t.Helper()
		b, err := os.ReadFile(l.file)
		if err == nil {
			err = os.WriteFile(l.file, []byte(strings.Replace(string(b), from, to, 1)), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	h.must(0, "apply", "-y")
	h.Run(t, "ip route del 10.10.194.128/26")
	stale(func() { h.Run(t, "ip route del blackhole 10.10.40.128/26") }, "now also: + route 10.10.40.128/26  blackhole")
	if out := h.Run(t, "ip route"); strings.Contains(out, "10.10.194.128/26") {
		t.Errorf("something was done:\n%s", out)
	}
	stale(func() { edit("10.10.194.128/26", "10.10.194.128/25") }, "the configuration is ", "no longer: + route 10.10.194.128/26", "now also: + route 10.10.194.128/25")
	h.must(0, "apply", "-y")

	h.start()
	h.must(0, "destroy", "-y") // it rests: neither file nor host is its own to change
	stale(func() { edit("10.10.194.128/25", "10.10.194.128/26") }, "the configuration is ", "no longer: + route 10.10.194.128/25", "now also: + route 10.10.194.128/26")
	if out := h.Run(t, "ip route"); strings.Contains(out, "10.10.") {
		t.Errorf("something was done:\n%s", out)
	}
}
