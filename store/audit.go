package store

import (
	"context"
	"iter"
)

// Auditor is a [Store] that finds the records of a List by something that people can change beside the record, such as
// the labels of an object.
type Auditor interface {
	// Audit is [Store.List], and trusts nothing but the records. It also yields those that List overlooks, and names
	// them in the [DamagedError] that comes last. Cost: O(records in the store).
	Audit(ctx context.Context, kind Kind, pool string) iter.Seq2[Record, error]
}

// Audit iterates over the records of one kind and pool, those among them that List of s may overlook. It is the Audit
// of an [Auditor], and the List of any other store. It is for whoever must know all that is there, such as a repair.
func Audit(ctx context.Context, s Store, kind Kind, pool string) iter.Seq2[Record, error] {
	if a, ok := s.(Auditor); ok {
		return a.Audit(ctx, kind, pool)
	}
	return s.List(ctx, kind, pool)
}
