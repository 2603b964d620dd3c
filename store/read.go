package store

import (
	"context"
	"errors"
)

// Reader is a [Store] that reads many records in fewer round trips than one for each.
type Reader interface {
	// GetAll returns the records under the keys, in the order of the keys, each as [Store.Get] would. One that does not
	// exist has revision 0, and of its fields only the key is set. A key may be there twice.
	GetAll(ctx context.Context, keys ...Key) ([]Record, error)
}

// GetAll reads many records: by the GetAll of a [Reader], and by as many calls of Get on any other store.
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

// getOrNone returns the record under key, or one of revision 0 that has nothing but the key if there is none.
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
