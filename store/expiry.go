package store

import (
	"context"
	"iter"
	"slices"
)

// Expirer is implemented by a [Store] that keeps an index of [Record.Expires]. Use it through [ByExpiry].
type Expirer interface {
	// ByExpiry iterates over the records of one kind and pool whose Expires is not zero, the earliest first; those with the same time come in
	// any order. It is as fresh as [Store.List], and has the same rules; a record whose Expires changes during the iteration counts as deleted
	// and created. Cost: O(records that the loop took), whatever else is stored; reading some records ahead is part of it.
	ByExpiry(ctx context.Context, kind Kind, pool string) iter.Seq2[Record, error]
}

// ByExpiry iterates over the records of one kind and pool whose Expires is not zero, the earliest first. A store that implements
// [Expirer] answers from its index; of any other, ByExpiry lists all records of that kind in the pool, and holds those that expire in
// memory, before it yields the first.
func ByExpiry(ctx context.Context, s Store, kind Kind, pool string) iter.Seq2[Record, error] {
	if e, ok := s.(Expirer); ok {
		return e.ByExpiry(ctx, kind, pool)
	}
	return func(yield func(Record, error) bool) {
		if err := (Key{Kind: kind, Pool: pool}).Validate(); err != nil {
			yield(Record{}, err)
			return
		}
		var expiring []Record
		for r, err := range s.List(ctx, kind, pool) {
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
