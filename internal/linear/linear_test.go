package linear_test

import (
	"context"
	"errors"
	"flag"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/internal/linear"
	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/storetest/faults"
)

var (
	length = flag.Duration("linear.for", 0, "how long the clients of each store go on when they have made their calls")
	seed   = flag.Uint64("linear.seed", 0, "what chooses the calls and faults; 0 for the time")
)

// patience is how long the checker may take. It takes milliseconds.
const patience = 2 * time.Minute

// clients are clients of a store that call for the same owners, each so many times.
func clients(calls int, open func(ctx context.Context) (store.Store, error)) linear.Clients {
	chosen := *seed
	if chosen == 0 {
		chosen = uint64(time.Now().UnixNano())
	}
	return linear.Clients{
		Open: open, Handles: 3, Goroutines: 2, Calls: calls, For: *length, Addresses: 5, Owners: 7, Seed: chosen,
	}
}

// requireLinearizable runs clients on the store, without lost answers and with them.
func requireLinearizable(t *testing.T, calls int, open func(ctx context.Context) (store.Store, error)) {
	t.Helper()
	sharing := clients(calls, open)
	sharing.Rates = faults.Rates{Refuse: 0.01, Read: 0.005}
	requireOk(t, sharing, "sharing")
	owning := clients(calls, open)
	owning.Own, owning.Owners = true, owning.Handles*owning.Goroutines
	owning.Rates = faults.Rates{Refuse: 0.01, LoseRequest: 0.01, LoseReply: 0.01, LandLate: 0.01, Read: 0.005}
	requireOk(t, owning, "owning")
}

// requireOk runs the clients, and has the checker look at what they were told.
func requireOk(t *testing.T, c linear.Clients, name string) {
	t.Helper()
	history, err := c.Run(t.Context(), name)
	require.NoError(t, err, "-linear.seed=%d", c.Seed)
	result, err := history.Check(patience, filepath.Join(t.ArtifactDir(), name+".html"))
	require.NoError(t, err)
	t.Logf("%s: %d calls, of which %d with an unknown outcome: %s", name, history.Len(), history.Unknown(), result)
	require.Greater(t, history.Len(), 9*c.Calls*c.Handles*c.Goroutines/10, "the others were refused on purpose")
	require.Equal(t, porcupine.Ok, result, "-linear.seed=%d, and see the picture with -artifacts", c.Seed)
}

// shared opens handles on one store in memory, of which each is as wrap makes it.
func shared(wrap func(store.Store) store.Store) func(context.Context) (store.Store, error) {
	memory := store.NewMemory()
	return func(context.Context) (store.Store, error) { return wrap(unclosed{memory}), nil }
}

// unclosed is a store that outlives its handles.
type unclosed struct{ store.Store }

func (unclosed) Close() error { return nil }

// TestBrokenDrivers has the checker find drivers that break the contract of a store.
func TestBrokenDrivers(t *testing.T) {
	for name, wrap := range map[string]func(store.Store) store.Store{
		"a commit that ignores whether the head has changed": func(s store.Store) store.Store { return blind{s} },
		"reads that are stale":                               func(s store.Store) store.Store { return &stale{Store: s} },
	} {
		t.Run(name, func(t *testing.T) {
			for try := range 50 {
				c := clients(200, shared(wrap))
				// Where the pool itself finds something wrong, the checker is to find what the clients were told before.
				history, found := c.Run(t.Context(), "pool")
				result, err := history.Check(patience, "")
				require.NoError(t, err)
				if result == porcupine.Illegal {
					t.Logf("found in history %d, of %d calls; by the pool: %t", try+1, history.Len(), found != nil)
					return
				}
			}
			require.Fail(t, "never found")
		})
	}
}

// blind is a store whose last writer wins.
type blind struct{ store.Store }

// Commit tries again with the revision that the head has by now.
func (b blind) Commit(ctx context.Context, changes ...store.Change) ([]store.Record, error) {
	for {
		heads, err := b.Store.Commit(ctx, changes...)
		conflict, ok := errors.AsType[*store.ConflictError](err)
		if !ok || len(changes) != 1 {
			return heads, err
		}
		changes[0].Head.Revision = conflict.Current.Revision
	}
}

// stale is a store that answers every other read of an allocation with what it read before, if anything.
type stale struct {
	store.Store
	mu    sync.Mutex
	seen  map[store.Key]store.Record
	reads int
}

// Get returns what is stored, or what was.
func (s *stale) Get(ctx context.Context, key store.Key) (store.Record, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reads++
	if old, ok := s.seen[key]; ok && s.reads%2 == 0 && key.Kind == store.KindAllocation {
		return old, nil
	}
	r, err := s.Store.Get(ctx, key)
	if err == nil {
		if s.seen == nil {
			s.seen = make(map[store.Key]store.Record)
		}
		s.seen[key] = r
	}
	return r, err
}
