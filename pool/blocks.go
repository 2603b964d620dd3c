package pool

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"

	"go4.org/netipx"
)

// Blocks is a writer's own part of a pool: a delegated pool (see [Delegate]) that grows and shrinks by blocks (see
// [Pool.Extend] and [Pool.Retract]). The writer allocates in it without contention. It takes another block when its
// blocks are full, and gives back blocks that have become empty.
//
// The store records which blocks a writer has, so the writer has the same ones after a restart. A Blocks is for one
// writer, such as a node. Several handles of one writer, in one process or in several (such as while a daemon is being
// replaced), share its pool as handles of any pool do. So an owner has one allocation, whichever handle it uses.
//
// The pool is named PARENT/WRITER, and its blocks are held in the parent by the owners PARENT/WRITER/0, 1, and so on.
// In both names a slash is written %2F, and a percent sign %25.
//
// The zero Blocks is not usable, and a Blocks must not be copied. All methods may be called by any number of goroutines
// at once. A Blocks need not be closed.
type Blocks struct {
	parent  *Pool
	writer  string
	name    string
	claim   Claim
	spec    Spec
	options *Options

	mu   sync.Mutex
	pool *Pool // nil if the writer has no block, as far as is known

	taking sync.Mutex // held while a block is taken, so that several calls that find no room take one
}

// OpenBlocks returns the writer's blocks of a pool; a new writer has none yet. The claim describes one block by its
// requests and its policy: a /26, for example, or one prefix of each family. The owner of a block is derived from the
// writer's name. The spec is for the writer's pool, without ranges. Set its [FamilySpec.AllocateReserved] to hand out
// every address of a block.
//
// Errors: [ErrInvalid]; those of the store. The parent must be in a store. Cost: one read.
func OpenBlocks(
	ctx context.Context, parent *Pool, writer string, claim Claim, spec Spec, options *Options,
) (*Blocks, error) {
	b := &Blocks{
		parent: parent, writer: writer, name: blocksName(parent.name, writer), claim: claim, spec: spec, options: options,
	}
	err := b.check()
	if err == nil {
		b.pool, err = b.open(ctx)
	}
	if err != nil {
		return nil, parent.failed("open blocks", writer, err)
	}
	return b, nil
}

func (b *Blocks) check() error {
	if err := validateName("writer", b.writer); err != nil {
		return err
	}
	if err := validateName("name of the writer's blocks", b.owner(1<<30)); err != nil {
		return err
	}
	b.claim.Owner = b.owner(0)
	return b.claim.Validate()
}

// blocksName is the name of the pool of a writer's blocks. No two pairs of a parent and a writer have the same.
func blocksName(parent, writer string) string { return escaped(parent) + "/" + escaped(writer) }

// escaped returns the name without slashes, in a way that can be undone.
func escaped(name string) string { return strings.NewReplacer("%", "%25", "/", "%2F").Replace(name) }

// owner is who holds the block of that number in the parent.
func (b *Blocks) owner(number int) string { return b.name + "/" + strconv.Itoa(number) }

// open returns the pool of the writer's blocks; nil if there is none.
func (b *Blocks) open(ctx context.Context) (*Pool, error) {
	p, err := b.parent.home.neighbour(b.name)
	if err != nil {
		return nil, err
	}
	p.setOptions(b.options)
	if err := p.home.refresh(ctx); err != nil {
		if errors.Is(err, ErrNoPool) {
			return nil, nil //nolint:nilnil // there is none
		}
		return nil, err
	}
	return p, nil
}

// Pool returns the pool of the writer's blocks; nil if this handle knows of none.
func (b *Blocks) Pool() *Pool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.pool
}

// reopen makes the pool of the writer's blocks the one that there is at present, and returns it; nil if there is none.
func (b *Blocks) reopen(ctx context.Context) (*Pool, error) {
	p, err := b.open(ctx)
	if err == nil {
		b.setPool(p)
	}
	return p, err
}

func (b *Blocks) setPool(p *Pool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.pool = p
}

// errNoRoom says that the writer's blocks have no room for a claim, or that it has none.
var errNoRoom = errors.New("no room in the blocks")

// Allocate gives the claim's owner what the claim asks for, from the writer's blocks, or from a new block if they have
// no room. It is idempotent, as [Pool.Allocate] is.
//
// Errors: those of [Pool.Allocate]; [ErrExhausted] if the parent has no more blocks, or if a whole block has no room
// for the claim. If a call fails after it has taken a block, the block stays for the next call; GiveBack gives it back.
// Cost: one commit, without contention from other writers. A new block costs one read and one commit more.
func (b *Blocks) Allocate(ctx context.Context, claim Claim) (Allocation, error) {
	if err := claim.Validate(); err != nil {
		return Allocation{}, b.parent.failed("allocate in a block", claim.Owner, err)
	}
	a, err := b.allocate(ctx, claim)
	if errors.Is(err, errNoRoom) {
		a, err = b.allocateMore(ctx, claim)
	}
	return a, wrapped(err, Error{Op: "allocate in a block", Pool: b.parent.name, Owner: claim.Owner})
}

// allocate allocates in the blocks that there are.
func (b *Blocks) allocate(ctx context.Context, claim Claim) (Allocation, error) {
	p := b.Pool()
	if p == nil {
		return Allocation{}, errNoRoom
	}
	a, err := p.Allocate(ctx, claim)
	switch {
	case errors.Is(err, ErrNoPool): // another handle has given all back
		b.setPool(nil)
		return Allocation{}, errNoRoom
	case isFull(err) && !errors.Is(err, ErrFamily):
		return Allocation{}, errNoRoom
	}
	return a, err
}

// allocateMore takes another block if there is still no room.
func (b *Blocks) allocateMore(ctx context.Context, claim Claim) (Allocation, error) {
	b.taking.Lock()
	defer b.taking.Unlock()
	for range b.parent.options.Attempts {
		if b.Pool() == nil { // another handle, or a commit of unknown outcome, may have taken a block
			if _, err := b.reopen(ctx); err != nil {
				return Allocation{}, err
			}
		}
		a, err := b.allocate(ctx, claim)
		if !errors.Is(err, errNoRoom) {
			return a, err
		}
		p, owner, err := b.take(ctx)
		if err == nil {
			a, err = p.Allocate(ctx, claim)
		}
		switch {
		case errors.Is(err, ErrNoPool) || errors.Is(err, ErrExists):
			b.setPool(nil) // another handle has taken the first block, or given back the last one
		case p == nil:
			return Allocation{}, err
		case !isFull(err):
			return a, err
		case isIdle(ctx, p, owner): // a block cannot hold it: do not keep one for that
			_, giveErr := b.giveBack(ctx, p, owner)
			return a, errors.Join(err, giveErr)
		}
	}
	return Allocation{}, ErrBusy
}

// take takes another block, and returns the writer's pool and the block's owner in the parent.
func (b *Blocks) take(ctx context.Context) (*Pool, string, error) {
	claim, p := b.claim, b.Pool()
	if p == nil {
		p, _, err := Delegate(ctx, b.parent, claim, b.name, b.spec, b.options)
		if err == nil {
			b.setPool(p)
		}
		return p, claim.Owner, err
	}
	uses, err := p.Grants(ctx)
	if err != nil {
		return nil, "", err
	}
	claim.Owner = b.free(uses)
	if _, err = p.Extend(ctx, claim); err != nil {
		return nil, "", err
	}
	return p, claim.Owner, nil
}

// free is the first owner of a block that has none.
func (b *Blocks) free(uses []Grant) string {
	for number := 0; ; number++ {
		owner := b.owner(number)
		if !slices.ContainsFunc(uses, func(u Grant) bool { return u.Owner == owner }) {
			return owner
		}
	}
}

// isIdle reports whether nothing of the block is held that the owner has for the pool.
func isIdle(ctx context.Context, p *Pool, owner string) bool {
	uses, err := p.Grants(ctx)
	i := slices.IndexFunc(uses, func(u Grant) bool { return u.Owner == owner })
	return err == nil && i >= 0 && uses[i].Idle
}

// Release frees what is held in the blocks, as [Pool.Release] does. It then gives back the block if it is empty and
// another block has room. If that fails, because the context has ended or the store fails, the failure is logged, and a
// later Release or GiveBack can give the block back.
//
// Errors: those of [Pool.Release]. Cost: one commit and one read, and one more commit if a block is given back.
func (b *Blocks) Release(ctx context.Context, held Held) (Allocation, error) {
	a, err := b.release(ctx, held)
	if err != nil {
		return Allocation{}, wrapped(err, Error{Op: "release in a block", Pool: b.parent.name, Owner: held.Owner})
	}
	b.logGiveBack(b.giveBackOf(ctx, a))
	return a, nil
}

// logGiveBack logs why an empty block was not given back, if it was not.
func (b *Blocks) logGiveBack(err error) {
	if err != nil {
		b.parent.options.Logger.Info("could not give back an empty block",
			slog.String("pool", b.parent.name), slog.String("writer", b.writer), slog.Any("error", err))
	}
}

func (b *Blocks) release(ctx context.Context, held Held) (Allocation, error) {
	p := b.Pool()
	if p == nil { // another handle may have taken a block
		var err error
		if p, err = b.reopen(ctx); err != nil {
			return Allocation{}, err
		}
		if p == nil {
			return Allocation{}, held.unlessOptional(ErrNotFound)
		}
	}
	return p.Release(ctx, held)
}

// giveBackOf gives back the block of which a was released, if that is empty and another one has room.
func (b *Blocks) giveBackOf(ctx context.Context, a Allocation) error {
	p := b.Pool()
	if p == nil {
		return nil
	}
	uses, err := p.Grants(ctx)
	if err != nil {
		return ignoring(err, ErrNoPool)
	}
	i := slices.IndexFunc(uses, func(u Grant) bool { return u.Idle && u.has(a) })
	if i < 0 || !slices.ContainsFunc(slices.Delete(slices.Clone(uses), i, i+1), func(u Grant) bool { return u.Room }) {
		return nil
	}
	_, err = b.giveBack(ctx, p, uses[i].Owner)
	return err
}

// ignoring returns err, unless it is one of these.
func ignoring(err error, these ...error) error {
	if slices.ContainsFunc(these, func(one error) bool { return errors.Is(err, one) }) {
		return nil
	}
	return err
}

// has reports whether an allocation lies in what was granted.
func (g Grant) has(a Allocation) bool {
	return slices.ContainsFunc(g.Prefixes, func(block netip.Prefix) bool {
		return slices.ContainsFunc(a.Prefixes, block.Overlaps)
	})
}

// giveBack gives back the block that the owner holds in the parent for the writer's pool. It reports false if something
// was faster, or if an update of that pool has left it no ranges in other blocks.
func (b *Blocks) giveBack(ctx context.Context, p *Pool, owner string) (bool, error) {
	_, err := p.Retract(ctx, owner)
	if errors.Is(err, errLastGrant) {
		err = p.delete(ctx)
		if err == nil {
			b.setPool(nil)
		}
	}
	return err == nil, ignoring(err, ErrInUse, ErrNotFound, errLastRanges)
}

// GiveBack gives all but keep of the empty blocks back to the parent, and returns how many it gave back. A block with
// addresses that are cooling down is not empty.
//
// Errors: those of [Pool.Retract], except [ErrInUse]. Cost: one read, and one commit for each block that is given back.
func (b *Blocks) GiveBack(ctx context.Context, keep int) (int, error) {
	n, err := b.giveBackAll(ctx, keep)
	return n, wrapped(err, Error{Op: "give back blocks", Pool: b.parent.name, Owner: b.writer})
}

func (b *Blocks) giveBackAll(ctx context.Context, keep int) (given int, err error) {
	p, err := b.reopen(ctx)
	if err != nil || p == nil {
		return 0, err
	}
	uses, err := p.Grants(ctx)
	if err != nil {
		return 0, ignoring(err, ErrNoPool)
	}
	idle := slices.DeleteFunc(uses, func(u Grant) bool { return !u.Idle })
	for len(idle) > max(keep, 0) {
		gone, err := b.giveBack(ctx, p, idle[len(idle)-1].Owner)
		if err != nil {
			return given, err
		}
		idle = idle[:len(idle)-1]
		if gone {
			given++
		}
	}
	return given, nil
}

// Get returns what is held in the blocks. Errors and cost: as for [Pool.Get], and one more read if this handle does not
// know the writer's pool yet.
func (b *Blocks) Get(ctx context.Context, held Held) (Allocation, error) {
	p := b.Pool()
	if p == nil { // another handle may have taken a block
		var err error
		if p, err = b.reopen(ctx); err != nil {
			return Allocation{}, b.parent.failedFor("get in a block", held, err)
		}
	}
	if p == nil {
		return Allocation{}, b.parent.failedFor("get in a block", held, held.unlessOptional(ErrNotFound))
	}
	return p.Get(ctx, held)
}

// Grants lists what the parent has granted to the pool, in the order of the grants, as of one moment. It is empty for a
// pool that was not delegated from another one.
//
// Errors: [ErrNoPool]; [ErrCorrupt]; those of the store. Cost: one read and O(runs of free addresses); O(allocations)
// if any are out of range.
func (p *Pool) Grants(ctx context.Context) ([]Grant, error) {
	var uses []Grant
	err := exclusively(ctx, func(a *attempt) error {
		d, err := a.present(p)
		if err != nil {
			return err
		}
		outOfRange, err := a.outOfRange(d)
		if err != nil {
			return err
		}
		uses = uses[:0]
		free := map[Family]*netipx.IPSet{}
		for _, f := range d.state().rules.families {
			free[f] = d.state().space.FreeSet(f.inSpace())
		}
		for _, g := range d.state().parent.clone().Grants {
			use := g
			use.Room, use.Idle = true, d.state().requireFree(g.Prefixes, outOfRange) == nil
			for _, prefix := range g.Prefixes {
				set := free[FamilyOf(prefix.Addr())]
				use.Room = use.Room && set != nil && set.OverlapsPrefix(prefix)
			}
			uses = append(uses, use)
		}
		return nil
	}, p)
	return uses, p.failed("list grants", "", err)
}
