package mysql

import (
	"bytes"
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/ipalloc/ipalloc/store"
)

var (
	_ store.Grouper   = (*Store)(nil)
	_ store.GroupTurn = (*turn)(nil)
)

// Join implements [store.Grouper]. A waiting call has a row in table ask, in a transaction that is never committed, and
// waits in one line with calls of Turn. The commit that answers it writes the answer in its own transaction.
//
// It uses connections as Turn does. Through a db of one connection, only callers of this Store commit for one another.
//
// Cost: one round trip, and the time for which others have their turns. After an error, one more, which is a commit.
func (s *Store) Join(ctx context.Context, key store.Key, ask []byte) (store.GroupTurn, error) {
	if err := s.begin(ctx); err != nil {
		return nil, s.wrap(err)
	}
	if err := store.ValidateJoin(key, ask); err != nil {
		return nil, err
	}
	if s.isSingle() {
		return s.turns.Join(ctx, s.Get, key, ask)
	}
	done, err := s.turns.Wait(ctx, key)
	if err != nil {
		return nil, s.wrap(err)
	}
	t := &turn{store: s, done: done, lines: []string{s.line(key)}}
	if err := t.join(ctx, key, ask); err != nil {
		return store.EndJoin(t, s.wrap(fmt.Errorf("turn at %v: %w", key, err)))
	}
	if t.answer != nil {
		t.End()
	}
	return t, nil
}

// asking is the part of a turn that has to do with asks.
type asking struct {
	own     string // the id of the own ask, while it is not known what became of it
	asked   time.Time
	ids     []string // of the asks
	asks    [][]byte
	answers [][]byte // to them; nil for none

	// What became of the own ask, and whether that is not known.
	answer   []byte
	revision int64
	unknown  error
}

// errLost says that an answer may have been removed before its caller looked for it.
var errLost = errors.New("the wait was so long that an answer would have been removed")

// errUntold says that the server has said nothing of an ask, which is not the same as that it was not answered.
var errUntold = errors.New("the server has not said what became of what was asked for")

// askLife is for how long an answer is there for sure. Procedure join_line has it too.
const askLife = 5 * time.Minute

// What join_line and withdraw return.
const (
	joinAnswer = "answer"
	joinAsk    = "ask"
	joinLost   = "lost"
	joinNone   = "none"
)

// join leaves the ask, and waits for the turn, or for the answer.
func (t *turn) join(ctx context.Context, key store.Key, ask []byte) error {
	text, err := keysText([]store.Key{key})
	if err != nil {
		return err
	}
	heads, over := recordsWith([]store.Key{key}), false
	err = t.enter(ctx, func(conn *sql.Conn) error {
		if len(ask) > 0 {
			t.own, t.asked = newID(), now()
		}
		args := []any{t.lines[0], patience(ctx), text, t.own, bytes.Clone(ask)}
		return call(ctx, conn, t.store.sql.join, args, func(r *reply) error {
			switch r.outcome {
			case joinAsk:
				return t.hear(r)
			case joinAnswer, joinLost:
				over = true
				return t.take(r)
			}
			return r.intoOneOf(heads)
		})
	})
	if err != nil {
		return err
	}
	t.own = ""
	if over { // the procedure has given the lock back
		_ = t.conn.Close()
		t.conn = nil
		t.free()
		return t.unknown
	}
	t.heads, t.answers = heads, make([][]byte, len(t.asks))
	return nil
}

// newID is the id of an ask, in hexadecimal.
func newID() string {
	var id [16]byte
	_, _ = rand.Read(id[:])
	return hex.EncodeToString(id[:])
}

// hear takes the ask of another.
func (t *turn) hear(r *reply) error {
	const values = 2
	if len(r.values) != values {
		return fmt.Errorf("the server's answer %q has %d columns", r.outcome, len(r.values)+1)
	}
	t.ids, t.asks = append(t.ids, r.values[0].String), append(t.asks, []byte(r.values[1].String))
	return nil
}

// take takes what is known of the own ask.
func (t *turn) take(r *reply) (err error) {
	const values = 2
	switch {
	case r.outcome == joinLost:
		t.unknown = fmt.Errorf("%w: %w", store.ErrUnknown, errLost)
	case r.outcome == joinNone:
		t.unknown = nil
	case r.outcome != joinAnswer || len(r.values) != values:
		return fmt.Errorf("the server's answer %q has %d columns", r.outcome, len(r.values)+1)
	default:
		t.unknown, t.answer = nil, []byte(r.values[1].String)
		t.revision, err = r.number(0)
	}
	return err
}

// Asks implements [store.GroupTurn].
func (t *turn) Asks() [][]byte { return t.asks }

// Answer implements [store.GroupTurn].
func (t *turn) Answer(i int, answer []byte) { t.answers[i] = bytes.Clone(answer) }

// Answered implements [store.GroupTurn].
func (t *turn) Answered() (answer []byte, revision int64, err error) {
	return bytes.Clone(t.answer), t.revision, t.unknown
}

// Next implements [store.GroupTurn]: the server passes the turn on by itself.
func (t *turn) Next() store.GroupTurn { return nil }

// withdrawTime is how long it is tried to withdraw an ask.
const withdrawTime = 3 * time.Second

// withdraw takes the own ask back, and finds out whether it has been answered, unless it is known what became of it.
func (t *turn) withdraw() {
	if t.own == "" {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), withdrawTime)
	defer cancel()
	for {
		err := t.tryWithdraw(ctx)
		if err == nil {
			t.own = ""
			return
		}
		t.unknown = fmt.Errorf("%w: withdraw what was asked for: %w", store.ErrUnknown, err)
		if errors.Is(err, errLost) || errors.Is(err, store.ErrClosed) {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(withdrawTime / 100):
		}
	}
}

// tryWithdraw tries it once.
func (t *turn) tryWithdraw(ctx context.Context) error {
	if now().Sub(t.asked) > askLife {
		return errLost
	}
	conn, err := t.store.acquire(ctx)
	if err != nil {
		return err
	}
	told := false
	err = call(ctx, conn, t.store.sql.withdraw, []any{t.lines[0], t.own}, func(r *reply) error {
		told = true
		return t.take(r)
	})
	if err == nil && !told {
		err = errUntold
	}
	if err != nil {
		discard(conn)
		return withContext(ctx, err)
	}
	return conn.Close()
}

// answering are the answers that a commit with a turn gives. A nil one gives none.
type answering struct {
	line, items string
	head        store.Record // with which the turn began
}

// answerItem is an answer as procedure apply takes it.
type answerItem struct {
	ID     string `json:"i"`
	Answer string `json:"a"`
}

// answering returns nil if there are no answers.
func (t *turn) answering() (*answering, error) {
	var items []answerItem
	for i, answer := range t.answers {
		if answer != nil {
			items = append(items, answerItem{t.ids[i], base64.StdEncoding.EncodeToString(answer)})
		}
	}
	if len(items) == 0 {
		return nil, nil
	}
	text, err := jsonText(items)
	return &answering{line: t.lines[0], items: text, head: t.heads[0]}, err
}

// lineOf and text are the arguments of procedure apply.
func (a *answering) lineOf() any {
	if a == nil {
		return nil
	}
	return a.line
}

func (a *answering) text() any {
	if a == nil {
		return nil
	}
	return a.items
}

// errLeft says that one that was to be answered has left.
var errLeft = errors.New("one that was to be answered has left")

// left is the error of a commit that could not give its answers, for the reason err.
func (s *Store) left(ctx context.Context, b *batch, err error) error {
	conflict := &store.ConflictError{Expected: b.answering.head.Revision}
	for i := range b.rows[:b.heads] {
		if r := &b.rows[i].record; r.Key == b.answering.head.Key {
			conflict.Expected = r.Revision
		}
	}
	current, failed := s.GetAll(ctx, b.answering.head.Key)
	if failed != nil {
		return errors.Join(failed, err)
	}
	conflict.Current = current[0]
	return errors.Join(conflict, err)
}
