package store_test

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"netd/reconcile/object"
	"netd/reconcile/store"
	"netd/testenv/netns"
)

func TestMain(m *testing.M) { netns.Main(m) }

func endpoint(i int) store.Endpoint {
	a := netip.AddrFrom4([4]byte{10, 10, byte(i >> 8), byte(i)})
	id := object.Place(fmt.Sprintf("cni/c%d/eth0", i))
	return store.Endpoint{ID: id, Sticky: string(id), Owner: "cni", Interface: "eth0", IPv4: a, MAC: "02:00:00:00:00:01", Network: "lab"}
}

// TestTornWrite: the machine goes down while the last transaction is on its way to the disk. What is found is the state
// before it, whole, since bbolt has two heads and the newer is written last.
func TestTornWrite(t *testing.T) {
	dir := t.TempDir()
	db, err := store.Open(dir, false)
	if err != nil {
		t.Fatal(err)
	}
	put := func(i int) {
		if err := db.Update(func(tx store.Tx) error { return tx.Put(endpoint(i)) }); err != nil {
			t.Fatal(err)
		}
	}
	put(1)
	put(2)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "netd.db")
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	page := os.Getpagesize()
	newer := 0 // the head with the higher transaction id, 48 bytes into the meta behind the page's head of 16
	if b[page+16+48] > b[16+48] {
		newer = page
	}
	for i := newer + 16; i < newer+page/2; i++ { // the first half of its page did not arrive
		b[i] = 0xa5
	}
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	if db, err = store.Open(dir, false); err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var ids []string
	if err := db.View(func(tx store.Tx) error {
		return tx.Endpoints(func(e store.Endpoint) error { ids = append(ids, string(e.ID)); return nil })
	}); err != nil {
		t.Fatal(err)
	}
	if strings.Join(ids, " ") != "cni/c1/eth0" {
		t.Errorf("found %v; want what was there before the torn write", ids)
	}
	put(3)
}

// TestFullDisk: on a full disk nothing is handed out and nothing that was there is lost; with room again it goes on.
func TestFullDisk(t *testing.T) {
	netns.Need(t) // its mount namespace: a small disk
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=256k"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	db, err := store.Open(dir, false)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	count := func() (n int) {
		if err := db.View(func(tx store.Tx) error { return tx.Endpoints(func(store.Endpoint) error { n++; return nil }) }); err != nil {
			t.Fatal(err)
		}
		return n
	}
	filler := filepath.Join(dir, "filler")
	f, err := os.Create(filler)
	if err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = f.Write(make([]byte, 4096))
	}
	_ = f.Close()
	put := 0
	for ; err != nil && put < 2000; put++ {
		if err = db.Update(func(tx store.Tx) error { return tx.Put(endpoint(put)) }); err != nil {
			break
		}
		err = os.ErrExist // until it fails
	}
	if err == nil || put == 2000 {
		t.Fatal("the disk never was full")
	}
	if n := count(); n != put {
		t.Errorf("%d endpoints are known after %d that were written", n, put)
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	if err := db.Update(func(tx store.Tx) error { return tx.Put(endpoint(put)) }); err != nil {
		t.Errorf("with room again: %v", err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if db, err = store.Open(dir, false); err != nil {
		t.Fatal(err)
	}
	if n := count(); n != put+1 {
		t.Errorf("%d endpoints after it was opened again, want %d", n, put+1)
	}
}
