package store

import (
	"context"
	"errors"
)

// Reader is a [Store] that reads many records in fewer round trips than one for each.
type Reader interface {
	// GetAll returns the records under the keys, in the order of the keys, each as [Store.Get] would. A record that does
	// not exist has revision 0, and only its key is set. A key may occur more than once.
	GetAll(ctx context.Context, keys ...Key) ([]Record, error)
}

// GetAll reads many records: with [Reader.GetAll] if s is a [Reader], else with one Get for each key.
func GetAll(ctx context.Context, s Store, keys ...Key) ([]Record, error) {
	if r, ok := s.(Reader); ok && len(keys) > 1 {
		return r.GetAll(ctx, keys...)
	}
	records := make([]Record, len(keys))
	for i, key := range keys {
		var err error
		if records[i], err = getOrNone(ctx, s.Get, key); err != nil {
			return nil, err
		}
	}
	return records, nil
}

// getOrNone returns the record under key, or one with revision 0 and the key alone if there is none.
func getOrNone(ctx context.Context, get func(context.Context, Key) (Record, error), key Key) (Record, error) {
	r, err := get(ctx, key)
	if errors.Is(err, ErrNotFound) {
		return Record{Key: key}, nil
	}
	return r, err
}

// ValidateKeys returns an error that wraps [ErrInvalid] unless each key is valid. A driver begins [Reader.GetAll] with
// it.
func ValidateKeys(keys ...Key) error {
	for _, key := range keys {
		if err := key.Validate(); err != nil {
			return err
		}
	}
	return nil
}
