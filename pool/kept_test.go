package pool_test

import (
	"fmt"
	"iter"
	"net/netip"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/pool"
)

// A pool in memory takes at most 220 bytes for an owner of an IPv4 address, beside the text of the owner, and hardly
// more for one of an IPv6 address: at a number at which its maps have just grown.
func TestBytesOfAnOwner(t *testing.T) {
	if raceDetector {
		t.Skip("the race detector adds to each object")
	}
	const count = 125_000
	for _, of := range []struct {
		ranges, scope string
		most          float64
	}{{"10.0.0.0/8", "", 220}, {"2001:db8::/64", "", 230}, {"10.0.0.0/8", "team", 220}} {
		p, err := pool.New(specOf(of.ranges), nil)
		require.NoError(t, err)
		owners := make([]string, count)
		for i := range owners {
			owners[i] = fmt.Sprint("pod-", i)
		}
		before := heapBytes()
		for _, owner := range owners {
			allocate(t, p, pool.Claim{Owner: owner, Scope: of.scope})
		}
		each := float64(heapBytes()-before) / count
		runtime.KeepAlive(p)
		t.Logf("%s, scope %q: %.0f bytes an owner", of.ranges, of.scope, each)
		require.LessOrEqual(t, each, of.most, of.ranges)
	}
}

// Owners of more scopes than a pool in memory shares keep each its own.
func TestManyScopes(t *testing.T) {
	p, err := pool.New(specOf("10.0.0.0/16"), nil)
	require.NoError(t, err)
	const owners, scopes = 6000, 1500
	scopeOf := func(i int) string { return fmt.Sprint("team-", i%scopes) }
	for i := range owners {
		allocate(t, p, pool.Claim{Owner: fmt.Sprint(i), Scope: scopeOf(i)})
	}
	for i := range owners {
		a, err := p.Get(t.Context(), pool.Held{Owner: fmt.Sprint(i)})
		require.NoError(t, err)
		require.Equal(t, scopeOf(i), a.Scope)
		_, err = p.Allocate(t.Context(), pool.Claim{Owner: fmt.Sprint(i), Scope: scopeOf(i + 1)})
		require.ErrorIs(t, err, pool.ErrScope)
	}
}

// What Release returns belongs to its caller, also while it cools down and when an iteration goes on that began before.
func TestWhatCoolsDownIsNotTheCallers(t *testing.T) {
	p, err := pool.New(cooling("10.0.0.0/24"), nil)
	require.NoError(t, err)
	granted := map[string]netip.Prefix{}
	for _, owner := range []string{"a", "b"} {
		granted[owner] = allocate(t, p, pool.Claim{Owner: owner}).Prefixes[0]
	}
	next, stop := iter.Pull2(p.Allocations(t.Context()))
	defer stop()
	_, err, _ = next()
	require.NoError(t, err)
	for owner := range granted {
		release(t, p, owner).Prefixes[0] = netip.Prefix{}
	}
	second, err, _ := next()
	require.NoError(t, err)
	require.Equal(t, granted[second.Owner], second.Prefixes[0])
	for owner, prefix := range granted {
		require.Equal(t, prefix, allocate(t, p, pool.Claim{Owner: owner}).Prefixes[0])
		release(t, p, owner).Prefixes[0] = netip.Prefix{}
	}
	requireOK(t, p)
}

// heapBytes is how many bytes on the heap are in use.
func heapBytes() int64 {
	var stats runtime.MemStats
	runtime.GC()
	runtime.GC() // and what was in a sync.Pool
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapAlloc)
}

// What a call returns belongs to its caller. An iteration that began before shows it as it was.
func TestIterationShowsNothingOfTheCaller(t *testing.T) {
	for name, list := range map[string]func(*pool.Pool) iter.Seq2[pool.Allocation, error]{
		"all": func(p *pool.Pool) iter.Seq2[pool.Allocation, error] { return p.Allocations(t.Context()) },
		"labelled": func(p *pool.Pool) iter.Seq2[pool.Allocation, error] {
			return p.Find(t.Context(), pool.Query{Labels: map[string]string{"app": "web"}})
		},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := pool.New(specOf("10.0.0.0/24"), nil)
			require.NoError(t, err)
			granted := map[string]netip.Prefix{}
			for _, owner := range []string{"a", "b"} {
				a := allocate(t, p, pool.Claim{Owner: owner, Labels: map[string]string{"app": "web"}})
				granted[owner] = a.Prefixes[0]
			}
			next, stop := iter.Pull2(list(p))
			defer stop()
			first, err, _ := next()
			require.NoError(t, err)
			for _, owner := range []string{"a", "b"} {
				released, err := p.Release(t.Context(), pool.Held{Owner: owner})
				require.NoError(t, err)
				released.Prefixes[0], released.Labels["app"] = netip.Prefix{}, "gone"
			}
			second, err, _ := next()
			require.NoError(t, err)
			require.NotEqual(t, first.Owner, second.Owner)
			require.Equal(t, granted[second.Owner], second.Prefixes[0])
			require.Equal(t, "web", second.Labels["app"])
		})
	}
}
