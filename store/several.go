package store

import (
	"context"
	"fmt"
)

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

// ValidateSeveral returns an error that wraps [ErrInvalid] if changes break a rule of [SeveralCommitter] that can be told without
// looking at what is stored. A CommitSeveral begins with it. Cost: O(writes and their bytes).
func ValidateSeveral(changes []Change) error {
	if len(changes) == 0 {
		return fmt.Errorf("%w: a commit of several heads without any", ErrInvalid)
	}
	var all []Write
	for i := range changes {
		head := changes[i].Head
		if err := ValidateCommit(head, changes[i].Writes); err != nil {
			return err
		}
		if !DeletesHead(head.Key, changes[i].Writes) {
			all = append(all, Write{Record: Record{Key: head.Key}})
		}
		all = append(all, changes[i].Writes...)
	}
	return validateDistinct(all)
}
