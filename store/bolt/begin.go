package bolt

// This file reaches two private locks of bbolt, since no lock around bbolt can do without that: if Begin panics, calls
// that are already within bbolt (a read that ends, a commit that maps a larger file) wait for these locks for ever.

import (
	"reflect"
	"sync"

	"go.etcd.io/bbolt"
)

// read runs do in a transaction for reading.
func (s *Store) read(do func(*bbolt.Tx) error) error {
	return s.guard(func() error {
		tx, err := begin(s.db)
		if err != nil {
			return err
		}
		defer tx.Rollback() //nolint:errcheck // of a transaction for reading
		return do(tx)
	})
}

// begin begins a transaction for reading.
func begin(db *bbolt.DB) (*bbolt.Tx, error) {
	returned := false
	defer func() {
		if !returned {
			unlockAfterPanic(db)
		}
	}()
	tx, err := db.Begin(false)
	returned = true
	return tx, err
}

// unlockAfterPanic releases the two locks that bbolt holds when it panics in Begin, because the first pages of the file
// are gone or are damaged. The size of the file was checked just before, so this happens only if the file is cut off
// between the two, or if its metas are overwritten. TestCutOffInUse fails if bbolt changes its locks.
func unlockAfterPanic(db *bbolt.DB) {
	fields := reflect.ValueOf(db).Elem()
	if lock := fields.FieldByName("mmaplock"); lock.IsValid() && lock.Type() == reflect.TypeFor[sync.RWMutex]() {
		(*sync.RWMutex)(lock.Addr().UnsafePointer()).RUnlock()
	}
	if lock := fields.FieldByName("metalock"); lock.IsValid() && lock.Type() == reflect.TypeFor[sync.Mutex]() {
		(*sync.Mutex)(lock.Addr().UnsafePointer()).Unlock()
	}
}
