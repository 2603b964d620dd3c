package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/ipalloc/ipalloc/benchmarks/measure"
	"github.com/ipalloc/ipalloc/benchmarks/peer"
	"github.com/ipalloc/ipalloc/benchmarks/processes"
)

// burst is the time of a whole burst, each on an empty pool of its own. The first one counts: it warms nothing up.
func burst(n sizes, kill int, blocks bool) func(context.Context, subject) (work, error) {
	return func(ctx context.Context, s subject) (work, error) {
		if s.kind.Floor || blocks && s.kind.OpenBlock == nil {
			return work{}, errNone
		}
		if err := s.places.drop(s.kind.Name); err != nil {
			return work{}, err
		}
		count := n.processes
		if most := s.kind.Processes; most > 0 && (kill > 0 || blocks) {
			count = min(count, most)
		}
		runs := uint64(0)
		once := func(ctx context.Context) (reading, error) {
			runs++
			return burstOnce(ctx, s, processes.Burst{
				Kind: *s.kind, Prefix: netip.MustParsePrefix(poolPrefix), Processes: count,
				Claims: n.claims, Kill: kill * count / n.processes,
				Blocks: blocks, Seed: runs,
			})
		}
		first, err := once(ctx)
		return work{
			first: &first, spent: time.Duration(first.value), most: mostBursts,
			round: func(ctx context.Context, _ time.Duration) (reading, error) { return once(ctx) },
		}, err
	}
}

// mostBursts is how many bursts of one kind are enough.
const mostBursts = 5

func burstOnce(ctx context.Context, s subject, b processes.Burst) (reading, error) {
	p, err := newPlace(ctx, s)
	if err != nil {
		return reading{}, err
	}
	if err := p.close(); err != nil {
		return reading{}, errors.Join(err, p.end())
	}
	o, err := b.Run(ctx, p.address)
	if err := errors.Join(err, p.end()); err != nil {
		return reading{}, err
	}
	if !o.OK() {
		first := "claims failed"
		if len(o.Wrong) > 0 {
			first = o.Wrong[0]
		}
		return reading{}, fmt.Errorf("%w: %d of %d claims failed; %s", peer.ErrCannot, o.Failed, b.Processes*b.Claims, first)
	}
	return reading{value: float64(o.Total.Nanoseconds()), allocs: -1, note: burstNote(b, o)}, nil
}

// burstNote says what the time does not.
func burstNote(b processes.Burst, o processes.Outcome) string {
	note := fmt.Sprintf("%d processes, slowest claim %s", b.Processes, measure.FormatTime(float64(o.Slowest)))
	if o.Commits > 0 {
		note += fmt.Sprintf(", %d commits, %d too late", o.Commits, o.Conflicts)
	}
	return note
}
