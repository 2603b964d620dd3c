package pool_test

import (
	"context"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
)

// portions is a store that notes how many writes the largest commit had.
type portions struct {
	store.Store
	most, commits int
}

func (s *portions) Commit(ctx context.Context, changes ...store.Change) ([]store.Record, error) {
	s.most, s.commits = max(s.most, len(changes[0].Writes)), s.commits+1
	return s.Store.Commit(ctx, changes...)
}

// A pool that is large is imported in portions, though the store would take all at once, and few of them.
func TestImportInPortions(t *testing.T) {
	const portion = 1 << 15
	// Of several commits, the first and the last are for the head.
	for _, test := range []struct{ n, commits int }{{portion, 1}, {2*portion + 1, 5}} {
		snapshot := pool.Snapshot{Info: pool.Info{Spec: specOf("10.0.0.0/8")}}
		for i, owner := range numbered("o", test.n) {
			snapshot.Allocations = append(snapshot.Allocations,
				pool.Allocation{Owner: owner, Prefixes: []netip.Prefix{netip.PrefixFrom(addrOf(i), 32)}})
		}
		s := &portions{Store: store.NewMemory()}
		p, err := pool.Import(t.Context(), s, "p", snapshot, nil)
		require.NoError(t, err)
		require.Equal(t, test.commits, s.commits)
		require.LessOrEqual(t, s.most, portion)
		report, err := p.Verify(t.Context())
		require.NoError(t, err)
		require.True(t, report.OK(), report)
		require.Equal(t, test.n, report.Allocations)
	}
}

// A bulk step allocates little on the heap beyond the records that it makes, of which it and the store keep one each.
func TestBytesOfABulkStep(t *testing.T) {
	if raceDetector { // which has its own
		t.Skip("the race detector allocates too")
	}
	const n = 20_000
	owners := numbered("o", n)
	all := func(p *pool.Pool, step func(owner string) pool.Step) {
		for r, err := range p.Each(t.Context(), func(yield func(pool.Step) bool) {
			for _, owner := range owners {
				if !yield(step(owner)) {
					return
				}
			}
		}) {
			if err != nil || r.Err != nil {
				t.Fatal(err, r.Err)
			}
		}
	}
	newPool := func() *pool.Pool {
		p, err := pool.Create(t.Context(), store.NewMemory(), "p", specOf("10.0.0.0/8"), nil)
		require.NoError(t, err)
		return p
	}
	p := newPool()
	for _, c := range []struct {
		what string
		do   func()
		most float64
	}{
		{"adopt", func() {
			adopted, err := adoptAll(t, newPool(), n)
			require.NoError(t, err)
			require.Equal(t, n, adopted)
		}, 2_400},
		{"grant", func() { all(p, func(o string) pool.Step { return pool.Allocate(pool.Claim{Owner: o}) }) }, 2_250},
		{"release", func() { all(p, func(o string) pool.Step { return pool.Release(pool.Held{Owner: o}) }) }, 1_000},
	} {
		each := bytesOf(c.do) / n
		t.Log(c.what, each, "bytes")
		require.LessOrEqual(t, each, c.most, c.what)
	}
}
