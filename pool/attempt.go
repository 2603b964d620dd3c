package pool

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"net/netip"
	"slices"
	"time"

	"go4.org/netipx"

	"github.com/ipalloc/ipalloc/pool/internal/space"
	"github.com/ipalloc/ipalloc/store"
)

// attempt is one try to commit a batch of ops: all that is planned in it takes effect together, or nothing does.
//
// A plan stands only if each head is still the one that it was made on: the commit checks that. What is
// read on the way (an owner's record, a piece of free space) therefore needs no guard of its own,
// provided that it was read after that head.
type attempt struct {
	ctx     context.Context // of what is read
	now     time.Time
	batch   []*op
	turn    store.Turn // in which it is committed; may be nil
	again   bool       // all of the batch were in an attempt that came to nothing
	moved   bool       // the heads have changed since it began
	drafts  []*draft   // of pools
	nets    []*network // that take part
	owners  owners
	room    int               // for how many more tasks
	took    time.Duration     // how long its commit took
	one     draft             // the first of drafts
	callers []context.Context // of whom an observer is told
	stats   []Stats           // that an observer is told
}

// draft is what an attempt plans in one pool.
type draft struct {
	pool    *Pool
	next    *state             // of a pool that gets another spec; nil if the state stays, but for its free space
	gone    bool               // the pool is to be deleted
	created time.Time          // when the pool is made, if it is
	head    string             // the state that its record comes into; empty if it stays
	touch   bool               // its head is to be committed even if nothing in it changes
	fence   bool               // the same, and nothing is to take effect after it that was sent before
	guard   bool               // the same as touch, if anything is committed
	writes  []write            // of records that hold addresses
	others  []store.Write      // of other records
	outside []netipx.IPRange   // what next holds outside of its ranges
	names   map[recordName]int // how many of the writes are of each record, once somebody has asked and there were many
	known   bool               // whether the pool's state is known to the attempt
	err     error              // why it is not
	sent    struct {           // of a commit of which an observer is told
		ctx      context.Context // which BeginCommit returned
		commit   Commit
		revision int64 // that it made; 0 if it failed
	}
}

// recordName names a record that holds addresses within its pool.
type recordName struct {
	name  string
	stray bool
}

func (h *holding) recordName() recordName {
	if h.stray {
		return recordName{h.named().String(), true}
	}
	return recordName{h.Owner, false}
}

// state is what the draft's pool is, or is to become.
func (d *draft) state() *state {
	if d.next != nil {
		return d.next
	}
	return d.pool.home.state()
}

// draft returns that of a pool, and adds it if there is none yet.
func (a *attempt) draft(p *Pool) *draft {
	for _, d := range a.drafts {
		if d.pool == p {
			return d
		}
	}
	d := &a.one
	if len(a.drafts) > 0 {
		d = &draft{}
	}
	*d = draft{pool: p, writes: d.writes[:0]}
	a.drafts = append(a.drafts, d)
	return d
}

// open returns the draft of the pool of that name in the store of p, which is read unless it takes part already.
func (a *attempt) open(p *Pool, name string) (*draft, error) {
	for _, d := range a.drafts {
		if d.pool.name == name {
			return d, nil
		}
	}
	other, err := p.home.neighbour(name)
	if err != nil {
		return nil, err
	}
	if err := other.home.refresh(a.ctx); err != nil {
		return nil, err
	}
	return a.draft(other), nil
}

// mark is a point of an attempt to go back to.
type attemptMark struct {
	drafts []draftMark
	nets   int
}

type draftMark struct {
	next                      *state
	gone, touch, fence, guard bool
	writes, others            int
	space                     space.Mark
}

// mark returns the present point.
func (a *attempt) mark() attemptMark {
	m := attemptMark{drafts: make([]draftMark, len(a.drafts)), nets: len(a.nets)}
	for i, d := range a.drafts {
		m.drafts[i] = d.mark()
	}
	return m
}

func (d *draft) mark() draftMark {
	m := draftMark{
		next: d.next, gone: d.gone, touch: d.touch, fence: d.fence, guard: d.guard,
		writes: len(d.writes), others: len(d.others),
	}
	if s := d.pool.home.state(); s != nil {
		m.space = s.space.Mark()
	}
	return m
}

// rollback goes back to a point. Drafts that have come since go.
func (a *attempt) rollback(to attemptMark) {
	for i, d := range a.drafts {
		var m draftMark
		if i < len(to.drafts) {
			m = to.drafts[i]
		}
		d.rollback(m)
	}
	clear(a.drafts[len(to.drafts):])
	a.drafts, a.nets = a.drafts[:len(to.drafts)], a.nets[:to.nets]
}

func (d *draft) rollback(to draftMark) {
	if s := d.pool.home.state(); s != nil {
		s.space.Rollback(to.space)
	}
	for _, w := range d.writes[to.writes:] {
		d.forgetName(w.holding.recordName())
	}
	clear(d.writes[to.writes:])
	d.next, d.writes, d.others = to.next, d.writes[:to.writes], d.others[:to.others]
	d.gone, d.touch, d.fence, d.guard = to.gone, to.touch, to.fence, to.guard
}

// add adds writes to the draft.
func (d *draft) add(writes []write) {
	d.writes = append(d.writes, writes...)
	if d.names != nil {
		d.countNames(writes)
	}
}

func (d *draft) countNames(writes []write) {
	for _, w := range writes {
		d.names[w.holding.recordName()]++
	}
}

// fewWrites is how many writes are looked through without counting their names.
const fewWrites = 8

// has reports whether the draft writes or deletes the record.
func (d *draft) has(name recordName) bool {
	if d.names == nil && len(d.writes) <= fewWrites {
		return anyOf(d.writes, name)
	}
	if d.names == nil {
		d.names = make(map[recordName]int, len(d.writes))
		d.countNames(d.writes)
	}
	return d.names[name] > 0
}

// forgetName takes note that the draft has one write less of a record.
func (d *draft) forgetName(name recordName) {
	if d.names == nil {
		return
	}
	if d.names[name]--; d.names[name] <= 0 {
		delete(d.names, name)
	}
}

// writing reports whether the draft writes or deletes the record of h.
func (d *draft) writing(h *holding) bool { return d.has(h.recordName()) }

// anyOf reports whether any of the writes is of the record.
func anyOf(writes []write, name recordName) bool {
	return slices.ContainsFunc(writes, func(w write) bool { return w.holding.recordName() == name })
}

// view is what a task of the op sees of the draft's pool.
func (a *attempt) view(d *draft, o *op) *view {
	s := d.state()
	s.around = around{a, d, o}
	s.view.pool = d.pool.name
	return &s.view
}

// around implements [surroundings] for a task of an op in the draft's pool.
type around struct {
	attempt *attempt
	draft   *draft
	op      *op
}

func (r *around) now() time.Time {
	if r.attempt.now.IsZero() { // of a call without an op, which needs it seldom
		r.attempt.now = now(&r.draft.pool.options)
	}
	return r.attempt.now
}

func (r *around) ending() iter.Seq2[*holding, error] {
	return r.draft.current(r.draft.pool.home.ending(r.attempt.ctx))
}

func (r *around) aside() iter.Seq2[*holding, error] {
	return r.draft.current(r.draft.pool.home.aside(r.attempt.ctx))
}

func (r *around) fresh() (*holding, []netip.Prefix) { return r.draft.pool.home.fresh() }

func (r *around) at(addr netip.Addr) (*holding, error) {
	home, rules := r.draft.pool.home, r.draft.state().rules
	h, err := home.at(r.attempt.ctx, addr)
	if h == nil && err == nil { // unless a record does not say yet what it has
		if twin := rules.moving.twin(addr); twin.IsValid() {
			h, err = home.at(r.attempt.ctx, twin)
		}
	}
	return rules.current(h), err
}

// current iterates over records as the rules of the draft's pool have them.
func (d *draft) current(records iter.Seq2[*holding, error]) iter.Seq2[*holding, error] {
	return func(yield func(*holding, error) bool) {
		for h, err := range records {
			if !yield(d.state().rules.current(h), err) {
				return
			}
		}
	}
}

func (r *around) busy(h *holding) busyness {
	switch other := r.attempt.asking(r.draft.pool, h); {
	case h.Child != "":
		return forbidden
	case r.draft.writing(h):
		return written
	case other == nil:
		return idle
	case other == r.op && r.op.whole:
		return mine
	default:
		return planned
	}
}

// asking is the op of the batch whose owner h is of; nil if there is none.
func (a *attempt) asking(p *Pool, h *holding) *op {
	if h.stray {
		return nil
	}
	return a.owners.find(p, h.Owner, a.batch)
}

// plan plans the ops of the batch. A refusal counts only if all that was read for it was true at one moment, so plan
// starts again until the heads are found unchanged afterwards.
func (a *attempt) plan(attempts int) error {
	for range attempts {
		refusal := a.planAll()
		same, err := a.confirm(refusal != nil)
		if err != nil || same {
			return cmp.Or(err, refusal)
		}
		a.moved = true
		a.rollback(attemptMark{})
	}
	return fmt.Errorf("%w: the head had changed each of %d times", ErrBusy, attempts)
}

// planAll plans each op of the batch, and then the claims that wait in lines. It returns what refuses an op with a plan
// of its own, which is alone.
func (a *attempt) planAll() (refusal error) {
	a.lookAhead()
	for _, o := range a.batch {
		if o.over {
			continue
		}
		err := a.ready(o)
		if err == nil {
			err = a.planOp(o)
		}
		switch {
		case err == nil:
		case o.plan != nil && isRefusal(err):
			refusal = err
		default:
			o.fail(err)
			if o.plan != nil {
				a.rollback(attemptMark{})
			}
		}
	}
	a.planLines()
	return refusal
}

// planLines plans the claims that wait, of all ops, so that they share what these free: those first that have waited
// longest.
func (a *attempt) planLines() {
	type claim struct {
		op   *op
		step *step
	}
	var claims []claim
	for _, o := range a.batch {
		if !o.over {
			o.some(func(s *step) bool {
				if s.line != nil {
					claims = append(claims, claim{o, s})
				}
				return false
			})
		}
	}
	if len(a.batch) > 1 {
		slices.SortStableFunc(claims, func(x, y claim) int { return x.step.line.since.Compare(y.step.line.since) })
	}
	for _, c := range claims {
		if err := a.planNext(c.op, c.step, a.draft(c.op.pools[0])); err != nil {
			c.step.outcome = outcome{verdict: verdictRefuse, refusal: err}
			c.step.finish(c.op.withDoubt(err))
		}
	}
}

// lookAhead reads at once what the plans of a batch in one pool will ask for. What cannot be read is read again, and
// fails, where it is needed.
func (a *attempt) lookAhead() {
	first := a.batch[0]
	if a.tasks() < 2 || first.plan != nil || len(first.pools) > 1 || a.ready(first) != nil {
		return
	}
	home, owners := first.pools[0].home, []string(nil)
	for _, o := range a.batch {
		if o.over || a.draft(first.pools[0]).isLate(o) {
			continue
		}
		o.some(func(s *step) bool {
			claims := s.kind == taskAllocate
			if s.owner != "" && (home.mustLook(s.owner, claims) || claims && home.mayLook(s.owner)) {
				owners = append(owners, s.owner)
			}
			return false
		})
	}
	home.lookUp(a.ctx, owners)
}

// ready makes the pools of an op known, and adds them to the attempt. A plan of the op's own looks at its pools itself.
func (a *attempt) ready(o *op) error {
	if o.plan != nil {
		return nil
	}
	for _, p := range o.pools {
		d := a.draft(p)
		if !d.known {
			// An earlier commit of this handle, of unknown outcome, may yet take effect on this head, or what it has
			// asked others for. Only another commit rules that out.
			d.known = true
			d.touch, d.fence, d.err = p.home.ready(a.ctx, a.again)
		}
		if d.err != nil {
			return d.err
		}
	}
	return nil
}

// planOp plans one op. It leaves nothing of one that cannot be done, unless that has a plan of its own, which is alone.
func (a *attempt) planOp(o *op) error {
	if o.plan != nil || o.size() == 1 {
		return a.planParts(o)
	}
	start := a.mark()
	err := a.planParts(o)
	if err == nil && o.whole && o.refusal() != nil && !o.allLooked() {
		// Perhaps what is in the way was planned for an owner that holds something already.
		a.rollback(start)
		if err = a.lookAll(o); err == nil {
			err = a.planParts(o)
		}
	}
	if err != nil || o.whole && o.unplanned() {
		a.rollback(start)
	}
	return err
}

func (a *attempt) planParts(o *op) error {
	if o.plan != nil {
		return o.plan(a)
	}
	var start attemptMark
	if o.repeats {
		start = a.mark()
	}
	for i := range o.parts {
		if err := a.planPart(o, &o.parts[i]); err != nil {
			return err
		}
	}
	if o.repeats {
		for i, m := range start.drafts {
			a.drafts[i].merge(m.writes)
		}
	}
	if len(o.pools) > 1 {
		for _, p := range o.pools { // if nothing is to be written in one of them, that must stay right until the others are
			a.draft(p).guard = true
		}
	}
	a.fenceAlternatives(o)
	return nil
}

// fenceAlternatives sees to it that what was sent before gives the owner of a fenced claim nothing in the other pools
// either from which it may have been granted.
func (a *attempt) fenceAlternatives(o *op) {
	for i := range o.parts {
		if part := &o.parts[i]; len(part.pools) > 1 && part.steps[0].isFenced() {
			for _, p := range part.pools {
				a.draft(p).fence = true
			}
		}
	}
}

// allLooked reports whether the records of all owners of the op were read for its plan.
func (o *op) allLooked() bool { return !o.some(func(s *step) bool { return !s.looked }) }

// lookAll reads the records of all owners of the op.
func (a *attempt) lookAll(o *op) error {
	for i := range o.parts {
		for j := range o.parts[i].steps {
			if s := &o.parts[i].steps[j]; !s.done {
				for _, p := range o.parts[i].pools {
					if _, _, err := p.home.holding(a.ctx, s.owner, true); err != nil {
						return err
					}
				}
			}
		}
	}
	return nil
}

// planPart plans a part in the pool in which its owner holds something, or else in the first one that has room.
func (a *attempt) planPart(o *op, part *part) error {
	if len(part.pools) == 1 {
		part.chosen = part.pools[0]
		return a.planSteps(o, part, a.draft(part.chosen))
	}
	candidates, err := a.sharing(part)
	if candidates == nil {
		candidates = a.ordered(part)
	}
	if err != nil {
		return err
	}
	for _, p := range part.pools {
		h, err := a.holdingIn(o, &part.steps[0], p)
		if err != nil {
			return err
		}
		if h.live() && !h.Expired(a.now) || h != nil && h.Reserved {
			candidates = []*Pool{p}
			break
		}
	}
	for _, part.chosen = range candidates {
		start := a.mark()
		if err := a.planSteps(o, part, a.draft(part.chosen)); err != nil {
			return err
		}
		refusal := part.refusal() // and not what refused a later part in an earlier plan of the op
		if refusal == nil {
			break
		}
		part.steps[0].outcome.refusal = part.chosen.failed("allocate", part.steps[0].owner, refusal)
		if !isElsewhere(refusal) {
			break
		}
		a.rollback(start)
	}
	return nil
}

// isElsewhere reports whether another pool may grant what this one refuses.
func isElsewhere(err error) bool {
	return isFull(err) || errors.Is(err, ErrCordoned) || errors.Is(err, ErrQuota)
}

// isFull reports whether another pool may have what this one has not.
func isFull(err error) bool {
	return errors.Is(err, ErrExhausted) || errors.Is(err, ErrTaken) || errors.Is(err, ErrNotInPool) ||
		errors.Is(err, ErrFamily)
}

// planSteps plans the steps of a part in one pool, but for claims that wait: all of them if they must be done together,
// else as many as there is room for.
func (a *attempt) planSteps(o *op, part *part, d *draft) error {
	for i := range part.steps {
		s := &part.steps[i]
		if s.done || s.line != nil {
			continue
		}
		if err := a.planNext(o, s, d); err != nil {
			return err
		}
	}
	return nil
}

// planNext plans a step if there is room for it.
func (a *attempt) planNext(o *op, s *step, d *draft) error {
	switch {
	case a.room <= 0 && !o.whole:
		s.outcome = outcome{verdict: verdictLater}
		return nil
	case d.gone: // with what an earlier step has released
		s.outcome = outcome{}
		if !s.optional {
			s.outcome = outcome{verdict: verdictRefuse, refusal: ErrNoPool}
		}
		return nil
	}
	err := a.planStep(o, s, d)
	if err == nil && s.outcome.verdict != verdictLater {
		a.room--
	}
	return err
}

// planStep plans one step. An error means that it could not be planned.
func (a *attempt) planStep(o *op, s *step, d *draft) error {
	if d.isLate(o) {
		s.outcome = notForOthers()
		return nil
	}
	if o.repeats {
		if h, ok := d.planned(s.owner); ok {
			s.looked = true // for the step before
			return a.planWith(o, s, d, h)
		}
	}
	h, looked, err := d.pool.home.holding(a.ctx, s.owner, false)
	if err == nil && (o.repeats || d.pool.home.mustLook(s.owner, s.kind == taskAllocate)) {
		h, looked, err = d.pool.home.holding(a.ctx, s.owner, true)
	}
	if err != nil {
		return err
	}
	if err := a.planWith(o, s, d, h); err != nil {
		return err
	}
	if !looked && s.outcome.verdict != verdictWrite && !s.waitsUnseen(o) {
		// Perhaps the owner's record is another than this handle knows, and no commit would tell.
		if h, looked, err = d.pool.home.holding(a.ctx, s.owner, true); err != nil {
			return err
		}
		if err := a.planWith(o, s, d, h); err != nil {
			return err
		}
	}
	s.looked = looked
	if s.outcome.verdict == verdictLater {
		if s.waits++; s.waits > maxWaits {
			s.outcome.verdict = s.refused(s.outcome.refusal)
		}
	}
	return nil
}

// planned is what the owner is to hold by the last write of the draft for it, nil for nothing. It reports false if
// there is no such write.
func (d *draft) planned(owner string) (*holding, bool) {
	if !d.has(recordName{owner, false}) {
		return nil, false
	}
	for _, w := range slices.Backward(d.writes) {
		if w.holding.recordName() == (recordName{owner, false}) {
			if w.op == store.Delete {
				return nil, true
			}
			return w.holding, true
		}
	}
	return nil, false
}

// holdingIn is what the owner of a step holds in one of its pools, after the steps before it.
func (a *attempt) holdingIn(o *op, s *step, p *Pool) (*holding, error) {
	if o.repeats {
		if h, ok := a.draft(p).planned(s.owner); ok {
			return h, nil
		}
	}
	h, _, err := p.home.holding(a.ctx, s.owner, true)
	return h, err
}

// merge makes one write of several for the same record, among those from the given one on. The store might not refuse
// it if the handle were mistaken about the record, so that must have been looked at.
func (d *draft) merge(from int) {
	last := map[recordName]int{}
	merged := d.writes[:from]
	for _, w := range d.writes[from:] {
		name := w.holding.recordName()
		i, again := last[name]
		if !again {
			last[name] = len(merged)
			merged = append(merged, w)
			continue
		}
		merged[i] = merged[i].then(w)
		d.forgetName(name)
	}
	clear(d.writes[len(merged):])
	d.writes = merged
}

// then is the one write that does what w does and then next, which is of the same record.
func (w write) then(next write) write {
	next.old, next.ended = w.old, w.ended
	switch {
	case next.op == store.Delete:
	case w.old == nil:
		next.op = store.Create
	default:
		next.op = store.Put
	}
	return next
}

// maxWaits is how often a step is put off until others in its batch are done. Without it, two steps that each want what
// the other may leave would wait for ever.
const maxWaits = 3

// planWith plans a step for an owner that holds h, nil if nothing, and adds what it writes to the draft.
func (a *attempt) planWith(o *op, s *step, d *draft, h *holding) error {
	h = d.state().rules.current(h)
	if s.releasing != 0 && (s.isUndone(h) || (s.generation != 0 || o.repeats) && h.Generation != s.releasing) {
		// Either an earlier commit of this call has released it, or another process had done so before; nothing tells
		// which. If the owner holds something again, that is released too, unless the call names a generation, or has other
		// steps of the same owner: these come later, and may have granted it. A step that was content to find nothing
		// to renew is content again, since that is what a later one may have granted.
		s.outcome = outcome{verdict: verdictDone, result: s.result}
		return nil
	}
	var start attemptMark
	delegates := s.delegate != nil || h != nil && h.Child != ""
	if o.guest && (delegates || h != nil && h.written > o.seen) { // delegating concerns other heads too
		s.outcome = notForOthers()
		return nil
	}
	if delegates {
		start = a.mark()
	}
	a.view(d, o).plan(&s.outcome, &s.task, h, d.writes[len(d.writes):])
	d.fence = d.fence || s.isFenced() && s.outcome.result.Generation != 0 // a new grant is in nobody's way: see isLate
	switch s.outcome.verdict {
	case verdictWrite:
		d.add(s.outcome.writes)
		if !delegates {
			break
		}
		if err := a.passOn(s, d); err != nil {
			a.rollback(start)
			if !isRefusal(err) {
				return err
			}
			s.outcome = outcome{verdict: verdictRefuse, refusal: err}
		}
	case verdictRefuse:
		if !isRefusal(s.outcome.refusal) {
			return s.outcome.refusal
		}
	}
	if s.undoes() && s.outcome.verdict != verdictRefuse { // which may be because what was read was not of one moment
		s.result = s.outcome.result
	}
	return nil
}

// isFenced reports whether the step is a claim that is met, so that nothing that was sent before may undo it.
func (s *step) isFenced() bool {
	return s.kind == taskAllocate && s.claim.Fenced &&
		(s.outcome.verdict == verdictDone || s.outcome.verdict == verdictWrite)
}

// passOn applies the outcome of the step to the pool that is delegated from the draft's pool, if it concerns one.
func (a *attempt) passOn(s *step, d *draft) error {
	switch {
	case s.outcome.delegated:
		return a.delegate(d, s.delegate, s.outcome.result)
	case s.outcome.released != nil:
		return a.takeFromChild(d, s.outcome.released)
	}
	return nil
}

// isRefusal reports whether a task failed because of what it asks for, and not because the store could not be read.
func isRefusal(err error) bool {
	for _, refusal := range []error{
		ErrInvalid, ErrExhausted, ErrTaken, ErrNotInPool, ErrFamily, ErrHeld, ErrShared, ErrScope, ErrCordoned, ErrQuota,
		ErrNotFound, ErrGeneration, ErrInUse, ErrExists, ErrOrphaned,
		ErrOverlap, ErrOutOfRange, ErrCorrupt, ErrNewerFormat,
	} {
		if errors.Is(err, refusal) {
			return true
		}
	}
	return false
}

// uncertain reports whether an earlier attempt of the op, which has a plan of its own, may have taken effect.
func (a *attempt) uncertain() bool { return a.batch[0].uncertain }

// confirm reports whether the refusals of the plan are certain: either they do not depend on the heads, or these are
// still the ones that the plan was made on. If they are not, the newer heads are known when it returns. refused tells
// that an op with a plan of its own is refused.
func (a *attempt) confirm(refused bool) (bool, error) {
	doubtful := refused || slices.ContainsFunc(a.batch, func(o *op) bool {
		return !o.over && !o.guest &&
			o.some(func(s *step) bool {
				return s.outcome.verdict == verdictRefuse && (o.repeats || !isSure(s.outcome.refusal))
			})
	})
	if !doubtful {
		return true, nil
	}
	same := true
	for _, d := range a.drafts {
		unchanged, err := d.pool.home.unchanged(a.ctx)
		if err != nil {
			return false, err
		}
		same = same && unchanged
	}
	for _, n := range a.nets {
		now, err := a.batch[0].pools[0].home.network(a.ctx, n.head.Pool)
		if err != nil {
			return false, err
		}
		same = same && now.head.Revision == n.head.Revision
	}
	return same, nil
}

// isSure reports whether a refusal follows from the owner's record alone.
func isSure(err error) bool {
	return errors.Is(err, ErrGeneration) || errors.Is(err, ErrNotFound) && !errors.Is(err, ErrNoPool)
}

// commit commits what has been planned, if anything has.
func (a *attempt) commit() error {
	return a.batch[0].pools[0].home.commit(a)
}

// hasChanges reports whether the plan is to be committed.
func (a *attempt) hasChanges() bool {
	return len(a.nets) > 0 || slices.ContainsFunc(a.drafts, func(d *draft) bool { return d.changes(false) })
}

// changes reports whether anything is to be committed in the draft's pool, others tells whether anything else is.
func (d *draft) changes(others bool) bool {
	return d.next != nil || d.gone || d.touch || d.fence || len(d.writes) > 0 || len(d.others) > 0 || others && d.guard
}

// committed records that the plan was committed, or that there was nothing to commit, and
// finishes the ops that this settles.
func (a *attempt) committed() {
	for _, o := range a.batch {
		if !o.over {
			o.accept()
		}
	}
}

// accept finishes an op whose plan is committed, or as many of its steps as have one.
func (o *op) accept() {
	if o.whole {
		if err := o.refusal(); err != nil {
			o.fail(err)
			return
		}
		if o.unplanned() {
			return
		}
	}
	for i := range o.parts {
		for j := range o.parts[i].steps {
			if s := &o.parts[i].steps[j]; !s.done {
				s.accept(o, o.parts[i].chosen)
			}
		}
	}
	o.attempts = 0
	if !o.some(func(*step) bool { return true }) {
		o.end()
	}
}

// accept finishes a step of an op, in the pool in which it was planned, unless it is still to be planned. What was
// refused after a commit of unknown outcome may have been granted by that, and have ended since.
func (s *step) accept(o *op, p *Pool) {
	switch s.outcome.verdict {
	case verdictLater:
	case verdictRefuse:
		s.finish(o.withDoubt(s.outcome.refusal))
	case verdictWait:
		s.result = Allocation{Generation: p.home.revision()} // as of which it was refused
		s.finish(nil)
	default:
		if s.result = s.outcome.result; !s.outcome.owned {
			s.result.unshare()
		}
		if s.result.Owner != "" && s.result.Generation == 0 {
			s.result.Generation = p.home.revision()
		}
		s.finish(nil)
	}
}

// tasks is how many tasks were planned.
func (a *attempt) tasks() int {
	n := 0
	for _, o := range a.batch {
		n += o.size()
	}
	return n
}

// learn takes from a failed commit what the next attempt needs, and fails the ops for which there is no point in one.
func (a *attempt) learn(err error) {
	drafts, nets := slices.Clone(a.drafts), slices.Clone(a.nets)
	a.rollback(attemptMark{})
	if errors.Is(err, store.ErrTooLarge) && a.takeLess(drafts) {
		return
	}
	if a.took > store.MaxTurn && a.tasks() > fewTasks {
		a.takeLess(drafts) // others did not wait any longer, and will not the next time
	}
	known, heads := false, headsOf(drafts, nets)
	for _, d := range drafts {
		known = d.pool.home.learn(a.ctx, err) || known
	}
	if errors.Is(err, store.ErrExists) && !known {
		err = fmt.Errorf("%w: a record that is new to the pool is there already: %w", ErrCorrupt, err)
	}
	for _, o := range a.batch {
		if o.over || o.guest {
			continue
		}
		o.attempts++
		o.heads, o.lost = heads, errors.Is(err, store.ErrConflict) && a.turn == nil
		switch {
		case errors.Is(err, store.ErrUnknown) && o.changes():
			o.doubt(o.pools[0].options.CommitTimeout, err)
		case !known && !errors.Is(err, store.ErrUnknown) && !errors.Is(err, store.ErrConflict):
			o.failPlanned(err)
		}
	}
}

// headsOf returns the keys of the heads that an attempt was about.
func headsOf(drafts []*draft, nets []*network) []store.Key {
	keys := make([]store.Key, 0, len(drafts)+len(nets))
	for _, d := range drafts {
		keys = append(keys, headKey(d.pool.name))
	}
	for _, n := range nets {
		keys = append(keys, n.head.Key)
	}
	return keys
}

// failPlanned fails what the op had planned. Its refusals do not count: they were planned on top of steps that have not
// taken effect, so they are planned again.
func (o *op) failPlanned(err error) {
	refused := func(s *step) bool { return s.outcome.verdict == verdictRefuse }
	if !o.some(refused) {
		o.fail(err)
		return
	}
	if o.whole {
		return
	}
	err = o.withDoubt(err)
	o.some(func(s *step) bool {
		if !refused(s) {
			o.err = err
			s.finish(err)
		}
		return false
	})
}

// takeLess makes the next batch smaller than one that was too large. It reports false if that is not possible.
func (a *attempt) takeLess(drafts []*draft) bool {
	tasks, first := 0, (*step)(nil)
	for _, o := range a.batch {
		if o.plan != nil || o.whole && len(a.batch) == 1 {
			return false
		}
		o.some(func(s *step) bool {
			if s.outcome.verdict == verdictWrite {
				tasks++
				first = s
			}
			return false
		})
	}
	switch {
	case tasks > 1:
		for _, d := range drafts {
			d.pool.home.limit(tasks / 2)
		}
		return true
	case tasks == 1 && first.kind == taskExpire && first.outcome.ended > 1:
		first.limit = first.outcome.ended / 2
		return true
	}
	return false
}
