package pool

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"sync"

	"github.com/ipalloc/ipalloc/store"
)

// Blocks is a writer's own part of a pool: blocks of it, each carved into a pool of its own (see [Carve]), in which the writer allocates
// without meeting others. It takes another block when its blocks are full, and gives those back that have become empty.
//
// Which blocks a writer has is kept in the store, so that it has the same after a restart. A Blocks is for one writer, such as a node; two handles of one
// writer, in one process or in two, keep out of each other's way, but that is not what it is for.
//
// The zero Blocks is not usable, and a Blocks must not be copied. All methods may be called by any number of goroutines at once. It holds nothing
// that needs closing.
type Blocks struct {
	parent  *Pool
	writer  string
	claim   Claim
	spec    Spec
	options *Options

	mu   sync.RWMutex // of the list: to read while allocating, to write while it changes
	head store.Record // the list as it is stored, to the knowledge of this handle
	list []block
	next int // the number of the next block

	ownersMu sync.Mutex
	owners   map[string]chan struct{} // for whom a call is under way; closed when it ends
}

// block is one block that is open here.
type block struct {
	number int
	pool   *Pool
}

// blocksData is what the record of a writer's blocks has as its data.
type blocksData struct {
	Blocks []int `json:"blocks,omitempty"`
	Next   int   `json:"next"`
}

// OpenBlocks returns the blocks that the writer has of a pool: none yet, if it is new. What a block is, claim says: its requests and its policy, such
// as a /26, or one prefix of each family; the owner is made from the writer's name. The spec is that of the pools that are carved, without
// ranges. A block of which every address is to be handed out wants AllocateReserved.
//
// Errors: [ErrInvalid]; those of the store. The parent must be in a store. Cost: one read, and one for each block.
func OpenBlocks(ctx context.Context, parent *Pool, writer string, claim Claim, spec Spec, options *Options) (*Blocks, error) {
	b := &Blocks{owners: map[string]chan struct{}{}, parent: parent, writer: writer, claim: claim, spec: spec, options: options}
	err := b.check()
	if err == nil {
		err = b.refresh(ctx)
	}
	if err != nil {
		return nil, parent.failed("open blocks", writer, err)
	}
	return b, nil
}

func (b *Blocks) check() error {
	if b.parent.store == nil {
		return invalid("the parent is a pool in memory; blocks need a store, such as store.NewMemory")
	}
	b.claim.Owner = b.writer
	if err := validateName("writer", b.writer); err != nil {
		return err
	}
	if err := validateName("name of the writer's blocks", b.name(1<<30)); err != nil {
		return err
	}
	return b.claim.Validate()
}

// name is that of the pool of a block, and of its owner in the parent.
func (b *Blocks) name(number int) string {
	return b.parent.name + "/" + b.writer + "/" + strconv.Itoa(number)
}

func (b *Blocks) key() store.Key {
	return store.Key{Kind: store.KindBlocks, Pool: b.parent.name, Name: b.writer}
}

// refresh reads the list, and opens the blocks that are not open.
func (b *Blocks) refresh(ctx context.Context) error {
	head, err := b.parent.store.Get(ctx, b.key())
	if errors.Is(err, store.ErrNotFound) {
		head, err = store.Record{Key: b.key(), State: stateActive}, nil
	}
	if err != nil {
		return err
	}
	var data blocksData
	if head.Revision > 0 {
		if err := json.Unmarshal(head.Data, &data); err != nil {
			return fmt.Errorf("%w: the record %v: %w", ErrCorrupt, head.Key, err)
		}
	}
	var list []block
	for _, number := range data.Blocks {
		i := slices.IndexFunc(b.list, func(known block) bool { return known.number == number })
		if i >= 0 {
			list = append(list, b.list[i])
			continue
		}
		p, err := Open(ctx, b.parent.store, b.name(number), b.options)
		if errors.Is(err, ErrNoPool) {
			continue // deleted by hand
		}
		if err != nil {
			return err
		}
		list = append(list, block{number, p})
	}
	b.head, b.list, b.next = head, list, data.Next
	return nil
}

// errListChanged says that another handle of the writer has changed the list.
var errListChanged = errors.New("another handle of the writer has changed its blocks")

// change is what makes the stored list this one, if it is still the one that this handle knows.
func (b *Blocks) change(ctx context.Context, list []block, next int) (store.Change, error) {
	stored, err := b.parent.store.Get(ctx, b.key())
	switch {
	case err != nil && !errors.Is(err, store.ErrNotFound):
		return store.Change{}, err
	case stored.Revision != b.head.Revision:
		return store.Change{}, errListChanged
	}
	data := blocksData{Next: next}
	for _, each := range list {
		data.Blocks = append(data.Blocks, each.number)
	}
	text, err := json.Marshal(data)
	head := b.head
	head.Data = text
	return store.Change{Head: head}, err
}

// Pools returns the pools of the blocks, in the order in which they were taken. The slice is the caller's.
func (b *Blocks) Pools() []*Pool {
	b.mu.Lock()
	defer b.mu.Unlock()
	pools := make([]*Pool, len(b.list))
	for i, each := range b.list {
		pools[i] = each.pool
	}
	return pools
}

// Allocate gives the claim's owner what it asks for, from the first block that has it, or from a new one. It is idempotent, as [Pool.Allocate] is:
// an owner who holds something in one of the blocks gets that.
//
// Errors: those of [Pool.Allocate]; [ErrExhausted] if the parent has no more blocks, or if a block does not have room for the claim at all. Cost:
// one commit in a block, which no other writer commits to, and one read for each block, to see whether the owner is there; a new block costs
// one read and one commit more.
func (b *Blocks) Allocate(ctx context.Context, claim Claim) (Allocation, error) {
	err := claim.Validate()
	var a Allocation
	if err == nil {
		defer b.lockOwner(claim.Owner)()
		b.mu.RLock()
		a, err = b.allocateHere(ctx, claim)
		b.mu.RUnlock()
	}
	if errors.Is(err, errBlocksFull) || errors.Is(err, ErrNoPool) {
		a, err = b.allocateAnew(ctx, claim)
	}
	var inner *Error
	if err != nil && !errors.As(err, &inner) {
		err = b.parent.failed("allocate in a block", claim.Owner, err)
	}
	return a, err
}

// lockOwner keeps other calls for the owner out until the function that it returns is called, so that two of them do not find room in two blocks.
func (b *Blocks) lockOwner(owner string) (unlock func()) {
	for {
		b.ownersMu.Lock()
		busy, found := b.owners[owner]
		if !found {
			busy = make(chan struct{})
			b.owners[owner] = busy
		}
		b.ownersMu.Unlock()
		if !found {
			return func() {
				b.ownersMu.Lock()
				defer b.ownersMu.Unlock()
				delete(b.owners, owner)
				close(busy)
			}
		}
		<-busy
	}
}

// errBlocksFull says that no block of the list has room.
var errBlocksFull = errors.New("all blocks are full")

// allocateHere allocates in the blocks of the list. The caller holds b.mu, if only to read.
func (b *Blocks) allocateHere(ctx context.Context, claim Claim) (Allocation, error) {
	home, err := b.find(ctx, claim.Owner)
	if err != nil {
		return Allocation{}, err
	}
	if home != nil {
		return home.pool.Allocate(ctx, claim)
	}
	for _, each := range b.list {
		a, err := each.pool.Allocate(ctx, claim)
		if !isFull(err) || errors.Is(err, ErrFamily) {
			return a, err
		}
	}
	return Allocation{}, errBlocksFull
}

// allocateAnew does that, and takes another block if need be.
func (b *Blocks) allocateAnew(ctx context.Context, claim Claim) (Allocation, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	a, err := b.allocate(ctx, claim)
	for attempt := 0; attempt < b.parent.options.Attempts && (errors.Is(err, ErrNoPool) || errors.Is(err, errListChanged)); attempt++ {
		// Another handle of this writer has changed the list.
		if err = b.refresh(ctx); err == nil {
			a, err = b.allocate(ctx, claim)
		}
	}
	return a, err
}

func (b *Blocks) allocate(ctx context.Context, claim Claim) (Allocation, error) {
	a, err := b.allocateHere(ctx, claim)
	if !errors.Is(err, errBlocksFull) {
		return a, err
	}
	fresh, err := b.take(ctx)
	if err != nil {
		return Allocation{}, err
	}
	a, err = fresh.Allocate(ctx, claim)
	if isFull(err) { // a block cannot hold it: do not keep one for that
		_, giveErr := b.giveBack(ctx, 0)
		return a, errors.Join(err, giveErr)
	}
	return a, err
}

// find returns the block in which the owner holds something; nil if there is none.
func (b *Blocks) find(ctx context.Context, owner string) (*block, error) {
	for i := range b.list {
		_, err := b.list[i].pool.Get(ctx, owner)
		if err == nil {
			return &b.list[i], nil
		}
		if !errors.Is(err, ErrNotFound) {
			return nil, err
		}
	}
	return nil, nil //nolint:nilnil // there is none
}

// take carves another block, and puts it into the list in the same commit.
func (b *Blocks) take(ctx context.Context) (*Pool, error) {
	number := b.next
	claim := b.claim
	claim.Owner = b.name(number)
	var taken block
	p, err := carve(ctx, b.parent, claim, claim.Owner, b.spec, b.options, func(ctx context.Context) ([]store.Change, error) {
		change, err := b.change(ctx, append(slices.Clone(b.list), block{number: number}), number+1)
		return []store.Change{change}, err
	})
	if err != nil {
		return nil, err
	}
	taken = block{number, p}
	return p, b.reload(ctx, append(b.list, taken))
}

// reload reads the list after a change of it, with these blocks known.
func (b *Blocks) reload(ctx context.Context, known []block) error {
	b.list = known
	return b.refresh(ctx)
}

// Release frees all that the owner holds in the blocks, and gives back its block if that is empty then and another one has room.
//
// Errors: those of [Pool.Release]. Cost: one read for each block up to the owner's, one commit, and one more if a block is given back.
func (b *Blocks) Release(ctx context.Context, owner string) (Allocation, error) {
	err := validateOwner(owner)
	var a Allocation
	var number int
	if err == nil {
		defer b.lockOwner(owner)()
		b.mu.RLock()
		a, number, err = b.releaseHere(ctx, owner)
		b.mu.RUnlock()
	}
	if errors.Is(err, ErrNotFound) {
		b.mu.Lock()
		if err = b.refresh(ctx); err == nil {
			a, number, err = b.releaseHere(ctx, owner)
		}
		b.mu.Unlock()
	}
	if err != nil {
		return Allocation{}, b.parent.failed("release in a block", owner, err)
	}
	if err := b.giveBackEmpty(ctx, number); err != nil {
		return a, fmt.Errorf("released, but: %w", err)
	}
	return a, nil
}

// releaseHere releases in the blocks of the list, and returns the number of the block. The caller holds b.mu, if only to read.
func (b *Blocks) releaseHere(ctx context.Context, owner string) (Allocation, int, error) {
	home, err := b.find(ctx, owner)
	switch {
	case err != nil:
		return Allocation{}, 0, err
	case home == nil:
		return Allocation{}, 0, ErrNotFound
	}
	a, err := home.pool.Release(ctx, owner)
	return a, home.number, err
}

// giveBackEmpty gives back the block of that number if it is empty and another one has room.
func (b *Blocks) giveBackEmpty(ctx context.Context, number int) error {
	b.mu.RLock()
	home := b.numbered(number)
	b.mu.RUnlock()
	if home == nil {
		return nil
	}
	stats, err := blockStats(ctx, home)
	if err != nil || stats == nil || !stats.empty() {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if home = b.numbered(number); home == nil {
		return nil
	}
	return b.giveBackIf(ctx, home)
}

// numbered returns a copy of the block of that number; nil if it is not in the list.
func (b *Blocks) numbered(number int) *block {
	for _, each := range b.list {
		if each.number == number {
			return &each
		}
	}
	return nil
}

// giveBackIf gives a block back if it is empty and another one has room.
func (b *Blocks) giveBackIf(ctx context.Context, home *block) error {
	stats, err := blockStats(ctx, home)
	if err != nil || stats == nil || !stats.empty() {
		return err
	}
	for i := range b.list {
		stats, err := blockStats(ctx, &b.list[i])
		if err != nil {
			return err
		}
		if b.list[i].number != home.number && stats != nil && stats.room() {
			_, err := b.giveBackOne(ctx, *home)
			return err
		}
	}
	return nil
}

// blockStats counts the addresses of a block; nil if another handle of the writer has given it back.
func blockStats(ctx context.Context, of *block) (Stats, error) {
	stats, err := of.pool.Stats(ctx)
	if errors.Is(err, ErrNoPool) {
		return nil, nil
	}
	return stats, err
}

// GiveBack gives empty blocks back to the parent, all but keep of them, and returns how many. A block in which something cools down is not empty.
//
// Errors: those of [Delete], but for [ErrInUse]. Cost: one read for each block, and one commit for each that is given back.
func (b *Blocks) GiveBack(ctx context.Context, keep int) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.refresh(ctx); err != nil {
		return 0, b.parent.failed("give back blocks", b.writer, err)
	}
	n, err := b.giveBack(ctx, keep)
	return n, b.parent.failed("give back blocks", b.writer, err)
}

func (b *Blocks) giveBack(ctx context.Context, keep int) (given int, err error) {
	var empty []block
	for _, each := range b.list {
		stats, err := blockStats(ctx, &each)
		if err != nil {
			return 0, err
		}
		if stats != nil && stats.empty() {
			empty = append(empty, each)
		}
	}
	for len(empty) > keep {
		gone, err := b.giveBackOne(ctx, empty[len(empty)-1])
		if err != nil {
			return given, err
		}
		empty = empty[:len(empty)-1]
		if gone {
			given++
		}
	}
	return given, nil
}

// giveBackOne deletes the pool of an empty block, releases it, and takes it out of the list, in one commit. It is false if somebody was faster.
func (b *Blocks) giveBackOne(ctx context.Context, gone block) (bool, error) {
	begin := b.parent.begin()
	rest := slices.DeleteFunc(slices.Clone(b.list), func(each block) bool { return each.number == gone.number })
	a, err := b.parent.releaseWithChildAnd(ctx, gone.pool.name, 0, gone.pool.name, func(ctx context.Context) ([]store.Change, error) {
		change, err := b.change(ctx, rest, b.next)
		return []store.Change{change}, err
	})
	b.parent.observe(begin, CallRelease, gone.pool.name, a, err)
	switch {
	case errors.Is(err, ErrInUse):
		return false, nil
	case errors.Is(err, errListChanged):
		return false, b.refresh(ctx)
	case err != nil:
		return false, err
	}
	return true, b.reload(ctx, rest)
}

// Lookup returns the allocation in the blocks that addr belongs to. Errors and cost: as for [Pool.Lookup], for each block.
func (b *Blocks) Lookup(ctx context.Context, addr netip.Addr) (Allocation, error) {
	for _, p := range b.Pools() {
		a, err := p.Lookup(ctx, addr)
		if !errors.Is(err, ErrNotFound) {
			return a, err
		}
	}
	return Allocation{}, &Error{Op: "lookup", Pool: b.parent.name, Prefix: singleAddr(addr), Err: ErrNotFound}
}

// room tells whether an address of each family is free.
func (s Stats) room() bool {
	return !slices.ContainsFunc(s, func(f FamilyStats) bool { return f.Free.IsZero() })
}

// empty tells whether nothing is held and nothing cools down.
func (s Stats) empty() bool {
	for _, f := range s {
		if !f.Used.IsZero() || !f.Cooling.IsZero() || !f.OutOfRange.IsZero() {
			return false
		}
	}
	return true
}
