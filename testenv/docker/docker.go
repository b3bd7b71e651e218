// Package docker gives a host of testenv/containerd a real dockerd of its own, with its default paths, as in production.
package docker

import (
	"bytes"
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"netd/testenv/containerd"
)

// Image is what every host has: busybox and nothing else.
const Image = "busybox:lab"

// CLI is Debian's: another one may be in the path before it.
const CLI = "/usr/bin/docker"

// Host is a host with dockerd.
type Host struct {
	*containerd.Host
	t      testing.TB
	args   []string
	daemon *exec.Cmd
	ended  chan struct{}
	log    *bytes.Buffer
}

// New starts dockerd on a host, with further arguments, and gives it Image. All of it ends with the test.
func New(t testing.TB, c *containerd.Host, args ...string) *Host {
	t.Helper()
	for _, tool := range []string{"dockerd", CLI, "iptables"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Fatalf("needs %s (testenv/deps.sh)", tool)
		}
	}
	h := &Host{Host: c, t: t, args: append([]string{"dockerd", "--cgroup-parent", "/" + c.Name()}, args...)}
	t.Cleanup(h.Kill)
	h.Start()
	h.Docker("load", "-q", "-i", c.ImageFile())
	return h
}

// With gives dockerd further arguments from its next start on.
func (h *Host) With(args ...string) { h.args = append(h.args, args...) }

// Start starts dockerd and waits until it answers.
func (h *Host) Start() {
	h.t.Helper()
	if err := h.TryStart(); err != nil {
		h.t.Fatal(err)
	}
}

// TryStart is Start for any goroutine.
func (h *Host) TryStart() error {
	h.daemon, h.log = h.Command(h.args...), &bytes.Buffer{}
	h.daemon.Stdout, h.daemon.Stderr = h.log, h.log
	if err := h.NS().Start(h.daemon); err != nil {
		return err
	}
	h.ended = make(chan struct{})
	go func(cmd *exec.Cmd, ended chan struct{}) { _ = cmd.Wait(); close(ended) }(h.daemon, h.ended)
	deadline := time.After(3 * time.Minute) // a plugin that it misses keeps it waiting
	for {
		out, err := h.Output(CLI, "version")
		if err == nil {
			return nil
		}
		select {
		case <-h.ended:
			return fmt.Errorf("%s: dockerd ended: %s", h.Name(), h.log)
		case <-deadline:
			return fmt.Errorf("%s: dockerd does not answer: %s\n%s", h.Name(), out, h.log)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// Stop ends dockerd as systemd does, and its containers unless it was started with --live-restore.
func (h *Host) Stop() { h.end(syscall.SIGTERM) }

// Kill ends dockerd without a word; its containers go on.
func (h *Host) Kill() { h.end(syscall.SIGKILL) }

func (h *Host) end(sig syscall.Signal) {
	if h.daemon == nil {
		return
	}
	_ = h.daemon.Process.Signal(sig)
	<-h.ended
	h.daemon = nil
}

// Off has the host lose its power. Boot and Start start it again.
func (h *Host) Off() {
	h.t.Helper()
	h.Kill()
	h.Host.Off()
}

// Boot starts containerd, which a host that was Off has before dockerd.
func (h *Host) Boot() { h.Host.Start() }

// PID is dockerd's.
func (h *Host) PID() int { return h.daemon.Process.Pid }

// Ended waits for dockerd to end of itself, or by another's hand.
func (h *Host) Ended() {
	<-h.ended
	h.daemon = nil
}

// Docker runs docker on the host; the test fails if that does.
func (h *Host) Docker(args ...string) string {
	h.t.Helper()
	out, err := h.TryDocker(args...)
	if err != nil {
		h.t.Fatalf("%s: docker %s: %v: %s\n%s", h.Name(), strings.Join(args, " "), err, out, h.log)
	}
	return strings.TrimSpace(out)
}

// TryDocker runs docker on the host.
func (h *Host) TryDocker(args ...string) (string, error) {
	return h.Output(append([]string{CLI}, args...)...)
}

// Log is what dockerd said since it was started.
func (h *Host) Log() string { return h.log.String() }
