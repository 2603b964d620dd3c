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
	p, err := pool.Create(t.Context(), store.NewMemory(), "p", specOf("10.0.0.0/8"), nil)
	require.NoError(t, err)
	each := bytesOf(func() {
		adopted, err := adoptAll(t, p, n)
		require.NoError(t, err)
		require.Equal(t, n, adopted)
	}) / n
	t.Log(each, "bytes a claim")
	require.LessOrEqual(t, each, 4_000.0)
}
