package store_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"netd/reconcile/store"
)

// schema1 writes a database as schema 1 had it: settings, and a schema.
func schema1(t *testing.T, dir, schema string) {
	t.Helper()
	db, err := bbolt.Open(filepath.Join(dir, "netd.db"), 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		meta, err1 := tx.CreateBucket([]byte("meta"))
		sysctl, err2 := tx.CreateBucket([]byte("sysctl"))
		if err := errors.Join(err1, err2); err != nil {
			return err
		}
		for i := range 500 { // pages enough that a commit takes its time
			value := strings.TrimSpace(string(boot)) + "\x00" + fmt.Sprint(i)
			if err := sysctl.Put(fmt.Appendf(nil, "net.ipv4.conf.eth%d.forwarding", i), []byte(value)); err != nil {
				return err
			}
		}
		return meta.Put([]byte("schema"), []byte(schema))
	})
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
}

// at reads a database's schema and what it has of netd's, past the store.
func at(t *testing.T, dir string) (schema string, buckets int, key bool) {
	t.Helper()
	db, err := bbolt.Open(filepath.Join(dir, "netd.db"), 0o600, &bbolt.Options{ReadOnly: true, Timeout: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	err = db.View(func(tx *bbolt.Tx) error {
		schema = string(tx.Bucket([]byte("meta")).Get([]byte("schema")))
		key = tx.Bucket([]byte("meta")).Get([]byte("key")) != nil
		for _, name := range []string{"meta", "sysctl", "endpoint", "address"} {
			if tx.Bucket([]byte(name)) != nil {
				buckets++
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return schema, buckets, key
}

// kept fails unless all that schema 1 kept is still there.
func kept(t *testing.T, db *store.DB) {
	t.Helper()
	for i := range 500 {
		if v, ok := db.Before(fmt.Sprintf("net.ipv4.conf.eth%d.forwarding", i)); !ok || v != fmt.Sprint(i) {
			t.Fatalf("setting %d is %q, %t", i, v, ok)
		}
	}
}

// TestOlderSchema opens a database of schema 1: it is migrated, with all that it kept; a reader leaves it as it is.
func TestOlderSchema(t *testing.T) {
	dir := t.TempDir()
	schema1(t, dir, "1")
	for _, readOnly := range []bool{true, false} {
		db, err := store.Open(dir, readOnly)
		if err != nil {
			t.Fatal(err)
		}
		kept(t, db)
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		schema, buckets, key := at(t, dir)
		if want := fmt.Sprint(store.Schema); !readOnly && (schema != want || buckets != 4 || !key) {
			t.Errorf("schema %s, %d buckets, a key: %t", schema, buckets, key)
		}
		if readOnly && (schema != "1" || buckets != 2 || key) {
			t.Errorf("after reading: schema %s, %d buckets, a key: %t", schema, buckets, key)
		}
	}
}

// TestNewerSchema opens a database of a netd that comes: it is refused in words, reading too, and stays as it is.
func TestNewerSchema(t *testing.T) {
	dir := t.TempDir()
	schema1(t, dir, fmt.Sprint(store.Schema+1))
	before, err := os.ReadFile(filepath.Join(dir, "netd.db"))
	if err != nil {
		t.Fatal(err)
	}
	for _, readOnly := range []bool{true, false} {
		db, err := store.Open(dir, readOnly)
		if err == nil {
			_ = db.Close()
		}
		if want := fmt.Sprintf("schema %d, written by a newer netd", store.Schema+1); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "netd.db") {
			t.Errorf("read only %t: %v", readOnly, err)
		}
	}
	if now, err := os.ReadFile(filepath.Join(dir, "netd.db")); err != nil || string(now) != string(before) {
		t.Errorf("the database was written to (%v)", err)
	}
}

// TestKilledMigration kills a process while it migrates, at any moment: the database is of the one schema or of the other,
// whole, and the next one that opens it migrates it.
func TestKilledMigration(t *testing.T) {
	if dir := os.Getenv("NETD_TEST_MIGRATE"); dir != "" {
		db, err := store.Open(dir, false)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Println("migrated")
		_ = db.Close()
		return
	}
	schemas := map[string]int{}
	for range 40 {
		dir := t.TempDir()
		schema1(t, dir, "1")
		cmd := exec.Command("/proc/self/exe", "-test.run", "^TestKilledMigration$")
		cmd.Env = append(os.Environ(), "NETD_TEST_MIGRATE="+dir)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		// It has come to the database when it holds it open; what it does then takes up to some milliseconds.
		ended := make(chan struct{})
		go func() { _ = cmd.Wait(); close(ended) }()
		for gone := false; !gone && !opens(cmd.Process.Pid, filepath.Join(dir, "netd.db")); {
			select {
			case <-ended:
				gone = true
			default:
			}
		}
		time.Sleep(time.Duration(rand.IntN(4000)) * time.Microsecond)
		_ = cmd.Process.Kill()
		<-ended
		schema, buckets, key := at(t, dir)
		schemas[schema]++
		if old := schema == "1" && buckets == 2 && !key; !old && (schema != fmt.Sprint(store.Schema) || buckets != 4 || !key) {
			t.Fatalf("schema %s, %d buckets, a key: %t", schema, buckets, key)
		}
		db, err := store.Open(dir, false)
		if err != nil {
			t.Fatal(err)
		}
		kept(t, db)
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		if schema, buckets, key := at(t, dir); schema != fmt.Sprint(store.Schema) || buckets != 4 || !key {
			t.Fatalf("at last: schema %s, %d buckets, a key: %t", schema, buckets, key)
		}
	}
	t.Log(schemas)
}

// opens reports whether a process has a file open.
func opens(pid int, file string) bool {
	fds, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	for _, fd := range fds {
		if at, _ := os.Readlink(fd); at == file {
			return true
		}
	}
	return false
}
