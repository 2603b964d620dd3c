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

	pageSize  uint64
	shrinking shrinking
	oldPages  sync.Pool // see [pages]
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
		p, buckets, text := s.pages(tx), map[string]*bucket{}, []byte(nil)
		defer p.recycle()
		for i, key := range keys {
			records[i].Key = key
			from, err := buckets[bucketOf(key.Kind)], error(nil)
			if from == nil {
				if from, err = p.bucket(tx, bucketOf(key.Kind)); err != nil {
					return err
				}
				buckets[bucketOf(key.Kind)] = from
			}
			text = appendKey(text[:0], key)
			value, err := from.get(text)
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
	sound, err := s.close()
	if sound {
		s.shrinking.running.Wait()
	}
	return s.wrap(err)
}

// close closes the file, and reports whether it was not broken.
func (s *Store) close() (sound bool, err error) {
	if s.file.state() == nil {
		s.writing.Lock()
		defer s.writing.Unlock()
	}
	wasOpen, broken := s.file.close()
	switch {
	case !wasOpen:
		return broken == nil, nil
	case broken != nil:
		s.file.release()
		return false, broken
	default:
		return true, s.db.Close()
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
		read := portion{prefix: encodeListPrefix(kind, pool)}
		for limit := pageRecords; ; limit = min(2*limit, mostRecords) {
			if err := s.readOn(ctx, bucketOf(kind), &read, limit); err != nil {
				yield(store.Record{}, err)
				return
			}
			if !s.yieldPage(ctx, kind, pool, read.page, yield) || len(read.page) == 0 {
				return
			}
		}
	}
}

// pair is one record as it is in the file.
type pair struct{ key, value []byte }

// portion is what List has read in one transaction, of the records whose keys begin with prefix.
type portion struct {
	prefix []byte
	page   []pair
	text   []byte // of the page
	last   []byte // the last key that was read; nil before the first
}

// readOn reads the records of a bucket that follow what was read, up to limit, and forgets that.
func (s *Store) readOn(ctx context.Context, from string, read *portion, limit int) error {
	read.page, read.text = read.page[:0], read.text[:0]
	return s.view(ctx, func(tx *bbolt.Tx) error {
		p := s.pages(tx)
		defer p.recycle()
		bucket, err := p.bucket(tx, from)
		if err != nil {
			return err
		}
		cursor := bucket.cursor()
		start := read.prefix
		if read.last != nil {
			start = read.last
		}
		key, value, err := cursor.seek(start)
		if err == nil && read.last != nil && bytes.Equal(key, read.last) {
			key, value, err = cursor.next()
		}
		for err == nil && bytes.HasPrefix(key, read.prefix) && len(read.page) < limit && len(read.text) < pageBytes {
			read.keep(key, value)
			key, value, err = cursor.next()
		}
		if n := len(read.page); n > 0 {
			read.last = append(read.last[:0], read.page[n-1].key...)
		}
		return err
	})
}

// keep adds a copy of a record.
func (p *portion) keep(key, value []byte) {
	start, middle := len(p.text), len(p.text)+len(key)
	p.text = append(append(p.text, key...), value...)
	p.page = append(p.page, pair{p.text[start:middle:middle], p.text[middle:len(p.text):len(p.text)]})
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
