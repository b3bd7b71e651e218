package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestHanded: what a daemon parses is what it has read, whatever has become of the file since; and what file() names beside it
// is read once.
func TestHanded(t *testing.T) {
	t.Setenv("NETD_TEST_PROGRAM", "1")
	dir := t.TempDir()
	file := filepath.Join(dir, "netd.hcl")
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("mode", "bgp")
	const text = `
network "lab" {
  pools = ["10.10.0.0/16"]
  mode  = file("mode")
}
node "a" {
  address = "192.168.170.1/24"
  blocks  = ["10.10.1.0/24"]
}
`
	write("netd.hcl", text)
	a := &app{config: file}
	src, err := a.read(file)
	if err != nil {
		t.Fatal(err)
	}
	write("netd.hcl", "x = "+strings.Repeat("[", 1<<20))
	c, err := a.parseApart(t.Context(), src)
	if err != nil {
		t.Fatal(err)
	}
	if got := c.Networks[0].Mode; got != "bgp" || len(src.Inputs) != 1 || string(src.Inputs[0].Bytes) != "bgp" {
		t.Errorf("mode %q by %v", got, src.Inputs)
	}
	if w := src.Watch(); len(w) != 2 || w[1] != filepath.Join(dir, "mode") {
		t.Errorf("watches %v", w)
	}

	write("netd.hcl", strings.Replace(text, `file("mode")`, `"bgq"`, 1))
	if src, err = a.read(file); err != nil {
		t.Fatal(err)
	}
	if _, err = a.parseApart(t.Context(), src); err == nil || !strings.Contains(err.Error(), `netd.hcl:4`) {
		t.Errorf("a fault: %v", err)
	}
}
