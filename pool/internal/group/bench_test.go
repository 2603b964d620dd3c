package group_test

import (
	"fmt"
	"runtime"
	"sync/atomic"
	"testing"

	"github.com/ipalloc/ipalloc/pool/internal/group"
)

// BenchmarkDo measures what a call costs whose round does nothing, and how many rounds there are for each call.
func BenchmarkDo(b *testing.B) {
	for _, queues := range []int{1, 2} {
		for _, callers := range []int{1, 64} {
			b.Run(fmt.Sprintf("queues=%d/callers=%d", queues, callers), func(b *testing.B) {
				benchmarkDo(b, queues, callers)
			})
		}
	}
}

func benchmarkDo(b *testing.B, count, callers int) {
	queues := make([]*group.Queue, count)
	for i := range queues {
		queues[i] = new(group.Queue)
	}
	var rounds atomic.Int64
	run := &runner{round: finish}
	if callers > 1 {
		run.round = func(batch []*op) {
			rounds.Add(1)
			finish(batch)
		}
	}
	b.ReportAllocs()
	if callers == 1 {
		o, ctx := &op{}, b.Context()
		for b.Loop() {
			if err := group.Do(ctx, o, queues, run); err != nil {
				b.Fatal(err)
			}
		}
		return
	}
	b.SetParallelism((callers + runtime.GOMAXPROCS(0) - 1) / runtime.GOMAXPROCS(0))
	b.RunParallel(func(pb *testing.PB) {
		o, ctx := &op{}, b.Context()
		for pb.Next() {
			if err := group.Do(ctx, o, queues, run); err != nil {
				b.Error(err)
			}
		}
	})
	b.ReportMetric(float64(rounds.Load())/float64(b.N), "rounds/op")
}
