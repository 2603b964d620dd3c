package simulation

import (
	"context"

	"github.com/ipalloc/ipalloc/pool"
)

// writers are those who have blocks, each in all processes, and of which pool. The names of two of them differ only in
// where the pool's ends.
var writers = []struct{ parent, name string }{{poolA, "w"}, {poolA, "b/c"}, {poolSlash, "c"}}

// block does something in the blocks of a writer.
func (c *actor) block() {
	w := one(c, writers...)
	b := c.openBlocks(w.parent, w.name)
	if b == nil {
		return
	}
	owner := tenant(w.parent, w.name, c.World.Random.IntN(owners))
	ofOwner := func(err error, each Change) bool { return IsPlain(err) && each.Now.Name == owner }
	switch c.World.Random.IntN(5) {
	default:
		_ = c.doEach("allocate in blocks for "+owner, func(ctx context.Context) error {
			_, err := b.Allocate(ctx, pool.Claim{Owner: owner})
			return err
		}, ofOwner, pool.ErrExhausted)
	case 2, 3:
		_ = c.doEach("release in blocks for "+owner, func(ctx context.Context) error {
			_, err := b.Release(ctx, pool.Held{Owner: owner})
			return err
		}, ofOwner, pool.ErrNotFound)
	case 4:
		_ = c.doParts("give back blocks of "+w.name, func(ctx context.Context) error {
			_, err := b.GiveBack(ctx, 0)
			return err
		})
	}
}

// openBlocks returns a handle of the blocks of a writer: the one that the process has, most of the time.
func (c *actor) openBlocks(parent, writer string) *pool.Blocks {
	key := parent + "|" + writer
	if b := c.blocks[key]; b != nil && !c.chance(20) {
		return b
	}
	p := c.open(parent)
	if p == nil {
		return nil
	}
	var b *pool.Blocks
	claim := pool.Claim{Requests: []pool.Request{{Bits: 31}}}
	err := c.do("open blocks of "+writer, func(ctx context.Context) (err error) {
		b, err = pool.OpenBlocks(ctx, p, writer, claim, pool.Spec{IPv4: pool.FamilySpec{AllocateReserved: true}}, c.with)
		return err
	})
	if err != nil {
		return nil
	}
	c.blocks[key] = b
	return b
}
