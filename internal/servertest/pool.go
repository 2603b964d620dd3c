package servertest

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/internal/pooltest"
	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/storetest/proxy"
)

// The environment variables that make a test its own child: a process that works on the pool in the schema that they
// name.
const (
	childURL    = "IPALLOC_TEST_URL"
	childSchema = "IPALLOC_TEST_SCHEMA"
)

// Opener opens a store at a place.
func (d Driver) Opener(url, schema string) func(ctx context.Context) (store.Store, error) {
	return func(ctx context.Context) (store.Store, error) { return d.Open(ctx, url, schema, false) }
}

// child returns what opens the store that this process is to work on, or nil if it is not a child. If it is not, the
// test is skipped where tests are to be short.
func (d Driver) child(t *testing.T) func(ctx context.Context) (store.Store, error) {
	t.Helper()
	if url, ok := os.LookupEnv(childURL); ok {
		return d.Opener(url, os.Getenv(childSchema))
	}
	if testing.Short() {
		t.Skip("starts and kills processes")
	}
	return nil
}

// childAt is the environment that makes a test a child that works on a place.
func childAt(url, schema string) []string {
	return []string{childURL + "=" + url, childSchema + "=" + schema}
}

// WorkAsChild tells whether this process is the child of a [pooltest.Killing], which it is until it is killed.
func (d Driver) WorkAsChild(t *testing.T) bool {
	t.Helper()
	open := d.child(t)
	if open != nil {
		s, err := open(t.Context())
		pooltest.Work(t, s, err)
	}
	return open != nil
}

// Kill runs k in a new schema at the URL, with the calling test as the child.
func (d Driver) Kill(t *testing.T, url string, k pooltest.Killing) {
	t.Helper()
	schema := d.NewSchema()
	k.Open, k.Child = d.Opener(url, schema), childAt(url, schema)
	k.Run(t)
}

// PoolProcesses has many processes allocate from one pool at once.
func (d Driver) PoolProcesses(t *testing.T) {
	if open := d.child(t); open != nil {
		s, err := open(t.Context())
		pooltest.Race(t, s, err)
		return
	}
	url, schema := d.Place(t)
	pooltest.Racing{Open: d.Opener(url, schema), Child: childAt(url, schema)}.Run(t)
}

// World has processes work on pools of one network, kills and stops them, and breaks their connections.
func (d Driver) World(t *testing.T) {
	if open := d.child(t); open != nil {
		pooltest.WorkInWorld(t, open)
		return
	}
	url, schema := d.Place(t)
	pooltest.World{
		Open:    d.Opener(url, schema),
		Network: func(t *testing.T) pooltest.Network { return proxy.New(t, d.Addr(t)) },
		Child:   func(addr string) []string { return childAt(d.URL(t, addr), schema) },
	}.Run(t)
}

// OpensNew returns what opens the same store in a new schema each time that it is called. It is closed at the end of
// the test.
func (d Driver) OpensNew(t *testing.T) func() store.Store {
	t.Helper()
	url, schema := d.Place(t)
	return func() store.Store { return d.OpenAt(t, url, schema) }
}

// CommitTimeout locks the row of one pool's head in a transaction of its own. Every call that commits that head is
// bounded by CommitTimeout, and so is the time for which it holds up other calls on the handles that take part. What
// such a call returns is to be of an unknown outcome, unless the server may refuse it because the row is locked.
func (d Driver) CommitTimeout(t *testing.T, refuses bool) {
	// The calls that are not held up have this time too, on a machine that does other things beside.
	const timeout = 3 * time.Second
	options := &pool.Options{CommitTimeout: timeout}
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
			url, schema := d.Place(t)
			pools := createPools(t, d.OpenAt(t, url, schema), options)
			unlock := d.LockHead(t, url, schema, "a")
			begin, ended, waited := time.Now(), make(chan error, 1), make(chan error, 1)
			go func() { ended <- call(t.Context(), pools["a"], pools["b"]) }()
			time.Sleep(timeout / 4)
			go func() {
				_, err := pools["b"].Allocate(t.Context(), pool.Claim{Owner: "waits"})
				waited <- err
			}()
			err := <-ended
			require.Error(t, err)
			if !refuses {
				require.ErrorIs(t, err, store.ErrUnknown)
			}
			require.NoError(t, <-waited, "in another pool, through its handle")
			require.Less(t, time.Since(begin), 6*timeout)
			unlock()
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
