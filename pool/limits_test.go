package pool_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/storetest/faults"
)

// A store that takes few writes in one commit gets smaller batches.
func TestBatchesFitTheStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hooks := &hooked{Store: store.NewMemory()}
		p := create(t, hooks, specOf("10.0.0.0/24"))
		limit := 3
		hooks.beforeCommit = func(_ store.Record, writes []store.Write) error {
			time.Sleep(time.Millisecond) // virtual: the others queue up
			if len(writes) > limit {
				return &store.TooLargeError{What: "writes in a commit", Size: int64(len(writes)), Limit: int64(limit)}
			}
			return nil
		}
		var calls sync.WaitGroup
		for i := range 100 {
			calls.Go(func() {
				if _, err := p.Allocate(t.Context(), pool.Claim{Owner: fmt.Sprint(i)}); err != nil {
					t.Error(err)
				}
			})
		}
		calls.Wait()
		require.Equal(t, uint64(100), used(t, p))
		limit = 0
		_, err := p.Allocate(t.Context(), pool.Claim{Owner: "a"})
		require.ErrorIs(t, err, store.ErrTooLarge)
		require.ErrorAs(t, err, new(*store.TooLargeError))
		limit = 3
		requireHoldsNothing(t, p, "a")
		requireOK(t, p)
	})
}

// A handle remembers only so many of the grants that it made, and releases the others all the same.
func TestMoreGrantsThanAHandleRemembers(t *testing.T) {
	if raceDetector {
		t.Skip("one goroutine, for long")
	}
	p := create(t, store.NewMemory(), specOf("10.0.0.0/15"))
	const n = 1<<16 + 100
	for i := range n {
		allocate(t, p, pool.Claim{Owner: fmt.Sprint(i)})
	}
	require.Equal(t, uint64(n), used(t, p))
	for i := range 200 {
		release(t, p, fmt.Sprint(i))
		release(t, p, fmt.Sprint(n-1-i))
	}
	require.Equal(t, uint64(n-400), used(t, p))
	requireOK(t, p)
}

// While a handle claims or releases more in bulk than it remembers, it does not forget what it has looked up for that:
// nothing that is held seems to be gone, and no commit but the first fails because a record is there already.
func TestMoreInBulkThanAHandleRemembers(t *testing.T) {
	if raceDetector {
		t.Skip("one goroutine, for long")
	}
	s, failed := store.NewMemory(), failures{}
	p, err := pool.Create(t.Context(), s, "blue", specOf("10.0.0.0/14"), &pool.Options{Observer: &failed})
	require.NoError(t, err)
	var owners []string
	for i := range 3 << 15 {
		owners = append(owners, fmt.Sprint(i))
	}
	requireEach := func(results []pool.Result, err error) {
		t.Helper()
		require.NoError(t, err)
		for _, r := range results {
			require.NoError(t, r.Err)
		}
	}
	requireEach(allocateMany(t.Context(), p, claimsOf(owners...)))
	require.Zero(t, failed.commits)
	requireEach(allocateMany(t.Context(), p, claimsOf(owners...)))
	require.LessOrEqual(t, failed.commits, 1)
	requireEach(releaseMany(t.Context(), p, owners))
	require.Zero(t, used(t, p))
	requireOK(t, p)
}

// failures counts commits that failed.
type failures struct {
	pool.NoObserver
	commits int
}

func (f *failures) EndCommit(_ context.Context, c pool.Commit) {
	if c.Err != nil {
		f.commits++
	}
}

// Pieces of free space come and go while commits fail, get lost and land late.
func TestPiecesDespiteFaults(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { hammerPieces(t, seed) })
		})
	}
}

func hammerPieces(t *testing.T, seed uint64) {
	memory := store.NewMemory()
	fill := every(prefix("10.0.0.0/17"))
	fragment(t, create(t, memory, specOf("10.0.0.0/17", "2001:db8::/64")), fill)
	injector := &faults.Injector{}
	faulty := injector.Wrap(memory)
	var handles []*pool.Pool
	for range 3 {
		p, err := pool.Open(t.Context(), faulty, "blue", &pool.Options{CommitTimeout: time.Second})
		require.NoError(t, err)
		handles = append(handles, p)
	}
	some := rates
	some.MaxDelay = time.Millisecond
	injector.Choose = faults.Random(seed, some)
	var owners sync.WaitGroup
	const workers = 12
	for i := range workers {
		random := rand.New(rand.NewPCG(seed, uint64(i)))
		owners.Go(func() {
			for n := range 100 {
				p, owner := handles[random.IntN(len(handles))], fmt.Sprint(i)
				var err error
				if n%2 == 0 {
					c := pool.Claim{Owner: owner}
					for _, at := range random.Perm(len(fill))[:8] {
						c.Requests = append(c.Requests, pool.ExactAddr(fill[at].Next()))
					}
					_, err = p.Allocate(t.Context(), c)
				} else {
					_, err = p.Release(t.Context(), pool.Held{Owner: owner})
				}
				if !errors.Is(err, pool.ErrHeld) {
					requireExpected(t, err)
				}
			}
		})
	}
	owners.Wait()
	settleFaults(t, injector, faulty)
	for _, p := range append(handles, open(t, memory)) {
		requireOK(t, p)
	}
	requireNoLeakedPieces(t, memory)
	for i := range workers {
		if _, err := handles[0].Release(context.Background(), pool.Held{Owner: fmt.Sprint(i)}); err != nil {
			require.ErrorIs(t, err, pool.ErrNotFound)
		}
	}
	require.Equal(t, uint64(len(fill)), used(t, handles[1]))
	requireOK(t, handles[2])
}

// TestEnsure: a program brings its spec along, and starts again with another one.
func TestEnsure(t *testing.T) {
	memory := store.NewMemory()
	ensure := func(drift pool.Drift, text string) (*pool.Pool, error) {
		return pool.Ensure(t.Context(), memory, "blue", specOf(text), drift, nil)
	}
	requireSpec := func(text string) {
		t.Helper()
		info, err := open(t, memory).Info(t.Context())
		require.NoError(t, err)
		require.True(t, info.Spec.Equal(specOf(text)), "%v", info.Spec)
	}
	p, err := ensure(pool.Refuse, "10.0.0.0/24")
	require.NoError(t, err, "there was none")
	allocate(t, p, claim("a", "10.0.0.200"))
	before := snapshot(t, p)
	for _, drift := range []pool.Drift{pool.Update, pool.Drain, pool.Keep, pool.Refuse} {
		_, err = ensure(drift, "10.0.0.0/24")
		require.NoError(t, err)
	}
	require.Equal(t, before, snapshot(t, p), "nothing is committed for the same spec")

	_, err = ensure(pool.Refuse, "10.0.0.0/23")
	require.ErrorIs(t, err, pool.ErrDrift)
	_, err = ensure(pool.Keep, "10.0.0.0/23")
	require.NoError(t, err)
	requireSpec("10.0.0.0/24")
	_, err = ensure(pool.Update, "10.0.0.0/23")
	require.NoError(t, err)
	requireSpec("10.0.0.0/23")
	_, err = ensure(pool.Update, "10.0.0.0/25")
	require.ErrorIs(t, err, pool.ErrOutOfRange)
	requireSpec("10.0.0.0/23")
	p, err = ensure(pool.Drain, "10.0.0.0/25")
	require.NoError(t, err)
	requireSpec("10.0.0.0/25")
	_, err = p.Get(t.Context(), pool.Held{Owner: "a"})
	require.NoError(t, err)
	_, err = ensure("", "10.0.0.0/24")
	require.NoError(t, err, "the default is to update")
	requireSpec("10.0.0.0/24")
	_, err = ensure("forget", "10.0.0.0/25")
	require.ErrorIs(t, err, pool.ErrInvalid)
	require.ErrorContains(t, err, `"forget" is not a Drift, want ["update" "drain" "keep" "refuse"]`)
}

// TestEnsureInPassing: other processes create, change and delete the pool meanwhile.
func TestEnsureInPassing(t *testing.T) {
	memory := store.NewMemory()
	for range 2 {
		p, err := pool.Ensure(t.Context(), memory, "blue", specOf("10.0.0.0/24"), pool.Keep, nil)
		require.NoError(t, err)
		allocate(t, p, pool.Claim{Owner: "a"})
		require.Equal(t, uint64(1), used(t, p))
	}
	p, err := pool.Ensure(t.Context(), memory, "blue", specOf("192.0.2.0/24"), pool.Keep, nil)
	require.NoError(t, err)
	info, err := p.Info(t.Context())
	require.NoError(t, err)
	require.True(t, info.Spec.Equal(specOf("10.0.0.0/24")), "what exists is left as it is")
	_, err = pool.Ensure(t.Context(), memory, "green", pool.Spec{}, pool.Keep, nil)
	require.ErrorIs(t, err, pool.ErrInvalid)

	// Another process is faster.
	hooks := &hooked{Store: memory}
	hooks.beforeCommit = func(store.Record, []store.Write) error {
		hooks.beforeCommit = nil
		_, err := pool.Create(t.Context(), memory, "red", specOf("10.0.0.0/24"), nil)
		return err
	}
	p, err = pool.Ensure(t.Context(), hooks, "red", specOf("10.0.0.0/24"), pool.Keep, nil)
	require.NoError(t, err)
	allocate(t, p, pool.Claim{Owner: "a"})
}

// A request that leaves no choice is met before those that do, wherever it stands in the claim.
func TestExactRequestsComeFirst(t *testing.T) {
	p, err := pool.New(specOf("10.0.0.0/30"), nil)
	require.NoError(t, err)
	c := claim("a", "10.0.0.0", "10.0.0.1")
	c.Requests = append([]pool.Request{{}}, c.Requests...)
	require.Equal(t, "10.0.0.2 10.0.0.0 10.0.0.1", texts(allocate(t, p, c)))

	// The same prefix twice is a mistake, one within another is not to be had, and neither leaves a trace.
	_, err = p.Allocate(t.Context(), claim("b", "10.0.0.3", "10.0.0.3"))
	require.ErrorIs(t, err, pool.ErrInvalid)
	require.ErrorContains(t, err, "10.0.0.3/32 is asked for twice in one claim")
	_, err = p.Allocate(t.Context(), claim("b", "10.0.0.3", "10.0.0.2/31"))
	require.ErrorIs(t, err, pool.ErrTaken)
	require.Equal(t, uint64(3), used(t, p))
	require.Equal(t, "10.0.0.3", texts(allocate(t, p, pool.Claim{Owner: "c"})))
}

// Batches that were made smaller grow again when the store takes more, and are made smaller again when it does not.
func TestBatchesGrowAgain(t *testing.T) {
	hooks := &hooked{Store: store.NewMemory()}
	p := create(t, hooks, specOf("10.0.0.0/16"))
	limit, largest, refused := 2, 0, 0
	hooks.beforeCommit = func(_ store.Record, writes []store.Write) error {
		if len(writes) > limit {
			refused++
			return &store.TooLargeError{What: "writes in a commit", Limit: int64(limit)}
		}
		largest = max(largest, len(writes))
		return nil
	}
	var claims []pool.Claim
	for i := range 1000 {
		claims = append(claims, pool.Claim{Owner: fmt.Sprint(i)})
	}
	_, err := allocateMany(t.Context(), p, claims[:400])
	require.NoError(t, err)
	require.Equal(t, 2, largest)
	require.Less(t, refused, 30, "not for each batch")
	limit = 100
	_, err = allocateMany(t.Context(), p, claims[400:])
	require.NoError(t, err)
	require.Greater(t, largest, 8)
	requireOK(t, p)
}

// longCommits is a store whose commits take a second for each ten writes.
type longCommits struct {
	store.Store
	now    time.Time
	writes []int
}

func (s *longCommits) Commit(ctx context.Context, changes ...store.Change) ([]store.Record, error) {
	n := len(changes[0].Writes)
	s.writes = append(s.writes, n)
	s.now = s.now.Add(time.Duration(n) * time.Second / 10)
	return s.Store.Commit(ctx, changes...)
}

// TestBatchesFitATurn: batches become as large as can be committed in a turn, but not very small.
func TestBatchesFitATurn(t *testing.T) {
	s := &longCommits{Store: store.NewMemory(), now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
	options := &pool.Options{Clock: func() time.Time { return s.now }}
	p, err := pool.Create(t.Context(), s, "lab", specOf("10.0.0.0/20"), options)
	require.NoError(t, err)
	s.writes = nil
	for _, n := range []int{1000, 200} {
		claims := make([]pool.Claim, n)
		for i := range claims {
			claims[i].Owner = fmt.Sprint(n, "-", i)
		}
		_, err = allocateMany(t.Context(), p, claims)
		require.NoError(t, err)
	}
	require.Equal(t, []int{1000, 64, 64, 64, 8}, s.writes)
}
