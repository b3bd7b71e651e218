package main

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"go.uber.org/zap"

	"netd/reconcile/store"
)

// TestRereadForOneWhoLeft: who asked for the file to be read and went ended the parsing of it, which says nothing of the file.
func TestRereadForOneWhoLeft(t *testing.T) {
	t.Setenv("NETD_TEST_PROGRAM", "1")
	file := filepath.Join(t.TempDir(), "netd.hcl")
	if err := os.WriteFile(file, []byte("network \"lab\" {\n  pools = [\"10.10.0.0/16\"]\n}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	db, err := store.Open(t.TempDir(), false)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	d := &daemonState{a: &app{config: file}, log: zap.NewNop(), host: &host{db: db}, calls: make(chan func(context.Context)), fileChanged: make(news, 1)}
	ended := make(chan struct{})
	defer close(ended)
	go func() { // the loop
		for {
			select {
			case f := <-d.calls:
				f(t.Context())
			case <-ended:
				return
			}
		}
	}()
	gone, leave := context.WithCancel(t.Context())
	leave()
	for range 20 {
		if err := d.reread(gone, func(context.Context) { t.Error("it is answered") }); err == nil {
			t.Error("no error")
		}
	}
	if text := d.status.ConfigError; text != "" {
		t.Errorf("the file is said to be wrong: %s", text)
	}
}
