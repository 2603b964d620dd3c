package store

import (
	"context"
	"iter"
)

// Auditor is a [Store] whose List relies on something that people can change apart from the record, such as the labels
// of an object.
type Auditor interface {
	// Audit is [Store.List], but relies on the records alone. It also yields the records that List overlooks, and names
	// them in the [DamagedError] at the end. Cost: O(records in the store).
	Audit(ctx context.Context, kind Kind, pool string) iter.Seq2[Record, error]
}

// Audit iterates over the records of one kind and pool, including any that List may overlook. It calls [Auditor.Audit]
// if s is an [Auditor], else List. It is for callers that must see every record, such as a repair.
func Audit(ctx context.Context, s Store, kind Kind, pool string) iter.Seq2[Record, error] {
	if a, ok := s.(Auditor); ok {
		return a.Audit(ctx, kind, pool)
	}
	return s.List(ctx, kind, pool)
}
