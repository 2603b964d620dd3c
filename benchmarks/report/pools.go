package main

import (
	"bufio"
	"context"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/ipalloc/ipalloc/benchmarks/durable"
	"github.com/ipalloc/ipalloc/benchmarks/peer"
	"github.com/ipalloc/ipalloc/benchmarks/processes"
)

// mostChanges is how many changes a round makes at most, so that the pool does not become full.
const mostChanges = 1000

// allocateOnce times allocations for one caller. The releases between the rounds are not timed.
func allocateOnce(holds content) func(context.Context, subject) (work, error) {
	return func(ctx context.Context, s subject) (work, error) {
		p, err := s.places.of(ctx, s, holds)
		if err != nil {
			return work{}, err
		}
		return work{place: p, round: func(ctx context.Context, atLeast time.Duration) (reading, error) {
			n, start := 0, time.Now()
			for n == 0 || n < mostChanges && time.Since(start) < atLeast {
				if _, err := p.Allocate(ctx, ownerName(1_000_000+n)); err != nil {
					return reading{}, err
				}
				n++
			}
			took := time.Since(start)
			for i := range n {
				if err := p.Release(ctx, ownerName(1_000_000+i)); err != nil {
					return reading{}, err
				}
			}
			return reading{value: float64(took.Nanoseconds()) / float64(n), allocs: -1}, nil
		}}, nil
	}
}

// throughput is how many pairs a second so many goroutines do in one process.
func throughput(writers int) func(content) func(context.Context, subject) (work, error) {
	return func(holds content) func(context.Context, subject) (work, error) { return throughputOf(holds, writers) }
}

func throughputOf(holds content, writers int) func(context.Context, subject) (work, error) {
	return func(ctx context.Context, s subject) (work, error) {
		p, err := s.places.of(ctx, s, holds)
		if err != nil {
			return work{}, err
		}
		return work{place: p, round: func(ctx context.Context, atLeast time.Duration) (reading, error) {
			rate, err := together(ctx, p, writers, atLeast)
			return reading{value: rate, allocs: -1}, err
		}}, nil
	}
}

// bytesWritten is how many bytes this process hands to the operating system for one change: to files, or to a server.
func bytesWritten(holds content) func(context.Context, subject) (work, error) {
	return bytesOf(holds, func(durable.Pool) (float64, error) { return writtenSoFar() })
}

// bytesGiven is how many bytes of records the store is given for one change, before its own format.
func bytesGiven(holds content) func(context.Context, subject) (work, error) {
	given := bytesOf(holds, func(p durable.Pool) (float64, error) {
		counter, ok := p.(durable.Counter)
		if !ok {
			return 0, errNone
		}
		return float64(counter.Bytes()), nil
	})
	return func(ctx context.Context, s subject) (work, error) {
		if !s.ours() {
			return work{}, errNone // nothing needs to be filled to know that
		}
		return given(ctx, s)
	}
}

func bytesOf(holds content, soFar func(durable.Pool) (float64, error)) func(context.Context, subject) (work, error) {
	return func(ctx context.Context, s subject) (work, error) {
		p, err := s.places.of(ctx, s, holds)
		if err != nil {
			return work{}, err
		}
		return work{place: p, round: func(ctx context.Context, atLeast time.Duration) (reading, error) {
			before, err := soFar(p.Pool)
			if err != nil {
				return reading{}, err
			}
			n, start := 0, time.Now()
			for ; n == 0 || n < mostChanges && time.Since(start) < atLeast; n++ {
				if err := ownerPair(ctx, p, ownerName(1_000_000+n)); err != nil {
					return reading{}, err
				}
			}
			after, err := soFar(p.Pool)
			return reading{value: (after - before) / float64(2*n), allocs: -1}, err
		}}, nil
	}
}

// thin releases all owners but every nth, many at once.
func thin(ctx context.Context, p durable.Pool, held, nth int) error {
	if nth == 1 {
		return nil
	}
	const atOnce = 64
	var wg sync.WaitGroup
	errs := make([]error, atOnce)
	var all []string
	for i := range held {
		if i%nth != 0 {
			all = append(all, ownerName(i))
		}
	}
	for g := range atOnce {
		var mine []string
		for i := g; i < len(all); i += atOnce {
			mine = append(mine, all[i])
		}
		wg.Go(func() {
			errs[g] = peer.Each(ctx, mine, func(owner string) error { return p.Release(ctx, owner) })
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// writtenSoFar is what Linux counts of this process' write calls, to files and sockets.
func writtenSoFar() (float64, error) {
	f, err := os.Open("/proc/self/io")
	if err != nil {
		return 0, fmt.Errorf("%w: bytes are not counted on %s", peer.ErrCannot, runtime.GOOS)
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if text, ok := strings.CutPrefix(lines.Text(), "wchar: "); ok {
			return strconv.ParseFloat(text, 64)
		}
	}
	return 0, fmt.Errorf("%w: bytes are not counted here", peer.ErrCannot)
}

// freshProcess opens the pool and allocates once in a process of its own. The whole is from its start to its end.
func freshProcess(holds content, whole bool) func(context.Context, subject) (work, error) {
	return func(ctx context.Context, s subject) (work, error) {
		p, err := s.places.of(ctx, s, holds)
		if err != nil {
			return work{}, err
		}
		if p.kind.OneAtATime {
			err = p.close()
		}
		return work{place: p, round: func(ctx context.Context, _ time.Duration) (reading, error) {
			p.runs++
			start := time.Now()
			e, err := processes.Once(ctx, processes.Job{
				Kind: p.kind.Name, Address: p.address, Prefix: netip.MustParsePrefix(poolPrefix), Process: p.runs, Claims: 1,
			})
			r := reading{value: float64(e.Took.Nanoseconds()), allocs: -1}
			if whole {
				r.value = float64(time.Since(start).Nanoseconds())
			}
			return r, err
		}}, err
	}
}
