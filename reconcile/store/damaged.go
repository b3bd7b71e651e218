package store

import (
	"errors"
	"fmt"
	"runtime/debug"
	"syscall"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
)

// openSound opens a database and reads all of it. bbolt trusts what it maps: a page that a disk lost would end the process at
// the first use of it, which may be in the middle of a change.
func openSound(file string, options *bbolt.Options) (db *bbolt.DB, err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true)) // what is mapped beyond the file's end
	defer func() {
		if r := recover(); r != nil { // bbolt's locks are in no state to close it
			db, err = nil, damaged(r)
		}
	}()
	db, err = bbolt.Open(file, 0o600, options)
	var system syscall.Errno
	switch {
	case errors.Is(err, berrors.ErrTimeout) || errors.As(err, &system):
		return nil, err
	case err != nil:
		return nil, damaged(err)
	}
	read := 0
	err = db.View(func(tx *bbolt.Tx) error {
		return tx.ForEach(func(_ []byte, b *bbolt.Bucket) error {
			return b.ForEach(func(k, v []byte) error {
				for _, c := range v {
					read += int(c)
				}
				read += len(k)
				return nil
			})
		})
	})
	if err != nil {
		return nil, errors.Join(damaged(err), db.Close())
	}
	return db, nil
}

func damaged(why any) error {
	return fmt.Errorf("it is damaged (%v): put a copy of it back, or move it away, and netd apply makes it anew; which addresses were handed out to containers is then forgotten", why)
}
