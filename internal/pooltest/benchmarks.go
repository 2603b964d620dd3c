package pooltest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
)

// Place is where a pool is measured, new and empty.
type Place struct {
	// Open opens a store there.
	Open func(ctx context.Context) (store.Store, error)
	// Bare prepares for bare commits, beside held small values, and returns a function that makes one: it writes a small
	// value of a new owner, with the backend's own client.
	Bare func(held int) func(owner string) error
	// Claim is as Bare, but writes what no claim can do without: the place of a head, and a record whose addresses nobody
	// else has. It is nil if that is not measured.
	Claim func(held int) func(owner string) error
}

// build makes the pool of the shape there, in a store that is closed at the end of the benchmark.
func (p Place) build(b *testing.B, s Shape) *pool.Pool {
	b.Helper()
	in, err := p.Open(b.Context())
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, in.Close()) })
	return s.Build(b, in)
}

const packedHeld = 60_000

// BenchmarkCommit measures one caller that allocates and releases, beside a bare commit, with nothing held and with
// 60,000 held, all in turns. It reports medians, and how they compare.
func BenchmarkCommit(b *testing.B, newPlace func(b *testing.B) Place) {
	var cases []commitCase
	for _, held := range []int{0, packedHeld} {
		place := newPlace(b)
		p := place.build(b, Packed(held))
		c := commitCase{fmt.Sprintf("held=%d", held), map[string]func(string) error{"bare": place.Bare(held)}, p}
		if place.Claim != nil {
			c.bare["bare-claim"] = place.Claim(held)
		}
		cases = append(cases, c)
	}
	watch, turn := stopwatch{}, packedHeld
	for b.Loop() {
		turn++
		for _, c := range cases {
			c.measure(b, watch, Owner(turn))
		}
	}
	watch.report(b)
	b.ReportMetric(watch.median("held=0/allocate")/watch.median("held=0/bare"), "allocate/bare")
	b.ReportMetric(watch.median("held=60000/allocate")/watch.median("held=0/allocate"), "held=60000/held=0")
}

type commitCase struct {
	name string
	bare map[string]func(owner string) error
	pool *pool.Pool
}

func (c commitCase) measure(b *testing.B, watch stopwatch, owner string) {
	b.Helper()
	for name, commit := range c.bare {
		watch.measure(c.name+"/"+name, func() { require.NoError(b, commit(owner)) })
	}
	watch.measure(c.name+"/allocate", func() {
		_, err := c.pool.Allocate(b.Context(), pool.Claim{Owner: owner})
		require.NoError(b, err)
	})
	watch.measure(c.name+"/release", func() {
		_, err := c.pool.Release(b.Context(), pool.Held{Owner: owner})
		require.NoError(b, err)
	})
}

// BenchmarkParallel allocates and releases from one goroutine and from 64, each for owners of its own, in turns. It
// reports how many such pairs all goroutines together make a second, and how the two compare.
func BenchmarkParallel(b *testing.B, newPlace func(b *testing.B) Place) {
	const each = 20
	watch, pools := stopwatch{}, map[int]*pool.Pool{}
	for _, goroutines := range []int{1, 64} {
		pools[goroutines] = newPlace(b).build(b, Packed(0))
	}
	for b.Loop() {
		for goroutines, p := range pools {
			watch.measure(fmt.Sprint(goroutines), func() { pairs(b, p, goroutines, each) })
		}
	}
	b.ReportMetric(0, "ns/op")
	rate := func(goroutines int) float64 {
		return float64(goroutines*each) / watch.median(fmt.Sprint(goroutines)) * 1e9
	}
	for goroutines := range pools {
		b.ReportMetric(rate(goroutines), fmt.Sprintf("goroutines=%d/pairs/s", goroutines))
	}
	b.ReportMetric(rate(64)/rate(1), "goroutines=64/goroutines=1")
}

// pairs allocates and releases n times in each of so many goroutines.
func pairs(b *testing.B, p *pool.Pool, goroutines, n int) {
	b.Helper()
	var all sync.WaitGroup
	for i := range goroutines {
		all.Go(func() {
			owner := Owner(i)
			for range n {
				_, err := p.Allocate(b.Context(), pool.Claim{Owner: owner})
				if err == nil {
					_, err = p.Release(b.Context(), pool.Held{Owner: owner})
				}
				if err != nil {
					b.Error(err)
				}
			}
		})
	}
	all.Wait()
}

// BenchmarkHeld claims for 2,000 owners in bulk, first when none of them holds anything, and then, when all do, through
// another handle, which knows none of them. The list of the pool is read beside it. A place must bear two stores at
// once.
func BenchmarkHeld(b *testing.B, newPlace func(b *testing.B) Place) {
	claims := make([]pool.Claim, 2000)
	for i := range claims {
		claims[i].Owner = Owner(i)
	}
	steps, watch := Allocations(claims), stopwatch{}
	for b.Loop() {
		place := newPlace(b)
		p := place.build(b, Packed(0))
		s, err := place.Open(b.Context())
		require.NoError(b, err)
		again, err := pool.Open(b.Context(), s, p.Name(), nil)
		require.NoError(b, err)
		claimAll := func(p *pool.Pool) func() {
			return func() {
				for result, err := range p.Each(b.Context(), slices.Values(steps)) {
					require.NoError(b, errors.Join(err, result.Err))
				}
			}
		}
		watch.measure("granting", claimAll(p))
		watch.measure("held", claimAll(again))
		watch.measure("list", func() {
			for _, err := range again.Allocations(b.Context()) {
				require.NoError(b, err)
			}
		})
		require.NoError(b, s.Close())
	}
	watch.report(b)
	b.ReportMetric(watch.median("held")/watch.median("granting"), "held/granting")
	b.ReportMetric(watch.median("held")/watch.median("list"), "held/list")
}

// BenchmarkOpen measures a program that runs once for each claim: it opens the store, opens the pool and allocates. The
// first step is reported under the given name, the other two together.
func BenchmarkOpen(b *testing.B, opening string, newPlace func(b *testing.B) Place) {
	for _, s := range []Shape{Packed(0), Packed(packedHeld), EveryOther(16)} {
		b.Run(s.String(), func(b *testing.B) {
			place, watch := newPlace(b), stopwatch{}
			in, err := place.Open(b.Context())
			require.NoError(b, err)
			s.Build(b, in)
			require.NoError(b, in.Close())
			for b.Loop() {
				watch.measure(opening, func() {
					in, err = place.Open(b.Context())
					require.NoError(b, err)
				})
				var p *pool.Pool
				watch.measure("pool+allocate", func() {
					p, err = pool.Open(b.Context(), in, Name, nil)
					require.NoError(b, err)
					_, err = p.Allocate(b.Context(), pool.Claim{Owner: "new"})
					require.NoError(b, err)
				})
				_, err = p.Release(b.Context(), pool.Held{Owner: "new"})
				require.NoError(b, err)
				require.NoError(b, in.Close())
			}
			watch.report(b)
		})
	}
}
