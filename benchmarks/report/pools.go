package main

import (
	"bufio"
	"context"
	"errors"
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

// poolPrefix is what durable pools hand out.
const poolPrefix = "10.0.0.0/16"

// place is a durable pool in a place of its own.
type place struct {
	durable.Pool
	kind    *durable.Kind
	address string
	dir     string
	finish  func() error
}

// newPlace makes a place and an empty pool in it.
func newPlace(ctx context.Context, s subject) (*place, error) {
	k := s.kind
	dir, err := os.MkdirTemp("", "ipalloc-report-")
	if err != nil {
		return nil, err
	}
	p := &place{kind: k, dir: dir}
	if p.address, p.finish, err = k.Prepare(ctx, s.servers, dir); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	if err := p.open(ctx); err != nil {
		return nil, errors.Join(err, p.finish(), os.RemoveAll(dir))
	}
	return p, nil
}

func (p *place) open(ctx context.Context) (err error) {
	p.Pool, err = p.kind.Open(ctx, p.address, netip.MustParsePrefix(poolPrefix))
	return err
}

// end closes the pool if it is open, and removes the place.
func (p *place) end() error {
	var err error
	if p.Pool != nil {
		err = p.Close()
	}
	return errors.Join(err, p.finish(), os.RemoveAll(p.dir))
}

// filledPlace is a place where so many owners hold an address. What it gives is checked.
func filledPlace(ctx context.Context, s subject, held int) (*place, error) {
	p, err := newPlace(ctx, s)
	if err != nil {
		return nil, err
	}
	if err := p.Fill(ctx, owners(held)); err != nil {
		return nil, errors.Join(err, p.end())
	}
	if err := peer.CheckOwners(ctx, s.kind.Name, p, netip.MustParsePrefix(poolPrefix)); err != nil {
		return nil, errors.Join(err, p.end())
	}
	return p, nil
}

// mostChanges is how many changes a round makes at most, so that the pool does not become full.
const mostChanges = 1000

// allocateOnce times allocations for one caller. The releases between the rounds are not timed.
func allocateOnce(held int) func(context.Context, subject) (work, error) {
	return func(ctx context.Context, s subject) (work, error) {
		p, err := filledPlace(ctx, s, held)
		if err != nil {
			return work{}, err
		}
		return work{end: p.end, round: func(atLeast time.Duration) (reading, error) {
			n, start := 0, time.Now()
			for n == 0 || n < mostChanges && time.Since(start) < atLeast {
				if _, err := p.Allocate(context.Background(), ownerName(1_000_000+n)); err != nil {
					return reading{}, err
				}
				n++
			}
			took := time.Since(start)
			for i := range n {
				if err := p.Release(context.Background(), ownerName(1_000_000+i)); err != nil {
					return reading{}, err
				}
			}
			return reading{value: float64(took.Nanoseconds()) / float64(n), allocs: -1}, nil
		}}, nil
	}
}

// throughput is how many pairs a second so many goroutines do in one process.
func throughput(writers int) func(context.Context, subject) (work, error) {
	return func(ctx context.Context, s subject) (work, error) {
		p, err := filledPlace(ctx, s, 0)
		if err != nil {
			return work{}, err
		}
		return work{end: p.end, round: func(atLeast time.Duration) (reading, error) {
			rate, err := together(p, writers, atLeast)
			return reading{value: rate, allocs: -1}, err
		}}, nil
	}
}

// bytesWritten is how many bytes this process hands to the operating system for one change: to files, or to a server. Of what
// was filled, only every nth is still held.
func bytesWritten(held, nth int) func(context.Context, subject) (work, error) {
	return bytesOf(held, nth, func(durable.Pool) (float64, error) { return writtenSoFar() })
}

// bytesGiven is how many bytes of records the store is given for one change, before its own format.
func bytesGiven(held, nth int) func(context.Context, subject) (work, error) {
	return bytesOf(held, nth, func(p durable.Pool) (float64, error) {
		counter, ok := p.(durable.Counter)
		if !ok {
			return 0, errNone
		}
		return float64(counter.Bytes()), nil
	})
}

func bytesOf(held, nth int, soFar func(durable.Pool) (float64, error)) func(context.Context, subject) (work, error) {
	return func(ctx context.Context, s subject) (work, error) {
		p, err := filledPlace(ctx, s, held)
		if err != nil {
			return work{}, err
		}
		if _, err := soFar(p.Pool); err != nil {
			return work{}, errors.Join(err, p.end())
		}
		if err := thin(ctx, p, held, nth); err != nil {
			return work{}, errors.Join(err, p.end())
		}
		return work{end: p.end, round: func(atLeast time.Duration) (reading, error) {
			before, err := soFar(p.Pool)
			if err != nil {
				return reading{}, err
			}
			n, start := 0, time.Now()
			for ; n == 0 || n < mostChanges && time.Since(start) < atLeast; n++ {
				if err := ownerPair(context.Background(), p, ownerName(1_000_000+n)); err != nil {
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
func freshProcess(held int, whole bool) func(context.Context, subject) (work, error) {
	return func(ctx context.Context, s subject) (work, error) {
		p, err := filledPlace(ctx, s, held)
		if err != nil {
			return work{}, err
		}
		if err := p.Close(); err != nil {
			return work{}, errors.Join(err, p.finish(), os.RemoveAll(p.dir))
		}
		p.Pool = nil
		runs := 0
		return work{end: p.end, round: func(time.Duration) (reading, error) {
			runs++
			start := time.Now()
			e, err := processes.Once(context.Background(), processes.Job{
				Kind: p.kind.Name, Address: p.address, Prefix: netip.MustParsePrefix(poolPrefix), Process: runs, Claims: 1,
			})
			r := reading{value: float64(e.Took.Nanoseconds()), allocs: -1}
			if whole {
				r.value = float64(time.Since(start).Nanoseconds())
			}
			return r, err
		}}, nil
	}
}

// burst is the time of a whole burst, each on an empty pool of its own.
func burst(n sizes, kill int, blocks bool) func(context.Context, subject) (work, error) {
	return func(_ context.Context, s subject) (work, error) {
		if s.kind.Floor || blocks && s.kind.OpenBlock == nil {
			return work{}, errNone
		}
		runs := uint64(0)
		return work{round: func(time.Duration) (reading, error) {
			runs++
			return burstOnce(s, processes.Burst{
				Kind: *s.kind, Prefix: netip.MustParsePrefix(poolPrefix), Processes: n.processes, Claims: n.claims, Kill: kill,
				Blocks: blocks, Seed: runs,
			})
		}}, nil
	}
}

func burstOnce(s subject, b processes.Burst) (reading, error) {
	ctx, cancel := context.WithTimeout(context.Background(), burstLimit)
	defer cancel()
	p, err := newPlace(ctx, s)
	if err != nil {
		return reading{}, err
	}
	err = p.Close()
	p.Pool = nil
	if err != nil {
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
	note := "slowest claim " + formatNanoseconds(float64(o.Slowest.Nanoseconds()))
	if o.Commits > 0 {
		note += fmt.Sprintf(", %d commits, %d too late", o.Commits, o.Conflicts)
	}
	return reading{value: float64(o.Total.Nanoseconds()), allocs: -1, note: note}, nil
}

// burstLimit is how long a burst may take.
const burstLimit = 5 * time.Minute
