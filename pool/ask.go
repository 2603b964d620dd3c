package pool

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/ipalloc/ipalloc/store"
)

// How handles commit for one another.
//
// A handle that waits for its turn at a store that is a [store.Grouper] leaves what its batch asks for. Whoever has the
// turn takes the asks of those who wait as guests into its own batch, plans all of it, and commits it together with the
// answers. What it does not answer (because it was refused, does not fit, or is in a form that it does not know) is
// tried by the asker itself, in its own turn. So an answer always says what was done.

// errServed says that a call was part of another handle's commit, of which the outcome is unknown.
var errServed = errors.New("another handle was committing it")

// askFormat is the version of asks and answers. Who finds another one does not answer.
const askFormat = 1

// askData is an ask: the ops of a batch.
type askData struct {
	Format int     `json:"v"`
	Ops    []askOp `json:"ops"`
}

type askOp struct {
	Whole bool      `json:"whole,omitempty"`
	Steps []askStep `json:"steps"`
}

type askStep struct {
	Kind       taskKind      `json:"kind"`
	Owner      string        `json:"owner"`
	Generation int64         `json:"generation,omitempty"`
	TTL        time.Duration `json:"ttl,omitempty"` // of the lease, or of the claim
	Optional   bool          `json:"optional,omitempty"`

	// Of a claim.
	Policy   FamilyPolicy      `json:"policy,omitempty"`
	Requests []askRequest      `json:"requests,omitempty"`
	Scope    string            `json:"scope,omitempty"`
	Fenced   bool              `json:"fenced,omitempty"`
	Labels   map[string]string `json:"labels,omitempty"`
}

type askRequest struct {
	Family Family        `json:"family,omitempty"`
	Bits   int           `json:"bits,omitempty"`
	Exact  *netip.Prefix `json:"exact,omitempty"`
	Band   string        `json:"band,omitempty"`
}

// answerData is the answer to an ask: what each step came to, in their order; null for one that was not done.
type answerData struct {
	Format int           `json:"v"`
	Steps  []*answerStep `json:"steps"`
}

type answerStep struct {
	Owner      string            `json:"owner,omitempty"` // empty if nothing is held
	Prefixes   []netip.Prefix    `json:"prefixes,omitempty"`
	Generation int64             `json:"generation,omitempty"` // 0 for the revision of the commit
	Created    time.Time         `json:"created,omitzero"`
	Expires    time.Time         `json:"expires,omitzero"`
	Scope      string            `json:"scope,omitempty"`
	Labels     map[string]string `json:"labels,omitempty"`
	Child      string            `json:"child,omitempty"`
}

// canAsk reports whether another handle can do what the op asks for.
func (o *op) canAsk() bool {
	if o.plan != nil || len(o.pools) > 1 || o.uncertain || o.asked {
		return false
	}
	return !o.some(func(s *step) bool { return !s.canAsk() })
}

// canAsk reports whether another handle can do the step.
func (s *step) canAsk() bool {
	switch s.kind {
	case taskAllocate:
		return s.delegate == nil && s.line == nil &&
			!slices.ContainsFunc(s.claim.Requests, func(r Request) bool { return r.Within != nil || r.wrong != "" })
	case taskRelease:
		return s.missing.IsZero() && s.child == ""
	case taskRenew:
		return true
	default:
		return false
	}
}

// askOf returns what those ops of a batch ask for that can ask, and these ops. The ask is empty if it would be too large.
func askOf(batch []*op) ([]byte, []*op) {
	data, asking := askData{Format: askFormat}, []*op(nil)
	for _, o := range batch {
		if o.over || !o.canAsk() {
			continue
		}
		wanted := askOp{Whole: o.whole}
		o.some(func(s *step) bool {
			wanted.Steps = append(wanted.Steps, s.ask())
			return false
		})
		data.Ops, asking = append(data.Ops, wanted), append(asking, o)
	}
	text, err := json.Marshal(data)
	if err != nil || len(text) > store.MaxAskBytes || len(asking) == 0 {
		return nil, nil
	}
	return text, asking
}

// ask returns what the step asks for.
func (s *step) ask() askStep {
	a := askStep{Kind: s.kind, Owner: s.owner, Generation: s.generation, TTL: s.ttl, Optional: s.optional}
	if s.kind != taskAllocate {
		return a
	}
	c := s.claim
	a.TTL, a.Policy, a.Scope, a.Fenced, a.Labels = c.TTL, c.Policy, c.Scope, c.Fenced, c.Labels
	for _, r := range c.Requests {
		wanted := askRequest{Family: r.Family, Bits: r.Bits, Band: r.Band}
		if r.Exact != (netip.Prefix{}) {
			wanted.Exact = &r.Exact
		}
		a.Requests = append(a.Requests, wanted)
	}
	return a
}

// step returns the step that is asked for, or an error if it breaks a rule.
func (a *askStep) step() (step, error) {
	s := step{task: task{kind: a.Kind, owner: a.Owner, generation: a.Generation, ttl: a.TTL, optional: a.Optional}}
	switch a.Kind {
	case taskRelease:
		return s, validateOwner(a.Owner)
	case taskRenew:
		if err := checkTTL(a.TTL); err != nil {
			return s, err
		}
		return s, validateOwner(a.Owner)
	case taskAllocate:
	default:
		return s, invalid("a task of the kind %d is not for others", a.Kind)
	}
	c := &Claim{Owner: a.Owner, TTL: a.TTL, Policy: a.Policy, Scope: a.Scope, Fenced: a.Fenced, Labels: a.Labels}
	for _, r := range a.Requests {
		wanted := Request{Family: r.Family, Bits: r.Bits, Band: r.Band}
		if r.Exact != nil {
			wanted.Exact = *r.Exact
		}
		c.Requests = append(c.Requests, wanted)
	}
	s.claim, s.ttl = c, 0
	return s, c.Validate()
}

// guest is an ask of another handle, as ops of this one.
type guest struct {
	index int // of the ask
	ops   []*op
}

// guestOf returns the ops of an ask. It reports false if they are not to be done here.
func (p *Pool) guestOf(ctx context.Context, index int, ask []byte) (guest, bool) {
	g := guest{index: index}
	var data askData
	if json.Unmarshal(ask, &data) != nil || data.Format != askFormat {
		return g, false
	}
	for _, wanted := range data.Ops {
		steps := make([]step, len(wanted.Steps))
		for i := range wanted.Steps {
			var err error
			if steps[i], err = wanted.Steps[i].step(); err != nil {
				return g, false
			}
		}
		o := opOf(ctx, p, wanted.Whole, steps)
		o.guest = true
		g.ops = append(g.ops, o)
	}
	return g, len(g.ops) > 0
}

// invite adds the asks of those who wait to the batch, which is in the pool, as far as there is room for them.
func (r *runner) invite(ctx context.Context, p *Pool, batch []*op) []*op {
	if r.shared == nil || len(r.shared.Asks()) == 0 {
		return batch
	}
	if r.tasks == 0 && len(batch) > 0 {
		r.begin(batch[0])
	}
	all := append(r.all[:0], batch...)
	for i, ask := range r.shared.Asks() {
		g, ok := p.guestOf(ctx, i, ask)
		if !ok {
			continue
		}
		before := len(all)
		for _, o := range g.ops {
			if r.roomFor(all, o) {
				all = append(all, o)
			}
		}
		if len(all) > before {
			r.guests = append(r.guests, g)
		}
	}
	r.all = all
	return all
}

// roomFor is Room, also for the first op of a batch.
func (r *runner) roomFor(batch []*op, next *op) bool {
	if len(batch) == 0 {
		r.begin(next)
		return true
	}
	return r.Room(batch, next)
}

// mostServed is how often in a row a handle commits for others after its own commit. Its own callers wait so long.
const mostServed = 3

// serve commits for those who asked while the last commit was under way, which saves them being told to do it.
func (r *runner) serve(ctx context.Context, p *Pool) {
	for range mostServed {
		next := r.shared.Next()
		if next == nil {
			return
		}
		r.end()
		r.turn, r.shared = next, next
		if !r.serveOnce(ctx, p) {
			return
		}
	}
}

// serveOnce makes one commit for others, and reports whether it could.
func (r *runner) serveOnce(ctx context.Context, p *Pool) bool {
	ctx, cancel := context.WithTimeout(ctx, p.options.CommitTimeout)
	defer cancel()
	batch := r.invite(ctx, p, nil)
	if len(batch) == 0 {
		return false
	}
	a := &r.attempt
	a.ctx, a.batch, a.again, a.owners, a.turn, a.took = ctx, batch, false, r.owners, r.turn, 0
	a.now, a.room = now(&p.options), p.home.batch()
	if err := a.plan(1); err != nil {
		a.rollback(attemptMark{})
		return false
	}
	r.answer()
	if err := a.commit(); err != nil {
		a.learn(err)
		return false
	}
	a.committed()
	return true
}

// answer answers the guests with what is planned for them.
func (r *runner) answer() {
	for _, g := range r.guests {
		data, some := answerData{Format: askFormat}, false
		for _, o := range g.ops {
			planned := !o.over && slices.Contains(r.all, o) && (!o.whole || !o.unplanned())
			o.some(func(s *step) bool {
				var answer *answerStep
				if planned {
					answer = s.answer()
				}
				data.Steps, some = append(data.Steps, answer), some || answer != nil
				return false
			})
		}
		if text, err := json.Marshal(data); err == nil && some {
			r.shared.Answer(g.index, text)
		}
	}
}

// answer returns what the step comes to by its plan; nil if it is not done.
func (s *step) answer() *answerStep {
	switch s.outcome.verdict {
	case verdictDone, verdictTouch, verdictWrite:
	default:
		return nil
	}
	a := &s.outcome.result
	return &answerStep{
		Owner: a.Owner, Prefixes: a.Prefixes, Generation: a.Generation, Created: a.Created, Expires: a.Expires,
		Scope: a.Scope, Labels: a.Labels, Child: a.Child,
	}
}

// served ends the steps of the ops that asked, as the answer has them. Those that were not done are not asked for again.
func served(asking []*op, answer []byte, revision int64) error {
	var data answerData
	if err := json.Unmarshal(answer, &data); err != nil || data.Format != askFormat {
		return fmt.Errorf("%w: an answer of another handle cannot be read: %q", store.ErrUnknown, answer)
	}
	rest := data.Steps
	for _, o := range asking {
		o.asked = true
		o.some(func(s *step) bool {
			if len(rest) > 0 {
				if rest[0] != nil {
					s.result = rest[0].allocation(revision)
					s.finish(nil)
				}
				rest = rest[1:]
			}
			return false
		})
		if !o.some(func(*step) bool { return true }) {
			o.end()
		}
	}
	return nil
}

// allocation is what the answer says, which was given at the revision.
func (a *answerStep) allocation(revision int64) Allocation {
	if a.Owner != "" && a.Generation == 0 {
		a.Generation = revision
	}
	return Allocation{
		Owner: a.Owner, Prefixes: a.Prefixes, Generation: a.Generation, Created: a.Created.UTC(), Expires: a.Expires.UTC(),
		Scope: a.Scope, Labels: a.Labels, Child: a.Child,
	}
}

// join waits for a turn for the batch, or for others to do what it asks for. It reports whether there is nothing left to
// plan in this round.
func (r *runner) join(batch []*op) bool {
	first := batch[0]
	s, ok := first.pools[0].home.(*stored)
	if !ok {
		return false
	}
	grouper, ok := s.store.(store.Grouper)
	if !ok || r.turn != nil || first.looks || !first.hasRivals() || !first.mayJoin() {
		return false
	}
	ctx, cancel := first.patience()
	defer cancel()
	ask, asking := askOf(batch)
	turn, err := grouper.Join(ctx, headKey(s.name), ask)
	if err != nil {
		return r.left(batch, asking, err)
	}
	if r.answered(turn, asking) {
		return true
	}
	r.turn, r.shared, r.asking = turn, turn, asking
	return false
}

// left is for a batch that could not get its turn. Without one the attempt is made all the same: what keeps the store from
// giving one comes up there.
func (r *runner) left(batch, asking []*op, err error) bool {
	if errors.Is(err, store.ErrUnknown) {
		unserved(asking, err)
	}
	return !slices.ContainsFunc(batch, func(o *op) bool { return !o.over && !o.expired(o.pools[0].options.Attempts) })
}

// answered ends what another handle has done for the ops that asked. It reports whether there was an answer.
func (r *runner) answered(turn store.GroupTurn, asking []*op) bool {
	answer, revision, err := turn.Answered()
	if err == nil && answer == nil {
		return false
	}
	if err == nil {
		err = served(asking, answer, revision)
	}
	if err != nil {
		unserved(asking, err)
	}
	for _, o := range asking {
		o.pools[0].home.(*stored).rivalry = mostRivalry
	}
	return true
}

// unserved fails the ops of an ask of which the outcome is not known.
func unserved(asking []*op, err error) {
	if !errors.Is(err, store.ErrUnknown) {
		err = fmt.Errorf("%w: %w", store.ErrUnknown, err)
	}
	for _, o := range asking {
		o.finish(fmt.Errorf("%w: %w", errServed, err))
	}
}
