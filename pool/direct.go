package pool

import (
	"context"
	"time"

	"github.com/ipalloc/ipalloc/pool/internal/space"
)

// How a call of one task becomes true in a pool in memory, mostly: as its op would be, but without the way there. No
// other task is in its attempt, no commit of it fails, and all that it reads is true.

// isDirect reports whether a call of the task need not be an op: no other pool takes part, and it waits for nothing.
func (t *task) isDirect() bool { return t.delegate == nil && t.line == nil }

// directly brings the task, which is for the claim if that is not nil, to its end in p. It reports false if the task
// depends on others after all; then nothing has changed.
func (m *memory) directly(
	ctx context.Context, p *Pool, t *task, claim *Claim, result *Allocation,
) (done bool, err error) {
	frees := false
	done, err = m.planAndApply(ctx, p, t, claim, result, &frees)
	if frees && p.line.waits() {
		p.line.stir()
	}
	return done, err
}

func (m *memory) planAndApply(
	ctx context.Context, p *Pool, t *task, claim *Claim, result *Allocation, frees *bool,
) (done bool, err error) {
	m.mu.Lock()
	defer m.endDirect()
	if err := ctx.Err(); err != nil {
		return true, err
	}
	attempt, d, s := &m.runner.attempt, &m.draft, m.known
	m.task = *t
	if claim != nil {
		m.claim = *claim
		m.task.claim = &m.claim
	}
	d.pool, s.around = p, around{attempt: attempt, draft: d}
	s.view.pool, attempt.now = p.name, time.Time{}
	h, _, _ := m.holding(ctx, t.owner, true)
	m.planning = true
	out := &m.outcome
	s.view.plan(out, &m.task, s.rules.current(h), d.writes[:0])
	if out.verdict == verdictLater || out.verdict == verdictRefuse {
		m.planning = false
		return out.verdict == verdictRefuse, out.refusal
	}
	d.writes, *frees = out.writes, t.undoes() || len(out.writes) > 1
	attempt.ctx, attempt.drafts = ctx, append(attempt.drafts, d)
	_ = m.commit(attempt) // which does not fail
	m.planning = false
	if *result = out.result; !out.owned {
		result.unshare()
	}
	if result.Owner != "" && result.Generation == 0 {
		result.Generation = m.clock
	}
	return true, nil
}

// endDirect ends that, also after a panic in code of the caller's, such as its clock or its observer.
func (m *memory) endDirect() {
	if m.planning {
		m.known.space.Rollback(space.Mark{})
		m.planning = false
	}
	a := &m.runner.attempt
	a.ctx, a.drafts = nil, a.drafts[:0]
	clear(m.draft.writes)
	m.draft.writes = m.draft.writes[:0]
	m.claim, m.outcome.refusal = Claim{}, nil
	m.unlock()
}
