package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ipalloc/ipalloc/benchmarks/durable"
	"github.com/ipalloc/ipalloc/benchmarks/measure"
	"github.com/ipalloc/ipalloc/benchmarks/processes"
	"github.com/ipalloc/ipalloc/pool"
)

// writersTask is the task of a process with some of the writers.
const writersTask = "far: writers"

// writersJob is which writers a process has, and what they do.
type writersJob struct {
	Site          site
	First, Count  int
	Length, Every time.Duration
}

// The phases of writers: all take their first block at once, claim now and then, and claim as fast as they can.
var phases = []string{"take a block, all at once", "a claim now and then", "as fast as they can"}

// heard is what a process tells when its writers have come to the end of a phase.
type heard struct {
	Took         []time.Duration // by each claim
	Again        int             // how many calls have waited too long for their turn, and were made again
	Heap, Memory int64           // of the process, if it has told them
}

// writers measures writers in processes on etcd.
func (m *measurer) writers(ctx context.Context) error {
	t := &table{name: "writers", head: []string{
		"processes × writers", "phase", "claims/s", "claim: p50 · p99 · longest", "made again", "transactions/s",
		"watch streams · watches", "memory of the server", "memory of a process", "heap of a writer"}}
	if err := m.bareRates(ctx, t); err != nil {
		return err
	}
	for _, c := range m.crews {
		if err := m.crew(ctx, t, c); err != nil {
			return errors.Join(fmt.Errorf("%v: %w", c, err), m.show(t)) // what has been measured
		}
		m.tell("%v: done", c)
	}
	return m.show(t)
}

// bareClients are how many goroutines put records without a pool.
var bareClients = []int{1, 64}

// bareRates adds how many transactions the server takes without a pool.
func (m *measurer) bareRates(ctx context.Context, t *table) (err error) {
	at, end, err := m.prepare(ctx, durable.OnStore["etcd"].Bare)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, end()) }()
	kind, err := durable.Find(at.Kind)
	if err != nil {
		return err
	}
	p, err := kind.Open(ctx, at.Address, poolPrefix)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	for _, count := range bareClients {
		stop, err := look(ctx, at.Address)
		if err != nil {
			return err
		}
		waits, failed := measure.Histogram{}, error(nil)
		var mu sync.Mutex
		var wg sync.WaitGroup
		begun := time.Now()
		for client := range count {
			wg.Go(func() {
				for n := 0; time.Since(begun) < m.length; n++ {
					start := time.Now()
					_, err := p.Allocate(ctx, fmt.Sprintf("client-%d/record-%d", client, n))
					took := time.Since(start)
					mu.Lock()
					waits.Add(took)
					failed = errors.Join(failed, err)
					mu.Unlock()
					if err != nil {
						return
					}
				}
			})
		}
		wg.Wait()
		spent := time.Since(begun)
		seen, err := stop()
		if err := errors.Join(failed, err); err != nil {
			return err
		}
		t.add("bare", fmt.Sprintf("%d goroutines put records of 200 bytes", count), none, waitsText(&waits), none,
			rateText(int(seen.transactions), spent), none, bytesText(int64(seen.memory)), none, none)
	}
	return nil
}

// crew measures the phases of the writers of some processes.
func (m *measurer) crew(ctx context.Context, t *table, c crew) (err error) {
	at, end, err := m.newSite(ctx, "etcd")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, end()) }()
	s, err := at.open(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if _, err := pool.Create(ctx, s, poolName, writersSpec(), nil); err != nil {
		return err
	}
	all := &members{told: make(chan heard), failed: make(chan error, c.processes)}
	defer func() { err = errors.Join(err, all.end()) }()
	for i := range c.processes {
		job := writersJob{Site: at, First: i * c.writers, Count: c.writers, Length: m.length, Every: m.every}
		if err := all.start(ctx, job); err != nil {
			return err
		}
	}
	for _, phase := range phases {
		stop, err := look(ctx, at.Address)
		if err != nil {
			return err
		}
		start := time.Now()
		waits, last, err := all.phase()
		spent := time.Since(start)
		seen, lookErr := stop()
		if err := errors.Join(err, lookErr); err != nil {
			return err
		}
		t.add(c.String(), phase, rateText(waits.Count(), spent), waitsText(&waits), countText(last.Again),
			rateText(int(seen.transactions), spent), fmt.Sprintf("%.0f · %.0f", seen.streams, seen.watches),
			bytesText(int64(seen.memory)), bytesText(last.Memory), bytesText(last.Heap/int64(c.writers)))
	}
	if err := all.end(); err != nil {
		return err
	}
	return audit(ctx, s, 1, c.processes*c.writers)
}

// members are the processes of a crew.
type members struct {
	processes []*processes.Process
	told      chan heard
	failed    chan error // of a process that has ended
	ended     bool
}

func (a *members) start(ctx context.Context, job writersJob) error {
	p, err := processes.Start(ctx, writersTask, job)
	if err != nil {
		return err
	}
	a.processes = append(a.processes, p)
	if err := p.AwaitReady(); err != nil {
		return err
	}
	go func() {
		a.failed <- p.Lines(func(line []byte) error {
			var h heard
			err := json.Unmarshal(line, &h)
			if err == nil {
				a.told <- h
			}
			return err
		})
	}()
	return nil
}

// phase gives all processes the word for their next phase, and gathers what they tell at its end.
func (a *members) phase() (waits measure.Histogram, last heard, err error) {
	for _, p := range a.processes {
		if err := p.Go(); err != nil {
			return waits, last, err
		}
	}
	for range a.processes {
		select {
		case h := <-a.told:
			h.Again += last.Again
			last = h
			for _, took := range h.Took {
				waits.Add(took)
			}
		case err := <-a.failed:
			a.processes = a.processes[1:] // one has ended, whichever
			return waits, last, errors.Join(errors.New("a process has ended before its time"), err)
		}
	}
	return waits, last, nil
}

// end ends the processes, and waits for them.
func (a *members) end() (err error) {
	if a.ended {
		return nil
	}
	a.ended = true
	for _, p := range a.processes {
		err = errors.Join(err, p.End())
	}
	for range a.processes {
		err = errors.Join(err, <-a.failed)
	}
	return err
}

// writersProcess has writers that share a store, and so a client of etcd, each with handles of its own.
func writersProcess(ctx context.Context, given func(any) error, tell func(any) error) (err error) {
	var job writersJob
	if err := given(&job); err != nil {
		return err
	}
	s, err := job.Site.open(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	all := make([]*writer, job.Count)
	for i := range all {
		all[i] = &writer{number: job.First + i, now: time.Now, sleep: time.Sleep}
	}
	before := liveHeap()
	if err := processes.Ready(); err != nil {
		return err
	}
	var again atomic.Int64
	work := func(every time.Duration) phase {
		return func(w *writer, took func(time.Duration)) error {
			return w.work(ctx, time.Now().Add(job.Length), every, took)
		}
	}
	begin := func(w *writer, took func(time.Duration)) error {
		start := time.Now()
		err := w.begin(ctx, s, poolName, nil)
		for errors.Is(err, context.DeadlineExceeded) { // of CommitTimeout, which bounds the wait for a turn
			again.Add(1)
			err = w.begin(ctx, s, poolName, nil)
		}
		took(time.Since(start))
		return err
	}
	for _, next := range []phase{begin, work(job.Every), work(0)} {
		took, err := together(all, next)
		if err != nil {
			return err
		}
		h := heard{Took: took, Again: int(again.Swap(0)), Heap: max(0, liveHeap()-before), Memory: ownMemory()}
		if err := tell(h); err != nil {
			return err
		}
		if _, err := io.ReadFull(os.Stdin, make([]byte, 1)); err != nil {
			return nil // there is no next phase
		}
	}
	return nil
}

// phase is what a writer does in a phase. It tells how long each claim took.
type phase func(w *writer, took func(time.Duration)) error

// together has all writers do it at once. It returns how long their claims took, or the first error of each.
func together(all []*writer, next phase) (took []time.Duration, err error) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, w := range all {
		wg.Go(func() {
			failed := next(w, func(d time.Duration) {
				mu.Lock()
				defer mu.Unlock()
				took = append(took, d)
			})
			mu.Lock()
			defer mu.Unlock()
			err = errors.Join(err, failed)
		})
	}
	wg.Wait()
	return took, err
}
