package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
)

// MaxAskBytes is the largest size of an ask; see [Grouper].
const MaxAskBytes = 64 << 10

// Grouper is a [Store] on which many processes share commits. Those that wait for their turns at a head say what they
// want, and whoever has the turn commits it for them, together with what it wants itself. So a commit does the work of
// all that wait, as it does within one process.
//
// What the bytes of an ask and of an answer mean is between the callers. A store keeps them only while the caller
// waits.
type Grouper interface {
	// Join is [Store.Turn] at one head, for a caller that leaves an ask. It returns when the caller has its turn, or when
	// another turn's commit has answered the ask: see [GroupTurn.Answered]. An empty ask is none.
	//
	// An ask is answered at most once, and only while its caller waits, or its process has died or was stopped less than
	// a few seconds ago. No ask is answered after the commit of a caller that came later, with a turn or without one,
	// unless its own caller has gone on waiting: so what the dead have asked for fails once somebody has committed who
	// came after them. If ctx ends, the ask is withdrawn, and the error wraps the context's; unless it has been answered
	// by then, which is no error. An error that wraps [ErrUnknown] means that it could not be withdrawn, and may have been
	// answered or may yet. After any other error it has not been, and will not be.
	//
	// Errors: those of Turn, and [ErrInvalid] for an ask of more than [MaxAskBytes]. Cost: as Turn.
	Join(ctx context.Context, key Key, ask []byte) (GroupTurn, error)
}

// GroupTurn is a [Turn] in which asks can be answered.
type GroupTurn interface {
	Turn

	// Asks returns the asks of those that wait behind this turn, the earliest first; of many perhaps only some. They must
	// not be changed. Whoever answers some of them answers the first ones.
	Asks() [][]byte

	// Answer answers the ask at index i of Asks. The answer is given by the commit that has this turn in its [Change], if
	// that succeeds. If a caller that is to be answered has left by then, the commit fails with a [ConflictError], also
	// though the head is as it was. An empty answer is none.
	Answer(i int, answer []byte)

	// Answered returns the answer that another turn's commit has given to the ask of this one, and the revision of that
	// commit; nil if there is none. It is called when Join has returned: this turn has ended then if there is an answer,
	// and has no Heads. It is called again when this turn has ended in any way but by a commit that succeeded: then
	// nothing can be answered any more, and an error that wraps [ErrUnknown] means that the store cannot tell.
	Answered() (answer []byte, revision int64, err error)

	// Next is called when a commit in this turn has succeeded, before End. It returns another turn at the same head, as
	// the commit left it, if there are asks that have not been answered. The caller, who has no ask in it, commits for the
	// others only: so they need not be told that it is their turn. It returns nil if nobody has asked, or if the turn
	// passes to the next at no cost.
	Next() GroupTurn
}

// ValidateJoin returns an error that wraps [ErrInvalid] unless the key is valid and the ask is no larger than
// [MaxAskBytes]. A driver begins [Grouper.Join] with it.
func ValidateJoin(key Key, ask []byte) error {
	if len(ask) > MaxAskBytes {
		return fmt.Errorf("%w: an ask of %d bytes, the most is %d", ErrInvalid, len(ask), MaxAskBytes)
	}
	return ValidateTurn(key)
}

// ask is what a place in a line has asked for. It is guarded by the lock of the Turns.
type ask struct {
	data []byte
	// held is not nil while a commit is under way that answers it, and is closed when that has ended.
	held chan struct{}
	// over is true from when its caller commits itself on.
	over bool
	// told is closed when it has been answered, or may have been.
	told     chan struct{}
	answer   []byte
	revision int64
	err      error
}

// Join is [Grouper.Join] for a driver that knows no order but that of this process; see [Turns.Turn]. The driver's
// Commit calls [Turns.Answers].
func (t *Turns) Join(
	ctx context.Context, get func(context.Context, Key) (Record, error), key Key, wanted []byte,
) (GroupTurn, error) {
	if err := ValidateJoin(key, wanted); err != nil {
		return nil, err
	}
	p := t.enter(key, wanted)
	turn := &localTurn{end: func() { t.leave(key, p) }, turns: t, place: p, key: key, get: get}
	err := t.await(ctx, key, p)
	if err == nil && !p.isTold() {
		err = turn.begin(ctx)
	}
	if err == nil {
		return turn, nil
	}
	return EndJoin(turn, err)
}

// EndJoin ends a turn for which its caller can wait no longer, because of err, and returns what [Grouper.Join] returns
// then: the turn if the ask has been answered by now, else the error.
func EndJoin(turn GroupTurn, err error) (GroupTurn, error) {
	turn.End()
	switch answer, _, unknown := turn.Answered(); {
	case unknown != nil:
		return nil, fmt.Errorf("%w: %w", unknown, err)
	case answer != nil:
		return turn, nil
	}
	return nil, err
}

// begin reads the head, and takes note of those who wait behind the turn.
func (t *localTurn) begin(ctx context.Context) error {
	head, err := getOrNone(ctx, t.get, t.key)
	if err != nil {
		return err
	}
	t.heads = []Record{head}
	t.turns.mu.Lock()
	defer t.turns.mu.Unlock()
	for _, p := range t.turns.lines[t.key] {
		if p != t.place && len(p.ask.data) > 0 && !p.ask.over {
			t.asks, t.asking = append(t.asks, p.ask.data), append(t.asking, p)
		}
	}
	t.answers = make([][]byte, len(t.asks))
	return nil
}

func (p *place) isTold() bool {
	select {
	case <-p.ask.told:
		return true
	default:
		return false
	}
}

func (t *localTurn) Asks() [][]byte { return t.asks }

func (t *localTurn) Answer(i int, answer []byte) { t.answers[i] = bytes.Clone(answer) }

func (t *localTurn) Answered() ([]byte, int64, error) {
	_ = t.settled(context.Background()) // which does not end
	t.turns.mu.Lock()
	defer t.turns.mu.Unlock()
	a := &t.place.ask
	t.knows = t.knows || t.place.isTold()
	return bytes.Clone(a.answer), a.revision, a.err
}

func (t *localTurn) Next() GroupTurn { return nil }

// settled waits for the end of a commit that answers the turn's ask, if one is under way.
func (t *localTurn) settled(ctx context.Context) error {
	t.turns.mu.Lock()
	held := t.place.ask.held
	t.turns.mu.Unlock()
	if held == nil {
		return nil
	}
	select {
	case <-held:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for a commit that answers an ask at %v: %w", t.key, ctx.Err())
	}
}

// Answers gives the answers of the turns of [Turns.Join] that changes have. A driver calls it in Commit, before it
// changes anything, and then given with what came of the commit. Turns of other stores do not matter.
//
// Errors: a [ConflictError] if one of those to be answered has left or commits itself, or if another commit has
// answered the ask of one of the turns, and its caller has not been told yet; the context's; those of reading the head.
// Nobody is answered then.
func (t *Turns) Answers(
	ctx context.Context, changes []Change,
) (given func(heads []Record, err error), err error) {
	turns := t.joined(changes)
	if len(turns) == 0 {
		return func([]Record, error) {}, nil
	}
	for _, turn := range turns { // before it holds anyone, so none waits for another in a circle
		if err := turn.settled(ctx); err != nil {
			return nil, err
		}
	}
	held := make(chan struct{})
	if turn := t.hold(turns, held); turn != nil {
		return nil, turn.refused(ctx, changes)
	}
	return func(heads []Record, err error) { t.give(turns, held, heads, err) }, nil
}

// joined returns the turns of Join that changes have, each once.
func (t *Turns) joined(changes []Change) (turns []*localTurn) {
	for i := range changes {
		turn, ok := changes[i].Turn.(*localTurn)
		if ok && turn.turns == t && !slices.Contains(turns, turn) {
			turns = append(turns, turn)
		}
	}
	return turns
}

// hold keeps those who are to be answered from leaving and from committing, until give is called. It returns a turn
// that may not be committed, if there is one, and holds nobody then.
func (t *Turns) hold(turns []*localTurn, held chan struct{}) *localTurn {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, turn := range turns {
		if !turn.mayCommit() {
			return turn
		}
	}
	for _, turn := range turns {
		turn.place.ask.over = true
		for i, p := range turn.asking {
			if turn.answers[i] != nil {
				p.ask.held = held
			}
		}
	}
	return nil
}

// mayCommit reports whether nobody else does what the turn's caller is about to do, and those whom it answers wait. The
// lock is held.
func (t *localTurn) mayCommit() bool {
	own := &t.place.ask
	if own.held != nil || t.place.isTold() && !t.knows {
		return false
	}
	line := t.turns.lines[t.key]
	for i, p := range t.asking {
		if t.answers[i] != nil && (p.ask.held != nil || p.ask.over || !slices.Contains(line, p)) {
			return false
		}
	}
	return true
}

// refused returns the error of a commit that has the turn and may not.
func (t *localTurn) refused(ctx context.Context, changes []Change) error {
	current, err := getOrNone(ctx, t.get, t.key)
	if err != nil {
		return err
	}
	conflict := &ConflictError{Current: current}
	for i := range changes {
		if changes[i].Head.Key == t.key {
			conflict.Expected = changes[i].Head.Revision
		}
	}
	return conflict
}

// give tells those who were held what came of the commit.
func (t *Turns) give(turns []*localTurn, held chan struct{}, heads []Record, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	defer close(held)
	for _, turn := range turns {
		for i, p := range turn.asking {
			if turn.answers[i] == nil {
				continue
			}
			p.ask.held = nil
			switch {
			case err == nil:
				p.ask.answer, p.ask.revision = turn.answers[i], heads[0].Revision
				turn.answers[i] = nil // the turn has ended, and does not matter to further commits
			case errors.Is(err, ErrUnknown):
				p.ask.err = fmt.Errorf("a commit for several callers: %w", err)
			default:
				continue
			}
			close(p.ask.told)
			t.remove(turn.key, p)
		}
	}
}
