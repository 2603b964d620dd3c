package pooltest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
)

const (
	fairHandles = 4
	// fairCalls is how many pairs of calls the fastest handle makes in [Fair].
	fairCalls = 60
	// fairRounds is how often Fair tries: a busy machine may leave a handle behind now and then, but a driver that starves
	// does so each time.
	fairRounds = 3
)

// Fair has several handles allocate from one pool and release again and again, each on a store of its own, until one
// has done so fairCalls times. Each must do so at least half as often as they do on average, none may fail, and few
// commits may be for nothing. Open returns a store, always of the same backend; it may be the same store.
func Fair(t *testing.T, open func() store.Store) {
	t.Helper()
	_, err := pool.Create(t.Context(), open(), Name, Spec(t), nil)
	require.NoError(t, err)
	var observed rivalry
	var pools [fairHandles]*pool.Pool
	for h := range pools {
		pools[h], err = pool.Open(t.Context(), open(), Name, &pool.Options{Observer: &observed})
		require.NoError(t, err)
	}
	var rounds [][]int64
	for round := range fairRounds {
		counts := compete(t, pools[:], round)
		rounds = append(rounds, counts)
		if isFair(counts) {
			break
		}
	}
	assert.True(t, isFair(rounds[len(rounds)-1]), "the calls of each handle, in each round: %v", rounds)
	assert.Less(t, observed.conflicts.Load(), 3*observed.commits.Load(), "conflicts, of %d commits",
		observed.commits.Load())
}

// isFair reports whether the slowest has done at least half of the mean.
func isFair(counts []int64) bool {
	all := int64(0)
	for _, n := range counts {
		all += n
	}
	return 2*slices.Min(counts)*int64(len(counts)) >= all
}

// compete has handles allocate and release as fast as they can, all at once, until one has done so fairCalls times. It
// returns how often each has.
func compete(t *testing.T, pools []*pool.Pool, round int) []int64 {
	t.Helper()
	const each = 2
	var full atomic.Bool
	var all sync.WaitGroup
	calls := make([]atomic.Int64, len(pools))
	for h, p := range pools {
		for g := range each {
			all.Go(func() {
				for n := 0; !full.Load(); n++ {
					err := pair(t.Context(), p, fmt.Sprintf("%d/%d/%d/%d", round, h, g, n))
					if err != nil {
						t.Errorf("handle %d: %v", h, err)
					}
					if err != nil || calls[h].Add(1) == fairCalls {
						full.Store(true)
					}
				}
			})
		}
	}
	all.Wait()
	counts := make([]int64, len(calls))
	for h := range calls {
		counts[h] = calls[h].Load()
	}
	return counts
}

// pair allocates and releases.
func pair(ctx context.Context, p *pool.Pool, owner string) error {
	if _, err := p.Allocate(ctx, pool.Claim{Owner: owner}); err != nil {
		return err
	}
	_, err := p.Release(ctx, pool.Held{Owner: owner})
	return err
}

// rivalry counts commits, and those that came to nothing.
type rivalry struct {
	pool.NoObserver
	commits, conflicts atomic.Int64
}

// EndCommit implements [pool.Observer].
func (r *rivalry) EndCommit(_ context.Context, e pool.Commit) {
	switch {
	case errors.Is(e.Err, store.ErrConflict):
		r.conflicts.Add(1)
	case e.Err == nil:
		r.commits.Add(1)
	}
}
