package pool

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ipalloc/ipalloc/store"
)

// joint is one commit of several pools: all that is planned in them takes effect together, or nothing does.
type joint struct {
	parts []*jointPart // in the order of the pools' names, or in memory of Pool.order, which is that in which they are locked
	// groups are the parts in which one op each is planned: by the first part of a group that has room.
	groups [][]*jointPart
	// extra returns changes beside those of the pools, as of now. May be nil.
	extra func(ctx context.Context) ([]store.Change, error)
	// done is told the heads of the extra changes when all has been committed. May be nil.
	done func(heads []store.Record)
	// reread says that the attempt before met a conflict about an extra head, and that what is in the store has been read since.
	reread bool
}

// jointPart is what a joint does in one pool.
type jointPart struct {
	pool *Pool
	op   *op
	next prepared
	// passed says that another part of its group has been chosen. Its head is committed as it is, so that nobody else changes the pool
	// meanwhile.
	passed bool
	begin  time.Time // of the call, for the observer
}

func newPart(p *Pool, op *op) *jointPart { return &jointPart{pool: p, op: op, begin: p.begin()} }

// observe tells the observers of a call over several pools: of each pool that took part or, if the call failed, of the first of each group.
func (j *joint) observe(call Call, owner string, err error) {
	for _, group := range j.groups {
		for i, part := range group {
			switch {
			case err == nil && !part.passed:
				part.pool.observe(part.begin, call, owner, part.op.tasks[0].result, nil)
			case err != nil && i == 0:
				part.pool.observe(part.begin, call, owner, Allocation{}, err)
			}
		}
	}
}

// newJoint returns a joint of these groups.
func newJoint(groups ...[]*jointPart) *joint {
	return &joint{groups: groups, parts: slices.Concat(groups...)}
}

// run brings a joint to its end.
func (j *joint) run(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	slices.SortFunc(j.parts, func(a, b *jointPart) int {
		return cmp.Or(strings.Compare(a.pool.name, b.pool.name), cmp.Compare(a.pool.order, b.pool.order))
	})
	first := j.parts[0].pool
	for i, part := range j.parts[1:] {
		switch previous := j.parts[i].pool; {
		case part.pool == previous || part.pool.store != nil && part.pool.name == previous.name:
			return invalid("the pool %q is named twice", part.pool.name)
		case part.pool.store != first.store:
			return invalid("the pools %q and %q are in different stores", first.name, part.pool.name)
		}
	}
	return j.lock(ctx, j.parts)
}

// lock keeps other calls out of the pools, one after the other, and then goes on.
func (j *joint) lock(ctx context.Context, rest []*jointPart) error {
	if len(rest) > 0 {
		return rest[0].pool.exclusively(ctx, func(ctx context.Context) error { return j.lock(ctx, rest[1:]) })
	}
	if j.parts[0].pool.store == nil {
		return j.inMemory(ctx)
	}
	first := j.parts[0].pool
	for attempts := range first.options.Attempts {
		first.backOff(ctx, attempts)
		if again, err := j.attempt(ctx); !again {
			return err
		}
	}
	return fmt.Errorf("%w: %d attempts", ErrBusy, first.options.Attempts)
}

func (j *joint) inMemory(ctx context.Context) error {
	defer func() {
		for _, part := range j.parts {
			part.pool.endBatch()
		}
	}()
	for _, group := range j.groups {
		if err := planGroup(ctx, group); err != nil {
			j.undo()
			return err
		}
	}
	for _, part := range j.parts {
		if !part.passed {
			part.pool.settleInMemory(part.op)
		}
	}
	return nil
}

func (j *joint) undo() {
	for _, part := range j.parts {
		if part.pool.ledger != nil {
			part.pool.ledger.undo(mark{})
		}
	}
}

// attempt tries once. It is true if another attempt is wanted.
func (j *joint) attempt(ctx context.Context) (again bool, err error) {
	for _, group := range j.groups {
		if err := planGroup(ctx, group); err != nil {
			j.undo()
			return false, err
		}
	}
	changes, err := j.changes(ctx)
	if err != nil {
		j.undo()
		return errors.Is(err, store.ErrConflict), err
	}
	if len(changes) == 0 {
		j.settle(nil)
		return false, nil
	}
	heads, err := j.commit(ctx, changes)
	if err != nil {
		j.undo()
		return j.learn(ctx, err)
	}
	j.settle(heads)
	return false, nil
}

// commit commits the changes, and tells the observers of the pools that are changed.
func (j *joint) commit(ctx context.Context, changes []store.Change) ([]store.Record, error) {
	begins := make([]time.Time, len(j.parts))
	for i, part := range j.parts {
		begins[i] = part.pool.begin()
	}
	heads, err := j.parts[0].pool.store.Commit(ctx, changes...)
	for i, part := range j.parts {
		if part.next.pieces != nil {
			part.pool.observeCommit(begins[i], len(part.next.change.Writes), err)
		}
	}
	return heads, err
}

// planGroup plans the group's op in the pool in which its owner holds something, or else in the first one that has room.
func planGroup(ctx context.Context, group []*jointPart) error {
	for _, part := range group {
		part.passed, part.next = len(group) > 1, prepared{}
	}
	candidates := group
	if len(group) > 1 {
		for _, part := range group {
			holds, err := part.holds(ctx)
			if err != nil {
				return err
			}
			if holds {
				candidates = []*jointPart{part}
				break
			}
		}
	}
	var refusal error
	for _, part := range candidates {
		if err := part.plan(ctx); err != nil {
			return err
		}
		if err := part.op.refusal(); err != nil {
			refusal = part.pool.failed(part.op.tasks[0].kind.String(), part.op.tasks[0].owner, err)
			if !isFull(err) {
				return refusal
			}
			continue
		}
		part.passed = false
		return nil
	}
	return refusal
}

// isFull tells whether another pool may have what this one has not.
func isFull(err error) bool {
	return errors.Is(err, ErrExhausted) || errors.Is(err, ErrTaken) || errors.Is(err, ErrNotInPool) || errors.Is(err, ErrFamily)
}

// plan plans the part's op, as Pool.plan does.
func (part *jointPart) plan(ctx context.Context) error {
	if part.pool.store != nil {
		return part.pool.plan(ctx, []*op{part.op})
	}
	_, err := part.pool.planAll(ctx, []*op{part.op})
	return err
}

// holds tells whether the owner of the part's task holds something in its pool.
func (part *jointPart) holds(ctx context.Context) (bool, error) {
	p, t := part.pool, &part.op.tasks[0]
	if p.store != nil {
		if err := p.plan(ctx, nil); err != nil { // which brings the ledger up to date
			return false, err
		}
		if err := p.fetch(ctx, t); err != nil {
			return false, err
		}
	}
	h := p.held[t.owner]
	return h.live() && !h.Expired(p.now()), nil
}

// changes are those of the pools, in the order of the parts, and then the extra ones; none if nothing is to be written.
func (j *joint) changes(ctx context.Context) ([]store.Change, error) {
	var changes []store.Change
	for _, part := range j.parts {
		if part.passed {
			continue
		}
		var err error
		if part.next, err = part.pool.prepare([]*op{part.op}); err != nil {
			return nil, err
		}
		if part.next.pieces != nil {
			changes = append(changes, part.next.change)
		}
	}
	if len(changes) == 0 {
		return nil, nil
	}
	for _, part := range j.parts {
		if !part.passed {
			continue
		}
		var err error
		if part.next, err = part.pool.finishDraft(part.pool.ledger, part.pool.draft()); err != nil {
			return nil, err
		}
		changes = append(changes, part.next.change)
	}
	if j.extra == nil {
		return changes, nil
	}
	more, err := j.extra(ctx)
	return append(changes, more...), err
}

// settle finishes all parts, whose changes are committed with these heads.
func (j *joint) settle(heads []store.Record) {
	for _, passed := range []bool{false, true} { // as changes has them
		for _, part := range j.parts {
			if part.passed == passed && part.next.pieces != nil && len(heads) > 0 {
				part.pool.committed(heads[0], part.next)
				heads = heads[1:]
			}
		}
	}
	for _, part := range j.parts {
		if !part.passed {
			part.pool.settleAll([]*op{part.op})
		}
	}
	if j.done != nil {
		j.done(heads)
	}
}

// learn takes from a failed commit what the next attempt needs, if there is a point in one.
func (j *joint) learn(ctx context.Context, err error) (again bool, _ error) {
	j.reread = false
	var conflict *store.ConflictError
	var exists *store.ExistsError
	switch {
	case errors.As(err, &conflict):
		for _, part := range j.parts {
			if conflict.Current.Key == headKey(part.pool.name) {
				return j.again(part.pool.learn(ctx, []*op{part.op}, err))
			}
		}
		j.reread = true // it was an extra one
		return j.again(j.readAgain(ctx))
	case errors.As(err, &exists):
		for _, part := range j.parts {
			for _, record := range exists.Records {
				if record.Pool == part.pool.name {
					return j.again(part.pool.takeNote([]*op{part.op}, []store.Record{record}))
				}
			}
		}
		return false, err
	case errors.Is(err, store.ErrUnknown):
		for _, part := range j.parts {
			if err := part.pool.findOut(ctx, []*op{part.op}, err); err != nil {
				return false, err
			}
		}
		return true, nil
	}
	return false, err
}

// readAgain reads the heads, and what the owners hold, for another attempt.
func (j *joint) readAgain(ctx context.Context) error {
	for _, part := range j.parts {
		if err := part.pool.refresh(ctx); err != nil {
			return err
		}
		for i := range part.op.tasks {
			t := &part.op.tasks[i]
			if err := part.pool.fetch(ctx, t); err != nil {
				return err
			}
			t.fresh = true
		}
	}
	return nil
}

func (j *joint) again(err error) (bool, error) { return err == nil, err }

// Part is what a claim over several pools asks of one of them. The zero Part is not valid.
type Part struct {
	// Pools are alternatives: the first one that has room grants the part. At least one, all in the store of the other parts, and none
	// of them in another part.
	Pools []*Pool
	// Claim is what is asked for; its Owner is that of the whole claim and may be left empty.
	Claim Claim
}

// Granted is what [AllocateTogether] got for one part.
type Granted struct {
	Pool       *Pool
	Allocation Allocation
}

// AllocateTogether grants claims of one owner in several pools, such as IPv4 from one and IPv6 from another: all of them or none, in one
// commit. What it returns is in the order of the parts.
//
// It is idempotent, as [Pool.Allocate] is, in each pool: of the alternatives of a part the one that the owner holds something of
// answers, whichever has room.
//
// Errors: those of [Pool.Allocate], after which nothing has changed in any pool, except after [store.ErrUnknown]. If no alternative of a
// part has room the error is that of the last one. If the process dies meanwhile, either all or nothing has been granted.
//
// Cost: one commit, and for each part with alternatives one read for each of them. Calls through the handles of these pools wait meanwhile.
func AllocateTogether(ctx context.Context, owner string, parts ...Part) ([]Granted, error) {
	granted, err := allocateTogether(ctx, owner, parts)
	var inner *Error
	if err == nil || errors.As(err, &inner) {
		return granted, err
	}
	return nil, &Error{Op: "allocate together", Owner: owner, Err: storeError(err)}
}

func allocateTogether(ctx context.Context, owner string, parts []Part) ([]Granted, error) {
	if len(parts) == 0 {
		return nil, invalid("a claim over several pools has no parts")
	}
	groups := make([][]*jointPart, len(parts))
	for i, part := range parts {
		claim := part.Claim
		if claim.Owner != "" && claim.Owner != owner {
			return nil, invalid("a part is claimed for %q, the whole for %q", claim.Owner, owner)
		}
		claim.Owner = owner
		if err := claim.checkOwnerAndRest(); err != nil {
			return nil, err
		}
		if len(part.Pools) == 0 {
			return nil, invalid("a part of a claim over several pools names no pool")
		}
		for _, p := range part.Pools {
			groups[i] = append(groups[i], newPart(p, wholeOp(ctx, task{kind: taskAllocate, owner: owner, claim: claim})))
		}
	}
	j := newJoint(groups...)
	err := j.run(ctx)
	j.observe(CallAllocate, owner, err)
	if err != nil {
		return nil, err
	}
	granted := make([]Granted, len(groups))
	for i, group := range groups {
		for _, part := range group {
			if !part.passed {
				granted[i] = Granted{part.pool, part.op.tasks[0].result}
			}
		}
	}
	return granted, nil
}

func wholeOp(ctx context.Context, tasks ...task) *op { return &op{ctx: ctx, tasks: tasks, whole: true} }

// ReleaseTogether frees all that the owner holds in these pools, in one commit, and returns what that was, in the order of the pools; a pool
// in which it holds nothing has the zero Allocation.
//
// Errors: [ErrNotFound] if the owner holds nothing in any of them; otherwise as for [AllocateTogether]. Cost: one commit, and one read for
// each pool.
func ReleaseTogether(ctx context.Context, owner string, pools ...*Pool) ([]Allocation, error) {
	released, err := releaseTogether(ctx, owner, pools)
	var inner *Error
	if err == nil || errors.As(err, &inner) {
		return released, err
	}
	return nil, &Error{Op: "release together", Owner: owner, Err: storeError(err)}
}

func releaseTogether(ctx context.Context, owner string, pools []*Pool) ([]Allocation, error) {
	if err := validateOwner(owner); err != nil {
		return nil, err
	}
	if len(pools) == 0 {
		return nil, invalid("a release in several pools names no pool")
	}
	groups := make([][]*jointPart, len(pools))
	for i, p := range pools {
		groups[i] = []*jointPart{newPart(p, wholeOp(ctx, task{kind: taskRelease, owner: owner, ifHeld: true}))}
	}
	j := newJoint(groups...)
	err := j.run(ctx)
	j.observe(CallRelease, owner, err)
	if err != nil {
		return nil, err
	}
	released, found := make([]Allocation, len(pools)), false
	for i, group := range groups {
		released[i] = group[0].op.tasks[0].result
		found = found || released[i].Owner != ""
	}
	if !found {
		return nil, ErrNotFound
	}
	return released, nil
}
