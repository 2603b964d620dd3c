package pool

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/ipalloc/ipalloc/store"
)

// How handles commit for one another.
//
// A handle that waits for its turn at a store that is a [store.Grouper] leaves what its batch asks for. Whoever has the
// turn takes the asks of those who wait as guests into its own batch, plans all of it, and commits it together with the
// answers. What it does not answer (because it was refused, does not fit, or is in a form that it does not know) is
// tried by the asker itself, in its own turn. So an answer always says what was done, or that a claim in a line waits
// on.

// errServed says that a call was part of another handle's commit, of which the outcome is unknown.
var errServed = errors.New("another handle was committing it")

// elsewhereError refuses a claim that waits, in place of the reason that the handle has which refused it.
type elsewhereError struct{ next time.Time } // as that of exhaustedError

func (*elsewhereError) Error() string { return "another handle found nothing free for it" }

func (*elsewhereError) Unwrap() error { return ErrExhausted }

// askFormat is the version of asks and answers. Who finds another one does not answer.
const askFormat = 1

// notForOthers is the outcome of a step that is left to the handle that has asked for it.
func notForOthers() outcome {
	return outcome{verdict: verdictRefuse, refusal: errors.New("only the handle that asks for it may do it")}
}

// askData is an ask: the ops of a batch.
type askData struct {
	Format int `json:"v"`
	// Seen is the latest revision of the pool that the asker knew.
	Seen int64   `json:"seen"`
	Ops  []askOp `json:"ops"`
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
	Addr       netip.Addr    `json:"addr,omitzero"`
	Quarantine time.Duration `json:"quarantine,omitempty"`

	// Of a claim.
	Policy   FamilyPolicy      `json:"policy,omitempty"`
	Requests []askRequest      `json:"requests,omitempty"`
	Scope    string            `json:"scope,omitempty"`
	Share    string            `json:"share,omitempty"`
	Fenced   bool              `json:"fenced,omitempty"`
	Labels   map[string]string `json:"labels,omitempty"`
	// Waited is how long the claim has waited in a line, 0 if it does not: it waits on if it cannot be granted, and so do
	// those behind it that demand the same. Look says that its owner may hold something already.
	Waited time.Duration `json:"waited,omitempty"`
	Look   bool          `json:"look,omitempty"`
}

type askRequest struct {
	Family Family        `json:"family,omitempty"`
	Bits   int           `json:"bits,omitempty"`
	Exact  *netip.Prefix `json:"exact,omitempty"`
	Prefer netip.Addr    `json:"prefer,omitzero"`
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
	Beside     []netip.Prefix    `json:"beside,omitempty"`
	Generation int64             `json:"generation,omitempty"` // 0 for the revision of the commit
	Created    time.Time         `json:"created,omitzero"`
	Expires    time.Time         `json:"expires,omitzero"`
	Scope      string            `json:"scope,omitempty"`
	Share      string            `json:"share,omitempty"`
	Labels     map[string]string `json:"labels,omitempty"`
	Child      string            `json:"child,omitempty"`
	Reserved   bool              `json:"reserved,omitempty"`
	// Waits says that the claim waits on, and that what is in its way may end at Expires, if that is not zero.
	Waits bool `json:"waits,omitempty"`
}

// asked is what a batch asks others for.
type asked struct {
	ops   []*op
	steps []*step // of the ops, in the order of the ask
}

// canAsk reports whether another handle can do what the op asks for.
func (o *op) canAsk() bool {
	if o.plan != nil || len(o.pools) > 1 || o.repeats || o.uncertain || o.asked {
		return false
	}
	return !o.some(func(s *step) bool { return !s.canAsk() })
}

// canAsk reports whether another handle can do the step.
func (s *step) canAsk() bool {
	switch s.kind {
	case taskAllocate:
		return s.delegate == nil && s.line.canAsk() && !s.reserve && s.claim.canAsk()
	case taskRelease:
		return s.missing.IsZero() && s.child == "" && len(s.transferred) == 0
	case taskRenew:
		return true
	default:
		return false
	}
}

// canAsk reports whether an ask can have the claim. What is wrong with one that breaks a rule, its own handle says.
func (c *Claim) canAsk() bool {
	return c.Validate() == nil && !slices.ContainsFunc(c.Requests, func(r Request) bool {
		return r.Within != nil || !utf8.ValidString(r.Band)
	})
}

// askOf returns what those ops of a batch ask for that can ask, and these ops. It returns nothing if that would be too
// large; if an earlier ask is astray, since what others do for this one makes no fence; or if others did not do what
// the leader has asked for, which gets a turn of its own then.
func (s *stored) askOf(batch []*op) ([]byte, asked) {
	if s.astray || batch[0].asked {
		return nil, asked{}
	}
	data, asking, now := askData{Format: askFormat, Seen: max(s.head.Revision, s.heard)}, asked{}, s.options.Clock()
	for _, o := range batch {
		if o.over || !o.canAsk() {
			continue
		}
		wanted := askOp{Whole: o.whole}
		o.some(func(s *step) bool {
			wanted.Steps, asking.steps = append(wanted.Steps, s.ask(now)), append(asking.steps, s)
			return false
		})
		data.Ops, asking.ops = append(data.Ops, wanted), append(asking.ops, o)
	}
	text, err := json.Marshal(data)
	if err != nil || len(text) > store.MaxAskBytes || len(asking.ops) == 0 {
		return nil, asked{}
	}
	return text, asking
}

// ask returns what the step asks for.
func (s *step) ask(now time.Time) askStep {
	a := askStep{
		Kind: s.kind, Owner: s.owner, Generation: s.generation, TTL: s.ttl, Optional: s.optional, Addr: s.addr,
		Quarantine: s.quarantine,
	}
	if s.kind != taskAllocate {
		return a
	}
	c := s.claim
	a.TTL, a.Policy, a.Scope, a.Share, a.Fenced, a.Labels = c.TTL, c.Policy, c.Scope, c.Share, c.Fenced, c.Labels
	if s.line != nil {
		a.Waited, a.Look = max(1, now.Sub(s.line.since)), s.line.look
	}
	for _, r := range c.Requests {
		wanted := askRequest{Family: r.Family, Bits: r.Bits, Prefer: r.Prefer, Band: r.Band}
		if r.Exact != (netip.Prefix{}) {
			wanted.Exact = &r.Exact
		}
		a.Requests = append(a.Requests, wanted)
	}
	return a
}

// step returns the step that is asked for, or an error if it breaks a rule.
func (a *askStep) step() (step, error) {
	s := step{task: task{
		kind: a.Kind, owner: a.Owner, generation: a.Generation, ttl: a.TTL, optional: a.Optional, addr: a.Addr,
		quarantine: a.Quarantine,
	}}
	switch a.Kind {
	case taskRelease:
		if a.Quarantine != 0 {
			if err := checkTime("quarantine", a.Quarantine); err != nil {
				return s, err
			}
		}
		return s, validateOwner(a.Owner)
	case taskRenew:
		if err := checkTime("time to live", a.TTL); err != nil {
			return s, err
		}
		return s, validateOwner(a.Owner)
	case taskAllocate:
	default:
		return s, invalid("a task of the kind %d is not for others", a.Kind)
	}
	c := &Claim{
		Owner: a.Owner, TTL: a.TTL, Policy: a.Policy, Scope: a.Scope, Share: a.Share, Fenced: a.Fenced, Labels: a.Labels,
	}
	for _, r := range a.Requests {
		wanted := Request{Family: r.Family, Bits: r.Bits, Prefer: r.Prefer, Band: r.Band}
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

// guestOf returns the ops of an ask. It reports false if they are not to be done here: perhaps a newer version of this
// package has asked, which means something else.
func (p *Pool) guestOf(ctx context.Context, index int, ask []byte) (guest, bool) {
	g := guest{index: index}
	data, err := readAsk(ask)
	if err != nil {
		return g, false
	}
	for _, wanted := range data.Ops {
		steps, named := make([]step, len(wanted.Steps)), map[string]bool{}
		for i := range wanted.Steps {
			if steps[i], err = wanted.Steps[i].step(); err != nil || named[steps[i].owner] {
				return g, false
			}
			named[steps[i].owner] = true
		}
		if len(steps) == 0 {
			return g, false
		}
		wanted.lineUp(steps, p.options.Clock())
		o := opOf(ctx, p, wanted.Whole, steps)
		o.seen = data.Seen
		g.ops = append(g.ops, o)
	}
	return g, len(g.ops) > 0
}

// lineUp gives the steps of claims that wait their order.
func (w *askOp) lineUp(steps []step, now time.Time) {
	last := map[string]*outcome{} // by demand
	for i := range steps {
		if s, a := &steps[i], &w.Steps[i]; a.Waited > 0 && s.claim != nil {
			demand := demandOf(s.claim)
			s.line = &lineOrder{since: now.Add(-a.Waited), look: a.Look, ahead: last[demand]}
			last[demand] = &s.outcome
		}
	}
}

// readAsk reads an ask, all of which must be known.
func readAsk(ask []byte) (data askData, err error) {
	d := json.NewDecoder(bytes.NewReader(ask))
	d.DisallowUnknownFields()
	if err = d.Decode(&data); err == nil && (data.Format != askFormat || d.InputOffset() != int64(len(ask))) {
		err = errors.New("an ask in another format")
	}
	return data, err
}

// invite adds the asks of those who wait to the batch, which is in the pool: the earliest ones, as far as there is room
// for them and they can be read. So none is done after one that was asked for later.
func (r *runner) invite(ctx context.Context, p *Pool, batch []*op) []*op {
	if r.shared == nil || len(r.shared.Asks()) == 0 {
		return batch
	}
	if r.alone {
		r.alone = false
		return batch
	}
	if r.tasks == 0 && len(batch) > 0 {
		r.begin(batch[0])
	}
	r.all = append(r.all[:0], batch...)
	for i, ask := range r.shared.Asks() {
		g, ok := p.guestOf(ctx, i, ask)
		if !ok || !r.seat(g) {
			break
		}
	}
	return r.all
}

// seat adds a guest to the batch. It reports whether there was room for all of it.
func (r *runner) seat(g guest) bool {
	for i, o := range g.ops {
		switch {
		case len(r.all) == 0:
			r.begin(o)
		case !r.Room(r.all, o):
			if i > 0 {
				r.guests = append(r.guests, g)
			}
			return false
		}
		o.guest = true
		r.all = append(r.all, o)
	}
	r.guests = append(r.guests, g)
	return true
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

// serveOnce makes one commit for others, and reports whether it did.
func (r *runner) serveOnce(ctx context.Context, p *Pool) bool {
	ctx, cancel := context.WithTimeout(ctx, p.options.CommitTimeout)
	defer cancel()
	batch := r.invite(ctx, p, nil)
	if len(batch) == 0 {
		return false
	}
	a := &r.attempt
	r.start(ctx, batch, false)
	if err := a.plan(1); err != nil || !a.hasChanges() || !r.answer() {
		a.rollback(attemptMark{})
		return false
	}
	if err := a.commit(); err != nil {
		if errors.Is(err, store.ErrTooLarge) {
			a.takeLess(a.drafts)
		}
		a.rollback(attemptMark{})
		p.home.learn(ctx, err)
		return false
	}
	a.committed()
	p.home.(*stored).rivalry = mostRivalry
	return true
}

// isLate reports whether the op is a guest whose handle did not know the last fence. If its caller has died, it is to
// have no effect any more; else that does it itself.
func (d *draft) isLate(o *op) bool { return o.guest && o.seen <= d.state().fence }

// answer answers the guests with what is planned for them, be it nothing: what is not done now, only the asker may do,
// and not a handle that finds the ask after a later call has been answered. It reports false if that is not possible:
// what is planned must not be committed then.
func (r *runner) answer() bool {
	for _, g := range r.guests {
		data := answerData{Format: askFormat}
		for _, o := range g.ops {
			planned := o.guest && !o.over && (!o.whole || !o.unplanned())
			for i := range o.parts[0].steps {
				var answer *answerStep
				if planned {
					answer = o.parts[0].steps[i].answer()
				}
				data.Steps = append(data.Steps, answer)
			}
		}
		text, err := json.Marshal(data)
		if err != nil {
			return false
		}
		r.shared.Answer(g.index, text)
	}
	return true
}

// answer returns what the step comes to by its plan; nil if it is not done.
func (s *step) answer() *answerStep {
	switch s.outcome.verdict {
	case verdictDone, verdictWrite:
	case verdictWait:
		return &answerStep{Waits: true, Expires: nextEnd(s.outcome.refusal)}
	default:
		return nil
	}
	a := &s.outcome.result
	return &answerStep{
		Owner: a.Owner, Prefixes: a.Prefixes, Generation: a.Generation, Created: a.Created, Expires: a.Expires,
		Scope: a.Scope, Share: a.Share, Labels: a.Labels, Child: a.Child, Reserved: a.Reserved, Beside: a.Beside,
	}
}

// served ends the steps that were asked for, as the answer has them. Those that were not done are not asked for again.
// What an op may have come to meanwhile, in a turn of its own, does not count.
func (w *asked) served(answer []byte, revision int64) error {
	var data answerData
	if err := json.Unmarshal(answer, &data); err != nil || data.Format != askFormat || !w.isAnswer(data.Steps) {
		return fmt.Errorf("%w: an answer of another handle cannot be read: %.200q", store.ErrUnknown, answer)
	}
	for i, s := range w.steps {
		if data.Steps[i] != nil {
			s.result = data.Steps[i].allocation(revision)
			s.done, s.err = true, nil
			s.outcome = outcome{}
			if data.Steps[i].Waits {
				refusal := &elsewhereError{next: data.Steps[i].Expires}
				s.result.Generation, s.outcome = revision, outcome{verdict: verdictWait, refusal: refusal}
			}
		}
	}
	for _, o := range w.ops {
		s := o.pools[0].home.(*stored)
		s.heard = max(s.heard, revision)
		o.served()
	}
	return nil
}

// isAnswer reports whether the answers are to the steps.
func (w *asked) isAnswer(answers []*answerStep) bool {
	if len(answers) != len(w.steps) {
		return false
	}
	for i, s := range w.steps {
		if answers[i] != nil && !answers[i].isTo(s) {
			return false
		}
	}
	return true
}

// isTo reports whether it can be an answer to the step.
func (a *answerStep) isTo(s *step) bool {
	if a.Waits {
		return s.line != nil
	}
	if a.Owner == "" {
		return s.kind == taskRelease && s.optional
	}
	return a.Owner == s.owner && len(a.Prefixes) > 0
}

// served ends the op if nothing is left to do. It has one pool, so it has one part.
func (o *op) served() {
	part := &o.parts[0]
	o.asked, part.chosen = true, part.pools[0]
	if o.some(func(*step) bool { return true }) {
		return
	}
	if !o.over {
		o.end()
	}
	failed := func(s step) bool { return s.err != nil }
	if !slices.ContainsFunc(part.steps, failed) {
		o.err = nil
	}
}

// allocation is what the answer says, which was given at the revision.
func (a *answerStep) allocation(revision int64) Allocation {
	if a.Owner != "" && a.Generation == 0 {
		a.Generation = revision
	}
	return Allocation{
		Owner: a.Owner, Prefixes: a.Prefixes, Generation: a.Generation, Created: a.Created.UTC(), Expires: a.Expires.UTC(),
		Scope: a.Scope, Share: a.Share, Labels: a.Labels, Child: a.Child, Reserved: a.Reserved, Beside: a.Beside,
	}
}

// join waits for a turn for the batch, or for others to do what it asks for. It reports whether there is nothing left
// to plan in this round.
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
	ask, asking := s.askOf(batch)
	turn, err := grouper.Join(ctx, headKey(s.name), ask)
	if err != nil {
		r.noTurn = err
		return asking.left(batch, err)
	}
	if answer, revision, err := turn.Answered(); err != nil || answer != nil {
		asking.answered(answer, revision, err)
		return true
	}
	r.turn, r.shared, r.asking = turn, turn, asking
	return false
}

// left is for a batch that could not get its turn. It reports whether there is nothing left to plan. Without a turn the
// attempt is made all the same: what keeps the store from giving one comes up there.
func (w *asked) left(batch []*op, err error) bool {
	if errors.Is(err, store.ErrUnknown) {
		w.unserved(err)
	}
	return !slices.ContainsFunc(batch, func(o *op) bool { return !o.over && !o.expired(o.pools[0].options.Attempts) })
}

// answered takes what [store.GroupTurn.Answered] says, if it says anything.
func (w *asked) answered(answer []byte, revision int64, err error) {
	if err == nil {
		err = w.served(answer, revision)
	}
	if err != nil {
		w.unserved(err)
	}
	for _, o := range w.ops {
		o.pools[0].home.(*stored).rivalry = mostRivalry
	}
}

// overtaken ends the turn, in which nothing has been committed, or not for certain. It reports whether another handle
// has done meanwhile what the batch asked for: one that had the turn before, and whose commit was late. The error says
// that this is unknown.
func (r *runner) overtaken() (bool, error) {
	if r.shared == nil || len(r.asking.ops) == 0 {
		return false, nil
	}
	r.shared.End()
	answer, revision, err := r.shared.Answered()
	if err == nil && answer != nil {
		err = r.asking.served(answer, revision)
	}
	return err == nil && answer != nil, err
}

// unserved is for an ask of which it is not known whether another handle has done it, or may yet, and on which revision
// of the head. Ops that have failed meanwhile say so.
func (w *asked) unserved(err error) {
	if !errors.Is(err, store.ErrUnknown) {
		err = fmt.Errorf("%w: %w", store.ErrUnknown, err)
	}
	err = fmt.Errorf("%w: %w", errServed, err)
	for _, s := range w.steps {
		s.err = doubted(s.err, err)
	}
	for _, o := range w.ops {
		s := o.pools[0].home.(*stored)
		s.forget()
		s.astray = true
		if o.err = doubted(o.err, err); o.over || o.uncertain {
			continue
		}
		o.some(func(s *step) bool {
			s.outcome = outcome{} // what it had planned itself has not been done
			return false
		})
		o.doubt(s.options.CommitTimeout, err)
	}
}

// doubted is the error of what has failed, though it may have been done, for the reason in doubt.
func doubted(err, doubt error) error {
	if err == nil || errors.Is(err, store.ErrUnknown) {
		return err
	}
	return fmt.Errorf("%w, and then: %w", doubt, err)
}

// isForGuests reports whether a commit failed because of the guests, or perhaps so: one has left, or what is done for
// them cannot be committed.
func (r *runner) isForGuests(err error) bool {
	isGuest := func(o *op) bool { return o.guest }
	if !slices.ContainsFunc(r.all, isGuest) || errors.Is(err, store.ErrUnknown) {
		return false
	}
	var conflict *store.ConflictError
	if errors.As(err, &conflict) {
		head := r.attempt.batch[0].pools[0].home.(*stored).head
		return conflict.Current.Key == head.Key && conflict.Current.Revision == head.Revision
	}
	return true
}
