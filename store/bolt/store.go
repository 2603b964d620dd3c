package bolt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"

	"go.etcd.io/bbolt"

	"github.com/ipalloc/ipalloc/store"
)

// Store is a [store.Store] in one file. The package comment says what it guarantees.
//
// The zero Store is not usable, see [Open]. A Store must not be copied. All methods may be called by any number of
// goroutines at once: reads run in parallel to each other and to a commit; commits run one after the other.
type Store struct {
	db      *bbolt.DB
	file    *file
	path    string
	writing sync.Mutex // held by the one that commits
	waiting *waiting
	turns   store.Turns
}

var (
	_ store.Store    = (*Store)(nil)
	_ store.Grouper  = (*Store)(nil)
	_ store.Reader   = (*Store)(nil)
	_ store.Labeller = (*Store)(nil)
)

// Path returns the path that was given to Open. It may be called after Close.
func (s *Store) Path() string { return s.path }

// Get implements [store.Store]. Cost: O(log of the records stored); it writes nothing.
func (s *Store) Get(ctx context.Context, key store.Key) (store.Record, error) {
	records, err := s.GetAll(ctx, key)
	switch {
	case err != nil:
		return store.Record{}, err
	case records[0].Revision == 0:
		return store.Record{}, s.wrap(fmt.Errorf("%w: %v", store.ErrNotFound, key))
	}
	return records[0], nil
}

// GetAll implements [store.Reader], in one transaction.
func (s *Store) GetAll(ctx context.Context, keys ...store.Key) ([]store.Record, error) {
	if err := store.ValidateKeys(keys...); err != nil {
		return nil, err
	}
	records := make([]store.Record, len(keys))
	err := s.view(ctx, func(tx *bbolt.Tx) error {
		p, buckets := newPages(s.file.handle, tx), map[string]*bucket{}
		for i, key := range keys {
			records[i].Key = key
			from, err := buckets[bucketOf(key.Kind)], error(nil)
			if from == nil {
				if from, err = p.bucket(tx, bucketOf(key.Kind)); err != nil {
					return err
				}
				buckets[bucketOf(key.Kind)] = from
			}
			value, err := from.get(encodeKey(key))
			if err == nil && value != nil {
				records[i], err = decodeRecord(key, value)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	return records, err
}

// Turn implements [store.Store]. The order is kept in this process: all commits go through this Store, because the file
// is locked.
func (s *Store) Turn(ctx context.Context, keys ...store.Key) (store.Turn, error) {
	if err := ctx.Err(); err != nil {
		return nil, s.wrap(err)
	}
	return s.turns.Turn(ctx, s.Get, keys...)
}

// Join implements [store.Grouper]. The order is that of Turn.
func (s *Store) Join(ctx context.Context, key store.Key, ask []byte) (store.GroupTurn, error) {
	if err := ctx.Err(); err != nil {
		return nil, s.wrap(err)
	}
	return s.turns.Join(ctx, s.Get, key, ask)
}

// Close implements [store.Store]. It ends calls of Watch, waits for other running calls, and unlocks the file. If the
// file was found to be truncated, or so damaged that it is not used any more, Close returns an error that wraps
// [ErrCorrupt]; it then waits for no call, and the file stays mapped until the process ends.
func (s *Store) Close() error {
	s.waiting.end()
	if s.file.state() == nil {
		s.writing.Lock()
		defer s.writing.Unlock()
	}
	switch wasOpen, broken := s.file.close(); {
	case !wasOpen:
		return nil
	case broken != nil:
		s.file.release()
		return s.wrap(broken)
	default:
		return s.wrap(s.db.Close())
	}
}

// view runs do in a transaction for reading. What do keeps of the file's bytes it must copy.
func (s *Store) view(ctx context.Context, do func(*bbolt.Tx) error) error {
	if err := ctx.Err(); err != nil {
		return s.wrap(err)
	}
	if _, err := s.file.check(); err != nil {
		return s.wrap(err)
	}
	latest := s.file.latest.Load()
	return s.wrap(s.read(func(tx *bbolt.Tx) error {
		if int64(tx.ID()) < latest {
			return s.file.breaks(foreign(tx.ID(), latest))
		}
		return do(tx)
	}))
}

// How much List reads at once, in one transaction: whichever is reached first. A page has at least one record.
const (
	pageRecords = 128 // the first time
	mostRecords = 1024
	pageBytes   = 256 << 10
)

// List implements [store.Store]. It yields the records in the order of their keys. It holds at most 1,024 of them in
// memory, which it reads in one short transaction; no transaction is open while it yields.
func (s *Store) List(ctx context.Context, kind store.Kind, pool string) iter.Seq2[store.Record, error] {
	return func(yield func(store.Record, error) bool) {
		if err := store.ValidateList(kind, pool); err != nil {
			yield(store.Record{}, err)
			return
		}
		prefix := encodeListPrefix(kind, pool)
		var after []byte
		for limit := pageRecords; ; limit = min(2*limit, mostRecords) {
			page, err := s.readPage(ctx, bucketOf(kind), prefix, after, limit)
			if err != nil {
				yield(store.Record{}, err)
				return
			}
			if !s.yieldPage(ctx, kind, pool, page, yield) || len(page) == 0 {
				return
			}
			after = page[len(page)-1].key
		}
	}
}

// pair is one record as it is in the file.
type pair struct{ key, value []byte }

// readPage returns the records of a bucket after the key after, of those whose keys begin with prefix: up to limit.
func (s *Store) readPage(ctx context.Context, from string, prefix, after []byte, limit int) (page []pair, err error) {
	err = s.view(ctx, func(tx *bbolt.Tx) error {
		start := prefix
		if after != nil {
			start = after
		}
		bucket, err := newPages(s.file.handle, tx).bucket(tx, from)
		if err != nil {
			return err
		}
		cursor, text := bucket.cursor(), make([]byte, 0, pageBytes/8)
		keep := func(b []byte) []byte {
			start := len(text)
			text = append(text, b...)
			return text[start:len(text):len(text)]
		}
		key, value, err := cursor.seek(start)
		if err == nil && after != nil && bytes.Equal(key, after) {
			key, value, err = cursor.next()
		}
		for err == nil && bytes.HasPrefix(key, prefix) && len(page) < limit && len(text) < pageBytes {
			page = append(page, pair{keep(key), keep(value)})
			key, value, err = cursor.next()
		}
		return err
	})
	return page, err
}

// yieldPage yields the records of page, which are of one kind, and of one pool unless that is empty. It reports whether
// to go on.
func (s *Store) yieldPage(
	ctx context.Context, kind store.Kind, pool string, page []pair, yield func(store.Record, error) bool,
) bool {
	for _, p := range page {
		key, keyErr := decodeKeyOf(kind, pool, p.key)
		record, valueErr := decodeRecord(key, p.value)
		if err := errors.Join(ctx.Err(), keyErr, valueErr); err != nil {
			yield(store.Record{}, s.wrap(err))
			return false
		}
		if !yield(record, nil) {
			return false
		}
	}
	return true
}
