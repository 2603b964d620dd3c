package pooltest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
)

// fairCalls is how many pairs of calls the fastest handle makes in [Fair].
const fairCalls = 60

// Fair has several handles allocate from one pool and release again and again, each on a store of its own, until one
// has done so fairCalls times. None may be left behind, none may fail, and few commits may be for nothing. Open
// returns a store, always of the same backend; it may be the same store.
func Fair(t *testing.T, open func() store.Store) {
	t.Helper()
	const handles, each = 4, 2
	_, err := pool.Create(t.Context(), open(), Name, Spec(t), nil)
	require.NoError(t, err)
	var observed rivalry
	var full atomic.Bool
	var calls [handles]atomic.Int64
	var all sync.WaitGroup
	var pools [handles]*pool.Pool
	for h := range pools {
		pools[h], err = pool.Open(t.Context(), open(), Name, &pool.Options{Observer: &observed})
		require.NoError(t, err)
	}
	for h, p := range pools { // when all are open, so that none has a lead
		for g := range each {
			all.Go(func() {
				for n := 0; !full.Load(); n++ {
					err := pair(t.Context(), p, fmt.Sprintf("%d/%d/%d", h, g, n))
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
	for h := range handles {
		assert.GreaterOrEqual(t, calls[h].Load(), int64(fairCalls/2), "the calls of handle %d, while another made %d", h,
			fairCalls)
	}
	assert.Less(t, observed.conflicts.Load(), 3*observed.commits.Load(), "conflicts, of %d commits",
		observed.commits.Load())
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
