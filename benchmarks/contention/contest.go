package main

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"
)

// contest is one run: some writers on the pool in a place.
type contest struct {
	plan
	writers writers
	place   place
	tally   *tally // set when the run begins
	strikes []strike
}

// contend has the writers contend for a new pool, and returns what came of it.
func contend(ctx context.Context, p plan, b backend, as string, w writers) (r row, err error) {
	c := &contest{plan: p, writers: w}
	if c.place, err = b.newPlace(ctx, p.addresses, poolsOf(w.handles, p.apart)); err != nil {
		return row{}, err
	}
	defer func() { err = errors.Join(err, c.place.end()) }()
	if as == inProcesses {
		c.strikes = planStrikes(rand.New(rand.NewPCG(p.seed, 0)), w.handles, p.kill, p.stop, p.length)
		err = c.runProcesses(ctx)
	} else {
		err = c.runGoroutines(ctx)
	}
	if err != nil {
		return row{}, err
	}
	r = c.tally.row(w)
	r.Store, r.As = b.name, as
	if p.apart {
		r.As += " apart"
	}
	c.describe(&r)
	return r, nil
}

// describe says what was done to the handles, or what they waited for.
func (c *contest) describe(r *row) {
	for _, s := range c.strikes {
		if s.stop > 0 {
			r.Stopped++
		} else {
			r.Killed++
		}
	}
	if c.wait {
		r.Possible = float64(c.addresses) / c.held.Seconds()
	}
}

// job is that of the n-th handle.
func (c *contest) job(n int) job {
	pools := poolsOf(c.writers.handles, c.apart)
	return job{
		Pool: pools[n%len(pools)], Kind: c.place.kind.Name, Address: c.place.address, Handle: n,
		Goroutines: c.writers.goroutines, Held: c.held, Wait: c.wait,
	}
}

// begin begins the time of the run.
func (c *contest) begin() { c.tally = newTally(c.writers.handles, time.Now(), c.length, c.wait) }

// runGoroutines has all handles in this process.
func (c *contest) runGoroutines(ctx context.Context) (err error) {
	var handles []*handle
	defer func() {
		for _, h := range handles {
			err = errors.Join(err, h.store.Close())
		}
	}()
	for n := range c.writers.handles {
		h, err := openHandle(ctx, c.place.open, c.job(n))
		if err != nil {
			return err
		}
		handles = append(handles, h)
	}
	c.begin()
	running, end := context.WithDeadline(ctx, c.tally.ends)
	defer end()
	var wg sync.WaitGroup
	for n, h := range handles {
		wg.Go(func() { h.work(running, func(b batch) { c.tally.take(n, b) }) })
	}
	wg.Wait()
	return ctx.Err()
}

// runProcesses has each handle in a process of its own.
func (c *contest) runProcesses(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends what is still running after an error
	members := make([]*member, c.writers.handles)
	for n := range members {
		members[n] = &member{job: c.job(n)}
		if err := members[n].start(ctx); err != nil {
			return err
		}
	}
	for _, m := range members {
		if err := m.process.AwaitReady(); err != nil {
			return err
		}
	}
	c.begin()
	for _, m := range members {
		if err := m.begin(c.tally.take); err != nil {
			return err
		}
	}
	if err := c.strikeAll(ctx, members); err != nil {
		return err
	}
	pause(ctx, time.Until(c.tally.ends))
	var all error
	for _, m := range members {
		all = errors.Join(all, m.process.End())
	}
	for _, m := range members {
		all = errors.Join(all, <-m.followed)
	}
	return errors.Join(all, ctx.Err())
}

// strikeAll returns when each process that was struck works again.
func (c *contest) strikeAll(ctx context.Context, members []*member) error {
	var wg sync.WaitGroup
	errs := make([]error, len(c.strikes))
	for i, s := range c.strikes {
		wg.Go(func() {
			pause(ctx, s.after)
			up := c.tally.goesDown(s.handle)
			if errs[i] = c.strike(ctx, s, members[s.handle]); errs[i] == nil {
				up()
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

func (c *contest) strike(ctx context.Context, s strike, m *member) error {
	if s.stop == 0 {
		return m.kill(ctx, c.tally.take)
	}
	if err := m.process.Stop(); err != nil {
		return err
	}
	pause(ctx, s.stop)
	return m.process.Resume()
}

// pause returns after the time, or when the context ends.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
