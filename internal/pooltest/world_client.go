package pooltest

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"

	"github.com/ipalloc/ipalloc/internal/journal"
	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
)

// client makes calls, and keeps a journal of them. The error of a call is that of the journal; how the call itself
// ended stands there.
type client struct {
	journal *journal.Journal
	store   store.Store
	options *pool.Options

	mu     sync.Mutex
	pools  map[string]*pool.Pool
	blocks map[string]*pool.Blocks
}

func newClient(j *journal.Journal, s store.Store, options *pool.Options) *client {
	return &client{
		journal: j, store: s, options: options,
		pools: map[string]*pool.Pool{}, blocks: map[string]*pool.Blocks{},
	}
}

// record makes a call, and keeps it. What do returns is what was granted, found or freed.
func (c *client) record(intent journal.Intent, do func() ([]journal.Holding, error)) error {
	return c.journal.Record(intent, func() journal.Result {
		held, err := do()
		if err != nil {
			return failure(err)
		}
		return journal.Result{Outcome: journal.Done, Held: held}
	})
}

// failure is the result of a call that returned an error.
func failure(err error) journal.Result {
	return journal.Result{Outcome: outcomeOf(err), Error: err.Error()}
}

// open returns the handle of a pool that all goroutines of the process share; nil if it cannot be opened.
func (c *client) open(ctx context.Context, name string) *pool.Pool {
	return shared(c, c.pools, name, func() (*pool.Pool, error) { return pool.Open(ctx, c.store, name, c.options) })
}

// shared returns the handle of that name in known, or else puts one there; nil if it cannot be opened.
func shared[T any](c *client, known map[string]*T, name string, open func() (*T, error)) *T {
	c.mu.Lock()
	h := known[name]
	c.mu.Unlock()
	if h != nil {
		return h
	}
	h, err := open()
	if err != nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	known[name] = h
	return h
}

// openAll is open for all the places of parts.
func (c *client) openAll(ctx context.Context, parts [][]string) [][]*pool.Pool {
	all := make([][]*pool.Pool, len(parts))
	for i, part := range parts {
		for _, name := range part {
			p := c.open(ctx, name)
			if p == nil {
				return nil
			}
			all[i] = append(all[i], p)
		}
	}
	return all
}

// forget makes the next calls use new handles.
func (c *client) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.pools)
	clear(c.blocks)
}

func (c *client) openBlocks(ctx context.Context, writer string) *pool.Blocks {
	parent := c.open(ctx, worldBlue)
	if parent == nil {
		return nil
	}
	return shared(c, c.blocks, writer, func() (*pool.Blocks, error) {
		return pool.OpenBlocks(ctx, parent, writer, blockClaim(), worldPart, c.options)
	})
}

// one makes a call for one owner of one place.
func (c *client) one(op journal.Op, call, owner, place, asks string, do func() (pool.Allocation, error)) error {
	intent := journal.Intent{Op: op, Call: call, Owner: owner, Parts: [][]string{{place}}, Asks: asks}
	return c.record(intent, func() ([]journal.Holding, error) {
		a, err := do()
		return []journal.Holding{holdingIn(place, a)}, err
	})
}

func (c *client) allocate(ctx context.Context, name string, claim pool.Claim) error {
	p := c.open(ctx, name)
	if p == nil {
		return nil
	}
	return c.one(journal.Grant, "Allocate", claim.Owner, name, asks(claim), func() (pool.Allocation, error) {
		return p.Allocate(ctx, claim)
	})
}

func asks(c pool.Claim) string {
	text := fmt.Sprintf("%d requests", len(c.Requests))
	if len(c.Requests) == 1 {
		text = fmt.Sprintf("a /%d", c.Requests[0].Bits)
	}
	if c.TTL > 0 {
		text += fmt.Sprintf(" for %v", c.TTL)
	}
	return text
}

func (c *client) release(ctx context.Context, name, owner string) error {
	p := c.open(ctx, name)
	if p == nil {
		return nil
	}
	return c.one(journal.Free, "Release", owner, name, "", func() (pool.Allocation, error) {
		return p.Release(ctx, pool.Held{Owner: owner})
	})
}

func (c *client) renew(ctx context.Context, name, owner string) error {
	p := c.open(ctx, name)
	if p == nil {
		return nil
	}
	return c.one(journal.Look, "Renew", owner, name, "", func() (pool.Allocation, error) {
		return p.Renew(ctx, pool.Held{Owner: owner}, worldTTL)
	})
}

func (c *client) get(ctx context.Context, name, owner string) error {
	p := c.open(ctx, name)
	if p == nil {
		return nil
	}
	return c.one(journal.Look, "Get", owner, name, "", func() (pool.Allocation, error) {
		return p.Get(ctx, pool.Held{Owner: owner})
	})
}

func (c *client) allocateTogether(ctx context.Context, claim pool.Claim, places [][]string) error {
	pools := c.openAll(ctx, places)
	if pools == nil {
		return nil
	}
	steps := make([]pool.Step, len(pools))
	for i := range pools {
		steps[i] = pool.Allocate(claim).In(pools[i]...)
	}
	intent := journal.Intent{
		Op: journal.Grant, Call: "AllocateTogether", Owner: claim.Owner, Parts: places, Asks: asks(claim),
	}
	return c.record(intent, func() ([]journal.Holding, error) {
		granted, err := pools[0][0].All(ctx, steps...)
		var held []journal.Holding
		for _, g := range granted {
			held = append(held, holdingIn(g.Pool.Name(), g.Allocation))
		}
		return held, err
	})
}

func (c *client) releaseTogether(ctx context.Context, owner string, places [][]string) error {
	var pools []*pool.Pool
	var steps []pool.Step
	for _, part := range c.openAll(ctx, places) {
		for _, p := range part {
			pools = append(pools, p)
			steps = append(steps, pool.Release(pool.Held{Owner: owner, Optional: true}).In(p))
		}
	}
	if pools == nil {
		return nil
	}
	intent := journal.Intent{Op: journal.Free, Call: "ReleaseTogether", Owner: owner, Parts: places}
	return c.record(intent, func() ([]journal.Holding, error) {
		released, err := pools[0].All(ctx, steps...)
		var held []journal.Holding
		for i, r := range released {
			if a := r.Allocation; a.Owner != "" {
				held = append(held, holdingIn(pools[i].Name(), a))
			}
		}
		return held, err
	})
}

func (c *client) allocateInBlock(ctx context.Context, writer string, claim pool.Claim) error {
	b := c.openBlocks(ctx, writer)
	if b == nil {
		return nil
	}
	place := blocksPlace(writer)
	return c.one(journal.Grant, "Blocks.Allocate", claim.Owner, place, asks(claim), func() (pool.Allocation, error) {
		return b.Allocate(ctx, claim)
	})
}

func (c *client) releaseInBlock(ctx context.Context, writer, owner string) error {
	b := c.openBlocks(ctx, writer)
	if b == nil {
		return nil
	}
	return c.one(journal.Free, "Blocks.Release", owner, blocksPlace(writer), "", func() (pool.Allocation, error) {
		return b.Release(ctx, pool.Held{Owner: owner})
	})
}

// giveBack gives empty blocks back, which is nothing to any owner.
func (c *client) giveBack(ctx context.Context, writer string) error {
	b := c.openBlocks(ctx, writer)
	if b == nil {
		return nil
	}
	return c.record(journal.Intent{Op: journal.Look, Call: "Blocks.GiveBack"}, func() ([]journal.Holding, error) {
		_, err := b.GiveBack(ctx, 0)
		return nil, err
	})
}

// delegate makes the child, if it is not there, and tells what it is made of.
func (c *client) delegate(ctx context.Context) error {
	parent := c.open(ctx, worldGreen)
	if parent == nil {
		return nil
	}
	claim := delegateClaim()
	intent := journal.Intent{
		Op: journal.Grant, Call: "Delegate", Owner: claim.Owner, Parts: [][]string{{worldGreen}}, Asks: asks(claim),
	}
	return c.record(intent, func() ([]journal.Holding, error) {
		p, _, err := pool.Delegate(ctx, parent, claim, worldChild, worldPart, c.options)
		if err != nil {
			return nil, err
		}
		c.mu.Lock()
		c.pools[worldChild] = p
		c.mu.Unlock()
		var held []journal.Holding // none if somebody has deleted it since
		if a, err := parent.Get(ctx, pool.Held{Owner: claim.Owner}); err == nil {
			held = append(held, holdingIn(worldGreen, a))
		}
		return held, nil
	})
}

// look finds the ranges of a root.
func (c *client) look(ctx context.Context, name string) error {
	p := c.open(ctx, name)
	if p == nil {
		return nil
	}
	intent := journal.Intent{Op: journal.Look, Call: "Info", Parts: [][]string{{name}}}
	return c.journal.Record(intent, func() journal.Result {
		info, err := p.Info(ctx)
		if err != nil {
			return failure(err)
		}
		return journal.Result{Outcome: journal.Done, InForce: prefixesOf(info)}
	})
}

// remove deletes the child, which gives back what it was made of.
func (c *client) remove(ctx context.Context) error {
	intent := journal.Intent{Op: journal.Free, Call: "Delete", Owner: worldDelegater, Parts: [][]string{{worldGreen}}}
	return c.record(intent, func() ([]journal.Holding, error) {
		return nil, pool.Delete(ctx, c.store, worldChild, c.options)
	})
}

// respec moves the range that moves into a root, or out of it, by a Drain or by an Update.
func (c *client) respec(ctx context.Context, name string, moving, drain bool) error {
	p := c.open(ctx, name)
	if p == nil {
		return nil
	}
	spec, ranges := worldSpec(name, moving)
	call, do := "Update", p.Update
	if drain {
		call, do = "Drain", p.Drain
	}
	return c.record(respecIntent(call, name, ranges), func() ([]journal.Holding, error) { return nil, do(ctx, spec) })
}

func respecIntent(call, name string, ranges []netip.Prefix) journal.Intent {
	return journal.Intent{Op: journal.Respec, Call: call, Parts: [][]string{{name}}, Ranges: ranges}
}

// create makes a root.
func (c *client) create(ctx context.Context, name string, moving bool) error {
	spec, ranges := worldSpec(name, moving)
	var failed error
	err := c.record(respecIntent("Create", name, ranges), func() ([]journal.Holding, error) {
		_, failed = pool.Create(ctx, c.store, name, spec, c.options)
		return nil, failed
	})
	return errors.Join(err, failed)
}
