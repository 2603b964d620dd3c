package pool

import (
	"bytes"
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
	// maxBatch is how many ops are committed together at most. A store that cannot take as many makes it less.
	maxBatch = 256
	// maxHeld is how many allocations a handle remembers, to release them without reading.
	maxHeld = 1 << 16
)

type opKind uint8

const (
	opAllocate opKind = iota
	opRelease
	opExclusive
)

// op is a call on its way into the store.
type op struct {
	ctx        context.Context
	kind       opKind
	owner      string
	claim      Claim
	generation int64                       // for opRelease
	run        func(context.Context) error // for opExclusive: what to do while nobody else commits

	done   bool
	result Allocation
	err    error
	wake   chan struct{} // when it is done, or its turn to lead has come; nil until it has to wait

	attempts  int   // commits that came to nothing
	uncertain bool  // one of these may have taken effect, or may yet
	releasing int64 // the generation that an uncertain commit was to release

	// The plan of this attempt.
	planned *Allocation // what is granted or released; nil if there is nothing to commit
	refusal error       // why nothing is, with the head as it is and after what the ops before this one do to it
	fetched bool        // whether the owner's record was just read, with its result in p.held
}

func (o *op) finish(a Allocation, err error) {
	o.done, o.result, o.err = true, a, err
}

// submit brings an op to its end.
func (p *Pool) submit(o *op) (Allocation, error) {
	p.mu.Lock()
	p.queue = append(p.queue, o)
	if !p.leading {
		p.leading = true
		p.mu.Unlock()
		p.lead(o)
		return o.result, o.err
	}
	o.wake = make(chan struct{}, 1)
	p.mu.Unlock()
	select {
	case <-o.wake:
	case <-o.ctx.Done():
		if p.withdraw(o) {
			return Allocation{}, o.ctx.Err()
		}
		<-o.wake // it is being committed
	}
	if !o.done {
		p.lead(o)
	}
	return o.result, o.err
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
		p.pause(own)
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

// nextBatch takes ops from the queue: no two of one owner, and an exclusive one alone.
func (p *Pool) nextBatch() []*op {
	p.mu.Lock()
	defer p.mu.Unlock()
	var batch, left []*op
	owners := make(map[string]bool, min(len(p.queue), p.maxBatch))
	for i, o := range p.queue {
		if len(batch) == p.maxBatch || o.kind == opExclusive && len(batch) > 0 {
			left = append(left, p.queue[i:]...)
			break
		}
		if owners[o.owner] {
			left = append(left, o)
			continue
		}
		owners[o.owner] = true
		batch = append(batch, o)
		if o.kind == opExclusive {
			left = append(left, p.queue[i+1:]...)
			break
		}
	}
	p.queue = left
	return batch
}

// pause waits before another attempt, longer after each conflict. It ends early with the context of the op that leads.
func (p *Pool) pause(own *op) {
	if own.attempts == 0 || own.attempts >= p.options.Attempts {
		return
	}
	longest := p.options.Backoff << min(own.attempts-1, 6)
	timer := time.NewTimer(time.Duration(p.options.Random() * float64(longest)))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-own.ctx.Done():
	}
}

// attempt tries once to bring a batch to its end. Ops that it does not finish want another try.
func (p *Pool) attempt(batch []*op) {
	for _, o := range batch {
		p.giveUp(o)
	}
	// What has begun is not to be cut short by the one call that happens to lead.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(batch[0].ctx), p.options.CommitTimeout)
	defer cancel()
	if batch[0].kind == opExclusive {
		if !batch[0].done {
			batch[0].finish(Allocation{}, batch[0].run(ctx))
		}
		return
	}
	if err := p.plan(ctx, batch); err != nil {
		p.failAll(batch, err)
		return
	}
	if err := p.commit(ctx, batch); err != nil {
		// An op that was refused after what others planned, which has not come about, wants another try.
		planned := slices.DeleteFunc(slices.Clone(batch), func(o *op) bool { return o.refusal != nil })
		p.failAll(planned, err)
	}
}

// giveUp finishes an op that has been tried often enough, or whose caller has gone before anything was tried.
func (p *Pool) giveUp(o *op) {
	switch {
	case o.done:
	case o.attempts >= p.options.Attempts && o.uncertain:
		o.finish(Allocation{}, fmt.Errorf("%w: it could not be found out in %d attempts", store.ErrUnknown, o.attempts))
	case o.attempts >= p.options.Attempts:
		o.finish(Allocation{}, fmt.Errorf("%w: %d attempts", ErrBusy, o.attempts))
	case o.ctx.Err() != nil && !o.uncertain:
		o.finish(Allocation{}, o.ctx.Err())
	}
}

// failAll finishes all of a batch that is not done. An op of which an earlier commit may have taken effect still says so.
func (p *Pool) failAll(batch []*op, err error) {
	for _, o := range batch {
		switch {
		case o.done:
		case o.uncertain && !errors.Is(err, store.ErrUnknown):
			o.finish(Allocation{}, fmt.Errorf("%w, and then: %w", store.ErrUnknown, err))
		default:
			o.finish(Allocation{}, err)
		}
	}
}

// plan does in the ledger what the ops ask for, and finishes those that need no commit. What cannot be done is said only when
// the head is found unchanged after all that was read on the way, so that all of it was true at one moment.
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
		refused, err := p.planAll(ctx, batch)
		if err != nil {
			p.ledger.undo(0)
			return err
		}
		if !refused {
			return nil
		}
		head, err := getHead(ctx, p.store, p.name)
		if err == nil && head.Revision == p.head.Revision {
			return nil
		}
		p.ledger.undo(0)
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
	head, err := p.store.Commit(ctx, p.head, nil)
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

// planAll does that once. It tells whether any op is refused.
func (p *Pool) planAll(ctx context.Context, batch []*op) (refused bool, err error) {
	for _, o := range batch {
		o.planned, o.refusal, o.fetched = nil, nil, false
	}
	for _, o := range batch {
		if o.done {
			continue
		}
		if _, known := p.held[o.owner]; known != (o.kind == opRelease) {
			if err := p.fetch(ctx, o); err != nil {
				return false, err
			}
		}
		err := p.planOne(o)
		if err != nil && !o.fetched {
			// Perhaps the owner's record is another than this handle knows, or there is one.
			if err := p.fetch(ctx, o); err != nil {
				return false, err
			}
			err = p.planOne(o)
		}
		switch {
		case err == nil:
		case o.kind == opRelease && (p.held[o.owner] == nil || errors.Is(err, ErrGeneration)):
			o.finish(Allocation{}, err) // it is the owner's record that says no, whatever the head is
		default:
			o.refusal, refused = err, true
		}
	}
	return refused, nil
}

// fetch reads the record of the op's owner. That is needed to release what this handle does not know, to be sure that what it
// does know is still held, and before an op is refused.
func (p *Pool) fetch(ctx context.Context, o *op) error {
	record, err := p.store.Get(ctx, store.Key{Kind: store.KindAllocation, Pool: p.name, Name: o.owner})
	switch {
	case err == nil:
		a := allocationOf(record)
		p.remember(&a)
	case errors.Is(err, store.ErrNotFound):
		delete(p.held, o.owner)
	default:
		return err
	}
	o.fetched = true
	return nil
}

func (p *Pool) remember(a *Allocation) {
	if len(p.held) >= maxHeld {
		for owner := range p.held {
			delete(p.held, owner)
			break
		}
	}
	p.held[a.Owner] = a
}

// planOne does one op in the ledger. An error means that it cannot be done with the head as it is known.
func (p *Pool) planOne(o *op) error {
	a := p.held[o.owner]
	if o.kind == opRelease {
		// Nothing tells an earlier commit that has released it from one that came too late, to what another process had
		// released. If the owner holds something again, it is to be released unless the call is for one generation.
		if o.uncertain && o.releasing != 0 && (a == nil || o.generation != 0 && a.Generation != o.releasing) {
			o.finish(o.result, nil)
			return nil
		}
		if err := checkRelease(a, o.generation); err != nil {
			return err
		}
		if err := p.ledger.release(a.Prefixes); err != nil {
			return err
		}
		o.planned = a
		return nil
	}
	if a != nil {
		result, err := answer(a, &o.claim, p.ledger.spec)
		if err == nil {
			o.finish(result, nil)
		}
		return err
	}
	prefixes, err := p.ledger.grant(&o.claim)
	if err != nil {
		return err
	}
	o.planned = &Allocation{Owner: o.owner, Prefixes: prefixes, Created: p.now()}
	return nil
}

// checkRelease tells whether a, what the owner holds, may be released as being of this generation.
func checkRelease(a *Allocation, generation int64) error {
	switch {
	case a == nil:
		return ErrNotFound
	case generation != 0 && a.Generation != generation:
		return fmt.Errorf("%w: the owner holds generation %d, not %d", ErrGeneration, a.Generation, generation)
	}
	return nil
}

// commit writes what has been planned, and finishes the ops that this settles.
func (p *Pool) commit(ctx context.Context, batch []*op) error {
	d := &draft{pool: p.name, base: p.head.Revision}
	for _, o := range batch {
		if o.planned != nil {
			d.writes = append(d.writes, o.write(p.name))
		}
	}
	if len(d.writes) == 0 {
		p.settleAll(batch)
		return nil
	}
	data, pieces, err := p.ledger.nextHead(d)
	if err != nil {
		p.ledger.undo(0)
		return err
	}
	head := p.head
	head.Data = data
	head, err = p.store.Commit(ctx, head, d.writes)
	if err != nil {
		p.ledger.undo(0)
		return p.learn(ctx, batch, err)
	}
	p.ledger.committed(pieces)
	p.head = head
	p.settleAll(batch)
	return nil
}

func (p *Pool) settleAll(batch []*op) {
	for _, o := range batch {
		if !o.done {
			p.settle(o)
		}
	}
}

func (o *op) write(pool string) store.Write {
	write := store.Write{Op: store.Create, Record: o.planned.record(pool)}
	if o.kind == opRelease {
		write.Op = store.Delete
	}
	return write
}

// settle finishes an op whose plan, and that of those before it, has been committed.
func (p *Pool) settle(o *op) {
	switch {
	case o.refusal != nil:
		o.finish(Allocation{}, o.refusal)
	case o.planned == nil:
	case o.kind == opRelease:
		delete(p.held, o.owner)
		o.finish(*o.planned, nil)
	default:
		o.planned.Generation = p.head.Revision
		p.remember(o.planned)
		o.finish(o.planned.clone(), nil)
	}
}

// learn takes from a failed commit what the next attempt needs. It returns an error if there is no point in one.
func (p *Pool) learn(ctx context.Context, batch []*op, err error) error {
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
		return p.answerAll(batch, exists.Records)
	case errors.Is(err, store.ErrTooLarge) && len(batch) > 1:
		p.maxBatch = len(batch) / 2
		return nil
	case errors.Is(err, store.ErrUnknown):
		return p.findOut(ctx, batch, err)
	default:
		return err
	}
}

// answerAll finishes the ops whose owners have records already.
func (p *Pool) answerAll(batch []*op, records []store.Record) error {
	for _, record := range records {
		if record.Kind != store.KindAllocation {
			return fmt.Errorf("%w: the record %v is there already", ErrCorrupt, record.Key)
		}
		a := allocationOf(record)
		p.remember(&a)
		for _, o := range batch {
			if o.owner == a.Owner && !o.done {
				o.finish(answer(&a, &o.claim, p.ledger.spec))
			}
		}
	}
	return nil
}

// findOut is for a commit that may have taken effect. It reads the head, so that the next attempt sees what became of it: an owner
// that was granted something finds its record, and one that was released finds none.
func (p *Pool) findOut(ctx context.Context, batch []*op, cause error) error {
	for _, o := range batch {
		if o.planned == nil {
			continue
		}
		o.uncertain = true
		if o.kind == opRelease {
			o.releasing, o.result = o.planned.Generation, o.planned.clone()
		}
	}
	p.unsettled = p.head.Revision
	p.options.Logger.Warn("outcome of a commit is unknown, reading again", slog.String("pool", p.name), slog.Any("error", cause))
	p.ledger, p.held = nil, map[string]*Allocation{}
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
	if p.ledger == nil || !bytes.Equal(p.ledger.spec.text, text) {
		if p.ledger, err = emptyLedger(spec); err != nil {
			return false, badSpec(err)
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
	p.head = head
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
