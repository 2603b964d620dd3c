package bolt

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"iter"
	"time"

	"go.etcd.io/bbolt"

	"github.com/ipalloc/ipalloc/store"
)

// firstPageRecords is how many records ByExpiry reads at first; each later page may be twice as large. Who asks what
// has expired takes few.
const firstPageRecords = 8

// ByExpiry implements [store.Store]. It reads ahead no more records than List, in short transactions; no transaction is
// open while it yields. It keeps the names of all records that it has yielded.
func (s *Store) ByExpiry(ctx context.Context, kind store.Kind, pool string) iter.Seq2[store.Record, error] {
	return func(yield func(store.Record, error) bool) {
		if err := (store.Key{Kind: kind, Pool: pool}).Validate(); err != nil {
			yield(store.Record{}, err)
			return
		}
		seen := make(map[string]bool)
		once := func(r store.Record, err error) bool {
			if err == nil && seen[r.Name] { // renewed since, so that the index has it again
				return true
			}
			seen[r.Name] = true
			return yield(r, err)
		}
		after := encodeListPrefix(kind, pool)
		for limit := firstPageRecords; ; limit = min(2*limit, pageRecords) {
			page, last, err := s.readExpiryPage(ctx, kind, pool, after, limit)
			if err != nil {
				yield(store.Record{}, err)
				return
			}
			if !s.yieldPage(ctx, kind, pool, page, once) || len(page) == 0 {
				return
			}
			after = last
		}
	}
}

// readExpiryPage returns the records that the index has after the entry after, and the last of these entries.
func (s *Store) readExpiryPage(
	ctx context.Context, kind store.Kind, pool string, after []byte, limit int,
) (page []pair, last []byte, err error) {
	prefix := encodeListPrefix(kind, pool)
	err = s.view(ctx, func(tx *bbolt.Tx) error {
		p := newPages(s.file.handle, tx)
		records, err := p.bucket(tx, bucketOf(kind))
		if err != nil {
			return err
		}
		index, err := p.bucket(tx, bucketExpiry)
		if err != nil {
			return err
		}
		cursor, size := index.cursor(), 0
		entry, _, err := cursor.seek(after)
		if err == nil && bytes.Equal(entry, after) {
			entry, _, err = cursor.next()
		}
		for err == nil && bytes.HasPrefix(entry, prefix) && len(page) < limit && size < pageBytes {
			if len(entry) < len(prefix)+expiryTimeBytes {
				return fmt.Errorf("%w: the index by expiry has the key %.80q", ErrCorrupt, entry)
			}
			key := append(bytes.Clone(prefix), entry[len(prefix)+expiryTimeBytes:]...)
			value, err := records.get(key)
			switch {
			case err != nil:
				return err
			case value == nil:
				return fmt.Errorf("%w: the index by expiry has the record %.80q, which does not exist", ErrCorrupt, key)
			}
			page = append(page, pair{key, bytes.Clone(value)})
			size += len(key) + len(value)
			last = bytes.Clone(entry)
			if entry, _, err = cursor.next(); err != nil {
				return err
			}
		}
		return err
	})
	return page, last, err
}

// expiryTimeBytes is how many bytes the time has in a key of the index by expiry.
const expiryTimeBytes = 8

// encodeExpiry returns the key that the index by expiry has for the record under key.
func encodeExpiry(key store.Key, expires time.Time) []byte {
	text := encodeListPrefix(key.Kind, key.Pool)
	text = binary.BigEndian.AppendUint64(text, uint64(expires.UnixMicro()-time.Time{}.UnixMicro()))
	return append(text, key.Name...)
}
