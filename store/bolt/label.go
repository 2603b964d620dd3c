package bolt

import (
	"bytes"
	"context"
	"fmt"
	"iter"

	"go.etcd.io/bbolt"

	"github.com/ipalloc/ipalloc/store"
)

// firstLabelRecords is how many records ByLabel reads at first; each later page may be twice as large. Who asks for a
// label takes all that have it.
const firstLabelRecords = 32

// ByLabel implements [store.Labeller], in the order of the names, byte by byte. It reads ahead no more records than
// List, in short transactions; no transaction is open while it yields. Cost: one look-up for each record.
func (s *Store) ByLabel(ctx context.Context, l store.Labelled) iter.Seq2[store.Record, error] {
	return func(yield func(store.Record, error) bool) {
		if err := l.Validate(); err != nil {
			yield(store.Record{}, err)
			return
		}
		after := encodeLabel(store.Key{Kind: l.Kind, Pool: l.Pool, Name: l.After}, l.Name, l.Value)
		if l.After == "" {
			after = nil
		}
		for limit := firstLabelRecords; ; limit = min(2*limit, pageRecords) {
			page, last, err := s.readLabelPage(ctx, l, after, limit)
			if err != nil {
				yield(store.Record{}, err)
				return
			}
			if !s.yieldPage(ctx, l.Kind, l.Pool, page, yield) || len(page) == 0 {
				return
			}
			after = last
		}
	}
}

// readLabelPage returns the records that the index has after the entry after, from the first one on if that is nil, and
// the last of these entries.
func (s *Store) readLabelPage(
	ctx context.Context, l store.Labelled, after []byte, limit int,
) (page []pair, last []byte, err error) {
	prefix := encodeLabel(store.Key{Kind: l.Kind, Pool: l.Pool}, l.Name, l.Value)
	start := prefix
	if after != nil {
		start = after
	}
	err = s.view(ctx, func(tx *bbolt.Tx) error {
		p := newPages(s.file.handle, tx)
		records, err := p.bucket(tx, bucketOf(l.Kind))
		if err != nil {
			return err
		}
		index, err := p.bucket(tx, bucketLabels)
		if err != nil {
			return err
		}
		cursor, size := index.cursor(), 0
		entry, _, err := cursor.seek(start)
		if err == nil && after != nil && bytes.Equal(entry, after) {
			entry, _, err = cursor.next()
		}
		for err == nil && bytes.HasPrefix(entry, prefix) && len(page) < limit && size < pageBytes {
			key := encodeKey(store.Key{Kind: l.Kind, Pool: l.Pool, Name: string(entry[len(prefix):])})
			value, err := records.get(key)
			switch {
			case err != nil:
				return err
			case value == nil:
				return fmt.Errorf("%w: the index by label has the record %.80q, which does not exist", ErrCorrupt, key)
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

// encodeLabel returns the key that the index by label has for the record under key.
func encodeLabel(key store.Key, name, value string) []byte {
	text := make([]byte, 0, len(key.Kind)+len(key.Pool)+len(name)+len(value)+len(key.Name)+4)
	for _, part := range []string{string(key.Kind), key.Pool, name, value} {
		text = append(append(text, part...), 0)
	}
	return append(text, key.Name...)
}

// reindexLabels makes the index by label say what it is to say of the record under key.
func (w writer) reindexLabels(key store.Key, before, after map[string]string) {
	for name, value := range before {
		if now, ok := after[name]; !ok || now != value {
			w.labels.delete(encodeLabel(key, name, value))
		}
	}
	for name, value := range after {
		if old, ok := before[name]; !ok || old != value {
			entry := encodeLabel(key, name, value)
			w.labels.put(entry, nil, len(entry)-len(key.Name))
		}
	}
}
