package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
)

// MaxAskBytes is the largest size of an ask, in bytes; see [Grouper].
const MaxAskBytes = 64 << 10

// Grouper is a [Store] on which many processes can share a commit. A caller that waits for its turn at a head leaves an
// ask, which says what it wants. The caller that has the turn commits this for it, together with its own changes. So
// one commit does the work of all callers that wait, as it does within one process.
//
// Only the callers know what the bytes of an ask and an answer mean. A store keeps them only while the caller waits.
type Grouper interface {
	// Join is [Store.Turn] at one head, for a caller that leaves an ask. It returns when the caller has its turn, or when
	// another turn's commit has answered the ask; see [GroupTurn.Answered]. An empty ask means none.
	//
	// An ask is answered at most once, and only while its caller waits, or at most a few seconds after its process was
	// stopped or has died. Once a caller that came later has committed, with a turn or without one, an earlier ask that
	// the store had by then is answered only if its caller still waits. What was still on its way may arrive after that,
	// within those seconds: an ask must say as of which commits it was made, so that whoever finds it can tell.
	//
	// If ctx ends, the ask is withdrawn, and the error wraps the context's. If it has been answered by then, Join returns
	// without an error. An error that wraps [ErrUnknown] means that the ask could not be withdrawn: it may have been
	// answered, or may yet be. After any other error it has not been answered, and will not be.
	//
	// Errors: those of Turn; [ErrInvalid] for an ask of more than [MaxAskBytes]. Cost: that of Turn.
	Join(ctx context.Context, key Key, ask []byte) (GroupTurn, error)
}

// GroupTurn is a [Turn] in which asks can be answered.
type GroupTurn interface {
	Turn

	// Asks returns the asks of the callers that wait behind this turn, the earliest first. If there are many it may
	// return only the first of them. They must not be changed. A caller that answers only some must answer the first.
	Asks() [][]byte

	// Answer answers the ask at index i of Asks. The answer takes effect with the commit that has this turn in its
	// [Change]. If a caller to be answered has left by then, the commit fails with a [ConflictError], even if the head
	// has not changed. An empty answer means none.
	Answer(i int, answer []byte)

	// Answered returns the answer that the commit of another turn has given to the ask of this turn, and the revision of
	// that commit; nil if there is no answer. Call it when Join has returned: if there is an answer, the turn has ended,
	// and has no Heads. Call it again when the turn has ended without a commit that succeeded: from then on nothing can
	// answer the ask, and an error that wraps [ErrUnknown] means that the store cannot tell whether it was answered.
	Answered() (answer []byte, revision int64, err error)

	// Next may be called after a commit in this turn has succeeded, before End. If some asks have not been answered, it
	// returns another turn at the same head, as the commit left it. The caller has no ask in that turn, and commits for
	// the others only; this saves them from being told that it is their turn. Next returns nil if there are no asks, or
	// if passing the turn on costs nothing.
	Next() GroupTurn
}

// ValidateJoin returns an error that wraps [ErrInvalid] unless the key is valid and the ask is no larger than
// [MaxAskBytes]. A driver begins [Grouper.Join] with it.
func ValidateJoin(key Key, ask []byte) error {
	if len(ask) > MaxAskBytes {
		return fmt.Errorf("%w: the ask is %d bytes long, the most is %d", ErrInvalid, len(ask), MaxAskBytes)
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
// Commit must call [Turns.Answers].
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

// EndJoin ends the turn of a caller that stops waiting because of err, and returns what [Grouper.Join] is to return:
// the turn if the ask has been answered by now, else the error.
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
		return fmt.Errorf("wait for the commit that answers an ask at %v: %w", t.key, ctx.Err())
	}
}

// Answers delivers the answers of those turns of the changes that are of [Turns.Join]. A driver calls it in Commit
// before it changes anything, and calls given with the result of the commit. Turns of other stores are ignored.
//
// Errors: a [ConflictError] if a caller to be answered has left or is committing itself, or if another commit has
// answered the ask of one of the turns and its caller has not been told yet; the context's; those of reading the head.
// After an error no ask is answered.
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
				p.ask.err = fmt.Errorf("commit for several callers: %w", err)
			default:
				continue
			}
			close(p.ask.told)
			t.remove(turn.key, p)
		}
	}
}
