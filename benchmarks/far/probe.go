package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/ipalloc/ipalloc/benchmarks/processes"
	"github.com/ipalloc/ipalloc/pool"
)

// The tasks of processes that open a pool which they have not seen before.
const (
	probeTask  = "far: probe"
	verifyTask = "far: verify"
)

// probeJob is where the pool is, and what it holds.
type probeJob struct {
	Site  site
	Holds holding
}

// probe is what a process measured that opened the pool.
type probe struct {
	// Store and Pool are how long it took to open these, and First how long the first allocate took.
	Store, Pool, First time.Duration
	// Memory is what the process has of its own after that, and Heap how much of it is the handles'.
	Memory, Heap int64
	// The medians, but for Page, which was read once.
	Allocate, Release, ByOwner, ByAddress, Info, Some, Page time.Duration
	// Batch is how long it took to take and release [batch] addresses for owners in no order.
	Batch time.Duration
	// Head is how many bytes the head has. Commit and Largest are those of the records of a commit of one allocate or
	// release, in the mean and of the largest.
	Head, Commit, Largest int64
}

func probeProcess(ctx context.Context, given func(any) error, tell func(any) error) error {
	var job probeJob
	if err := errors.Join(given(&job), processes.Ready()); err != nil {
		return err
	}
	got, err := probeAt(ctx, job.Site, job.Holds)
	if err != nil {
		return err
	}
	return tell(got)
}

// prober measures a pool that it has opened, and checks its answers.
type prober struct {
	pool.NoObserver
	*pool.Pool
	holds holding
	got   probe
	// Of the commits since the pool was opened, which come one after the other.
	commits, bytes, largest int64
}

// EndCommit implements [pool.Observer].
func (p *prober) EndCommit(_ context.Context, c pool.Commit) {
	p.commits++
	p.bytes += int64(c.Bytes)
	p.largest = max(p.largest, int64(c.Bytes))
}

func probeAt(ctx context.Context, at site, holds holding) (_ probe, err error) {
	before := liveHeap()
	start := time.Now()
	s, err := at.open(ctx)
	if err != nil {
		return probe{}, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	p := &prober{holds: holds}
	p.got.Store = time.Since(start)
	start = time.Now()
	if p.Pool, err = pool.Open(ctx, s, poolName, &pool.Options{Observer: p}); err != nil {
		return probe{}, err
	}
	p.got.Pool = time.Since(start)
	start = time.Now()
	if err := p.take(ctx, 0); err != nil {
		return probe{}, err
	}
	p.got.First = time.Since(start)
	p.got.Memory = ownMemory()
	p.got.Heap = max(0, liveHeap()-before)
	if err := p.give(ctx, 0); err != nil {
		return probe{}, err
	}
	if err := errors.Join(p.changes(ctx), p.reads(ctx)); err != nil {
		return probe{}, err
	}
	head, err := headOf(ctx, s, poolName)
	if err != nil {
		return probe{}, err
	}
	p.got.Head, p.got.Commit, p.got.Largest = int64(len(head.Data)), p.bytes/p.commits, p.largest
	return p.got, p.scatter(ctx)
}

// probeOwner is an owner that holds nothing before the measurement, and nothing after it.
func probeOwner(round int) string { return fmt.Sprintf("probe-%d", round) }

// take allocates, which has to give the lowest free address.
func (p *prober) take(ctx context.Context, round int) error {
	a, err := p.Pool.Allocate(ctx, pool.Claim{Owner: probeOwner(round)})
	if err == nil && round == 0 && a.Prefixes[0].Addr() != p.lowest() {
		err = fmt.Errorf("the first address is %v, and %v is the lowest free one", a.Prefixes, p.lowest())
	}
	return err
}

// lowest is the lowest free address.
func (p *prober) lowest() netip.Addr {
	i := 0
	for i < p.holds.Count && !(p.holds.Holes && holed(i)) {
		i++
	}
	return addressOf(i)
}

func (p *prober) give(ctx context.Context, round int) error {
	_, err := p.Pool.Release(ctx, pool.Held{Owner: probeOwner(round)})
	return err
}

// changes measures what commits.
func (p *prober) changes(ctx context.Context) (err error) {
	if p.got.Allocate, err = median(func(round int) error { return p.take(ctx, round) }); err != nil {
		return err
	}
	p.got.Release, err = median(func(round int) error { return p.give(ctx, round) })
	return err
}

// reads measures what only reads.
func (p *prober) reads(ctx context.Context) (err error) {
	measure := func(into *time.Duration, operation func(round int) error) {
		if err == nil {
			*into, err = median(operation)
		}
	}
	measure(&p.got.ByOwner, func(round int) error {
		return p.find(ctx, round, func(i int) pool.Held { return pool.Held{Owner: ownerOf(i)} })
	})
	measure(&p.got.ByAddress, func(round int) error {
		return p.find(ctx, round, func(i int) pool.Held { return pool.Held{Addr: addressOf(i)} })
	})
	owners := p.holds.owners()
	measure(&p.got.Info, func(int) error {
		info, err := p.Pool.Info(ctx)
		if err == nil && info.Holders != owners {
			err = fmt.Errorf("%d owners hold something, and %d should", info.Holders, owners)
		}
		return err
	})
	start := time.Now()
	if err == nil {
		err = p.some(ctx)
	}
	p.got.Some = time.Since(start)
	start = time.Now()
	if err == nil {
		err = p.page(ctx)
	}
	p.got.Page = time.Since(start)
	return err
}

// batch is how many steps of [pool.Pool.Each] share a commit.
const batch = 4096

func (p *prober) scattered(i int) string { return scatteredOwner(i, p.holds.Count) }

// scatter takes and releases a batch of addresses in bulk, for owners whose names are in no order.
func (p *prober) scatter(ctx context.Context) error {
	start := time.Now()
	for _, step := range []func(i int) pool.Step{
		func(i int) pool.Step { return pool.Allocate(pool.Claim{Owner: p.scattered(i)}) },
		func(i int) pool.Step { return pool.Release(pool.Held{Owner: p.scattered(i)}) },
	} {
		steps := func(yield func(pool.Step) bool) {
			for i := 0; i < batch && yield(step(i)); i++ {
			}
		}
		for result, err := range p.Pool.Each(ctx, steps) {
			if err = errors.Join(err, result.Err); err != nil {
				return err
			}
		}
	}
	p.got.Batch = time.Since(start)
	return nil
}

// find looks up one of the owners, another one in each round.
func (p *prober) find(ctx context.Context, round int, by func(i int) pool.Held) error {
	i := int(mix(uint64(round)) % uint64(p.holds.Count))
	a, err := p.Pool.Get(ctx, by(i))
	switch {
	case p.holds.Holes && holed(i):
		if !errors.Is(err, pool.ErrNotFound) {
			return fmt.Errorf("owner %d has released, and is found: %v, %w", i, a, err)
		}
		return nil
	case err != nil:
		return fmt.Errorf("owner %d: %w", i, err)
	case a.Owner != ownerOf(i) || a.Prefixes[0].Addr() != addressOf(i):
		return fmt.Errorf("owner %d holds %v, and not %v", i, a.Prefixes, addressOf(i))
	}
	return nil
}

// pageLength is how many allocations a page has.
const pageLength = 100

// some reads as many as a page has, in the store's order.
func (p *prober) some(ctx context.Context) error {
	n := 0
	for _, err := range p.Pool.Allocations(ctx) {
		if err != nil {
			return err
		}
		if n++; n == pageLength {
			break
		}
	}
	return p.checkPage(n)
}

// page reads a page by address, from the middle on.
func (p *prober) page(ctx context.Context) error {
	n, last := 0, addressOf(p.holds.Count/2)
	for a, err := range p.Pool.Find(ctx, pool.Query{ByAddress: true, AfterAddr: last}) {
		if err != nil {
			return err
		}
		if !last.Less(a.Prefixes[0].Addr()) {
			return fmt.Errorf("%v comes after %v", a.Prefixes, last)
		}
		last = a.Prefixes[0].Addr()
		if n++; n == pageLength {
			break
		}
	}
	return p.checkPage(n)
}

// checkPage wants a whole page of a pool that has twice as many.
func (p *prober) checkPage(n int) error {
	if n < pageLength && p.holds.Count > 3*pageLength {
		return fmt.Errorf("a page has %d allocations instead of %d", n, pageLength)
	}
	return nil
}

// verdict is what a process found that verified the pool.
type verdict struct {
	Took    time.Duration
	Memory  int64 // of its own, at most
	Holders int
	Wrong   string
}

func verifyProcess(ctx context.Context, given func(any) error, tell func(any) error) error {
	var at site
	if err := errors.Join(given(&at), processes.Ready()); err != nil {
		return err
	}
	got, err := verifyAt(ctx, at)
	if err != nil {
		return err
	}
	return tell(got)
}

func verifyAt(ctx context.Context, at site) (got verdict, err error) {
	s, err := at.open(ctx)
	if err != nil {
		return verdict{}, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	p, err := pool.Open(ctx, s, poolName, nil)
	if err != nil {
		return verdict{}, err
	}
	var report pool.Report
	got.Memory, err = peakMemory(func() (err error) {
		start := time.Now()
		report, err = p.Verify(ctx)
		got.Took = time.Since(start)
		return err
	})
	if err != nil {
		return verdict{}, err
	}
	if !report.OK() {
		got.Wrong = fmt.Sprint(report)
	}
	got.Holders = report.Allocations
	return got, nil
}
