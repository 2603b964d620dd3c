// Package store is the contract between a pool and the place where it is kept.
//
// A [Store] keeps [Record] values under [Key] values and changes them in one way only: [Store.Commit]
// replaces one record, the head, if nobody else has replaced it since it was read, together with any
// number of other records, all of them or none. It does so for several heads at once too. That is one
// compare-and-swap, which a file, etcd, a SQL database and an API server can all do, and it is all that
// the rest of this library builds on.
//
// Package store knows nothing about pools. People who allocate addresses use package pool with a
// concrete driver (this package's [Memory], store/bolt, …); people who write a driver implement [Store]
// and run the conformance suite in store/storetest against it. A driver whose backend has no index or
// no notification implements the methods that want one in a line each, with [FindByList],
// [ByExpiryFromList] and [WatchByPolling].
package store

import (
	"context"
	"iter"
	"net/netip"
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
	//
	// A record that is damaged is not passed over in silence. A store that can tell it from the others yields these
	// first, and then a [DamagedError] that names each one that is damaged. Other stores stop there, with an error.
	List(ctx context.Context, kind Kind, pool string) iter.Seq2[Record, error]

	// ByExpiry iterates over the records of one kind and pool whose Expires is not zero, the earliest first;
	// those with the same time come in any order. It is as fresh as List, and has the same rules; a record
	// whose Expires changes during the iteration counts as deleted and created.
	//
	// Cost: O(records that the loop took), whatever else is stored, where the backend has an index by
	// expiry; reading some records ahead is part of it. Without an index it is O(records of the kind and
	// pool), see [ByExpiryFromList].
	ByExpiry(ctx context.Context, kind Kind, pool string) iter.Seq2[Record, error]

	// Find returns the record of [KindAllocation] in pool with the longest prefix that contains addr (of
	// several with that prefix, any), or an error that wraps [ErrNotFound]. It is as fresh as Get.
	//
	// The zero Addr and 4in6 addresses are in no prefix; a zone is ignored. Cost: a few look-ups where the
	// backend has an index of prefixes, else O(allocations of the pool), see [FindByList].
	Find(ctx context.Context, pool string, addr netip.Addr) (Record, error)

	// Watch returns as soon as the record under key is not at revision: at once if it is another already,
	// else when it is replaced or deleted. It returns the record as it is then, or an error that wraps
	// [ErrNotFound] if it has been deleted. A revision of 0 waits for a record that does not exist yet.
	//
	// It waits until ctx ends, and then returns an error that wraps the context's. While it waits it costs
	// the backend next to nothing, and the handle's other methods are not held up. An error of the backend,
	// such as a lost connection, may be returned at any time. Close ends it, with [ErrClosed].
	//
	// A backend that cannot tell of changes is asked again and again, see [WatchByPolling].
	Watch(ctx context.Context, key Key, revision int64) (Record, error)

	// Commit replaces the head of each change, if the stored one still has head.Revision, and applies the
	// writes of all changes: all of it or nothing. It is durable when it returns. It returns the heads as
	// they are now stored, in the order of the changes. Every record that one commit writes gets the same
	// revision.
	//
	// A head.Revision of 0 means that no head may exist yet under head.Key. The new revision is greater
	// than every revision that any of the keys has ever had, also before it was deleted and created again.
	// To delete a head, the writes of its change contain a [Delete] of head.Key, and the head returned has
	// the revision of the commit. Deleting what does not exist is not an error.
	//
	// The turns that changes have, see [Change], end with the commit, whatever comes of it. A turn of another store,
	// or one that has ended, does not matter.
	//
	// There is at least one change. No two of all the heads and writes may be under one key, except for
	// the Delete of a head in its own change, and every record must be valid: otherwise the error wraps
	// [ErrInvalid], before anything is changed.
	//
	// Commit fails, and has then changed nothing, with
	//   - a [ConflictError] about one of the heads that are not at head.Revision (checked before the
	//     creates);
	//   - an [ExistsError] if the key of a [Create] exists;
	//   - a [TooLargeError] if the backend cannot take so much in one commit;
	//   - an error that wraps [ErrUnknown] if the connection was lost, the context ended or the medium
	//     failed when it was too late to know whether the commit takes effect: this alone means that it
	//     may have, or may yet;
	//   - any other error if the backend refused.
	//
	// A driver begins with [ValidateCommit], and stores and returns what [Record.Canonical] makes of each
	// record. Its documentation says how many heads and records, and how many bytes, one commit takes.
	//
	// Cost: one round trip to the backend, and O(heads and writes), whatever else is stored.
	Commit(ctx context.Context, changes ...Change) ([]Record, error)

	// Turn waits for the caller's turn to replace the heads under the keys, and reads them. It is for callers that
	// others have overtaken: of many that commit to one head, each gets through in its turn, whatever the others do.
	//
	// At each key the turns come one after the other, in the order of the calls of all handles in all processes, as
	// nearly as the backend can tell. A turn that lasts longer than [MaxTurn], such as that of a process that was
	// stopped or killed, holds others up no longer than twice that. A turn guards nothing: a commit in it checks the
	// revisions as any commit does. A Commit outside of a turn may wait for the turns that were asked for before it,
	// or fail with a conflict; callers that commit without one again and again must not keep those from committing
	// that have one.
	//
	// There is at least one key, and none is there twice: otherwise the error wraps [ErrInvalid], see
	// [ValidateTurn]. If ctx ends while the call waits, the error wraps the context's, and the place is lost.
	//
	// Cost: a few round trips, and the time for which others have their turns. A backend without an order of its own
	// uses [Turns], which keeps the callers of one process in order. On a store that is a [Grouper] too, those who wait
	// can have their work done by whoever has the turn.
	Turn(ctx context.Context, keys ...Key) (Turn, error)

	// Close releases what the handle holds, and is idempotent. Records stay where they are.
	Close() error
}
