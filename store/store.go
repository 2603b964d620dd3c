// Package store is the contract between a pool and the store that keeps it.
//
// A [Store] keeps a [Record] under each [Key]. Only [Store.Commit] changes records: it replaces one record, the head,
// if nobody else has replaced it since it was read, and writes any number of other records with it. Either all of
// these changes take effect or none does. One commit may have several heads. This is one compare-and-swap, which a
// file, etcd, a SQL database and an API server can all do, and the rest of this library needs nothing more.
//
// Package store knows nothing about pools. To allocate addresses, use package pool with a driver, such as store/bolt or
// this package's [Memory]. To write a driver, implement [Store] and run the conformance suite of store/storetest. A
// driver whose backend has no index, or cannot notify, implements the methods that need one with [FindByList],
// [ByExpiryFromList] and [WatchByPolling], in a line each. What only some backends do better is an optional interface
// with a function beside it that does without: [Reader], [Labeller], [Auditor], [Limiter] and [Grouper].
package store

import (
	"context"
	"iter"
	"net/netip"
)

// Store keeps records. All methods may be called by any number of goroutines at once.
//
// A store keeps no reference to its arguments, and what it returns belongs to the caller; changing either changes
// nothing in the store.
//
// Errors: after Close, each method returns an error that wraps [ErrClosed]. A method whose context has already ended
// does nothing, and returns an error that wraps the context's. A key, kind or pool that breaks the rules of [Key] gives
// an error that wraps [ErrInvalid]. Errors are wrapped, never flattened: [errors.Is] and [errors.As] find the sentinels
// and types of this package, and the backend's own errors beneath them.
type Store interface {
	// Get returns the record under key, or an error that wraps [ErrNotFound].
	//
	// It sees every commit that returned before Get was called, through any handle in any process (it is
	// linearizable). Cost: one round trip to the backend.
	Get(ctx context.Context, key Key) (Record, error)

	// List iterates over the records of one kind in one pool, or in all pools if pool is empty, in the store's own
	// order.
	//
	// It yields a record that exists during the whole iteration exactly once, and a record that is created or deleted
	// meanwhile at most once, each as it was at some moment during the iteration. The body of the loop may call any
	// method of the store, and may stop at any time. An error is the last thing that the iteration yields. Cost:
	// O(records listed); the store need not hold all of them in memory.
	//
	// List does not skip damaged records silently. A store that can tell them from the others yields the others first,
	// and then a [DamagedError] that names each damaged record. A store that cannot stops at the first one, with an
	// error.
	List(ctx context.Context, kind Kind, pool string) iter.Seq2[Record, error]

	// ByExpiry iterates over the records of one kind and pool whose Expires is not zero, the earliest first; records
	// with the same time come in any order. It follows the rules of List, and is as fresh; a record whose Expires
	// changes during the iteration counts as deleted and created.
	//
	// Cost: with an index by expiry, O(records yielded), whatever else is stored; the backend may also read some records
	// ahead. Without an index, O(records of the kind and pool); see [ByExpiryFromList].
	ByExpiry(ctx context.Context, kind Kind, pool string) iter.Seq2[Record, error]

	// Find returns the record of [KindAllocation] in pool with the longest prefix that contains addr, or an error that
	// wraps [ErrNotFound]. If several records have that prefix, it returns any of them. It is as fresh as Get.
	//
	// No prefix contains the zero Addr or a 4in6 address; a zone is ignored. Cost: a few look-ups if the backend has an
	// index of prefixes, else O(allocations of the pool); see [FindByList].
	Find(ctx context.Context, pool string, addr netip.Addr) (Record, error)

	// Watch waits until the record under key is no longer at revision, and returns the record as it then is, or an error
	// that wraps [ErrNotFound] if the record has been deleted. It returns at once if the revision already differs. A
	// revision of 0 waits for a record that does not exist yet.
	//
	// If ctx ends first, the error wraps the context's. A waiting call costs the backend next to nothing, and does not
	// hold up the handle's other methods. Watch may return an error of the backend, such as a lost connection, at any
	// time. Close ends it with [ErrClosed].
	//
	// A backend that cannot notify is polled; see [WatchByPolling].
	Watch(ctx context.Context, key Key, revision int64) (Record, error)

	// Commit replaces the head of each change if the stored head is still at head.Revision, and applies the writes of
	// all changes. It does all of this or nothing. The commit is durable when Commit returns. The result is the heads as
	// stored, in the order of the changes. All records that one commit writes get the same revision.
	//
	// A head.Revision of 0 means that there must be no record under head.Key yet. The new revision is greater than every
	// revision that any of the keys has ever had, including those before it was deleted and created again. To delete a
	// head, put a [Delete] of head.Key into the writes of its change; the returned head then has the revision of the
	// commit. Deleting a record that does not exist is not an error.
	//
	// A commit ends the turns of its changes, whether it succeeds or not; see [Change]. A turn of another store, or one
	// that has ended, is ignored.
	//
	// There must be at least one change, every record must be valid, and no two of the heads and writes may have the
	// same key, except a head and its Delete in the same change. Otherwise the error wraps [ErrInvalid], and nothing is
	// changed.
	//
	// Commit fails, without changing anything, with
	//   - a [ConflictError] for one of the heads that are not at head.Revision; this is checked before the creates;
	//   - an [ExistsError] if the key of a [Create] exists;
	//   - a [TooLargeError] if the backend cannot take so much in one commit;
	//   - any other error if the backend refused the commit.
	//
	// Only an error that wraps [ErrUnknown] leaves open whether the commit took effect, or may yet do so: the connection
	// was lost, the context ended or the medium failed while the commit was under way.
	//
	// A driver begins with [ValidateCommit], and stores and returns the [Record.Canonical] form of each record. Its
	// documentation states how many heads, records and bytes one commit takes.
	//
	// Cost: one round trip to the backend, and O(heads and writes), whatever else is stored.
	Commit(ctx context.Context, changes ...Change) ([]Record, error)

	// Turn waits for the caller's turn to replace the heads under the keys, and reads them. It is for callers whose
	// commits have met conflicts: of many callers that commit to one head, each gets through in its turn, whatever the
	// others do.
	//
	// The turns at a key follow one another in the order of the calls, over all handles in all processes, as nearly as
	// the backend can tell. A turn that lasts longer than [MaxTurn], because its process was stopped or killed, for
	// example, holds others up for at most twice that time. A turn is not a lock: a commit in a turn checks revisions as
	// any commit does. A Commit without a turn may wait for turns that were asked for earlier, or fail with a conflict.
	// Callers that keep committing without a turn must not prevent the commits of callers that have one.
	//
	// There must be at least one key, and no key twice. Otherwise the error wraps [ErrInvalid]; see [ValidateTurn]. If
	// ctx ends while the call waits, the error wraps the context's, and the call loses its place.
	//
	// Cost: a few round trips, and the time of the turns before. A driver whose backend has no order of its own uses
	// [Turns], which orders the callers of one process. On a store that is also a [Grouper], the caller that has the turn
	// can do the work of the callers that wait.
	Turn(ctx context.Context, keys ...Key) (Turn, error)

	// Close releases the handle's resources. It is idempotent. Records stay in the store.
	Close() error
}
