// Package storetest checks that a [store.Store] keeps its contract, makes one fail on purpose, and measures it.
//
// [Run] is the conformance suite. A driver's own test is a few lines:
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
// [Faults] wraps stores so that calls fail, as those over a network do, in ways that a test chooses, and counts the
// calls. [Benchmarks] are the same for every driver, so that figures can be compared.
package storetest

import (
	"context"
	"testing"
	"time"

	"github.com/ipalloc/ipalloc/store"
)

// Backend is a place where records are kept, new and empty, and how to reach it: a file, a schema of a database, a
// prefix in a key space. The zero Backend is not usable. A Backend may be copied.
type Backend struct {
	// Open returns a new handle on the backend. Required. The suite closes what it opens; to close one handle must not close
	// another, whether that was opened before or after.
	Open func(ctx context.Context) (store.Store, error)

	// OneHandle says that a second handle cannot be opened before the first one is closed, as with a
	// locked file. The suite then uses one handle where it would use several.
	OneHandle bool

	// MaxCommitBytes and MaxCommitWrites are how far the suite goes in search of what is too large for one
	// commit: up to so many bytes of data, and so many writes. The defaults, 0, are 4 MiB and 1024.
	MaxCommitBytes, MaxCommitWrites int

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
		listCases(), findCases(), sizeCases(), severalCases(), watchCases(), expiryCases(),
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
