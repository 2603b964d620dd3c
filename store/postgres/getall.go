package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/ipalloc/ipalloc/store"
)

var _ store.Reader = (*Store)(nil)

// GetAll implements [store.Reader]. Cost: one round trip.
func (s *Store) GetAll(ctx context.Context, keys ...store.Key) ([]store.Record, error) {
	if err := s.begin(ctx); err != nil {
		return nil, err
	}
	if err := store.ValidateKeys(keys...); err != nil {
		return nil, err
	}
	records := make([]store.Record, len(keys))
	var kinds, pools, names []string
	for i, key := range keys {
		records[i].Key = key
		kinds, pools, names = append(kinds, string(key.Kind)), append(pools, key.Pool), append(names, key.Name)
	}
	if len(keys) == 0 {
		return records, nil
	}
	if err := s.getAll(ctx, records, kinds, pools, names); err != nil {
		return nil, s.wrap(fmt.Errorf("get %v and %d more: %w", keys[0], len(keys)-1, err))
	}
	return records, nil
}

// getAll fills in those of the records that exist.
func (s *Store) getAll(ctx context.Context, records []store.Record, kinds, pools, names []string) error {
	conn, err := s.acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	rows, err := conn.Query(ctx, s.sql.getAll, kinds, pools, names)
	if err != nil {
		return withContext(ctx, err)
	}
	var position, revision int64
	var f fields
	scanned := []any{&position, &revision, &f.state, &f.prefixes, &f.labels, &f.created, &f.expires, &f.data}
	_, err = pgx.ForEachRow(rows, scanned, func() error {
		r := &records[position-1]
		r.Revision = revision
		f.into(r)
		f = fields{}
		return nil
	})
	return withContext(ctx, err)
}
