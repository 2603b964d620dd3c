package pool_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/cidr"
	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
)

// panicking is a store of which one commit panics, before or after it took effect, once others wait for it.
type panicking struct {
	store.Store
	armed   atomic.Bool
	after   bool
	waiting func()
}

func (s *panicking) Commit(ctx context.Context, changes ...store.Change) ([]store.Record, error) {
	if !s.armed.CompareAndSwap(true, false) {
		return s.Store.Commit(ctx, changes...)
	}
	s.waiting()
	if s.after {
		if _, err := s.Store.Commit(ctx, changes...); err != nil {
			return nil, err
		}
	}
	panic("the store is broken")
}

// A panic in the caller's own code reaches the caller, and leaves the pool usable for everybody else.
func TestPanicWhileCommitting(t *testing.T) {
	for _, after := range []bool{false, true} {
		ranges, err := cidr.ParseRanges("10.0.0.0/24")
		require.NoError(t, err)
		s := &panicking{Store: store.NewMemory(), after: after}
		p, err := pool.Create(t.Context(), s, "blue", pool.Spec{Ranges: ranges}, nil)
		require.NoError(t, err)

		var others sync.WaitGroup
		errs := make([]error, 20)
		s.waiting = func() {
			for i := range errs {
				others.Go(func() {
					_, errs[i] = p.Allocate(context.Background(), pool.Claim{Owner: string(rune('a' + i))})
				})
			}
		}
		s.armed.Store(true)
		require.Panics(t, func() { _, _ = p.Allocate(t.Context(), pool.Claim{Owner: "who panics"}) })
		others.Wait()
		for _, err := range errs {
			require.NoError(t, err)
		}
		again, err := p.Allocate(t.Context(), pool.Claim{Owner: "who panics"})
		require.NoError(t, err)
		require.Len(t, again.Prefixes, 1)
		report, err := p.Verify(t.Context())
		require.NoError(t, err)
		require.True(t, report.OK(), report)
		require.Equal(t, 21, report.Allocations)
	}
}

// A panic while a pool in memory plans leaves it as it was, and usable.
func TestPanicWhilePlanningInMemory(t *testing.T) {
	armed := ""
	options := pool.Options{
		Clock: func() time.Time {
			if armed == "clock" {
				panic("the clock is broken")
			}
			return time.Unix(1_700_000_000, 0)
		},
		Random: func() uint64 {
			if armed == "random" {
				panic("the random numbers are broken")
			}
			return 7
		},
	}
	spec := specOf("10.0.0.0/28")
	spec.Strategy = pool.RandomFree
	p, err := pool.New(spec, &options)
	require.NoError(t, err)
	two := pool.Claim{Owner: "a", Requests: []pool.Request{{}, {Bits: 31}}}
	before, err := p.Info(t.Context())
	require.NoError(t, err)
	for _, armed = range []string{"clock", "random"} {
		require.Panics(t, func() { _, _ = p.Allocate(t.Context(), two) }, armed)
	}
	armed = ""
	after, err := p.Info(t.Context())
	require.NoError(t, err)
	require.Equal(t, before, after)
	require.Len(t, allocate(t, p, two).Prefixes, 2)
	requireOK(t, p)
}
