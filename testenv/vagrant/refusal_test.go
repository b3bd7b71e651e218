package vagrant

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestNoLibvirt: where libvirt cannot run, what make vagrant-test runs says so and fails, and never runs the command.
func TestNoLibvirt(t *testing.T) {
	if os.Getenv("NETD_VAGRANT_INSIDE") != "" {
		t.Skip("here libvirt runs")
	}
	if os.Geteuid() != 0 {
		if os.Getenv("CI") != "" {
			t.Fatal("needs root")
		}
		t.Skip("needs root")
	}
	image := t.TempDir()
	for _, name := range []string{"proc", "sys", "dev", "run", "box", "netd", "tmp", "bin"} {
		if err := os.MkdirAll(filepath.Join(image, "root", name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, x := range []struct {
		name string
		user uint32
		code int
		says string
	}{
		{"no root", 65534, 77, "run this as root"},
		{"libvirtd does not start", 0, 1, "No libvirt runs here, and so no machine of Vagrant's. libvirtd says:"},
	} {
		cmd := exec.Command("./run.sh", image, "touch", "/netd/was-run")
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: x.user, Gid: x.user}}
		out, err := cmd.CombinedOutput()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != x.code || !strings.Contains(string(out), x.says) {
			t.Errorf("%s: %v: %s", x.name, err, out)
		}
		if x.user == 0 && !strings.Contains(string(out), "libvirtd") {
			t.Errorf("%s: nothing of why: %s", x.name, out)
		}
		if _, err := os.Stat("../../was-run"); err == nil {
			t.Errorf("%s: the command was run", x.name)
		}
	}
}
