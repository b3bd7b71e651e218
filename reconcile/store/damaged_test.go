package store_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"netd/reconcile/store"
)

// TestDamaged opens databases that a disk or a careless hand damaged: an error that says so and what to do, or nothing lost.
func TestDamaged(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "netd.db")
	db, err := store.Open(dir, false)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 100 {
		if err := db.Keep(fmt.Sprintf("net.ipv4.conf.eth%d.forwarding", i), strings.Repeat("0", 20)); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.SetApplied(store.Applied{Digest: strings.Repeat("x", 40_000)}); err != nil {
		t.Fatal(err)
	}
	names := len(db.Names())
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	sound, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	const page = 4096
	damages := map[string][]byte{
		"noise":     bytes.Repeat([]byte{0xa5}, len(sound)),
		"100 zeros": make([]byte, 100),
	}
	for size := page; size < len(sound); size += page {
		damages[fmt.Sprintf("cut to %d", size)] = sound[:size]
		for _, with := range []byte{0, 0xa5, 0xff} {
			b := bytes.Clone(sound)
			copy(b[size:], bytes.Repeat([]byte{with}, page))
			damages[fmt.Sprintf("%#x in page %d", with, size/page)] = b
		}
	}
	said := 0
	for what, b := range damages {
		for _, readOnly := range []bool{true, false} {
			dir := t.TempDir() // what is damaged stays locked until the process ends
			if err := os.WriteFile(filepath.Join(dir, "netd.db"), b, 0o600); err != nil {
				t.Fatal(err)
			}
			db, err := store.Open(dir, readOnly)
			switch {
			case err != nil && strings.Contains(err.Error(), "it is damaged") && strings.Contains(err.Error(), "move it away"):
				said++
			case err != nil:
				t.Errorf("%s: %v", what, err)
			default: // a page of no use any more
				if got := len(db.Names()); got != names {
					t.Errorf("%s: %d of %d settings are there, and no word", what, got, names)
				}
				if err := db.Close(); err != nil {
					t.Errorf("%s: %v", what, err)
				}
			}
		}
	}
	if said < 10 {
		t.Errorf("%d of %d said that they are damaged", said, 2*len(damages))
	}

	// Killed as it made it.
	dir = t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "netd.db"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, readOnly := range []bool{true, false} {
		db, err := store.Open(dir, readOnly)
		if err != nil {
			t.Fatal(err)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
