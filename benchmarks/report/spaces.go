package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ipalloc/ipalloc/benchmarks/measure"
	"github.com/ipalloc/ipalloc/benchmarks/peer"
)

// errNone says that a subject does not have such a thing at all.
var errNone = fmt.Errorf("%w: has no such thing", peer.ErrCannot)

// filled makes a space in which these are held, and checks what it hands out.
func filled(ctx context.Context, p *peer.Peer, s peer.Shape, held []netip.Prefix, bits int) (peer.Space, error) {
	if p.NewSpace == nil {
		return nil, errNone
	}
	space, err := p.NewSpace(s)
	if err != nil {
		return nil, err
	}
	if err := space.Fill(ctx, held); err != nil {
		return nil, err
	}
	return space, p.CheckFilled(space, s, held, bits)
}

// timed measures an operation.
func timed(operation func() error) func(context.Context, time.Duration) (reading, error) {
	return func(_ context.Context, atLeast time.Duration) (reading, error) {
		per, err := measure.Time(atLeast, operation)
		return reading{value: per.Nanoseconds, allocs: per.Allocs}, err
	}
}

// pairs takes one and releases it.
func pairs(s peer.Shape, held func() ([]netip.Prefix, error)) func(context.Context, subject) (work, error) {
	return func(ctx context.Context, subject subject) (work, error) {
		list, err := held()
		if err != nil {
			return work{}, err
		}
		space, err := filled(ctx, subject.peer, s, list, s.Bits)
		return work{round: timed(func() error {
			p, err := space.Take(s.Bits)
			if err != nil {
				return err
			}
			return space.Release(p)
		})}, err
	}
}

// replaceMixed holds prefixes of mixed lengths, and replaces one at random by a new one of a random length.
func replaceMixed(s peer.Shape, n int) func(context.Context, subject) (work, error) {
	list := sync.OnceValues(func() ([]netip.Prefix, error) { return mixed(s, n) })
	return func(ctx context.Context, subject subject) (work, error) {
		all, err := list()
		if err != nil {
			return work{}, err
		}
		held := append([]netip.Prefix(nil), all...)
		space, err := filled(ctx, subject.peer, s, held, 32)
		random := rand.New(rand.NewPCG(seed, 3))
		return work{round: timed(func() error {
			i := random.IntN(len(held))
			if err := space.Release(held[i]); err != nil {
				return err
			}
			var err error
			held[i], err = space.Take(mixedLength(random))
			return err
		})}, err
	}
}

// fillWhole takes all of an empty space, one by one.
func fillWhole(s peer.Shape) func(context.Context, subject) (work, error) {
	return func(ctx context.Context, subject subject) (work, error) {
		if subject.peer.NewSpace == nil {
			return work{}, errNone
		}
		fill := func(ctx context.Context) (reading, error) {
			space, err := subject.peer.NewSpace(s)
			if err != nil {
				return reading{}, err
			}
			all := make([]struct{}, capacity(s)-3)
			start := time.Now()
			err = peer.Each(ctx, all, func(struct{}) error {
				_, err := space.Take(s.Bits)
				return err
			})
			return reading{value: float64(time.Since(start).Nanoseconds()), allocs: -1}, err
		}
		first, err := fill(ctx)
		return work{
			first: &first, spent: time.Duration(first.value),
			round: func(ctx context.Context, _ time.Duration) (reading, error) { return fill(ctx) },
		}, err
	}
}

func snapshotter(ctx context.Context, p *peer.Peer, s peer.Shape,
	held func() ([]netip.Prefix, error),
) (peer.Snapshotter, error) {
	list, err := held()
	if err != nil {
		return nil, err
	}
	space, err := filled(ctx, p, s, list, s.Bits)
	if err != nil {
		return nil, err
	}
	snapshots, ok := space.(peer.Snapshotter)
	if !ok {
		return nil, errNone
	}
	return snapshots, nil
}

func snapshot(s peer.Shape, held func() ([]netip.Prefix, error)) func(context.Context, subject) (work, error) {
	return func(ctx context.Context, subject subject) (work, error) {
		space, err := snapshotter(ctx, subject.peer, s, held)
		return work{round: timed(func() error {
			_, err := space.Snapshot()
			return err
		})}, err
	}
}

func snapshotSize(s peer.Shape, held func() ([]netip.Prefix, error)) func(context.Context, subject) (work, error) {
	return func(ctx context.Context, subject subject) (work, error) {
		space, err := snapshotter(ctx, subject.peer, s, held)
		return work{round: func(context.Context, time.Duration) (reading, error) {
			n, err := space.Snapshot()
			return reading{value: float64(n), allocs: -1}, err
		}}, err
	}
}

// memory is the heap that a filled space takes.
func memory(s peer.Shape, held func() ([]netip.Prefix, error)) func(context.Context, subject) (work, error) {
	return func(ctx context.Context, subject subject) (work, error) {
		list, err := held()
		if err != nil {
			return work{}, err
		}
		// Once to see whether it can be done in time, and is right.
		if _, err := filled(ctx, subject.peer, s, list, s.Bits); err != nil {
			return work{}, err
		}
		const enough = 3 // it hardly differs
		return work{most: enough, round: func(ctx context.Context, _ time.Duration) (reading, error) {
			bytes, err := measure.Heap(func() (any, error) {
				space, err := subject.peer.NewSpace(s)
				if err != nil {
					return nil, err
				}
				return space, space.Fill(ctx, list)
			})
			return reading{value: max(bytes, 0), allocs: -1}, err
		}}, nil
	}
}

// ownerPairs allocates for an owner and releases, with so many goroutines; the time is that of one pair in all of them.
func ownerPairs(held, goroutines int) func(context.Context, subject) (work, error) {
	return func(ctx context.Context, subject subject) (work, error) {
		if subject.peer.NewOwners == nil {
			return work{}, errNone
		}
		prefix := netip.MustParsePrefix("10.0.0.0/16")
		pool, err := subject.peer.NewOwners(prefix)
		if err != nil {
			return work{}, err
		}
		fill := func(owner string) error {
			_, err := pool.Allocate(ctx, owner)
			return err
		}
		if err := peer.Each(ctx, owners(held), fill); err != nil {
			return work{}, err
		}
		if err := peer.CheckOwners(ctx, subject.peer.Name, pool, prefix); err != nil {
			return work{}, err
		}
		if goroutines == 1 {
			return work{round: timed(func() error { return ownerPair(context.Background(), pool, "the owner") })}, nil
		}
		return work{round: func(ctx context.Context, atLeast time.Duration) (reading, error) {
			rate, err := together(ctx, pool, goroutines, atLeast)
			return reading{value: 1e9 / rate, allocs: -1}, err
		}}, nil
	}
}

func ownerPair(ctx context.Context, pool peer.Owners, owner string) error {
	if _, err := pool.Allocate(ctx, owner); err != nil {
		return err
	}
	return pool.Release(ctx, owner)
}

// together is how many pairs a second so many goroutines do. Each does one at least.
func together(ctx context.Context, pool peer.Owners, goroutines int, atLeast time.Duration) (float64, error) {
	var wg sync.WaitGroup
	var done atomic.Int64
	errs := make([]error, goroutines)
	start := time.Now()
	for g := range goroutines {
		wg.Go(func() {
			owner := fmt.Sprintf("goroutine-%d", g)
			for first := true; first || time.Since(start) < atLeast; first = false {
				if errs[g] = ownerPair(ctx, pool, owner); errs[g] != nil {
					return
				}
				done.Add(1)
			}
		})
	}
	wg.Wait()
	return float64(done.Load()) / time.Since(start).Seconds(), errors.Join(errs...)
}
