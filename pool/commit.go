package pool

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"time"

	"github.com/ipalloc/ipalloc/store"
)

// How a change gets into a store.
//
// Each call becomes an op in the pool's queue. Who finds nobody leading leads: it takes what is in the queue as one batch, plans
// all of it in the ledger, and commits it. When its own op is done it hands the lead to the first that still waits.
//
// A commit that fails is undone in the ledger, and what it says is learnt: after a conflict the ledger takes the new head; where an
// owner's record existed, that owner is answered from it. The ops that are not done go back to the front of the queue.
//
// A plan stands only if the head is still the one that it was made on, because that is what the store checks. So all that is read
// on the way (an owner's record, a piece) needs no guard of its own, provided that it was read after that head.

const (
	// maxBatch is how many tasks are committed together at most. A store that cannot take as many makes it less.
	maxBatch = 4096
	// maxHeld is how many records a handle remembers, to change them without reading.
	maxHeld = 1 << 16
)

// op is a call on its way into the store.
type op struct {
	ctx   context.Context
	tasks []task                      // no two of one owner
	whole bool                        // all tasks are done in one commit, or none
	run   func(context.Context) error // for an exclusive op, without tasks: what to do while nobody else commits

	done bool
	err  error
	wake chan struct{} // when it is done, or its turn to lead has come; nil until it has to wait

	attempts  int  // commits that came to nothing
	uncertain bool // one of these may have taken effect, or may yet
}

// finish ends the op, and those of its tasks that have not ended, with an error or with none.
func (o *op) finish(err error) {
	o.done, o.err = true, err
	for i := range o.tasks {
		if t := &o.tasks[i]; !t.done {
			t.finish(err)
		}
	}
}

func (t *task) finish(err error) {
	t.done, t.err = true, err
	if err != nil {
		t.result = Allocation{}
	}
}

// do brings one task to its end.
func (p *Pool) do(ctx context.Context, t task) (Allocation, error) {
	if err := ctx.Err(); err != nil {
		return Allocation{}, err
	}
	if p.store == nil {
		return p.doInMemory(ctx, &t)
	}
	o := &op{ctx: ctx, tasks: []task{t}}
	if err := p.submit(o); err != nil {
		return Allocation{}, err
	}
	return o.tasks[0].result, o.tasks[0].err
}

// submit brings an op to its end.
func (p *Pool) submit(o *op) error {
	p.mu.Lock()
	p.queue = append(p.queue, o)
	if !p.leading {
		p.leading = true
		p.mu.Unlock()
		p.lead(o)
		return o.err
	}
	o.wake = make(chan struct{}, 1)
	p.mu.Unlock()
	select {
	case <-o.wake:
	case <-o.ctx.Done():
		if p.withdraw(o) {
			return o.ctx.Err()
		}
		<-o.wake // it is being committed
	}
	if !o.done {
		p.lead(o)
	}
	return o.err
}

// withdraw takes an op out of the queue, and hands the lead on if it was just given it. It is false if the op is being
// committed.
func (p *Pool) withdraw(o *op) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, waiting := range p.queue {
		if waiting == o && !o.uncertain {
			p.queue = append(p.queue[:i], p.queue[i+1:]...)
			select {
			case <-o.wake:
				p.handOver()
			default:
			}
			return true
		}
	}
	return false
}

// handOver gives the lead to the first op that waits. The caller leads and holds p.mu.
func (p *Pool) handOver() {
	if len(p.queue) == 0 {
		p.leading = false
		return
	}
	p.queue[0].wake <- struct{}{}
}

// lead commits batches until own is done.
func (p *Pool) lead(own *op) {
	for !p.round(own) {
		p.backOff(own.ctx, own.attempts)
	}
}

// round tries to commit one batch, tells those who wait for it, and hands the lead over if own is done. If the store, the clock or
// another piece of the caller's code panics, the rest of the batch fails, the lead goes on, and so does the panic.
func (p *Pool) round(own *op) bool {
	p.gather()
	batch := p.nextBatch()
	returned := false
	defer func() {
		if !returned {
			p.ledger = nil
			p.unsettled = p.head.Revision
			p.failAll(batch, fmt.Errorf("%w: a panic while committing", store.ErrUnknown))
			p.endRound(own, batch)
		}
	}()
	p.attempt(batch)
	returned = true
	p.endRound(own, batch)
	return own.done
}

// gather lets the callers come back who were in the last round or waiting for it, so that they share one commit instead of taking
// turns in two. It does not wait for what does not come.
func (p *Pool) gather() {
	const patience = 256 // yields; much less than a commit takes
	for range patience {
		p.mu.Lock()
		all := len(p.queue) >= p.company
		p.mu.Unlock()
		if all {
			return
		}
		runtime.Gosched()
	}
}

// endRound wakes those whose ops are done, puts the others back to the front of the queue, and hands the lead over if own is
// done.
func (p *Pool) endRound(own *op, batch []*op) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var left []*op
	for _, o := range batch {
		switch {
		case !o.done:
			left = append(left, o)
		case o != own:
			o.wake <- struct{}{}
		}
	}
	p.company = min(len(batch)+len(p.queue), p.maxBatch)
	p.queue = append(left, p.queue...)
	if own.done {
		p.handOver()
	}
}

// nextBatch takes ops from the queue: no two for one owner, and an exclusive one alone.
func (p *Pool) nextBatch() []*op {
	p.mu.Lock()
	defer p.mu.Unlock()
	var batch, left []*op
	clear(p.planning)
	tasks := 0
	for i, o := range p.queue {
		if tasks >= p.maxBatch || len(batch) > 0 && (o.run != nil || tasks+len(o.tasks) > p.maxBatch) {
			left = append(left, p.queue[i:]...)
			break
		}
		if !p.reserve(o) {
			left = append(left, o)
			continue
		}
		tasks += len(o.tasks)
		batch = append(batch, o)
		if o.run != nil {
			left = append(left, p.queue[i+1:]...)
			break
		}
	}
	p.queue = left
	return batch
}

// reserve notes the owners of an op for this batch. It is false if one of them is there already.
func (p *Pool) reserve(o *op) bool {
	for i := range o.tasks {
		if !o.tasks[i].done && p.planning[o.tasks[i].owner] != nil {
			return false
		}
	}
	for i := range o.tasks {
		if !o.tasks[i].done {
			p.planning[o.tasks[i].owner] = o
		}
	}
	return true
}

// backOff waits before another attempt, longer the more attempts have come to nothing, and not at all before the first one or if there is to be
// no other. It ends early with the context.
func (p *Pool) backOff(ctx context.Context, attempts int) {
	if attempts == 0 || attempts >= p.options.Attempts {
		return
	}
	longest := p.options.Backoff << min(attempts-1, 6)
	timer := time.NewTimer(time.Duration(fraction(p.options.Random()) * float64(longest)))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// fraction makes a random number one from 0 up to but without 1.
func fraction(n uint64) float64 { return float64(n>>11) / (1 << 53) }

// attempt tries once to bring a batch to its end. Ops that it does not finish want another try.
func (p *Pool) attempt(batch []*op) {
	for _, o := range batch {
		p.giveUp(o)
	}
	// What has begun is not to be cut short by the one call that happens to lead.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(batch[0].ctx), p.options.CommitTimeout)
	defer cancel()
	if first := batch[0]; first.run != nil {
		if !first.done {
			first.finish(first.run(ctx))
		}
		return
	}
	if err := p.plan(ctx, batch); err != nil {
		p.failAll(batch, err)
		return
	}
	if err := p.commit(ctx, batch); err != nil {
		// What was refused after what others planned, which has not come about, wants another try.
		planned := slices.DeleteFunc(slices.Clone(batch), (*op).refused)
		p.failAll(planned, err)
	}
}

// refused tells whether some task of the op cannot be done.
func (o *op) refused() bool {
	return slices.ContainsFunc(o.tasks, func(t task) bool { return !t.done && t.refusal != nil })
}

// giveUp finishes an op that has been tried often enough, or whose caller has gone before anything was tried.
func (p *Pool) giveUp(o *op) {
	switch {
	case o.done:
	case o.attempts >= p.options.Attempts && o.uncertain:
		o.finish(fmt.Errorf("%w: it could not be found out in %d attempts", store.ErrUnknown, o.attempts))
	case o.attempts >= p.options.Attempts:
		o.finish(fmt.Errorf("%w: %d attempts", ErrBusy, o.attempts))
	case o.ctx.Err() != nil && !o.uncertain:
		o.finish(o.ctx.Err())
	}
}

// failAll finishes all of a batch that is not done. An op of which an earlier commit may have taken effect still says so.
func (p *Pool) failAll(batch []*op, err error) {
	for _, o := range batch {
		switch {
		case o.done:
		case o.uncertain && !errors.Is(err, store.ErrUnknown):
			o.finish(fmt.Errorf("%w, and then: %w", store.ErrUnknown, err))
		default:
			o.finish(err)
		}
	}
}

// plan does in the ledger what the ops ask for. What cannot be done is said only when the head is found unchanged after all that was
// read on the way, so that all of it was true at one moment.
func (p *Pool) plan(ctx context.Context, batch []*op) error {
	if p.ledger == nil {
		if err := p.refresh(ctx); err != nil {
			return err
		}
	}
	if err := p.fence(ctx); err != nil {
		return err
	}
	for range p.options.Attempts {
		doubtful, err := p.planAll(ctx, batch)
		if err != nil {
			p.ledger.undo(mark{})
			return err
		}
		if !doubtful {
			return nil
		}
		head, err := getHead(ctx, p.store, p.name)
		if err == nil && head.Revision == p.head.Revision {
			return nil
		}
		p.ledger.undo(mark{})
		if err == nil {
			err = p.adopt(ctx, head)
		}
		if err != nil {
			p.ledger = nil
			return err
		}
	}
	return fmt.Errorf("%w: the head was another one each of %d times", ErrBusy, p.options.Attempts)
}

// fence sees to it that no earlier commit of this handle, whose outcome was unknown, can take effect any more: without that an
// answer that needs no commit could be untrue a moment later. If the head is still the one of that commit, it is committed again as
// it is, for a new revision.
func (p *Pool) fence(ctx context.Context) error {
	if p.unsettled == 0 || p.head.Revision != p.unsettled {
		p.unsettled = 0
		return nil
	}
	head, err := p.commitOne(ctx, p.head, nil)
	var conflict *store.ConflictError
	switch {
	case err == nil:
		p.head = head
	case !errors.As(err, &conflict):
		return err
	case conflict.Current.Revision == 0:
		p.ledger = nil
		return ErrNoPool
	default:
		if err := p.adopt(ctx, conflict.Current); err != nil {
			return err
		}
	}
	p.unsettled = 0
	return nil
}

// planAll does that once. It tells whether any task is refused for a reason that another head may not have.
func (p *Pool) planAll(ctx context.Context, batch []*op) (doubtful bool, err error) {
	p.time, p.room = p.now(), p.maxBatch
	clear(p.written)
	for _, o := range batch {
		if o.done {
			continue
		}
		if o.whole {
			err = p.planWhole(ctx, o)
		} else {
			err = p.planOp(ctx, o)
		}
		if err != nil {
			return false, err
		}
		for i := range o.tasks {
			t := &o.tasks[i]
			doubtful = doubtful || !t.done && t.refusal != nil && !t.sure
		}
	}
	return doubtful, nil
}

// planWhole plans all tasks of an op, or none.
func (p *Pool) planWhole(ctx context.Context, o *op) error {
	start := p.ledger.mark()
	err := p.planOp(ctx, o)
	if err == nil && o.refusal() != nil {
		// Perhaps what is in the way was planned for an owner who holds something already.
		var more bool
		if more, err = p.fetchRest(ctx, o); err == nil && more {
			p.ledger.undo(start)
			o.unplan(p)
			err = p.planOp(ctx, o)
		}
	}
	if err == nil && (o.refusal() != nil || o.later()) {
		p.ledger.undo(start)
		o.unplan(p)
	}
	return err
}

// fetchRest reads the records of those owners of the op that were not read for this plan. It is false if there are none.
func (p *Pool) fetchRest(ctx context.Context, o *op) (more bool, err error) {
	for i := range o.tasks {
		if t := &o.tasks[i]; !t.fetched {
			more = true
			if err := p.fetch(ctx, t); err != nil {
				return more, err
			}
		}
	}
	for i := range o.tasks {
		o.tasks[i].fresh = more // for the plan that comes next, if one does
	}
	return more, nil
}

// planOp plans the tasks of an op; if they need not be done together, as many of them as there is room for.
func (p *Pool) planOp(ctx context.Context, o *op) error {
	p.current = o
	for i := range o.tasks {
		t := &o.tasks[i]
		if t.done {
			continue
		}
		t.reset()
		if t.later = p.room <= 0 && !o.whole; t.later {
			continue
		}
		if err := p.planNext(ctx, t); err != nil {
			return err
		}
		if !t.later {
			p.room--
		}
	}
	return nil
}

// unplan drops the plan of an op, which has been undone in the ledger.
func (o *op) unplan(p *Pool) {
	for i := range o.tasks {
		for _, w := range o.tasks[i].writes {
			delete(p.written, w.holding.key(p.name))
		}
		o.tasks[i].writes = nil
	}
}

// planNext plans one task. An error means that nothing can be planned.
func (p *Pool) planNext(ctx context.Context, t *task) error {
	if p.store == nil || t.owner == "" {
		t.fetched = true // all is in p.held, or nothing is asked for
	}
	if _, known := p.held[t.owner]; known == (t.kind == taskAllocate) && !t.fetched {
		if err := p.fetch(ctx, t); err != nil {
			return err
		}
	}
	err := p.planTask(ctx, t, p.held[t.owner])
	if (err != nil || len(t.writes) == 0) && !t.fetched {
		// Perhaps the owner's record is another than this handle knows, or there is one; and no commit would tell.
		if err := p.fetch(ctx, t); err != nil {
			return err
		}
		t.later = false
		err = p.planTask(ctx, t, p.held[t.owner])
	}
	switch {
	case err == nil:
		for _, w := range t.writes {
			p.written[w.holding.key(p.name)] = true
		}
	case !isRefusal(err):
		return err
	case t.later && t.waits < maxWaits:
		t.waits++
	default:
		t.refusal, t.later = err, false
	}
	return nil
}

// maxWaits is how often a task is put off for others in its batch. Two could want what is left of each other's for ever.
const maxWaits = 3

// isRefusal tells whether a task failed because of what it asks for, and not because the store could not be read.
func isRefusal(err error) bool {
	for _, refusal := range []error{
		ErrInvalid, ErrExhausted, ErrTaken, ErrNotInPool, ErrFamily, ErrHeld, ErrScope, ErrNotFound, ErrGeneration, ErrInUse, ErrCorrupt,
	} {
		if errors.Is(err, refusal) {
			return true
		}
	}
	return false
}

// fetch reads the record of the task's owner. That is needed to change what this handle does not know, to be sure that what it
// does know is still held, and before a task is refused.
func (p *Pool) fetch(ctx context.Context, t *task) error {
	record, err := p.store.Get(ctx, store.Key{Kind: store.KindAllocation, Pool: p.name, Name: t.owner})
	switch {
	case err == nil:
		h, err := holdingOf(record)
		if err != nil {
			return err
		}
		p.remember(h)
	case errors.Is(err, store.ErrNotFound):
		delete(p.held, t.owner)
	default:
		return err
	}
	t.fetched = true
	return nil
}

func (p *Pool) remember(h *holding) {
	if _, known := p.held[h.Owner]; !known && len(p.held) >= maxHeld {
		for owner := range p.held {
			delete(p.held, owner)
			break
		}
	}
	p.held[h.Owner] = h
}

// commit writes what has been planned, and finishes the ops that this settles.
func (p *Pool) commit(ctx context.Context, batch []*op) error {
	next, err := p.prepare(batch)
	if err != nil {
		p.ledger.undo(mark{})
		return err
	}
	if next.change.Writes == nil {
		p.settleAll(batch)
		return nil
	}
	head, err := p.commitOne(ctx, next.change.Head, next.change.Writes)
	if err != nil {
		p.ledger.undo(mark{})
		return p.learn(ctx, batch, err)
	}
	p.committed(head, next)
	p.takeMore()
	p.settleAll(batch)
	return nil
}

// prepared is a change of the pool that is ready to be committed.
type prepared struct {
	change store.Change
	pieces [][]piece
}

// prepare makes of what has been planned the change to commit. It has no writes if nothing is to be written.
func (p *Pool) prepare(batch []*op) (prepared, error) {
	d := p.draft()
	for _, o := range batch {
		for i := range o.tasks {
			if o.tasks[i].done {
				continue
			}
			if err := d.add(o.tasks[i].writes); err != nil {
				return prepared{}, err
			}
		}
	}
	if len(d.writes) == 0 {
		return prepared{}, nil
	}
	return p.finishDraft(p.ledger, d)
}

func (p *Pool) draft() *draft { return &draft{pool: p.name, base: p.head.Revision, parent: p.parent} }

// add appends the writes of a task.
func (d *draft) add(writes []write) error {
	for _, w := range writes {
		if w.op == store.Delete {
			d.writes = append(d.writes, store.Write{Op: w.op, Record: store.Record{Key: w.holding.key(d.pool)}})
			continue
		}
		record, err := w.holding.record(d.pool)
		if err != nil {
			return err
		}
		d.writes = append(d.writes, store.Write{Op: w.op, Record: record})
	}
	return nil
}

// finishDraft makes the change that replaces the head by what l has.
func (p *Pool) finishDraft(l *ledger, d *draft) (prepared, error) {
	data, pieces, err := l.nextHead(d)
	head := p.head
	head.Data = data
	return prepared{store.Change{Head: head, Writes: d.writes}, pieces}, err
}

// committed says that the change that was prepared has been committed.
func (p *Pool) committed(head store.Record, next prepared) {
	p.ledger.committed(next.pieces)
	p.head = head
}

func (p *Pool) settleAll(batch []*op) {
	for _, o := range batch {
		if !o.done {
			p.settle(o)
		}
	}
}

// settle finishes an op, or as many tasks of it as had a plan that has been committed with those before it.
func (p *Pool) settle(o *op) {
	if o.whole {
		if err := o.refusal(); err != nil {
			o.finish(err)
			return
		}
		if o.later() {
			return
		}
	}
	open := false
	for i := range o.tasks {
		switch t := &o.tasks[i]; {
		case t.done:
		case t.later:
			open = true
		case t.refusal != nil:
			t.finish(t.refusal)
		default:
			p.settleTask(t)
		}
	}
	o.done, o.attempts = !open, 0
}

// later tells whether some task of the op has no plan yet.
func (o *op) later() bool {
	return slices.ContainsFunc(o.tasks, func(t task) bool { return t.later })
}

// refusal is that of the first task that has one.
func (o *op) refusal() error {
	for i := range o.tasks {
		if o.tasks[i].refusal != nil {
			return o.tasks[i].refusal
		}
	}
	return nil
}

// settleTask finishes a task whose plan has been committed, if there was something to commit.
func (p *Pool) settleTask(t *task) {
	for _, w := range t.writes {
		if w.holding.Generation == 0 {
			w.holding.Generation = p.head.Revision
		}
		switch {
		case w.holding.stray:
		case w.op == store.Delete:
			delete(p.held, w.holding.Owner)
		default:
			p.remember(w.holding)
		}
	}
	if t.result.Owner != "" && t.result.Generation == 0 {
		t.result.Generation = p.head.Revision
	}
	t.result = t.result.clone()
	t.finish(nil)
}

// learn takes from a failed commit what the next attempt needs. It returns an error if there is no point in one.
func (p *Pool) learn(ctx context.Context, batch []*op, err error) error {
	if errors.Is(err, store.ErrTooLarge) && p.takeLess(batch) {
		return nil
	}
	for _, o := range batch {
		o.attempts++
	}
	var conflict *store.ConflictError
	var exists *store.ExistsError
	switch {
	case errors.As(err, &conflict):
		if conflict.Current.Revision == 0 {
			p.ledger = nil
			return ErrNoPool
		}
		return p.adopt(ctx, conflict.Current)
	case errors.As(err, &exists):
		return p.takeNote(batch, exists.Records)
	case errors.Is(err, store.ErrUnknown):
		return p.findOut(ctx, batch, err)
	default:
		return err
	}
}

// takeLess makes the next batch smaller than one that was too large. It is false if that is not possible.
func (p *Pool) takeLess(batch []*op) bool {
	tasks := countPlanned(batch)
	switch t := &batch[0].tasks[0]; {
	case tasks > 1 && !(len(batch) == 1 && batch[0].whole):
		p.maxBatch, p.full = tasks/2, 0
		return true
	case tasks == 1 && t.kind == taskReap && len(t.writes) > 1:
		t.limit = len(t.writes) / 2
		return true
	}
	return false
}

// takeMore lets batches grow again, some time after one was too large: perhaps it had larger records than most.
func (p *Pool) takeMore() {
	const patience = 32 // full batches
	if p.maxBatch == maxBatch || p.room > 0 {
		return
	}
	if p.full++; p.full >= patience {
		p.maxBatch, p.full = min(2*p.maxBatch, maxBatch), 0
	}
}

// countPlanned is how many tasks have something to write.
func countPlanned(batch []*op) int {
	n := 0
	for _, o := range batch {
		for i := range o.tasks {
			if !o.tasks[i].done && len(o.tasks[i].writes) > 0 {
				n++
			}
		}
	}
	return n
}

// takeNote remembers the records that owners have already, for the next attempt.
func (p *Pool) takeNote(batch []*op, records []store.Record) error {
	for _, record := range records {
		if record.Kind != store.KindAllocation {
			return fmt.Errorf("%w: the record %v is there already", ErrCorrupt, record.Key)
		}
		h, err := holdingOf(record)
		if err != nil {
			return err
		}
		p.remember(h)
		for _, o := range batch {
			for i := range o.tasks {
				t := &o.tasks[i]
				t.fresh = t.fresh || t.owner == h.Owner
			}
		}
	}
	return nil
}

// findOut is for a commit that may have taken effect. It reads the head, so that the next attempt sees what became of it: an owner
// that was granted something finds its record, and one that was released finds none.
func (p *Pool) findOut(ctx context.Context, batch []*op, cause error) error {
	for _, o := range batch {
		for i := range o.tasks {
			t := &o.tasks[i]
			if t.done || len(t.writes) == 0 {
				continue
			}
			o.uncertain = true
			if t.kind == taskRelease {
				t.releasing = t.result.Generation
			}
		}
	}
	p.unsettled = p.head.Revision
	p.options.Logger.Warn("outcome of a commit is unknown, reading again", slog.String("pool", p.name), slog.Any("error", cause))
	p.ledger, p.held = nil, map[string]*holding{}
	if ctx.Err() != nil {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(context.WithoutCancel(ctx), p.options.CommitTimeout)
		defer cancel()
	}
	if err := p.refresh(ctx); err != nil {
		return fmt.Errorf("%w; reading again: %w", cause, err)
	}
	return nil
}

// refresh reads the head and brings the ledger up to it.
func (p *Pool) refresh(ctx context.Context) error {
	head, err := getHead(ctx, p.store, p.name)
	if err != nil {
		p.ledger = nil
		return err
	}
	return p.adopt(ctx, head)
}

// adopt brings the ledger up to a head that the store has now, or had a moment ago.
func (p *Pool) adopt(ctx context.Context, head store.Record) error {
	clear(p.held)
	for {
		again, err := p.load(ctx, head)
		if err != nil {
			p.ledger = nil
			return err
		}
		if !again {
			return nil
		}
		// A piece has gone: the head that named it has been replaced.
		newer, err := getHead(ctx, p.store, p.name)
		if err == nil && newer.Revision == head.Revision {
			err = fmt.Errorf("%w: the head of the pool names a piece of free space that is not there", ErrCorrupt)
		}
		if err != nil {
			p.ledger = nil
			return err
		}
		head = newer
	}
}

// load does that once. It is true if a piece of the head was not there.
func (p *Pool) load(ctx context.Context, head store.Record) (bool, error) {
	data, spec, err := parseHead(head)
	if err != nil {
		return false, err
	}
	// A store may have changed the white space of the spec's text.
	text, err := json.Marshal(spec)
	if err != nil {
		return false, err
	}
	foreign, err := parseRanges(data.Foreign)
	if err != nil {
		return false, badSpec(err)
	}
	if p.ledger == nil || !p.ledger.spec.sameAs(text, foreign) {
		if p.ledger, err = data.ledger(spec, p.options.Random); err != nil {
			return false, err
		}
	}
	encodings, err := p.fetchPieces(ctx, data)
	if errors.Is(err, store.ErrNotFound) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	for i, s := range p.ledger.spaces {
		if err := s.load(data.Spaces[i].Pieces, encodings); err != nil {
			return false, err
		}
	}
	p.head, p.parent, p.ledger.tallies = head, data.Parent, data.tallies()
	return false, nil
}

func (p *Pool) fetchPieces(ctx context.Context, data headData) (map[string][]byte, error) {
	var ids []string
	for i, s := range p.ledger.spaces {
		ids = s.missing(data.Spaces[i].Pieces, ids)
	}
	encodings := make(map[string][]byte, len(ids))
	for _, id := range ids {
		record, err := p.store.Get(ctx, store.Key{Kind: store.KindSpace, Pool: p.name, Name: id})
		if err != nil {
			return nil, err
		}
		var piece pieceData
		if err := json.Unmarshal(record.Data, &piece); err != nil {
			return nil, fmt.Errorf("%w: the piece %q of free space: %w", ErrCorrupt, id, err)
		}
		encodings[id] = piece.Free
	}
	return encodings, nil
}
