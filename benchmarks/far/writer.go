package main

import (
	"context"
	"fmt"
	"time"

	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
)

// blockBits is the length of a block: 64 addresses, of which a writer never has two at a time to give out.
const blockBits = 26

// writersSpec is that of the pool whose blocks writers have.
func writersSpec() pool.Spec {
	spec := poolSpec
	spec.IPv4.AllocateReserved = true // blocks, not hosts: the first and the last one too
	return spec
}

// writer is one writer, with handles of its own of the pool and of its blocks.
type writer struct {
	number int
	// now and sleep are those of a clock.
	now    func() time.Time
	sleep  func(time.Duration)
	blocks *pool.Blocks
	next   int // the number of its next owner
}

// begin opens the blocks of a pool, and allocates in them for the first time, which takes a block.
func (w *writer) begin(ctx context.Context, s store.Store, name string, options *pool.Options) error {
	parent, err := pool.Open(ctx, s, name, options)
	if err != nil {
		return err
	}
	claim := pool.Claim{Requests: []pool.Request{{Bits: blockBits}}}
	spec := pool.Spec{IPv4: pool.FamilySpec{AllocateReserved: true}}
	name = fmt.Sprintf("writer-%05d", w.number)
	if w.blocks, err = pool.OpenBlocks(ctx, parent, name, claim, spec, options); err != nil {
		return err
	}
	return w.allocate(ctx)
}

func (w *writer) owner(n int) string { return fmt.Sprintf("writer-%05d/owner-%d", w.number, n) }

// allocate allocates for the next owner, which stays the next one if that fails.
func (w *writer) allocate(ctx context.Context) error {
	_, err := w.blocks.Allocate(ctx, pool.Claim{Owner: w.owner(w.next)})
	if err == nil {
		w.next++
	}
	return err
}

// work claims for another owner and releases the one before, again and again until the time, one pair in every so
// often, beginning somewhere in that time. With 0 it does not rest. In the end the last owner holds an address.
func (w *writer) work(ctx context.Context, until time.Time, every time.Duration, took func(time.Duration)) error {
	at := w.now().Add(time.Duration(mix(uint64(w.number)) % uint64(max(every, 1))))
	for ; at.Before(until); at = later(at.Add(every), w.now()) {
		w.sleep(at.Sub(w.now()))
		begun := w.now()
		if err := w.allocate(ctx); err != nil {
			return err
		}
		took(w.now().Sub(begun))
		if _, err := w.blocks.Release(ctx, pool.Held{Owner: w.owner(w.next - 2)}); err != nil {
			return err
		}
	}
	return nil
}

func later(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}
