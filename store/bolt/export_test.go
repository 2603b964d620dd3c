package bolt

import (
	"errors"

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
