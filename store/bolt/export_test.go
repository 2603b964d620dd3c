package bolt

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"

	"github.com/ipalloc/ipalloc/store"
)

// How a record becomes a value and the other way round, by whichever way fits it and by the one that fits all.
var (
	EncodeRecord    = encodeRecord
	EncodeAnyRecord = encodeAny
	DecodeAnyRecord = decodeAny
)

// DecodeRecord also reports whether the value was so simple that it was read without package json.
func DecodeRecord(key store.Key, value []byte) (r store.Record, simple bool, err error) {
	_, simple = decodeSimple(key, value)
	r, err = decodeRecord(key, value)
	return r, simple, err
}

// FailLastFlush makes a transaction and then tells s that its last flush has failed.
func FailLastFlush(s *Store) error {
	if err := s.db.Update(func(*bbolt.Tx) error { return nil }); err != nil {
		return err
	}
	return s.settleFailed(errors.New("the last flush failed"))
}

// ListedPages is how many free pages bbolt lists, which each commit writes.
func ListedPages(s store.Store) (n int) {
	db := s.(*Store).db
	_ = db.Update(func(tx *bbolt.Tx) error {
		if free, ok := freePagesOf(tx); ok {
			n = free.list.FreeCount() + free.list.PendingCount()
		}
		return errors.New("rolled back")
	})
	return n
}

// BeginRead begins to read, and so keeps all pages that commits free, until the function that it returns is called.
func BeginRead(t testing.TB, s *Store) (end func()) {
	tx, err := s.db.Begin(false)
	require.NoError(t, err)
	return func() { require.NoError(t, tx.Rollback()) }
}
