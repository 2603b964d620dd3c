package mysql_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
)

// TestCommitTimeoutWhileAHeadIsLocked locks the row of one pool's head in a transaction of its own. Every
// call that commits that head is bounded by CommitTimeout, and so is the time for which it holds up other
// calls on the handles that take part.
func TestCommitTimeoutWhileAHeadIsLocked(t *testing.T) {
	// The calls that are not held up have this time too, on a machine that does other things beside.
	const timeout = 3 * time.Second
	options := &pool.Options{CommitTimeout: timeout}
	server := sharedServer(t)
	for name, call := range map[string]func(ctx context.Context, a, b *pool.Pool) error{
		"allocate": func(ctx context.Context, a, _ *pool.Pool) error {
			_, err := a.Allocate(ctx, pool.Claim{Owner: "x"})
			return err
		},
		"all": func(ctx context.Context, a, b *pool.Pool) error {
			_, err := a.All(ctx, pool.Allocate(pool.Claim{Owner: "y"}), pool.Allocate(pool.Claim{Owner: "y"}).In(b))
			return err
		},
		"update": func(ctx context.Context, a, _ *pool.Pool) error {
			spec, err := pool.ParseSpec("10.0.0.0/23")
			require.NoError(t, err)
			return a.Update(ctx, spec)
		},
		"delegate": func(ctx context.Context, a, _ *pool.Pool) error {
			claim := pool.Claim{Owner: "z", Requests: []pool.Request{{Bits: 28}}}
			_, _, err := pool.Delegate(ctx, a, claim, "child", pool.Spec{}, options)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dsn, schema := server.dsn(), newSchema()
			pools := createPools(t, open(t, dsn, schema), options)
			tx := lockRow(t, dsn, schema, "a")
			begin, ended, waited := time.Now(), make(chan error, 1), make(chan error, 1)
			go func() { ended <- call(t.Context(), pools["a"], pools["b"]) }()
			time.Sleep(timeout / 4)
			go func() {
				_, err := pools["b"].Allocate(t.Context(), pool.Claim{Owner: "waits"})
				waited <- err
			}()
			require.ErrorIs(t, <-ended, store.ErrUnknown)
			require.NoError(t, <-waited, "in another pool, through its handle")
			require.Less(t, time.Since(begin), 6*timeout)
			require.NoError(t, tx.Rollback())
			require.NoError(t, call(t.Context(), pools["a"], pools["b"]), "asked again, it is done")
		})
	}
}

// createPools makes the pools a and b.
func createPools(t *testing.T, s store.Store, options *pool.Options) map[string]*pool.Pool {
	t.Helper()
	pools := map[string]*pool.Pool{}
	for i, name := range []string{"a", "b"} {
		spec, err := pool.ParseSpec(fmt.Sprintf("10.0.%d.0/24", i))
		require.NoError(t, err)
		pools[name], err = pool.Create(t.Context(), s, name, spec, options)
		require.NoError(t, err)
	}
	return pools
}
