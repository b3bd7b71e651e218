package containerd

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestFind(t *testing.T) {
	const shim = "/usr/bin/containerd-shim-runc-v2\x00-namespace\x00default\x00-id\x00web\x00-address\x00/run/containerd/containerd.sock\x00"
	for _, x := range []struct{ name, pid, stat, parent, want string }{
		{"a child of its shim", "42", "42 (sleep) S 7 42", shim, "42/ns/net"},
		{"its name has brackets and blanks", "42\n", "42 (a) b (c) S 7 42", shim, "42/ns/net"},
		{"runc, which makes it, is between them still", "42", "42 (runc:[2:INIT]) S 8 8", shim, "42/ns/net"},
		{"another's, made by runc", "42", "42 (runc:[2:INIT]) S 8 8", strings.Replace(shim, "web", "web2", 1), ""},
		{"half written", "", "42 (sleep) S 7 42", shim, ""},
		{"ended", "42", "", shim, ""},
		{"the number is another process's", "42", "42 (sshd) S 7 42", "/usr/sbin/sshd\x00-D\x00", ""},
		{"that of another container", "42", "42 (sleep) S 7 42", strings.Replace(shim, "web", "web2", 1), ""},
		{"that of another namespace", "42", "42 (sleep) S 7 42", strings.Replace(shim, "default", "moby", 1), ""},
		{"not a number", "../1", "42 (sleep) S 7 42", shim, ""},
	} {
		t.Run(x.name, func(t *testing.T) {
			r := Runtime{State: t.TempDir(), proc: t.TempDir()}
			write := func(path, text string) {
				t.Helper()
				if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			write(r.Path("default/web"), x.pid)
			if x.stat != "" {
				write(filepath.Join(r.proc, "42/stat"), x.stat)
			}
			write(filepath.Join(r.proc, "7/cmdline"), x.parent)
			write(filepath.Join(r.proc, "7/stat"), "7 (shim) S 1 7")
			write(filepath.Join(r.proc, "8/cmdline"), "runc\x00--root\x00/run/containerd/runc/default\x00create\x00web\x00")
			write(filepath.Join(r.proc, "8/stat"), "8 (runc) S 7 8")
			got, err := r.Find("default/web")
			if x.want == "" {
				if !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("%q, %v, want none", got, err)
				}
				return
			}
			if err != nil || got != filepath.Join(r.proc, x.want) {
				t.Errorf("%q, %v, want %q", got, err, x.want)
			}
		})
	}
	if _, err := (Runtime{State: t.TempDir()}).Find("default/web"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without containerd: %v", err)
	}
	if p := (Runtime{State: "/s"}).Path("../../etc"); p != "/s/io.containerd.runtime.v2.task" {
		t.Errorf("a name leads to %s", p)
	}
}
