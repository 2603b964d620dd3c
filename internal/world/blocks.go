package world

import (
	"errors"
	"slices"
	"strings"

	"github.com/ipalloc/ipalloc/pool"
)

// Blocks are a writer's own part of a pool: what [pool.OpenBlocks] returns, however many handles there are. It is a
// value.
//
// A block is a grant of the parent. The model does not say whether each is a pool of its own or all of a writer's are
// one pool; it goes by what is seen of a new block.
type Blocks struct {
	Parent, Writer string
	Claim          pool.Claim // what a block is
	Spec           pool.Spec
}

// Block is one of a writer's blocks: the pool that has it, and the owner in the parent. The zero Block is none.
type Block struct{ Pool, Owner string }

func (b Blocks) key() string { return b.Parent + "\x00" + b.Writer }

// Has reports whether a pool is one of these, or the one of these.
func (b Blocks) Has(m *Pool) bool { return m.Writer == b.key() && m.Parent == b.Parent }

// Of returns the blocks in a world, in the order in which they were taken.
func (b Blocks) Of(w *World) []Block {
	var blocks []Block
	for _, name := range w.Names() {
		if m := w.Pools[name]; b.Has(m) {
			for _, owner := range m.Grants {
				blocks = append(blocks, Block{name, owner})
			}
		}
	}
	return blocks
}

// pools are the names of the pools of these, each once.
func (b Blocks) pools(w *World) (names []string) {
	for _, each := range b.Of(w) {
		if !slices.Contains(names, each.Pool) {
			names = append(names, each.Pool)
		}
	}
	return names
}

// Home is the pool in which the owner has something; empty if there is none.
func (b Blocks) Home(w *World, owner string) string {
	for _, name := range b.pools(w) {
		if w.Pools[name].Live(owner) != nil {
			return name
		}
	}
	return ""
}

// Allocate is what [pool.Blocks.Allocate] does: the world after it, also if it is refused, and what the owner has then,
// in which pool. If another block was taken, fresh says which, and block what was seen of it.
func (b Blocks) Allocate(
	w *World, c pool.Claim, seen Sight, fresh Block, block Sight,
) (after *World, name string, got *Record, err error) {
	for _, name := range b.pools(w) {
		after, name, got, err = b.allocateIn(w, name, c, seen)
		if err == nil || !isFull(err) || errors.Is(err, pool.ErrFamily) {
			return after, name, got, err
		}
	}
	if fresh == (Block{}) { // none was seen, so that there is none to be had
		fresh = Block{b.poolOf(b.name() + "/none"), b.name() + "/none"}
	}
	larger, err := b.Take(w, fresh, block)
	if err != nil {
		return w, "", nil, err
	}
	after, name, got, err = b.allocateIn(larger, fresh.Pool, c, seen)
	if isFull(err) { // a block cannot hold it: none is kept for that
		after = b.giveBackOne(larger, fresh)
	}
	return after, name, got, err
}

func (b Blocks) allocateIn(w *World, name string, c pool.Claim, seen Sight) (*World, string, *Record, error) {
	after, got, err := w.Allocate(name, c, seen)
	if err != nil {
		return w, name, nil, err
	}
	return after, name, got, nil
}

// Take is the world with another block.
func (b Blocks) Take(w *World, fresh Block, seen Sight) (*World, error) {
	claim := b.Claim
	claim.Owner = fresh.Owner
	if w.Pools[fresh.Pool] != nil {
		after, _, no := w.Extend(fresh.Pool, claim, seen)
		return after, no.first()
	}
	child := NewPool(fresh.Pool, w.Pools[b.Parent].Universe, b.Spec)
	child.Writer = b.key()
	after, _, no := w.Delegate(b.Parent, claim, child, seen)
	return after, no.first()
}

// Release is what [pool.Blocks.Release] does: the world after it, and what is released. A block that is empty then is
// given back if another one has room.
func (b Blocks) Release(w *World, owner string) (*World, *Record, error) {
	home := b.Home(w, owner)
	if home == "" {
		return w, nil, pool.ErrNotFound
	}
	after, r, err := w.Release(home, pool.Held{Owner: owner})
	if err != nil {
		return w, nil, err
	}
	for _, block := range b.Of(after) {
		child := after.Pools[block.Pool]
		was := block.Pool == home && overlap(rangesOf(r.Prefixes), rangesOf(after.grant(child, block.Owner)))
		if !was || !after.IsEmpty(child, block.Owner) {
			continue
		}
		room := func(other Block) bool { return other != block && after.hasRoom(after.Pools[other.Pool], other.Owner) }
		if slices.ContainsFunc(b.Of(after), room) {
			return b.giveBackOne(after, block), r, nil
		}
	}
	return after, r, nil
}

// GiveBack is what [pool.Blocks.GiveBack] does: the world after it, and how many blocks are given back.
func (b Blocks) GiveBack(w *World, keep int) (after *World, given int) {
	empty := slices.DeleteFunc(b.Of(w), func(block Block) bool { return !w.IsEmpty(w.Pools[block.Pool], block.Owner) })
	for after = w; len(empty) > keep; empty = empty[:len(empty)-1] {
		before := after
		if after = b.giveBackOne(before, empty[len(empty)-1]); after != before {
			given++
		}
	}
	return after, given
}

// giveBackOne is the world without an empty block; the same world if that must stay.
func (b Blocks) giveBackOne(w *World, block Block) *World {
	if len(w.Pools[block.Pool].Grants) > 1 {
		if after, no := w.Retract(block.Pool, block.Owner); len(no) == 0 {
			return after
		}
		return w
	}
	if after, err := w.Delete(block.Pool); err == nil {
		return after
	}
	return w
}

// Fresh returns the block that a parent, as a snapshot has it, has or had and a world has not; the zero Block if there
// is none.
func (b Blocks) Fresh(w *World, parent pool.Snapshot) Block {
	for _, a := range slices.Concat(parent.Allocations, parent.Cooling) {
		known := slices.ContainsFunc(w.Pools[b.Parent].Records, func(r *Record) bool {
			return r.Owner == a.Owner && r.Generation == a.Generation
		})
		if strings.HasPrefix(a.Owner, b.name()+"/") && !known {
			return Block{b.poolOf(a.Owner), a.Owner}
		}
	}
	return Block{}
}
