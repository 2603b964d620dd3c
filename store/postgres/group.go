package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/ipalloc/ipalloc/store"
)

var (
	_ store.Grouper   = (*Store)(nil)
	_ store.GroupTurn = (*turn)(nil)
)

// Join implements [store.Grouper]. A waiting call has a row in table ask, and waits in one line with calls of Turn. The
// commit that answers it writes the answer in its own transaction.
//
// It uses connections as Turn does. A call that got an answer may keep its connection for some milliseconds, for the
// next Join. Through a pool of one connection, only callers of this Store commit for one another.
//
// Cost: one round trip, and the time for which others have their turns. After an error, one or two more.
func (s *Store) Join(ctx context.Context, key store.Key, ask []byte) (store.GroupTurn, error) {
	if err := s.begin(ctx); err != nil {
		return nil, err
	}
	if err := store.ValidateJoin(key, ask); err != nil {
		return nil, err
	}
	if cap(s.locking) == 0 {
		return s.turns.Join(ctx, s.Get, key, ask)
	}
	done, err := s.turns.Wait(ctx, key)
	if err != nil {
		return nil, s.wrap(err)
	}
	t := &turn{store: s, done: done, asking: asking{line: s.line(key)}}
	if err := t.join(ctx, key, ask); err != nil {
		return store.EndJoin(t, s.wrap(fmt.Errorf("turn at %v: %w", key, err)))
	}
	if t.answer != nil {
		t.End()
	}
	return t, nil
}

// place is where an ask is found: its row, and which of the asks that this row had.
type place struct{ slot, serial int64 }

// slots are the numbers of a Store's rows in table ask. One call at a time uses a number, and later ones use it again.
type slots struct {
	mu     sync.Mutex
	free   []int64
	serial int64
}

// take returns a place for an ask.
func (s *slots) take() place {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.serial++
	if n := len(s.free); n > 0 {
		slot := s.free[n-1]
		s.free = s.free[:n-1]
		return place{slot, s.serial}
	}
	return place{rand.Int64() | 1, s.serial} // not 0
}

// put takes a slot back, of which it is known what became of its ask.
func (s *slots) put(p place) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.free = append(s.free, p.slot)
}

// sweepEvery is how often a Store removes rows of table ask that others have left.
const sweepEvery = 10 * time.Second

// sweeping tells when to sweep next.
type sweeping struct{ done atomic.Bool }

// due reports whether it is time, once each time.
func (s *sweeping) due() bool {
	if !s.done.CompareAndSwap(false, true) {
		return false
	}
	time.AfterFunc(sweepEvery, func() { s.done.Store(false) })
	return true
}

// asking is the part of a turn that has to do with asks.
type asking struct {
	line    int64
	own     place // of the own ask, if nothing is known of what became of it; else the zero place
	others  []place
	asks    [][]byte
	answers [][]byte // to them; nil for none
	over    bool     // the turn has ended

	// What became of the own ask, and whether that is not known.
	answer   []byte
	revision int64
	unknown  error
}

// errLost says that the row of an ask is not there.
var errLost = errors.New("what was asked for is not in the table any more")

// The answers of join_line and withdraw.
const (
	joinAnswer = "answer"
	joinLost   = "lost"
	joinHead   = "head"
	joinAsk    = "ask"
)

// join leaves the ask, and waits for the turn, or for the answer.
func (t *turn) join(ctx context.Context, key store.Key, ask []byte) error {
	batch := &pgx.Batch{}
	if err := t.connect(ctx, batch); err != nil {
		return err
	}
	if err := t.prepare(ctx, t.store.sql.ask, t.store.sql.join); err != nil {
		return err
	}
	if len(ask) > 0 {
		t.own = t.store.slots.take()
		batch.Queue(t.store.sql.ask, t.line, t.own.slot, t.own.serial, string(key.Kind), key.Pool, key.Name, ask)
		batch.Queue("COMMIT AND CHAIN")
	}
	head, over := store.Record{Key: key}, false
	batch.Queue(t.store.sql.join, t.line, t.own.slot, t.own.serial, string(key.Kind), key.Pool, key.Name,
		store.MaxTurn.Milliseconds(), t.store.sweeping.due()).
		Query(func(rows pgx.Rows) error {
			return eachJoined(rows, func(j *joined) { over = t.hear(j, &head) || over })
		})
	if err := t.conn.SendBatch(ctx, batch).Close(); err != nil {
		if pgconn.SafeToRetry(err) {
			t.settle()
		}
		return withContext(ctx, err)
	}
	switch {
	case !over:
		t.heads, t.answers = []store.Record{head}, make([][]byte, len(t.asks))
		return nil
	case t.answer == nil:
		return errLost
	}
	t.settle()
	t.park()
	return nil
}

// prepare prepares statements, so that what goes wrong afterwards has been sent.
func (t *turn) prepare(ctx context.Context, statements ...string) error {
	conn := t.conn.Conn()
	if conn.Config().DefaultQueryExecMode != pgx.QueryExecModeCacheStatement {
		return nil
	}
	for _, sql := range statements {
		if _, err := conn.Prepare(ctx, sql, sql); err != nil {
			return withContext(ctx, err)
		}
	}
	return nil
}

// settle notes that it is known what became of the own ask.
func (t *turn) settle() {
	if t.own != (place{}) {
		t.store.slots.put(t.own)
		t.own = place{}
	}
}

// hear takes a row of join_line. It reports whether the turn is over.
func (t *turn) hear(j *joined, head *store.Record) bool {
	switch j.what {
	case joinHead:
		head.Revision = j.revision
		j.fields.into(head)
	case joinAsk:
		t.asks, t.others = append(t.asks, j.bytes), append(t.others, j.place)
	case joinAnswer:
		t.answer, t.revision = j.bytes, j.revision
		return true
	case joinLost:
		return true
	}
	return false
}

// joined is a row of join_line.
type joined struct {
	what     string
	bytes    []byte
	place    place
	revision int64
	fields   fields
}

func eachJoined(rows pgx.Rows, do func(*joined)) error {
	for rows.Next() {
		var j joined
		var slot, serial, revision *int64
		f := &j.fields
		if err := rows.Scan(&j.what, &j.bytes, &slot, &serial, &revision, &f.state, &f.prefixes, &f.labels, &f.created,
			&f.expires, &f.data); err != nil {
			return err
		}
		j.place, j.revision = place{orZero(slot), orZero(serial)}, orZero(revision)
		do(&j)
	}
	return rows.Err()
}

func orZero(n *int64) int64 {
	if n == nil {
		return 0
	}
	return *n
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
	if t.own == (place{}) {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), withdrawTime)
	defer cancel()
	for {
		err := t.tryWithdraw(ctx)
		if err == nil {
			t.settle()
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
	conn, err := t.store.acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	var w withdrawn
	if err := w.scan(conn.QueryRow(ctx, t.store.sql.withdraw, t.line, t.own.slot, t.own.serial)); err != nil {
		return withContext(ctx, err)
	}
	return t.take(&w)
}

// endWithdrawn ends the turn's transaction with the withdrawal of the ask, so that the next turn does not see it. If
// that fails, the turn is as it was.
func (t *turn) endWithdrawn() {
	ctx, cancel := context.WithTimeout(context.Background(), store.MaxTurn)
	defer cancel()
	var w withdrawn
	batch := &pgx.Batch{}
	batch.Queue(t.store.sql.withdraw, t.line, t.own.slot, t.own.serial).QueryRow(w.scan)
	batch.Queue("COMMIT")
	if t.conn.SendBatch(ctx, batch).Close() != nil {
		return
	}
	t.store.release(t.conn)
	t.conn = nil
	if t.take(&w) == nil {
		t.settle()
	}
}

// withdrawn is what withdraw returns.
type withdrawn struct {
	what     string
	answer   []byte
	revision *int64
}

func (w *withdrawn) scan(row pgx.Row) error { return row.Scan(&w.what, &w.answer, &w.revision) }

// take takes what is known of the own ask when it is withdrawn.
func (t *turn) take(w *withdrawn) error {
	if w.what == joinLost {
		return errLost
	}
	t.unknown = nil
	if w.what == joinAnswer {
		t.answer, t.revision = w.answer, orZero(w.revision)
	}
	return nil
}

// answering is what a commit with a turn does to asks: it gives the answers, and takes the own ask back.
type answering struct {
	line           int64
	slots, serials []int64
	answers        [][]byte // nil for the own ask
	turn           *turn
}

// answering returns nil if there is nothing to do to asks.
func (t *turn) answering() *answering {
	a := &answering{line: t.line, turn: t}
	add := func(p place, answer []byte) {
		a.slots, a.serials, a.answers = append(a.slots, p.slot), append(a.serials, p.serial), append(a.answers, answer)
	}
	for i, answer := range t.answers {
		if answer != nil {
			add(t.others[i], answer)
		}
	}
	if t.own != (place{}) {
		add(t.own, nil)
	}
	if len(a.slots) == 0 {
		return nil
	}
	return a
}

// left is the error of a commit that was to answer one that has left, for the reason err.
func (s *Store) left(ctx context.Context, b *batch, err error) error {
	key := b.answering.turn.heads[0].Key
	conflict := &store.ConflictError{Expected: b.answering.turn.heads[0].Revision}
	for i := range b.rows[:b.heads] {
		if r := &b.rows[i].record; r.Key == key {
			conflict.Expected = r.Revision
		}
	}
	current, failed := s.GetAll(ctx, key)
	if failed != nil {
		return errors.Join(failed, err)
	}
	conflict.Current = current[0]
	return errors.Join(conflict, err)
}

// isLeft reports whether a commit was refused because one has left that it was to answer.
func isLeft(b *batch, err error) bool {
	var refused *pgconn.PgError
	return b.answering != nil && !errors.Is(err, store.ErrUnknown) && errors.As(err, &refused) && refused.Code == codeLeft
}
