package pool_test

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
)

// distant is a store whose calls take the time that a server takes.
type distant struct {
	*store.Memory
	commit, read time.Duration
}

func (s distant) Commit(ctx context.Context, changes ...store.Change) ([]store.Record, error) {
	pass(s.commit)
	return s.Memory.Commit(ctx, changes...)
}

func (s distant) Get(ctx context.Context, key store.Key) (store.Record, error) {
	pass(s.read)
	return s.Memory.Get(ctx, key)
}

func (s distant) Turn(ctx context.Context, keys ...store.Key) (store.Turn, error) {
	turn, err := s.Memory.Turn(ctx, keys...)
	pass(s.read)
	return turn, err
}

// pass lets a time pass that is shorter than the least that a timer may take.
func pass(d time.Duration) {
	for begin := time.Now(); time.Since(begin) < d; {
		runtime.Gosched()
	}
}

// BenchmarkAllocateWait measures how many grants there are in a second where more goroutines want an address than there
// are, and each holds one for 20 ms: at most 700 with 14 addresses.
func BenchmarkAllocateWait(b *testing.B) {
	for _, c := range []struct{ handles, callers int }{{1, 50}, {4, 40}} {
		b.Run(fmt.Sprintf("handles=%d/callers=%d", c.handles, c.callers), func(b *testing.B) {
			benchmarkAllocateWait(b, c.handles, c.callers)
		})
	}
}

func benchmarkAllocateWait(b *testing.B, handles, callers int) {
	const commit, read, hold = 300 * time.Microsecond, 100 * time.Microsecond, 20 * time.Millisecond
	memory := store.NewMemory()
	create(b, memory, specOf("10.0.0.0-10.0.0.13"))
	pools := make([]*pool.Pool, handles)
	for i := range pools {
		pools[i] = open(b, distant{memory.Open(), commit, read})
	}
	var mu sync.Mutex
	var waits []time.Duration
	turns := make(chan struct{})
	var group sync.WaitGroup
	begin := time.Now()
	for i := range callers {
		p, owner := pools[i%handles], fmt.Sprint(i)
		group.Go(func() {
			for range turns {
				asked := time.Now()
				_, err := p.AllocateWait(b.Context(), pool.Claim{Owner: owner})
				took := time.Since(asked)
				if err == nil {
					time.Sleep(hold)
					_, err = p.Release(b.Context(), pool.Held{Owner: owner})
				}
				if err != nil {
					b.Error(err)
					return
				}
				mu.Lock()
				waits = append(waits, took)
				mu.Unlock()
			}
		})
	}
	for b.Loop() {
		turns <- struct{}{}
	}
	close(turns)
	group.Wait()
	slices.Sort(waits)
	require.NotEmpty(b, waits)
	at := func(part float64) float64 {
		return float64(waits[int(part*float64(len(waits)-1))]) / float64(time.Millisecond)
	}
	b.ReportMetric(float64(len(waits))/time.Since(begin).Seconds(), "grants/s")
	b.ReportMetric(at(0.5), "p50-ms")
	b.ReportMetric(at(0.99), "p99-ms")
	b.ReportMetric(at(1), "longest-ms")
}
