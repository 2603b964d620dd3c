package main

import (
	"context"
	"errors"
	"fmt"
	"math/bits"
	"net/netip"
	"time"

	"go4.org/netipx"

	"github.com/ipalloc/ipalloc/benchmarks/measure"
	"github.com/ipalloc/ipalloc/internal/simulation"
	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
)

// simulated has all writers in a simulation, each a process of its own with a store of its own.
func (m *measurer) simulated(ctx context.Context) error {
	t := &table{name: "simulated", head: []string{
		"writers", "pools", "begin within", "all have a block after", "begin: p50 · p99 · longest",
		"commits · conflicts of that", "claims/s then", "claim: p50 · p99 · longest", "head of the pool"}}
	most := m.writerCount
	for _, c := range []contest{
		{count: max(1, most/100), pools: 1}, {count: max(1, most/10), pools: 1}, {count: most, pools: 1},
		{count: most, pools: manyParents}, {count: most, pools: 1, within: time.Minute},
	} {
		c.plan = m.plan
		row, err := c.run(ctx)
		if err != nil {
			return fmt.Errorf("%d writers within %v: %w", c.count, c.within, err)
		}
		t.add(row...)
		m.tell("%d writers of %d pools within %v: done", c.count, c.pools, c.within)
	}
	return m.show(t)
}

// manyParents is over how many pools writers are spread, where they are: a power of two.
const manyParents = 16

// contest is a simulation of so many writers, who begin within a time, and claim until a time after that. They take
// their blocks from one pool, or each from one of several.
type contest struct {
	plan
	count  int
	pools  int
	within time.Duration

	line         *timeline
	begun, waits measure.Histogram
	ready        int       // how many have their first address
	allReady     time.Time // when the last one had it
	atReady      tally
	ended        int
	failed       error
}

// tally is what a simulated server counts.
type tally struct{ commits, conflicts int }

// errOver ends a world when all writers have come to their ends.
var errOver = errors.New("all is done")

func (c *contest) run(ctx context.Context) ([]string, error) {
	world := simulation.NewWorld(1, simulation.Rates{})
	memory := store.NewMemory()
	for i := range c.pools {
		if _, err := pool.Create(ctx, memory, parentName(i), partOf(i, c.pools), nil); err != nil {
			return nil, err
		}
	}
	c.line = newTimeline(world, memory, c.roundTrip, c.commit)
	start := world.Now()
	for i := range c.count {
		at := start.Add(c.within * time.Duration(i) / time.Duration(c.count))
		c.line.add(at, func(p *simulated) { c.writer(ctx, i, p) })
	}
	world.AfterStep = func() error {
		if c.failed != nil {
			return c.failed
		}
		if c.ended == c.count {
			return errOver
		}
		return nil
	}
	if err := world.Run(int(^uint(0) >> 1)); !errors.Is(err, errOver) {
		return nil, err
	}
	head, err := headOf(ctx, memory, parentName(0))
	if err != nil {
		return nil, err
	}
	if err := audit(ctx, memory, c.pools, c.count); err != nil {
		return nil, err
	}
	return []string{
		countText(c.count), fmt.Sprint(c.pools), c.within.String(), timeText(c.allReady.Sub(start)), waitsText(&c.begun),
		fmt.Sprintf("%s · %s", countText(c.atReady.commits), countText(c.atReady.conflicts)),
		rateText(c.waits.Count(), c.length), waitsText(&c.waits), bytesText(int64(len(head.Data))),
	}, nil
}

// parentName is the name of the i-th pool that blocks are taken from.
func parentName(i int) string { return fmt.Sprintf("%s-%02d", poolName, i) }

// partOf is the spec of the i-th of so many pools, of which each has as much of the prefix.
func partOf(i, pools int) pool.Spec {
	spec := writersSpec()
	length := poolPrefix.Bits() + bits.TrailingZeros(uint(pools))
	first := uint32(10)<<24 + uint32(i)<<(32-length)
	spec.Ranges = []netipx.IPRange{netipx.RangeOfPrefix(netip.PrefixFrom(addrOf(first), length))}
	return spec
}

// writer is what a writer does: it begins, waits until all have begun, and works.
func (c *contest) writer(ctx context.Context, number int, p *simulated) {
	w := &writer{number: number, now: p.now, sleep: p.sleep}
	fail := func(err error) { c.failed = errors.Join(c.failed, fmt.Errorf("writer %d: %w", number, err)) }
	begun := p.now()
	// A back-off would be one of the real time.
	options := &pool.Options{Clock: p.now, Backoff: time.Nanosecond, CommitTimeout: time.Hour}
	if err := w.begin(ctx, p, parentName(number%c.pools), options); err != nil {
		fail(err)
		return
	}
	c.begun.Add(p.now().Sub(begun))
	c.allReady = later(c.allReady, p.now())
	if c.ready++; c.ready == c.count {
		c.atReady = c.line.tally
		c.line.wakeAll(c.allReady)
	} else {
		p.park()
	}
	if err := w.work(ctx, c.allReady.Add(c.length), c.every, c.waits.Add); err != nil {
		fail(err)
		return
	}
	c.ended++
	p.park()
}

func waitsText(h *measure.Histogram) string {
	return fmt.Sprintf("%s · %s · %s", timeText(h.Quantile(0.5)), timeText(h.Quantile(0.99)), timeText(h.Longest()))
}
