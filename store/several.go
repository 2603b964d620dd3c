package store

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"time"
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

// SeveralStore is a [Store] that can commit several heads.
type SeveralStore interface {
	Store
	SeveralCommitter
}

// SeveralOptions are the options of [SeveralWith]. The zero SeveralOptions are the defaults. They may be copied.
type SeveralOptions struct {
	// Random is where the identifiers of commits come from, 16 bytes each, which must never repeat within a store. The default, nil, is
	// [rand.Reader]. It must be safe for concurrent use.
	Random io.Reader
	// Patience is how long whoever meets a head in a commit of another lets that one go on before it takes the other's process for dead, and makes that commit
	// fail or, if it has taken effect, carries it out. It should be several times as long as a commit of several heads takes, else such
	// commits fail or end with [ErrUnknown]; it is wrong about nothing else. The default, 0, is one second.
	Patience time.Duration
}

// Several returns s itself if it is a [SeveralCommitter]. Otherwise it returns a store that carries out a commit of several heads as a number of
// commits of one head each, so that it is atomic nevertheless, whatever process stops at whatever moment.
//
// It is atomic to all who use the heads through Several: everyone who reads or commits a head that may be in such a commit must, and such a
// head must never be put or deleted as a mere write of another head's commit. Who reads the heads one after the other may see the effect on one and then, later, on
// another; none is ever seen without the effect after another was seen with it. Records beside the heads follow when the
// commit returns or, if its process stops, when someone meets their head next. That a record to be created does not exist is checked
// before the commit; it is certain for records that are only ever written with the same head.
//
// It fails as [SeveralCommitter] says. If it fails because others contend for the heads, then some of the heads, unchanged, may have new
// revisions. [ErrUnknown] may also be returned when the commit has taken effect, and a head's new revision cannot be told any more because others
// have changed the head since.
//
// What the store returned is besides implements [Finder], [Expirer] and, if s does, [Watcher]. It keeps nothing in memory. Close closes s.
//
// Cost of a commit of n heads: n reads and one for each record to be created, then 2n commits. All else costs what it costs in s, and more only
// where it meets a head of such a commit that is under way.
func Several(s Store) SeveralStore { return SeveralWith(s, SeveralOptions{}) }

// SeveralWith is [Several] with options.
func SeveralWith(s Store, opts SeveralOptions) SeveralStore {
	if several, ok := s.(SeveralStore); ok {
		return several
	}
	if opts.Random == nil {
		opts.Random = rand.Reader
	}
	if opts.Patience <= 0 {
		opts.Patience = defaultPatience
	}
	c := &coordinator{inner: s, random: opts.Random, patience: opts.Patience}
	if watcher, ok := s.(Watcher); ok {
		return &watchingCoordinator{coordinator: c, watcher: watcher}
	}
	return c
}

const defaultPatience = time.Second
