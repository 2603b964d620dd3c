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
		r, err := s.Get(ctx, key)
		switch {
		case err == nil:
			records[i] = r
		case errors.Is(err, ErrNotFound):
			records[i].Key = key
		default:
			return nil, err
		}
	}
	return records, nil
}
