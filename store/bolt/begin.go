package bolt

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
// are gone or are damaged. Without this, other calls that are within bbolt wait for ever. The locks are private to
// bbolt, and there is no other way to them. TestCutOffInUse fails if bbolt changes them.
func unlockAfterPanic(db *bbolt.DB) {
	fields := reflect.ValueOf(db).Elem()
	if lock := fields.FieldByName("mmaplock"); lock.IsValid() && lock.Type() == reflect.TypeFor[sync.RWMutex]() {
		(*sync.RWMutex)(lock.Addr().UnsafePointer()).RUnlock()
	}
	if lock := fields.FieldByName("metalock"); lock.IsValid() && lock.Type() == reflect.TypeFor[sync.Mutex]() {
		(*sync.Mutex)(lock.Addr().UnsafePointer()).Unlock()
	}
}
