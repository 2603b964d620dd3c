package sqlite

import (
	"context"
	"iter"
	"maps"

	"github.com/ipalloc/ipalloc/store"
)

// The statements about labels. The name of an allocation may be empty.
const (
	labelSQL = "SELECT r.kind, r.pool, r.name, r.revision, r.state, r.prefixes, r.labels, r.created, r.expires, r.data " +
		"FROM label l JOIN record r ON r.kind = l.kind AND r.pool = l.pool AND r.name = l.name " +
		"WHERE l.kind = ? AND l.pool = ? AND l.label = ? AND l.value = ? AND l.name "
	labelTailSQL  = " ? ORDER BY l.name LIMIT ?"
	labelFirstSQL = labelSQL + ">=" + labelTailSQL
	labelNextSQL  = labelSQL + ">" + labelTailSQL

	deleteLabelSQL = "DELETE FROM label WHERE kind = ? AND pool = ? AND label = ? AND value = ? AND name = ?"
	putLabelSQL    = "INSERT INTO label (kind, pool, label, value, name) VALUES (?, ?, ?, ?, ?)"
)

// firstLabelRecords is how many records ByLabel reads at first; each later page may be twice as large. Who asks for a
// label takes all that have it.
const firstLabelRecords = 32

// ByLabel implements [store.Labeller], in the order of the names, byte by byte. It reads ahead no more records than
// List; nothing is open or locked while it yields. Cost: one look-up for each record. Records that cannot be read come
// last, as a [store.DamagedError].
func (s *Store) ByLabel(ctx context.Context, l store.Labelled) iter.Seq2[store.Record, error] {
	return func(yield func(store.Record, error) bool) {
		if err := l.Validate(); err != nil {
			yield(store.Record{}, err)
			return
		}
		listing := listing{store: s, yield: yield}
		text, after := labelFirstSQL, l.After
		if after != "" {
			text = labelNextSQL
		}
		for limit := firstLabelRecords; ; limit = min(2*limit, pageRecords) {
			page, err := s.page(ctx, text, string(l.Kind), l.Pool, l.Name, l.Value, after, limit)
			if !listing.page(ctx, page, err) || len(page) == 0 {
				break
			}
			text, after = labelNextSQL, page[len(page)-1].name
		}
		listing.end()
	}
}

// relabel gives table label the labels of the record under key.
func (c *conn) relabel(key store.Key, before, after map[string]string) error {
	if maps.Equal(before, after) {
		return nil
	}
	for name, value := range before {
		if err := c.do(deleteLabelSQL, string(key.Kind), key.Pool, name, value, key.Name); err != nil {
			return err
		}
	}
	for name, value := range after {
		if err := c.do(putLabelSQL, string(key.Kind), key.Pool, name, value, key.Name); err != nil {
			return err
		}
	}
	return nil
}
