package pool

import (
	"context"

	"github.com/ipalloc/ipalloc/pool/internal/space"
)

// How a call of one task becomes true in a pool in memory, mostly: as its op would be, but without the way there. No
// other task is in its attempt, no commit of it fails, and all that it reads is true.

// isDirect reports whether a call of the task need not be an op: nobody is told of it, and no other pool takes part.
func (m *memory) isDirect(t *task) bool {
	return m.options.Observer == nil && t.delegate == nil && t.line == nil
}

// directly brings the task, which is for the claim if that is not nil, to its end in p. It reports false if the task
// depends on others after all; then nothing has changed.
func (m *memory) directly(ctx context.Context, p *Pool, t *task, claim *Claim) (a Allocation, done bool, err error) {
	frees := false
	a, done, err = m.planAndApply(ctx, p, t, claim, &frees)
	if frees && p.line.waits() {
		p.line.stir()
	}
	return a, done, err
}

func (m *memory) planAndApply(
	ctx context.Context, p *Pool, t *task, claim *Claim, frees *bool,
) (a Allocation, done bool, err error) {
	m.mu.Lock()
	defer m.endDirect()
	if err := ctx.Err(); err != nil {
		return a, true, err
	}
	d, s := &m.draft, m.known
	m.task = *t
	if claim != nil {
		m.claim = *claim
		m.task.claim = &m.claim
	}
	d.pool, s.around = p, around{attempt: &m.runner.attempt, draft: d}
	s.view.now, s.view.pool = now(m.options), p.name
	h, _, _ := m.holding(ctx, t.owner, true)
	m.planning = true
	out := &m.outcome
	s.view.plan(out, &m.task, s.rules.current(h), d.writes[:0])
	m.planning = false
	if out.verdict == verdictLater || out.verdict == verdictRefuse {
		return a, out.verdict == verdictRefuse, out.refusal
	}
	d.writes, *frees = out.writes, t.undoes() || len(out.writes) > 1
	m.apply(d)
	if a = out.result; !out.owned {
		a.unshare()
	}
	if a.Owner != "" && a.Generation == 0 {
		a.Generation = m.clock
	}
	return a, true, nil
}

// endDirect ends that, also after a panic in code of the caller's, such as its clock.
func (m *memory) endDirect() {
	if m.planning {
		m.known.space.Rollback(space.Mark{})
		m.planning = false
	}
	clear(m.draft.writes)
	m.draft.writes = m.draft.writes[:0]
	m.claim, m.outcome.refusal = Claim{}, nil
	m.unlock()
}
