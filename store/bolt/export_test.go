package bolt

import (
	"errors"

	"go.etcd.io/bbolt"
)

// FailLastFlush makes a transaction and then tells s that its last flush has failed.
func FailLastFlush(s *Store) error {
	if err := s.db.Update(func(*bbolt.Tx) error { return nil }); err != nil {
		return err
	}
	return s.settleFailed(errors.New("the last flush failed"))
}
