package store

import "context"

// Change is one head and the writes that go with it, as [Store.Commit] takes them. The zero Change is not valid. A Change shares
// its slices with its copies.
type Change struct {
	Head   Record
	Writes []Write
}

// SeveralCommitter is implemented by a [Store] whose backend can replace several heads in one atomic step. Get one for any store with
// [Several].
type SeveralCommitter interface {
	// CommitSeveral is [Store.Commit] for several heads at once: all changes, or nothing. It returns the heads as they are now stored, in
	// the order of the changes. The records of one change get the revision of its head.
	//
	// No two of all the heads and writes may be under one key, except for the [Delete] of a head in its own change; and there is at least
	// one change: otherwise the error wraps [ErrInvalid], before anything is changed.
	//
	// It fails as Commit does. The [ConflictError] is about one of the heads that are not at their revision.
	//
	// Cost: one round trip to the backend, and O(writes).
	CommitSeveral(ctx context.Context, changes []Change) ([]Record, error)
}
