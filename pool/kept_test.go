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
	for ranges, most := range map[string]float64{"10.0.0.0/8": 220, "2001:db8::/64": 230} {
		p, err := pool.New(specOf(ranges), nil)
		require.NoError(t, err)
		owners := make([]string, count)
		for i := range owners {
			owners[i] = fmt.Sprint("pod-", i)
		}
		before := heapBytes()
		for _, owner := range owners {
			allocate(t, p, pool.Claim{Owner: owner})
		}
		each := float64(heapBytes()-before) / count
		runtime.KeepAlive(p)
		t.Logf("%s: %.0f bytes an owner", ranges, each)
		require.LessOrEqual(t, each, most, ranges)
	}
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
