package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
)

// job is what a handle does.
type job struct {
	// Kind and Address say where the pool is, to a process of its own.
	Kind, Address string
	// Pool is its name.
	Pool string
	// Handle numbers the handles, and Goroutines is how many writers use it.
	Handle, Goroutines int
	// Held is how long an address is held.
	Held time.Duration
	// Wait makes them wait for an address where none is free.
	Wait bool
	// Again tells that the writers may hold what they claimed before they were killed.
	Again bool
}

// call is a call that allocated, or one that failed.
type call struct {
	Begin   int64         `json:"b"` // in nanoseconds of Unix time
	Took    time.Duration `json:"t"`
	Busy    bool          `json:"y,omitempty"` // it failed with ErrBusy
	Error   string        `json:"e,omitempty"` // with which else it failed
	Release bool          `json:"r,omitempty"`
}

func (c call) end() int64 { return c.Begin + int64(c.Took) }

func (c call) failed() bool { return c.Busy || c.Error != "" }

// batch is what a handle tells of the time since the batch before.
type batch struct {
	Calls              []call
	Commits, Conflicts int
}

// How often a handle tells what it did, how long its calls may go on when the run has ended, and how long a writer
// rests when a call has failed.
const (
	batchEvery = 100 * time.Millisecond
	overtime   = 30 * time.Second
	afterError = 10 * time.Millisecond
)

// handle is a handle of the pool with its writers.
type handle struct {
	pool.NoObserver
	job
	pool  *pool.Pool
	store store.Store // its own

	mu   sync.Mutex
	next batch
}

// openHandle opens a store, and the pool in it.
func openHandle(ctx context.Context, open func(context.Context) (store.Store, error), j job) (*handle, error) {
	s, err := open(ctx)
	if err != nil {
		return nil, err
	}
	h := &handle{job: j, store: s}
	if h.pool, err = pool.Open(ctx, s, j.Pool, &pool.Options{Observer: h}); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return h, nil
}

// EndCommit implements [pool.Observer]. It counts commits and conflicts.
func (h *handle) EndCommit(_ context.Context, e pool.Commit) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case e.Err == nil:
		h.next.Commits++
	case errors.Is(e.Err, store.ErrConflict):
		h.next.Conflicts++
	}
}

// collect returns the next batch.
func (h *handle) collect() batch {
	h.mu.Lock()
	defer h.mu.Unlock()
	b := h.next
	h.next = batch{}
	return b
}

// work has the writers claim and release until running ends, and tells take what they do. What has begun by then is
// waited for.
func (h *handle) work(running context.Context, take func(batch)) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(running))
	defer cancel()
	defer context.AfterFunc(running, func() { time.AfterFunc(overtime, cancel) })()
	var wg sync.WaitGroup
	for g := range h.Goroutines {
		wg.Go(func() { h.write(ctx, running, fmt.Sprintf("handle-%d/writer-%d", h.Handle, g)) })
	}
	done := make(chan struct{})
	go func() {
		wg.Wait()
		close(done)
	}()
	tick := time.NewTicker(batchEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			take(h.collect())
		case <-done:
			take(h.collect())
			return
		}
	}
}

// write is what one writer does.
func (h *handle) write(ctx, running context.Context, owner string) {
	if h.Again {
		h.release(ctx, owner)
	}
	for running.Err() == nil {
		if h.claim(ctx, owner) {
			time.Sleep(h.Held)
		}
		h.release(ctx, owner)
	}
}

func (h *handle) claim(ctx context.Context, owner string) bool {
	allocate := h.pool.Allocate
	if h.Wait {
		allocate = h.pool.AllocateWait
	}
	begin := time.Now()
	_, err := allocate(ctx, pool.Claim{Owner: owner})
	h.note(newCall(begin, owner, err))
	return err == nil
}

// release goes on until the owner holds nothing, so that the next claim has something to do.
func (h *handle) release(ctx context.Context, owner string) {
	for ctx.Err() == nil {
		begin := time.Now()
		_, err := h.pool.Release(ctx, pool.Held{Owner: owner})
		if err == nil || errors.Is(err, pool.ErrNotFound) {
			return
		}
		c := newCall(begin, owner, err)
		c.Release = true
		h.note(c)
	}
}

// newCall is a call that has ended now. The text of its error is the same for all owners.
func newCall(begin time.Time, owner string, err error) call {
	c := call{Begin: begin.UnixNano(), Took: time.Since(begin), Busy: errors.Is(err, pool.ErrBusy)}
	if err != nil && !c.Busy {
		c.Error = strings.ReplaceAll(err.Error(), strconv.Quote(owner), "an owner")
	}
	return c
}

// note keeps a call for the next batch. If it failed, the writer rests, so that a server that is down is left in peace.
func (h *handle) note(c call) {
	h.mu.Lock()
	h.next.Calls = append(h.next.Calls, c)
	h.mu.Unlock()
	if c.failed() {
		time.Sleep(afterError)
	}
}
