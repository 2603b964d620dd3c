package store

import (
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
// What the bytes of an ask and of an answer mean is between the callers. A store keeps them only while the caller waits.
type Grouper interface {
	// Join is [Store.Turn] at one head, for a caller that leaves an ask. It returns when the caller has its turn, or when
	// another turn's commit has answered the ask: see [GroupTurn.Answered]. An empty ask is none.
	//
	// An ask is answered at most once, and only while its caller waits, or its process has died or was stopped less than
	// a few seconds ago. If ctx ends, the ask is withdrawn, and the error wraps the context's; unless it has been answered
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
	// not be changed.
	Asks() [][]byte

	// Answer answers the ask at index i of Asks. The answer is given by the commit that has this turn in its [Change], if
	// that succeeds. If a caller that is to be answered has left by then, the commit fails with a [ConflictError], also
	// though the head is as it was.
	Answer(i int, answer []byte)

	// Answered returns the answer that another turn's commit has given to the ask of this one, and the revision of that
	// commit; nil if there is none. It is called when Join has returned: this turn has ended then if there is an answer,
	// and has no Heads. It is called again when this turn has ended in any way but by a commit that succeeded: then
	// nothing can be answered any more, and an error that wraps [ErrUnknown] means that the store cannot tell.
	Answered() (answer []byte, revision int64, err error)

	// Next is called when a commit in this turn has succeeded. It returns another turn at the same head, as the commit left
	// it, if there are asks that have not been answered. The caller, who has no ask in it, commits for the others only: so
	// they need not be told that it is their turn. It returns nil if nobody has asked, or if the turn passes to the next at
	// no cost.
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
	// told is closed when it has been answered, or may have been.
	told     chan struct{}
	answer   []byte
	revision int64
	err      error
}

// Join is [Grouper.Join] for a driver that knows no order but that of this process; see [Turns.Turn]. The driver's
// Commit calls [Answers].
func (t *Turns) Join(
	ctx context.Context, get func(context.Context, Key) (Record, error), key Key, wanted []byte,
) (GroupTurn, error) {
	if err := ValidateJoin(key, wanted); err != nil {
		return nil, err
	}
	p := t.enter(key, wanted)
	turn := &localTurn{end: func() { t.leave(key, p) }, turns: t, place: p}
	err := t.await(ctx, key, p)
	if err == nil && !p.isTold() {
		err = turn.begin(ctx, get, key)
	}
	if err == nil {
		return turn, nil
	}
	turn.End()
	switch answer, _, unknown := turn.Answered(); {
	case unknown != nil:
		return nil, unknown
	case answer != nil:
		return turn, nil
	}
	return nil, err
}

// begin reads the head, and takes note of those who wait behind the turn.
func (t *localTurn) begin(ctx context.Context, get func(context.Context, Key) (Record, error), key Key) error {
	head, err := get(ctx, key)
	if errors.Is(err, ErrNotFound) {
		head, err = Record{Key: key}, nil
	}
	if err != nil {
		return err
	}
	t.heads = []Record{head}
	t.turns.mu.Lock()
	defer t.turns.mu.Unlock()
	for _, p := range t.turns.lines[key] {
		if p != t.place && len(p.ask.data) > 0 {
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

func (t *localTurn) Answer(i int, answer []byte) { t.answers[i] = answer }

func (t *localTurn) Answered() ([]byte, int64, error) {
	t.turns.mu.Lock()
	held := t.place.ask.held
	t.turns.mu.Unlock()
	if held != nil {
		<-held
	}
	t.turns.mu.Lock()
	defer t.turns.mu.Unlock()
	a := &t.place.ask
	return a.answer, a.revision, a.err
}

func (t *localTurn) Next() GroupTurn { return nil }

// Answers gives the answers of the turns of [Turns] that changes have. A driver whose [Grouper.Join] is that of
// Turns calls it in Commit, before it changes anything, and then given with what came of the commit. It returns a
// [ConflictError] if one of those to be answered has left.
func Answers(changes []Change) (given func(heads []Record, err error), err error) {
	for i := range changes {
		if t, ok := changes[i].Turn.(*localTurn); ok && t.place != nil {
			return t.hold(changes[i].Head)
		}
	}
	return func([]Record, error) {}, nil
}

// hold keeps those who are to be answered from leaving, until given is called.
func (t *localTurn) hold(head Record) (given func([]Record, error), err error) {
	t.turns.mu.Lock()
	defer t.turns.mu.Unlock()
	line, held := t.turns.lines[head.Key], make(chan struct{})
	for i, p := range t.asking {
		if t.answers[i] != nil && (p.ask.held != nil || !slices.Contains(line, p)) {
			return nil, &ConflictError{Expected: head.Revision, Current: t.heads[0]}
		}
	}
	for i, p := range t.asking {
		if t.answers[i] != nil {
			p.ask.held = held
		}
	}
	return func(heads []Record, err error) { t.give(head.Key, held, heads, err) }, nil
}

// give tells those who were held what came of the commit.
func (t *localTurn) give(key Key, held chan struct{}, heads []Record, err error) {
	var told []*place
	t.turns.mu.Lock()
	for i, p := range t.asking {
		if t.answers[i] == nil {
			continue
		}
		p.ask.held = nil
		switch {
		case err == nil:
			p.ask.answer, p.ask.revision = t.answers[i], heads[0].Revision
			told = append(told, p)
		case errors.Is(err, ErrUnknown):
			p.ask.err = fmt.Errorf("a commit for several callers: %w", err)
			told = append(told, p)
		}
	}
	for _, p := range told {
		close(p.ask.told)
	}
	t.turns.mu.Unlock()
	close(held)
	for _, p := range told {
		t.turns.leave(key, p)
	}
}
