package bolt

import (
	"errors"
	"os"
	"testing"
	"time"

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

// Shrink makes the file smaller at once, without rests: it calls rested instead, if that is not nil.
func Shrink(s *Store, rested func()) error {
	takeOver(s, pace{least: 1, slack: Slack, sleep: func(time.Duration) <-chan time.Time {
		if rested != nil {
			rested()
		}
		return time.After(0)
	}})
	return s.shrink()
}

// ShrinkSoon has s make its file smaller by itself, when it has been open for so long and there is the least to gain.
func ShrinkSoon(s *Store, after time.Duration) {
	s.writing.Lock()
	defer s.writing.Unlock()
	s.shrinking.pace = pace{least: 1, after: after, slack: Slack, sleep: time.After}
}

// Slack is how many pages a file keeps beside an eighth.
var Slack = usualPace.slack

// takeOver sets the pace, and has no commit begin to make the file smaller.
func takeOver(s *Store, p pace) {
	s.writing.Lock()
	defer s.writing.Unlock()
	s.shrinking.pace, s.shrinking.active = p, true
}

// IsShrinking reports whether s is about to make its file smaller by itself.
func IsShrinking(s *Store) bool {
	s.writing.Lock()
	defer s.writing.Unlock()
	return s.shrinking.active
}

// ShrinkForEver has s sweep its file again and again until it is closed, whether or not there is anything to gain.
func ShrinkForEver(s *Store) {
	sleep := func(time.Duration) <-chan time.Time { return time.After(time.Millisecond) }
	takeOver(s, pace{least: 1, slack: 8, sleep: sleep})
	s.shrinking.running.Go(func() {
		for s.wait(0) == nil {
			if live, _, err := s.estimate(); err == nil {
				_ = s.shrinkTo(live)
			}
		}
	})
}

// FailTruncate has s fail to truncate its file until the function that it returns is called.
func FailTruncate(t testing.TB, s *Store) (end func()) {
	reader, err := os.Open(s.path)
	require.NoError(t, err)
	writer := s.file.handle
	s.file.handle = reader
	return func() {
		s.file.handle = writer
		require.NoError(t, reader.Close())
	}
}

// BeginRead begins to read, and so keeps all pages that commits free, until the function that it returns is called.
// That returns how many keys there are.
func BeginRead(t testing.TB, s *Store) (end func() (keys int)) {
	tx, err := s.db.Begin(false)
	require.NoError(t, err)
	return func() (keys int) {
		require.NoError(t, tx.ForEach(func(_ []byte, b *bbolt.Bucket) error {
			return b.ForEach(func([]byte, []byte) error { keys++; return nil })
		}))
		require.NoError(t, tx.Rollback())
		return keys
	}
}
