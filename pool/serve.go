package pool

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ipalloc/ipalloc/store"
)

const (
	// fewClaims is how many claims of one demand a try has at first. It doubles as long as all of them are granted.
	fewClaims = 16
	// lookUpEvery is how often the owners of claims that wait are looked up, if other handles change the pool: one of
	// them may have granted the same owner something.
	lookUpEvery = time.Second
)

// leading is the time in which one call leads a line.
type leading struct {
	pool *Pool
	line *line
	own  *waiter
}

// queue brings a call to its end in the line of the pool's handle.
func (p *Pool) queue(w *waiter) (Allocation, error) {
	leads := p.line.enter(w)
	if !leads {
		p.lookFor(w)
		leads = p.line.wait(w, func() { p.lookFor(w) })
	}
	if leads {
		g := leading{p, &p.line, w}
		g.run()
	}
	return w.result, w.err
}

// lookFor finds out whether the owner of a claim that waits holds something already.
func (p *Pool) lookFor(w *waiter) {
	if w.demand == nil || p.line.willLook(w) {
		return
	}
	if _, err := p.home.get(w.ctx, w.owner); !errors.Is(storeError(err), ErrNotFound) {
		p.line.lookUp(w)
	}
}

// release releases for one owner. While claims wait, it does so together with the grants that this makes possible.
func (p *Pool) release(ctx context.Context, t *task, result *Allocation) (err error) {
	if !p.line.waits() {
		return p.do(ctx, t, nil, result)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	*result, err = p.queue(newWaiter(ctx, *t))
	return err
}

// run leads until the own call has ended.
func (g *leading) run() {
	defer g.line.handOn(g.own)
	for g.own.ctx.Err() == nil && !g.ended() {
		switch {
		case g.isCourteous():
			g.giveAway()
		case g.isDue():
			g.try(true)
		default:
			g.knock()
			g.watch()
		}
	}
}

// ended reports whether the own call has.
func (g *leading) ended() bool {
	g.line.mu.Lock()
	defer g.line.mu.Unlock()
	return g.own.place == outOfLine
}

func (g *leading) isDue() bool {
	g.line.mu.Lock()
	defer g.line.mu.Unlock()
	return g.line.due()
}

// rest returns a context that ends when the own call's does, when the leader is roused, and when the time is over
// unless that is 0. It returns false if there is something to try already.
func (g *leading) rest(within time.Duration) (resting context.Context, end context.CancelFunc, ok bool) {
	g.line.mu.Lock()
	defer g.line.mu.Unlock()
	if g.line.due() {
		return nil, nil, false
	}
	if within > 0 {
		resting, end = context.WithTimeout(g.own.ctx, within)
	} else {
		resting, end = context.WithCancel(g.own.ctx)
	}
	g.line.interrupt = end
	return resting, end, true
}

// roused forgets that the leader waited, and reports whether it was roused.
func (g *leading) roused() bool {
	g.line.mu.Lock()
	defer g.line.mu.Unlock()
	was := g.line.interrupt == nil
	g.line.interrupt = nil
	return was
}

// watch waits until the pool changes, or something comes to an end that may be in the way, or the leader is roused.
func (g *leading) watch() {
	l, within := g.line, time.Duration(0)
	if l.unlooked {
		within = lookUpEvery
	}
	// Where calls of this handle come one after the other, each would cut a watch short that costs the store as much as
	// a commit does.
	if l.busy && !g.idle(min(commitsInPause*l.courtesy.pace, longestPause)) {
		return
	}
	resting, end, ok := g.rest(within)
	if !ok {
		return
	}
	defer end()
	err := g.pool.home.wait(resting, l.revision, l.next)
	roused := g.roused()
	l.busy = roused
	switch {
	case g.own.ctx.Err() != nil:
	case roused:
	case resting.Err() != nil: // nothing has happened for so long
		g.lookAll()
	case err != nil:
		g.fail(err)
	default:
		g.idle(l.courtesy.lets())
		g.changed()
	}
}

// idle does nothing for so long, and reports whether no call of this handle has come meanwhile.
func (g *leading) idle(within time.Duration) bool {
	if within <= 0 {
		return true
	}
	resting, end, ok := g.rest(within)
	if !ok {
		return false
	}
	defer end()
	<-resting.Done()
	return !g.roused()
}

// changed lets the claims be tried again, because the pool has changed or something in it has ended.
func (g *leading) changed() {
	l, now := g.line, g.pool.options.Clock()
	l.courtesy.vain++
	if !l.unlooked {
		l.unlooked, l.lookBy = true, now.Add(lookUpEvery)
	}
	if !now.Before(l.lookBy) {
		g.lookAll()
	}
	l.stir()
}

// lookAll lets the owners of all claims be looked up.
func (g *leading) lookAll() {
	g.line.unlooked = false
	g.line.lookAll()
	g.pool.lookFor(g.own)
}

// fail ends all claims: there is no point in waiting on.
func (g *leading) fail(err error) {
	l := g.line
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, w := range slices.Clone(l.claims) {
		l.end(w, Allocation{}, err)
	}
}

// try is one op for calls of the line, which share a commit: first the releases, and then the claims in the order of
// their arrival.
type try struct {
	op      *op
	calls   []*waiter
	blocked [][]*demand // by the call: demands before it of which not all claims are in the try
}

// errBehind refuses a claim because one before it might want what there is.
var errBehind = errors.New("an earlier claim comes first")

// try makes a try, with the claims or without them.
func (g *leading) try(claims bool) {
	ctx, cancel := context.WithCancel(g.own.ctx)
	defer cancel()
	t := g.take(ctx, cancel, claims)
	if len(t.calls) == 0 {
		return
	}
	err := fmt.Errorf("%w: a panic while committing", store.ErrUnknown)
	defer func() { g.settle(ctx, t, err) }()
	begin := g.pool.options.Clock()
	err = t.op.runAlone()
	if t.releases() > 0 {
		g.line.courtesy.learn(g.pool.options.Clock().Sub(begin))
	}
}

// take makes a try.
func (g *leading) take(ctx context.Context, cancel context.CancelFunc, claims bool) *try {
	l := g.line
	l.mu.Lock()
	defer l.mu.Unlock()
	t := &try{}
	l.stirred = false
	for _, w := range l.releases {
		if !t.has(w.owner) {
			t.calls = append(t.calls, w)
		}
	}
	if claims {
		l.choose(t)
	}
	steps := make([]step, len(t.calls))
	for i, w := range t.calls {
		w.place = inTry
		steps[i].task = w.task
		if w.demand == nil {
			continue
		}
		steps[i].line = &lineOrder{since: w.since, look: w.look, ahead: w.demand.last}
		for _, d := range t.blocked[i-t.releases()] {
			steps[i].line.behind = append(steps[i].line.behind, d.last)
		}
		w.demand.last = &steps[i].outcome
	}
	t.op = opOf(ctx, g.pool, false, steps)
	t.op.looks = g.pool.name != "" && t.releases() == 0
	if g.pool.options.Observer != nil {
		for _, w := range t.calls {
			t.op.callers = append(t.op.callers, w.ctx)
		}
	}
	l.abandon = cancel
	return t
}

// has reports whether a call of the owner is in the try.
func (t *try) has(owner string) bool {
	return slices.ContainsFunc(t.calls, func(w *waiter) bool { return w.owner == owner })
}

// releases is how many releases are in the try.
func (t *try) releases() int { return len(t.calls) - len(t.blocked) }

// choose adds claims to a try: of each demand the first ones, and those whose owners are to be looked up. The caller
// holds mu.
func (l *line) choose(t *try) {
	for _, d := range l.demands {
		d.taken, d.full, d.last = 0, false, nil
	}
	released := t.calls
	l.most = max(l.most, fewClaims)
	var full []*demand
	for _, w := range l.claims {
		d := w.demand
		switch {
		case w.blocked(), slices.ContainsFunc(released, func(r *waiter) bool { return r.owner == w.owner }):
			continue
		case d.taken >= l.most && !w.look:
			if !d.full {
				d.full = true
				full = append(full[:len(full):len(full)], d)
			}
			continue
		}
		d.taken++
		t.calls, t.blocked = append(t.calls, w), append(t.blocked, full)
	}
}

// settle ends the calls of a try that have come to their end, and lets the others wait on.
func (g *leading) settle(ctx context.Context, t *try, err error) {
	l := g.line
	l.mu.Lock()
	defer l.mu.Unlock()
	l.abandon = nil
	if len(t.blocked) > 0 {
		l.revision, l.next = 0, time.Time{}
	}
	granted, planned := 0, t.op.parts[0].plans()
	for i, w := range t.calls {
		s := &t.op.parts[0].steps[i]
		w.place = inLine
		failed := s.err
		if !s.done {
			failed = err
		}
		switch {
		case s.outcome.verdict == verdictWait && (failed == nil || planned && !t.op.uncertain):
			l.refused(w, s, failed)
		case failed == nil:
			l.end(w, s.result, nil)
			if w.demand != nil {
				granted++
			}
			continue
		case ctx.Err() != nil && errors.Is(failed, ctx.Err()) && !errors.Is(failed, store.ErrUnknown):
		default:
			l.end(w, Allocation{}, failed)
			continue
		}
		if w.leaving {
			l.end(w, Allocation{}, w.gone())
		}
	}
	if l.stirred { // perhaps in the same commit, after the claims had been refused
		l.reopen()
	}
	l.most = l.enough()
	if len(t.blocked) > 0 {
		l.courtesy.kept += t.releases()
	}
	if granted > 0 {
		l.courtesy.granted()
	}
}

// plans reports whether anything was planned for any step.
func (p *part) plans() bool {
	return slices.ContainsFunc(p.steps, func(s step) bool { return s.outcome.verdict != verdictWait })
}

// refused notes that a claim of a try waits on. The caller holds mu.
func (l *line) refused(w *waiter, s *step, failed error) {
	if errors.Is(s.outcome.refusal, errBehind) {
		return
	}
	d := w.demand
	if d.refusal == nil || !errors.As(s.outcome.refusal, new(*elsewhereError)) {
		d.refusal = s.outcome.refusal
	}
	if !s.done || failed != nil { // the commit with which it was planned came to nothing
		return
	}
	d.refused = true
	w.look = w.look && !s.line.look // it may have been asked for since the try was made
	if l.revision == 0 || s.result.Generation < l.revision {
		l.revision = s.result.Generation
	}
	if next := nextEnd(s.outcome.refusal); !next.IsZero() && (l.next.IsZero() || next.Before(l.next)) {
		l.next = next
	}
}

// enough is how many claims of a demand the next try is to have. The caller holds mu.
func (l *line) enough() int {
	for _, d := range l.demands {
		if d.full && !d.refused {
			return min(2*l.most, maxBatch)
		}
	}
	return fewClaims
}
