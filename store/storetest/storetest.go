// Package storetest checks that a [store.Store] keeps its contract, and measures it. The author of a driver starts
// here. Two packages beneath it make stores fail on purpose: package faults wraps a store, for tests of programs that
// use stores, and package proxy breaks the network between a driver and its server.
//
// # Writing a driver
//
// 1. Read the comments of [store.Store], [store.Record] and [store.Key]: they are the whole contract. Two questions
// decide the design. How can the backend, in one atomic step, write several records on the condition that some are
// still at given revisions? And what provides revisions that only rise under each key, even after it was deleted and
// created again? A counter of all commits in the backend does.
//
// 2. Run the suite from the start. A driver's own test is a few lines:
//
//	func TestConformance(t *testing.T) {
//		storetest.Run(t, func(t testing.TB) storetest.Backend {
//			path := filepath.Join(t.TempDir(), "store.db")
//			return storetest.Backend{
//				OneHandle: true,
//				Open: func(ctx context.Context) (store.Store, error) { return mydriver.Open(ctx, path) },
//			}
//		})
//	}
//
// Each case gets a backend of its own, and each failure quotes the rule of the contract that was broken.
//
// 3. Begin Commit with [store.ValidateCommit], Get, Watch and ByExpiry with [store.Key.Validate] and List with
// [store.ValidateList], and store the [store.Record.Canonical] form of each record. Then Commit compares the heads'
// revisions, checks that the records to be created do not exist, and writes. Its errors carry the conflicting records,
// so that the caller need not read again. The package's example is a whole driver of about two hundred lines.
//
// 4. Distinguish "refused" from "unknown". An error without [store.ErrUnknown] promises that nothing has changed and
// nothing will. If a call fails after the first byte of a commit was sent and before its answer was understood, the
// outcome is unknown. Put a proxy between driver and server, lose the answer to one commit, and check which error the
// driver returns.
//
// 5. Leave Find, ByExpiry and Watch for last. [store.FindByList], [store.ByExpiryFromList] and [store.WatchByPolling]
// implement them in one line each, until the driver uses an index or a notification of the backend, or for good if the
// backend has none.
//
// 6. For [store.Store.Turn] start with [store.Turns], which takes one line, and is enough for a backend that only one
// process uses. If many processes use it, let them wait for one another with what the backend offers: a lock with a
// queue, or keys in the order of their creation.
//
// 7. A driver may implement [store.Grouper], [store.Reader] and [store.Labeller] too. The suite tests them if they are
// implemented; otherwise it skips their cases, except those of labels, for which it tests what [store.ByLabel] does. A
// driver that uses [store.Turns] can use its Join and Answers too.
//
// 8. Run [Benchmarks]. They are the same for every driver, so their figures can be compared.
package storetest

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/ipalloc/ipalloc/store"
)

// Backend is a new, empty place for records and the way to open it: a file, a schema of a database, a prefix in a key
// space. The zero Backend is not usable. A Backend may be copied.
type Backend struct {
	// Open returns a new handle on the backend. Required. The suite closes each handle that it opens. Closing one
	// handle must not close another.
	Open func(ctx context.Context) (store.Store, error)

	// OneHandle means that a second handle cannot be opened before the first one is closed, as with a locked file. The
	// suite then uses one handle throughout.
	OneHandle bool

	// NoOverlap means that the backend is stricter than the contract: it refuses a commit after which prefixes of two
	// records of [store.KindAllocation] or [store.KindCooling] in one pool would overlap. The suite then checks that it
	// does so, instead of checking what becomes of such records.
	NoOverlap bool

	// Damage changes the record under a key in the backend, without the store, so that it cannot be read any more.
	// Optional: without it the suite does not test damaged records.
	Damage func(ctx context.Context, key store.Key) error

	// MaxCommitBytes and MaxCommitWrites are the largest commits that the suite tries, in bytes of data and in writes,
	// to find what is too large for the backend. The defaults, 0, are 4 MiB and 1024.
	MaxCommitBytes, MaxCommitWrites int

	// LongTurn is how long a turn may last before others go on. The default, 0, is twice [store.MaxTurn]. Set it only
	// for a driver that allows more and documents it.
	LongTurn time.Duration

	// Patience is how long a call may take before the suite reports that it hangs. The default, 0, is 30 seconds.
	Patience time.Duration
}

func (b Backend) withDefaults() Backend {
	if b.MaxCommitBytes == 0 {
		b.MaxCommitBytes = 4 << 20
	}
	if b.MaxCommitWrites == 0 {
		b.MaxCommitWrites = 1024
	}
	if b.LongTurn == 0 {
		b.LongTurn = 2 * store.MaxTurn
	}
	if b.Patience == 0 {
		b.Patience = 30 * time.Second
	}
	return b
}

// Run runs the conformance suite. Each case is a subtest with a backend of its own from newBackend, which registers its
// clean-up with the t that it is given. Handles are closed before that clean-up runs.
func Run(t *testing.T, newBackend func(t testing.TB) Backend) {
	for _, c := range cases() {
		t.Run(c.name, func(t *testing.T) { c.runOn(t, newBackend(t)) })
	}
}

// CommitOne commits one head with its writes, and returns the head as stored. Errors and cost are those of
// [store.Store.Commit]. It is for tests, most of which commit one head at a time.
func CommitOne(ctx context.Context, s store.Store, head store.Record, writes ...store.Write) (store.Record, error) {
	heads, err := s.Commit(ctx, store.Change{Head: head, Writes: writes})
	switch {
	case err != nil:
		return store.Record{}, err
	case len(heads) != 1:
		return store.Record{}, fmt.Errorf("a commit of one head, %v, returned %d heads", head.Key, len(heads))
	}
	return heads[0], nil
}

// testCase is one case of the suite.
type testCase struct {
	name string
	run  func(*subject)
}

// cases returns all cases of the suite.
func cases() []testCase {
	var all []testCase
	for _, some := range [][]testCase{
		getCases(), commitCases(), conflictCases(), contentionCases(), deleteCases(), invalidCases(),
		fieldCases(), nameCases(), aliasingCases(), contextCases(), closingCases(), durabilityCases(),
		listCases(), findCases(), sizeCases(), headCases(), watchCases(), expiryCases(), turnCases(),
		groupCases(), groupRaceCases(), readCases(), labelCases(),
	} {
		all = append(all, some...)
	}
	return all
}

// runOn runs the case on a new backend.
func (c testCase) runOn(t testing.TB, backend Backend) {
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	s := &subject{TB: t, backend: backend.withDefaults(), ctx: ctx}
	s.s = s.openNew()
	c.run(s)
}
