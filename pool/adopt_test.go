package pool_test

import (
	"fmt"
	"iter"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/storetest/faults"
)

// adopt adopts claims and returns how many, and the clashes.
func adopt(t testing.TB, p *pool.Pool, claims ...pool.Claim) (int, []pool.Clash) {
	t.Helper()
	var clashes []pool.Clash
	n, err := p.Adopt(t.Context(), slices.Values(claims), func(c pool.Clash) { clashes = append(clashes, c) })
	require.NoError(t, err)
	return n, clashes
}

func TestAdoptTakesOverWhatIsInUseAndReportsClashes(t *testing.T) {
	inMemoryAndStored(t, specOf("10.0.0.0/24"), func(t *testing.T, b *trial) {
		allocate(t, b.Pool, claim("holder", "10.0.0.1"))
		allocate(t, b.Pool, claim("other", "10.0.0.2"))
		leased := claim("leased", "10.0.0.50")
		leased.TTL = time.Hour
		n, clashes := adopt(t, b.Pool,
			claim("new", "10.0.0.10"), leased, claim("two", "10.0.0.20", "10.0.0.21"), claim("holder", "10.0.0.1"),
			claim("late", "10.0.0.1"), claim("holder 2", "10.0.0.10"), claim("other", "10.0.0.9"), claim("outside", "10.9.9.9"),
			claim("wide", "10.0.0.0/30"), claim("new", "10.0.0.11"), pool.Claim{Owner: "any"}, claim("", "10.0.0.12"),
		)
		require.Equal(t, 4, n, "that which was so before included")
		type clash struct {
			owner, holder string
		}
		got := map[clash]error{}
		for _, c := range clashes {
			got[clash{c.Claim.Owner, c.Holder}] = c.Err
		}
		for want, err := range map[clash]error{
			{"late", "holder"}: pool.ErrTaken, {"holder 2", "new"}: pool.ErrTaken,
			{"other", ""}: pool.ErrHeld, {"outside", ""}: pool.ErrNotInPool,
			{"wide", ""}: pool.ErrTaken, {"new", ""}: pool.ErrInvalid, {"any", ""}: pool.ErrInvalid, {"", ""}: pool.ErrInvalid,
		} {
			require.ErrorIs(t, got[want], err, "%v", want)
		}
		require.Len(t, clashes, 8)
		a, err := b.another(t).Get(t.Context(), "leased")
		require.NoError(t, err)
		require.Equal(t, b.clock.Now().Add(time.Hour), a.Expires)
		n, clashes = adopt(t, b.another(t), claim("new", "10.0.0.10"))
		require.Equal(t, 1, n, "again, in another process")
		require.Empty(t, clashes)
		n, err = b.Adopt(t.Context(), slices.Values([]pool.Claim{claim("x", "10.9.9.9")}), nil)
		require.NoError(t, err, "nobody asks for the clashes")
		require.Zero(t, n)
	})
}

// inUse are n claims for one address each.
func inUse(n int) iter.Seq[pool.Claim] {
	return func(yield func(pool.Claim) bool) {
		for i := range n {
			requests := []pool.Request{pool.ExactAddr(addrOf(i))}
			if !yield(pool.Claim{Owner: fmt.Sprint(i), Requests: requests}) {
				return
			}
		}
	}
}

func TestAdoptCommitsThousandsAtOnce(t *testing.T) {
	const n = 100_000
	b := stored(t, specOf("10.0.0.0/8"))
	b.faults.ResetCounts()
	adopted, err := b.Adopt(t.Context(), inUse(n), func(c pool.Clash) { t.Error(c) })
	require.NoError(t, err)
	require.Equal(t, n, adopted)
	require.LessOrEqual(t, b.faults.Counts().Commit, n/4096+1)
	require.Zero(t, b.faults.Counts().Get, "and reads nothing")
	require.Equal(t, uint64(n), b.stats(t).Used.Uint64())
	requireOK(t, b.Pool)
}

func TestAdoptGoesOnAfterAFailure(t *testing.T) {
	const n = 10_000
	b := stored(t, specOf("10.0.0.0/8"))
	b.faults.ResetCounts()
	b.faults.Choose = faults.Script(faults.Fault{}, faults.Fault{Effect: faults.Refuse})
	adopted, err := b.Adopt(t.Context(), inUse(n), func(c pool.Clash) { t.Error(c) })
	require.ErrorIs(t, err, faults.ErrInjected)
	require.Equal(t, 4096, adopted)
	require.Equal(t, uint64(4096), b.stats(t).Used.Uint64(), "what was adopted before stays so")
	b.faults.Choose = nil
	adopted, err = b.another(t).Adopt(t.Context(), inUse(n), func(c pool.Clash) { t.Error(c) })
	require.NoError(t, err)
	require.Equal(t, n, adopted)
	requireOK(t, b.another(t))
}

func BenchmarkAdopt(b *testing.B) {
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
				n, err := p.Adopt(b.Context(), inUse(1_000_000), nil)
				require.NoError(b, err)
				require.Equal(b, 1_000_000, n)
			}
		})
	}
}
