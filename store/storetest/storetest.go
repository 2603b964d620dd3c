// Package storetest checks that a [store.Store] keeps its contract, and measures it. It is where the author of a
// driver begins. Its folders make stores fail on purpose: package faults in the place of a backend, for programs that
// use stores, and package proxy between a driver and its server.
//
// # Writing a driver
//
// 1. Read the comments of [store.Store], [store.Record] and [store.Key]: they are the whole contract. Two questions
// decide the design. What in the backend replaces some records only if each is still at a revision, with other
// records in the same atomic step? And what gives revisions that only rise under a key, also after it was deleted and
// created again? A counter of the backend that counts all commits does.
//
// 2. Run the suite from the first day. A driver's own test is a few lines:
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
// [store.ValidateList], and store what [store.Record.Canonical] makes of each record. Then Commit compares the heads'
// revisions, looks for what must not exist, and writes; the errors carry what stands in the way, so that the caller
// need not read again. The package's example is a whole driver of about two hundred lines.
//
// 4. Tell apart "refused" and "unknown". An error without [store.ErrUnknown] promises that nothing has changed and
// never will. Whatever happens after the first byte of a commit was sent, and before its answer was understood, is
// unknown. Put a proxy between driver and server, lose exactly the answer of one commit, and look at what the driver
// says.
//
// 5. Leave Find, ByExpiry and Watch for last. [store.FindByList], [store.ByExpiryFromList] and [store.WatchByPolling]
// do their work, in one line each, until the driver has an index or a notification of its own, or for ever where the
// backend has none.
//
// 6. For [store.Store.Turn] begin with [store.Turns], which is a line for each driver, and is enough where the backend
// has one process. Where it has many, let them wait for one another by what the backend has for that: a lock with a
// queue, or keys in the order of their creation.
//
// 7. A driver may implement [store.Grouper] and [store.Reader] too. The suite checks them where they are, and skips
// their cases elsewhere. Where [store.Turns] is enough, so are its Join and Answers.
//
// 8. Show [Benchmarks]; they are the same for every driver, so that figures can be compared.
package storetest

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/ipalloc/ipalloc/store"
)

// Backend is a place where records are kept, new and empty, and how to reach it: a file, a schema of a database, a
// prefix in a key space. The zero Backend is not usable. A Backend may be copied.
type Backend struct {
	// Open returns a new handle on the backend. Required. The suite closes what it opens; to close one handle must not
	// close another, whether that was opened before or after.
	Open func(ctx context.Context) (store.Store, error)

	// OneHandle says that a second handle cannot be opened before the first one is closed, as with a
	// locked file. The suite then uses one handle where it would use several.
	OneHandle bool

	// NoOverlap says that the backend is stricter than the contract: it refuses each commit after which prefixes of two
	// records of [store.KindAllocation] or [store.KindCooling] in one pool would overlap. The suite then checks that it
	// does, instead of what comes of such records.
	NoOverlap bool

	// Damage changes the record under a key in the backend, behind the back of the store, so that nobody can read it any
	// more. Optional: without it the suite does not check what comes of that.
	Damage func(ctx context.Context, key store.Key) error

	// MaxCommitBytes and MaxCommitWrites are how far the suite goes in search of what is too large for one
	// commit: up to so many bytes of data, and so many writes. The defaults, 0, are 4 MiB and 1024.
	MaxCommitBytes, MaxCommitWrites int

	// LongTurn is how long a turn may last before others go on. The default, 0, is twice [store.MaxTurn]. It is for
	// drivers that allow more, and say so.
	LongTurn time.Duration

	// Patience is how long a call may take before the suite says that it hangs. The default, 0, is 30
	// seconds.
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

// Run runs the conformance suite, each case as a subtest with a backend of its own from newBackend. What newBackend
// needs to clean up it registers with the t that it is given; handles are closed by then.
func Run(t *testing.T, newBackend func(t testing.TB) Backend) {
	for _, c := range cases() {
		t.Run(c.name, func(t *testing.T) { c.runOn(t, newBackend(t)) })
	}
}

// CommitOne commits one head with its writes, and returns it as it is now stored. Errors and cost are those of
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
		groupCases(), groupRaceCases(), readCases(),
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
