// Package store is the contract between a pool and the place where it is kept.
//
// A [Store] keeps [Record] values under [Key] values and changes them in one way only: [Store.Commit]
// replaces one record, the head, if nobody else has replaced it since it was read, together with any
// number of other records, all of them or none. That is one compare-and-swap, which a file, etcd, a SQL
// database and an API server can all do, and it is all that the rest of this library builds on.
//
// Package store knows nothing about pools. People who allocate addresses use package pool with a
// concrete driver (this package's [Memory], store/bolt, …); people who write a driver implement [Store]
// and run the conformance suite in store/storetest against it.
package store

import (
	"context"
	"iter"
)

// Store keeps records. All methods may be called by any number of goroutines at once.
//
// Who owns the bytes: a store keeps no reference to what it is given, and what it returns is the
// caller's; changing either changes nothing in the store.
//
// Errors: each method returns an error that wraps [ErrClosed] after Close. A method whose context has
// already ended returns an error that wraps the context's, and does nothing. A key, kind or pool that breaks
// the rules of [Key] gives an error that wraps [ErrInvalid]. Errors are wrapped, never flattened:
// [errors.Is] and [errors.As] find the sentinels and types of this package and, under them, the backend's
// own.
type Store interface {
	// Get returns the record under key, or an error that wraps [ErrNotFound].
	//
	// It sees every commit that returned before Get was called, through whichever handle, in whichever
	// process (it is linearizable). Cost: one round trip to the backend.
	Get(ctx context.Context, key Key) (Record, error)

	// List iterates over the records of one kind: those of one pool, or of all if pool is empty. The
	// order is the store's own.
	//
	// A record that exists during the whole iteration comes up exactly once, one that is created or
	// deleted meanwhile at most once, and each as it was at some moment during the iteration. The body of
	// the loop may call any method of the store, and may stop at any time. An error is the last thing that the
	// iteration yields. Cost: O(records listed); the store need not hold more than a part of them in memory.
	List(ctx context.Context, kind Kind, pool string) iter.Seq2[Record, error]

	// Commit replaces head, if the stored one still has head.Revision, and applies writes: all of it or
	// nothing. It is durable when it returns. It returns head as it is now stored, with its new revision.
	//
	// A head.Revision of 0 means that no head may exist yet under head.Key. The new revision is greater
	// than every revision that the key has ever had, also before it was deleted and created again. To
	// delete the head, writes contains a [Delete] of head.Key, and the head returned has the revision of
	// the commit. Deleting what does not exist is not an error.
	//
	// No two of the writes, and none but such a Delete and the head, may be under one key, and every record
	// must be valid: otherwise the error wraps [ErrInvalid], before anything is changed.
	//
	// Commit fails, and has then changed nothing, with
	//   - a [ConflictError] if the head is not at head.Revision (checked before the creates);
	//   - an [ExistsError] if the key of a [Create] exists;
	//   - a [TooLargeError] if the backend cannot take so much in one commit;
	//   - an error that wraps [ErrUnknown] if the connection was lost, the context ended or the medium
	//     failed when it was too late to know whether the commit takes effect: this alone means that it
	//     may have, or may yet;
	//   - any other error if the backend refused.
	//
	// A driver begins with [ValidateCommit], and stores and returns what [Record.Canonical] makes of each record.
	//
	// Cost: one round trip to the backend, and O(writes), whatever else is stored.
	Commit(ctx context.Context, head Record, writes []Write) (Record, error)

	// Close releases what the handle holds, and is idempotent. Records stay where they are.
	Close() error
}
