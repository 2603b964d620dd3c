package simulation

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
)

// Workload is what processes do with a world of pools.
//
// Pools a, b and c are in the networks n and m, or in none, with ranges that overlap what others of them hold out of
// range: they are drained, and grow again, and c is created and deleted. Parts of the networks become external. Pools
// are delegated from pools, and from these again; they grow, shrink, and are deleted. Pools are exported, and imported
// under another name and into another network. Writers have blocks, each through handles in all processes. In all of
// these owners allocate, renew and release, in one pool and in several at once, and some share what they hold. Others
// expire and reconcile.
//
// What an owner is told that it holds must stay its own, and a call that returns an error must have changed nothing,
// unless the error says otherwise.
type Workload struct {
	World *World
	// Open returns the store as a process sees it; a nil process sees it without steps.
	Open func(*Process) store.Store
	// Refusals are errors of the backend's own that calls may have when things go wrong, after which nothing has changed.
	Refusals []error
	// Audits are done too by Audit.
	Audits []func(context.Context, store.Store) error
	// Crowded means that most calls are about one pool, so that processes wait there for one another.
	Crowded bool
	// Calls is how many calls there were to the library, and Failed how many of them returned an error.
	Calls, Failed int

	promises *promises
	saved    []pool.Snapshot // what was exported last
	emptying bool            // more is released than claimed, and more deleted than made
}

const (
	poolA, poolB, poolC = "a", "b", "c" // c comes and goes
	poolSlash           = "a/b"         // is for writers whose names could be mistaken for others
	networkN, networkM  = "n", "m"

	owners    = 3 // of each process
	leaseTime = 3 * time.Second
	grace     = 200 * time.Millisecond
	together  = "together" // labels what is claimed in several pools at once
)

// The pools that are delegated from others, and the pools that are imported.
var (
	children      = []string{"k0", "k1"}
	grandchildren = []string{"g0"}
	imports       = []string{"x", "y"}
)

// NewWorkload returns a workload with its pools, which it makes without steps.
func NewWorkload(w *World, open func(*Process) store.Store) (*Workload, error) {
	l := &Workload{World: w, Open: open, promises: newPromises(w)}
	for _, each := range []struct {
		name string
		spec pool.Spec
	}{
		{poolA, specOf(networkN, 0, 15, time.Second)}, {poolB, specOf(networkN, 16, 23, 0)},
		{poolSlash, specOf(networkM, 32, 47, 0)},
	} {
		if _, err := pool.Create(context.Background(), open(nil), each.name, each.spec, l.options(nil)); err != nil {
			return nil, err
		}
	}
	return l, nil
}

// options are those of a process; nil is for audits.
func (l *Workload) options(p *Process) *pool.Options {
	attempts := 12
	if p != nil {
		attempts = []int{1, 2, 12, 12}[l.World.Random.IntN(4)]
	}
	return &pool.Options{
		Clock: l.World.Now, Random: l.World.Random.Uint64, Attempts: attempts, Backoff: time.Nanosecond,
		CommitTimeout: time.Hour,
	}
}

// Observe is for [Backend.Observe]: it looks at each record that is written.
func (l *Workload) Observe(before, now store.Record) {
	l.promises.observe(before, now, l.World.Latest())
}

// Body is what a process does.
func (l *Workload) Body(p *Process) {
	for !l.World.Calm() {
		c := &actor{
			Workload: l, promises: l.promises, process: p, store: l.Open(p), with: l.options(p), pools: map[string]*pool.Pool{},
			blocks: map[string]*pool.Blocks{},
		}
		if c.chance(2) {
			c.resume()
		}
		for range 200 {
			if l.World.Calm() {
				break
			}
			c.act()
		}
	}
}

// actor is a process while it lives, with its handles.
type actor struct {
	*Workload
	*promises
	process *Process
	store   store.Store
	with    *pool.Options
	pools   map[string]*pool.Pool
	blocks  map[string]*pool.Blocks
}

// one returns one of several.
func one[E any](c *actor, of ...E) E { return of[c.World.Random.IntN(len(of))] }

// chance reports true once in so many times.
func (c *actor) chance(in int) bool { return c.World.Random.IntN(in) == 0 }

// act does one thing.
func (c *actor) act() {
	if c.chance(200) {
		c.emptying = !c.emptying
	}
	if c.Crowded && !c.chance(6) {
		one(c, c.claim, c.claim, c.claim, c.bulk)()
		return
	}
	if c.emptying && c.chance(2) {
		one(c, c.bulk, c.claim, c.apart, c.delete, c.retract, c.block, c.clean)()
		return
	}
	switch n := c.World.Random.IntN(40); {
	case n < 17:
		c.claim()
	case n < 19:
		c.together()
	case n < 20:
		c.apart()
	case n < 24:
		c.change()
	case n < 36:
		one(c, c.create, c.create, c.delete, c.external, c.delegate, c.delegate, c.extend, c.retract, c.export, c.doImport,
			c.clean, c.bulk)()
	default:
		c.block()
	}
}

// do makes a call that does all it is asked for or nothing. It may have the errors of also.
func (c *actor) do(what string, f func(context.Context) error, also ...error) error {
	return c.doEach(what, f, func(err error, _ Change) bool { return IsPlain(err) }, also...)
}

// doParts makes a call that may have done a part of what it was asked for when it returns an error.
func (c *actor) doParts(what string, f func(context.Context) error, also ...error) error {
	return c.doEach(what, f, func(error, Change) bool { return false }, also...)
}

// doEach makes a call that, if it returns err, has not made the changes for which denied is true.
func (c *actor) doEach(
	what string, f func(context.Context) error, denied func(error, Change) bool, also ...error,
) error {
	c.Calls++
	ctx, call := c.process.Begin(what)
	err := f(ctx)
	call.End(err, func(each Change) bool { return denied(err, each) })
	if err != nil {
		c.Failed++
	}
	c.expect(what, err, also...)
	return err
}

// expect fails the run unless an error is one that calls may have when things go wrong, or one of also.
func (c *actor) expect(what string, err error, also ...error) {
	if err == nil || isAny(err, also) || isAny(err, c.Refusals) || isAny(err, usual) {
		return
	}
	c.World.Fail("%s: %s: %v", c.process.Name, what, err)
}

// usual are the errors that any call may have when things go wrong.
var usual = []error{
	ErrRefused, store.ErrUnknown, pool.ErrBusy, pool.ErrNoPool, context.Canceled, context.DeadlineExceeded,
}

func isAny(err error, these []error) bool {
	for _, each := range these {
		if errors.Is(err, each) {
			return true
		}
	}
	return false
}

// open returns a handle of a pool: the one that the process has, most of the time. nil means that there is none.
func (c *actor) open(name string) *pool.Pool {
	p, _ := c.find(name)
	return p
}

// find is open with the error.
func (c *actor) find(name string) (*pool.Pool, error) {
	if p := c.pools[name]; p != nil && !c.chance(20) {
		return p, nil
	}
	var p *pool.Pool
	err := c.do("open "+name, func(ctx context.Context) (err error) {
		p, err = pool.Open(ctx, c.store, name, c.with)
		return err
	})
	if err == nil {
		c.pools[name] = p
	}
	return p, err
}

// any returns a handle of some pool, which is likely one of the roots.
func (c *actor) any() *pool.Pool {
	if c.Crowded && !c.chance(12) {
		return c.open(poolA)
	}
	switch c.World.Random.IntN(12) {
	default:
		return c.open(one(c, poolA, poolB))
	case 6, 7:
		return c.open(poolC)
	case 8, 9:
		return c.open(one(c, children...))
	case 10:
		return c.open(one(c, grandchildren...))
	case 11:
		return c.open(one(c, append([]string{poolSlash}, imports...)...))
	}
}

func (c *actor) owner() string {
	return fmt.Sprintf("%s.%d", c.process.Name, c.World.Random.IntN(owners))
}
