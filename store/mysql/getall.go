package mysql

import (
	"context"
	"errors"
	"fmt"

	"github.com/ipalloc/ipalloc/store"
)

var _ store.Reader = (*Store)(nil)

// GetAll implements [store.Reader]. Cost: one round trip.
func (s *Store) GetAll(ctx context.Context, keys ...store.Key) ([]store.Record, error) {
	if err := s.begin(ctx); err != nil {
		return nil, s.wrap(err)
	}
	if err := store.ValidateKeys(keys...); err != nil {
		return nil, err
	}
	if len(keys) == 0 {
		return []store.Record{}, nil
	}
	records, err := s.getAll(ctx, keys)
	if err != nil {
		return nil, s.wrap(fmt.Errorf("get %v and %d more: %w", keys[0], len(keys)-1, err))
	}
	return records, nil
}

func (s *Store) getAll(ctx context.Context, keys []store.Key) ([]store.Record, error) {
	text, err := keysText(keys)
	if err != nil {
		return nil, err
	}
	conn, err := s.acquire(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	records := recordsWith(keys)
	err = call(ctx, conn, s.sql.getAll, []any{text}, func(r *reply) error { return r.intoOneOf(records) })
	return records, s.ended(ctx, err)
}

// ended is the error of a call whose outcome does not matter.
func (s *Store) ended(ctx context.Context, err error) error {
	if err != nil && !errors.Is(err, store.ErrDamaged) {
		return s.failed(ctx, err)
	}
	return err
}

// keyItem is a key as procedures take it.
type keyItem struct {
	Kind string `json:"k"`
	Pool string `json:"p"`
	Name string `json:"n"`
}

func keysText(keys []store.Key) (string, error) {
	items := make([]keyItem, len(keys))
	for i, key := range keys {
		items[i] = keyItem{string(key.Kind), key.Pool, key.Name}
	}
	return jsonText(items)
}

// recordsWith are records that do not exist, under the keys.
func recordsWith(keys []store.Key) []store.Record {
	records := make([]store.Record, len(keys))
	for i, key := range keys {
		records[i].Key = key
	}
	return records
}
