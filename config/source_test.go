package config_test

import (
	"maps"
	"os"
	"path/filepath"
	"testing"

	"netd/config"
)

// TestSame: a source is the same until anything that parsing it reads is another, the files that file() names included.
func TestSame(t *testing.T) {
	dir := t.TempDir()
	file, input := filepath.Join(dir, "netd.hcl"), filepath.Join(dir, "pool")
	vars := map[string]string{"mode": "vxlan"}
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	read := func() *config.Source {
		t.Helper()
		s, err := config.Read(file, maps.Clone(vars))
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	text := `
variable "mode" {}
network "lab" {
  pools = [trimspace(file("pool"))]
  mode  = var.mode
}
node "a" {
  address = "192.0.2.1/24"
  blocks  = ["10.0.0.0/26"]
}
`
	write(input, "10.0.0.0/16")
	write(file, text)
	parsed := read()
	if _, ds := parsed.Parse(); ds.HasErrors() {
		t.Fatal(ds)
	}
	for _, x := range []struct {
		what   string
		do, un func()
	}{
		{"the file", func() { write(file, text+"#") }, func() { write(file, text) }},
		{"what file() reads", func() { write(input, "10.0.0.0/15") }, func() { write(input, "10.0.0.0/16") }},
		{"what file() reads is away", func() { _ = os.Remove(input) }, func() { write(input, "10.0.0.0/16") }},
		{"a variable", func() { vars["mode"] = "ipip" }, func() { vars["mode"] = "vxlan" }},
		{"one variable more", func() { vars["more"] = "" }, func() { delete(vars, "more") }},
	} {
		if !read().Same(parsed) {
			t.Fatalf("before %s is changed: not the same", x.what)
		}
		x.do()
		if read().Same(parsed) {
			t.Errorf("%s: the same", x.what)
		}
		x.un()
	}
}
