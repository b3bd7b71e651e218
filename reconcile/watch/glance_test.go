package watch

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestGlance: what differs is told, without inotify, and what does not is not.
func TestGlance(t *testing.T) {
	dir := t.TempDir()
	file, folder := filepath.Join(dir, "netd.hcl"), filepath.Join(dir, "netd.d")
	paths := []string{file, folder, "/proc/self/ns/net", "/proc/self/ns/mnt"}
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	last := glance(paths)
	for _, x := range []struct {
		what string
		do   func() error
	}{
		{"a file that comes", func() error { write(file, "one"); return nil }},
		{"another text", func() error { write(file, "three"); return nil }},
		{"another text of the same length", func() error {
			write(file, "seven")
			return os.Chtimes(file, time.Time{}, time.Now().Add(time.Second)) // two writes within a tick of the clock
		}},
		{"another file in its place", func() error { write(file+"~", "seven"); return os.Rename(file+"~", file) }},
		{"another mode", func() error { return os.Chmod(file, 0o644) }},
		{"a folder that comes", func() error { return os.Mkdir(folder, 0o700) }},
		{"a file in it", func() error { write(filepath.Join(folder, "a.hcl"), "one"); return nil }},
		{"another text in it", func() error { write(filepath.Join(folder, "a.hcl"), "three"); return nil }},
		{"a file that goes", func() error { return os.Remove(file) }},
	} {
		if err := x.do(); err != nil {
			t.Fatal(err)
		}
		now := glance(paths)
		if now == last {
			t.Errorf("%s is not seen:\n%s", x.what, now)
		}
		if again := glance(paths); again != now {
			t.Errorf("%s: the next look sees another state\n%s\n%s", x.what, now, again)
		}
		last = now
	}
}
