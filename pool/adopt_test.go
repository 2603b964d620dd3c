package pool_test

import (
	"errors"
	"fmt"
	"iter"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/storetest/faults"
)

// clash is a claim that could not be granted, and who has its address.
type clash struct{ owner, holder string }

// adopt takes over what is in use, and returns how much, and why the rest could not be had.
func adopt(t testing.TB, p *pool.Pool, claims ...pool.Claim) (adopted int, clashes map[clash]error) {
	t.Helper()
	clashes = map[clash]error{}
	results, err := allocateMany(t.Context(), p, claims)
	require.NoError(t, err)
	for i, r := range results {
		if r.Err == nil {
			adopted++
			continue
		}
		c := clash{owner: claims[i].Owner}
		if errors.Is(r.Err, pool.ErrTaken) {
			held, err := p.Get(t.Context(), pool.Held{Addr: claims[i].Requests[0].Exact.Addr(), Optional: true})
			require.NoError(t, err)
			c.holder = held.Owner
		}
		clashes[c] = r.Err
	}
	return adopted, clashes
}

func TestTakingOverWhatIsInUse(t *testing.T) {
	inMemoryAndStored(t, specOf("10.0.0.0/24"), func(t *testing.T, b *trial) {
		allocate(t, b.Pool, claim("holder", "10.0.0.1"))
		allocate(t, b.Pool, claim("other", "10.0.0.2"))
		leased := claim("leased", "10.0.0.50")
		leased.TTL = time.Hour
		n, clashes := adopt(t, b.Pool,
			claim("new", "10.0.0.10"), leased, claim("two", "10.0.0.20", "10.0.0.21"), claim("holder", "10.0.0.1"),
			claim("late", "10.0.0.1"), claim("holder 2", "10.0.0.10"), claim("other", "10.0.0.9"), claim("outside", "10.9.9.9"),
			claim("wide", "10.0.0.0/30"), claim("new", "10.0.0.11"), claim("", "10.0.0.12"),
		)
		require.Equal(t, 4, n, "that which was so before included")
		for want, err := range map[clash]error{
			{"late", "holder"}: pool.ErrTaken, {"holder 2", "new"}: pool.ErrTaken,
			{"other", ""}: pool.ErrHeld, {"outside", ""}: pool.ErrNotInPool,
			{"wide", ""}: pool.ErrTaken, {"new", ""}: pool.ErrHeld, {"", ""}: pool.ErrInvalid,
		} {
			require.ErrorIs(t, clashes[want], err, "%v", want)
		}
		require.Len(t, clashes, 7)
		a, err := b.another(t).Get(t.Context(), pool.Held{Owner: "leased"})
		require.NoError(t, err)
		require.Equal(t, b.clock.Now().Add(time.Hour), a.Expires)
		n, clashes = adopt(t, b.another(t), claim("new", "10.0.0.10"))
		require.Equal(t, 1, n, "again, in another process")
		require.Empty(t, clashes)
	})
}

// inUse are n steps that take over one address each.
func inUse(n int) iter.Seq[pool.Step] {
	return func(yield func(pool.Step) bool) {
		for i := range n {
			requests := []pool.Request{pool.ExactAddr(addrOf(i))}
			if !yield(pool.Allocate(pool.Claim{Owner: fmt.Sprint(i), Requests: requests})) {
				return
			}
		}
	}
}

// adoptAll takes over n addresses, and returns how many were.
func adoptAll(t testing.TB, p doer, n int) (adopted int, err error) {
	t.Helper()
	for r, failed := range p.Each(t.Context(), inUse(n)) {
		if failed != nil {
			return adopted, failed
		}
		if r.Err == nil {
			adopted++
		}
	}
	return adopted, nil
}

func TestEachCommitsThousandsAtOnce(t *testing.T) {
	const n = 100_000
	b := stored(t, specOf("10.0.0.0/8"))
	b.faults.ResetCounts()
	adopted, err := adoptAll(t, b, n)
	require.NoError(t, err)
	require.Equal(t, n, adopted)
	require.LessOrEqual(t, b.faults.Counts().Commit, n/4096+1)
	require.Zero(t, b.faults.Counts().Get, "and reads nothing")
	require.Equal(t, uint64(n), b.stats(t).Used.Uint64())
	requireOK(t, b.Pool)
}

func TestEachGoesOnAfterAFailure(t *testing.T) {
	const n = 10_000
	b := stored(t, specOf("10.0.0.0/8"))
	b.faults.ResetCounts()
	b.faults.Choose = faults.Script(faults.Fault{}, faults.Fault{Effect: faults.Refuse})
	adopted, err := adoptAll(t, b, n)
	require.ErrorIs(t, err, faults.ErrInjected)
	require.Equal(t, 4096, adopted)
	require.Equal(t, uint64(4096), b.stats(t).Used.Uint64(), "what was adopted before stays so")
	b.faults.Choose = nil
	adopted, err = adoptAll(t, b.another(t), n)
	require.NoError(t, err)
	require.Equal(t, n, adopted)
	requireOK(t, b.another(t))
}

func BenchmarkEach(b *testing.B) {
	for name, open := range map[string]func() (*pool.Pool, error){
		"memory": func() (*pool.Pool, error) { return pool.New(specOf("10.0.0.0/8"), nil) },
		"store": func() (*pool.Pool, error) {
			return pool.Create(b.Context(), store.NewMemory(), "blue", specOf("10.0.0.0/8"), nil)
		},
	} {
		b.Run(name+"/1000000", func(b *testing.B) {
			for b.Loop() {
				p, err := open()
				require.NoError(b, err)
				n, err := adoptAll(b, p, 1_000_000)
				require.NoError(b, err)
				require.Equal(b, 1_000_000, n)
			}
		})
	}
}
