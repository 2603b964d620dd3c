package store

import (
	"context"
	"iter"
	"slices"
)

// ByExpiryFromList is [Store.ByExpiry] for a driver without an index by expiry. The argument list is the driver's own
// [Store.List]:
//
//	func (s *Store) ByExpiry(ctx context.Context, kind store.Kind, pool string) iter.Seq2[store.Record, error] {
//		return store.ByExpiryFromList(ctx, s.List, kind, pool)
//	}
//
// Cost: before it yields the first record it lists all records of the kind in the pool. It keeps those that expire in
// memory.
func ByExpiryFromList(ctx context.Context, list func(context.Context, Kind, string) iter.Seq2[Record, error],
	kind Kind, pool string,
) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		if err := (Key{Kind: kind, Pool: pool}).Validate(); err != nil {
			yield(Record{}, err)
			return
		}
		var expiring []Record
		for r, err := range list(ctx, kind, pool) {
			if err != nil {
				yield(Record{}, err)
				return
			}
			if !r.Expires.IsZero() {
				expiring = append(expiring, r)
			}
		}
		slices.SortFunc(expiring, func(a, b Record) int { return a.Expires.Compare(b.Expires) })
		for _, r := range expiring {
			if !yield(r, nil) {
				return
			}
		}
	}
}
