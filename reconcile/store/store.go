// Package store is what netd keeps on disk: only what nothing else knows. netd.db holds which containers are attached and
// which addresses were handed out, what settings were before netd wrote them, and a few words about the last apply;
// config/good.json is the last configuration that was accepted.
package store

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
	"golang.org/x/sys/unix"
)

// Schema is the version of netd.db's layout.
const Schema = 2 // 2: endpoint, address

var (
	sysctlBucket = []byte("sysctl") // name → boot id, NUL, value found before the first write
	metaBucket   = []byte("meta")
)

// ErrBusy is the error of a database that another process has open for writing.
var ErrBusy = errors.New("another process has it open")

// Applied is what is remembered of the last apply.
type Applied struct {
	Digest    string         `json:"digest"` // of the configuration
	Node      string         `json:"node"`
	Addresses []netip.Addr   `json:"addresses"`       // of the node
	Blocks    []netip.Prefix `json:"blocks"`          // of the node
	Workloads []string       `json:"workloads"`       // ids of those that were attached
	Short     bool           `json:"short,omitempty"` // not all of it was made: what is missing nobody took away
}

// DB is an open database. Its methods serve one goroutine.
type DB struct {
	dir  string
	db   *bbolt.DB // nil: read-only and not there yet
	boot string
}

// Open opens the database in the state directory and makes both where they are missing. A reader makes nothing: to it a
// missing database is an empty one.
func Open(dir string, readOnly bool) (*DB, error) {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return nil, fmt.Errorf("opening the state: %w", err)
	}
	d := &DB{dir: dir, boot: string(bytes.TrimSpace(boot))}
	file := filepath.Join(dir, "netd.db")
	if readOnly {
		if info, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) || err == nil && info.Size() == 0 { // or killed as it made it
			return d, nil
		}
	} else if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("opening the state: %w", advised(err, dir, "--state-dir"))
	}
	d.db, err = openSound(file, &bbolt.Options{ReadOnly: readOnly, Timeout: 5 * time.Second})
	if errors.Is(err, berrors.ErrTimeout) {
		err = ErrBusy
	}
	if err != nil {
		return nil, fmt.Errorf("opening %s: %w", file, advised(err, dir, "--state-dir"))
	}
	if err := d.init(readOnly); err != nil {
		return nil, errors.Join(fmt.Errorf("opening %s: %w", file, advised(err, dir, "--state-dir")), d.db.Close())
	}
	return d, nil
}

// advised is an error of writing to one of netd's folders, with what to do where it is the disk's and not the folder's.
func advised(err error, dir, flag string) error {
	switch {
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return fmt.Errorf("%w; make room on the disk of %s (df -h, df -i)", err, dir)
	case errors.Is(err, unix.EROFS):
		return fmt.Errorf("%w; %s names a folder that can be written", err, flag)
	}
	return err
}

func (d *DB) init(readOnly bool) error {
	var schema int
	err := d.db.View(func(tx *bbolt.Tx) error {
		if b := tx.Bucket(metaBucket); b != nil {
			if err := json.Unmarshal(b.Get([]byte("schema")), &schema); err != nil {
				return damaged(fmt.Errorf("its schema: %w", err))
			}
		}
		return nil
	})
	switch {
	case err != nil:
		return err
	case schema > Schema:
		return fmt.Errorf("it has schema %d, written by a newer netd; this one knows %d", schema, Schema)
	case schema == Schema || readOnly:
		return nil
	}
	return d.db.Update(func(tx *bbolt.Tx) error {
		meta, err := tx.CreateBucketIfNotExists(metaBucket)
		if err != nil {
			return err
		}
		for _, name := range [][]byte{sysctlBucket, endpointBucket, addressBucket} {
			if _, err := tx.CreateBucketIfNotExists(name); err != nil {
				return err
			}
		}
		if meta.Get([]byte("key")) == nil {
			key := make([]byte, 32)
			_, _ = rand.Read(key) // never fails
			if err := meta.Put([]byte("key"), key); err != nil {
				return err
			}
		}
		return meta.Put([]byte("schema"), []byte(fmt.Sprint(Schema)))
	})
}

// Close closes the database.
func (d *DB) Close() error {
	if d.db == nil {
		return nil
	}
	return d.db.Close()
}

func (d *DB) get(bucket []byte, key string) (value []byte) {
	if d.db == nil {
		return nil
	}
	_ = d.db.View(func(tx *bbolt.Tx) error {
		if b := tx.Bucket(bucket); b != nil {
			value = bytes.Clone(b.Get([]byte(key)))
		}
		return nil
	})
	return value
}

func (d *DB) put(bucket []byte, key string, value []byte) error {
	err := d.db.Update(func(tx *bbolt.Tx) error {
		if value == nil {
			return tx.Bucket(bucket).Delete([]byte(key))
		}
		return tx.Bucket(bucket).Put([]byte(key), value)
	})
	if err != nil {
		return fmt.Errorf("keeping %s: %w", key, advised(err, d.dir, "--state-dir"))
	}
	return nil
}

// Before is what a setting was before netd wrote it. A value kept before the last boot counts for nothing.
func (d *DB) Before(name string) (string, bool) {
	boot, value, ok := bytes.Cut(d.get(sysctlBucket, name), []byte{0})
	if !ok || string(boot) != d.boot {
		return "", false
	}
	return string(value), true
}

// Names are the settings that have a value from before.
func (d *DB) Names() []string {
	var names []string
	if d.db == nil {
		return nil
	}
	_ = d.db.View(func(tx *bbolt.Tx) error {
		if b := tx.Bucket(sysctlBucket); b != nil {
			return b.ForEach(func(k, v []byte) error {
				if boot, _, _ := bytes.Cut(v, []byte{0}); string(boot) == d.boot {
					names = append(names, string(k))
				}
				return nil
			})
		}
		return nil
	})
	return names
}

// Keep keeps what a setting is before the first write. One that is kept already stays.
func (d *DB) Keep(name, value string) error {
	if _, ok := d.Before(name); ok {
		return nil
	}
	return d.put(sysctlBucket, name, []byte(d.boot+"\x00"+value))
}

// Forget drops what Keep kept.
func (d *DB) Forget(name string) error { return d.put(sysctlBucket, name, nil) }

// Key is a random key of this host, for fingerprints of passwords.
func (d *DB) Key() []byte { return d.get(metaBucket, "key") }

// Applied is what was applied last; the zero value where nothing was.
func (d *DB) Applied() (a Applied) {
	if b := d.get(metaBucket, "applied"); b != nil {
		_ = json.Unmarshal(b, &a)
	}
	return a
}

// SetApplied remembers an apply.
func (d *DB) SetApplied(a Applied) error {
	b, err := json.Marshal(a)
	if err != nil {
		return err
	}
	return d.put(metaBucket, "applied", b)
}

// Resting reports whether the daemon rests after a destroy, until the next apply.
func (d *DB) Resting() bool { return d.get(metaBucket, "resting") != nil }

// Rest sets or ends the rest.
func (d *DB) Rest(on bool) error {
	if on {
		return d.put(metaBucket, "resting", []byte("1"))
	}
	return d.put(metaBucket, "resting", nil)
}

func (d *DB) good() string { return filepath.Join(d.dir, "config", "good.json") }

// Good is the last configuration that was accepted, as config.Source.Marshal wrote it; fs.ErrNotExist where there is none.
func (d *DB) Good() ([]byte, error) { return os.ReadFile(d.good()) }

// SetGood keeps a configuration. A crash leaves the old one or the new one.
func (d *DB) SetGood(b []byte) error {
	if old, err := d.Good(); err == nil && bytes.Equal(old, b) {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(d.good()), 0o700); err != nil {
		return fmt.Errorf("keeping the configuration: %w", advised(err, d.dir, "--state-dir"))
	}
	// Always of one name: it is in an error that comes again and again and is to be told once, and a crash leaves one at most.
	temp, err := os.OpenFile(d.good()+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("keeping the configuration: %w", advised(err, d.dir, "--state-dir"))
	}
	_, err = temp.Write(b)
	err = errors.Join(err, temp.Sync(), temp.Close())
	if err == nil {
		err = os.Rename(temp.Name(), d.good())
	}
	if err != nil {
		_ = os.Remove(temp.Name())
		return fmt.Errorf("keeping the configuration: %w", advised(err, d.dir, "--state-dir"))
	}
	return nil
}
