package postgres

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"slices"
	"strconv"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/ipalloc/ipalloc/store"
)

// Turn implements [store.Store]. The order is that in which PostgreSQL lets transactions lock the heads' rows. Commits
// without a turn wait in the same order, so they overtake no turn. The commit of the turn runs in the transaction that
// has the locks. Only one call of a Store at a time waits in the server for each head.
//
// A turn takes a connection from the pool until it ends; reads by the caller meanwhile may need a second one. Through a
// pool of one connection, turns are in order within this Store only.
//
// Cost: one round trip, and the time for which others have their turns.
func (s *Store) Turn(ctx context.Context, keys ...store.Key) (store.Turn, error) {
	if err := s.begin(ctx); err != nil {
		return nil, err
	}
	if cap(s.locking) == 0 {
		return s.turns.Turn(ctx, s.Get, keys...)
	}
	done, err := s.turns.Wait(ctx, keys...)
	if err != nil {
		return nil, s.wrap(err)
	}
	t := &turn{store: s, done: done}
	if err := t.lock(ctx, keys); err != nil {
		t.End()
		return nil, s.wrap(fmt.Errorf("turn at %v: %w", keys[0], err))
	}
	return t, nil
}

// turn is a transaction that has locked heads.
type turn struct {
	store *Store
	heads []store.Record
	done  func() // lets others of this Store go on
	once  sync.Once
	conn  *pgxpool.Conn // nil if there is no transaction
	asking
}

// Heads implements [store.Turn].
func (t *turn) Heads() []store.Record { return t.heads }

// The statements of a turn, beside the one that locks a head. The server ends a turn that lasts too long, by closing
// the connection. It serves those that wait for an advisory lock in their order, which it does not for a row that
// changes.
var (
	beginTurn = "BEGIN ISOLATION LEVEL READ COMMITTED"
	queueTurn = "SELECT pg_advisory_xact_lock($1), set_config('idle_in_transaction_session_timeout', '" +
		strconv.FormatInt(store.MaxTurn.Milliseconds(), 10) + "', true)"
)

// lock begins the transaction, and waits for the locks. Each head is read as it is when its lock is there.
func (t *turn) lock(ctx context.Context, keys []store.Key) error {
	batch, found := &pgx.Batch{}, make(map[store.Key]store.Record, len(keys))
	if err := t.connect(ctx, batch); err != nil {
		return err
	}
	ordered := slices.SortedFunc(slices.Values(keys), store.Key.Compare)
	for _, key := range ordered {
		batch.Queue(queueTurn, t.store.line(key))
	}
	for _, key := range ordered {
		batch.Queue(t.store.sql.lock, string(key.Kind), key.Pool, key.Name).Query(func(rows pgx.Rows) error {
			records, err := pgx.CollectRows(rows, scanRecord)
			for _, r := range records {
				found[key] = r
			}
			return err
		})
	}
	if err := t.conn.SendBatch(ctx, batch).Close(); err != nil {
		return withContext(ctx, err)
	}
	for _, key := range keys {
		head := found[key]
		head.Key = key
		t.heads = append(t.heads, head)
	}
	return nil
}

// connect takes a connection, with a transaction that the batch begins, or that another turn has left open.
func (t *turn) connect(ctx context.Context, batch *pgx.Batch) error {
	s := t.store
	select {
	case p := <-s.parking:
		t.conn = p.leave()
		return nil
	default:
	}
	select {
	case p := <-s.parking:
		t.conn = p.leave()
		return nil
	case s.locking <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	conn, err := s.acquire(ctx)
	if err != nil {
		<-s.locking
		return err
	}
	t.conn = conn
	batch.Queue(beginTurn)
	return nil
}

// line is the number of the advisory lock for which the turns at the key wait.
func (s *Store) line(key store.Key) int64 {
	h := fnv.New64a()
	fmt.Fprintf(h, "ipalloc turn %q %q %q %q", s.schema, key.Kind, key.Pool, key.Name)
	return int64(h.Sum64())
}

// turnOf returns this store's turn among the changes that has not ended, or nil.
func (s *Store) turnOf(changes []store.Change) *turn {
	for i := range changes {
		if t, ok := changes[i].Turn.(*turn); ok && t.store == s && !t.over {
			return t
		}
	}
	return nil
}

// errTurnOver says that a turn ended before its commit, of which nothing has happened.
var errTurnOver = errors.New("the turn is over")

// apply sends the batch in the transaction of the turn, and commits that. The turn has no transaction any more then.
// The error says by itself whether the outcome is unknown.
func (t *turn) apply(ctx context.Context, b *batch) (answers []answer, err error) {
	mode := t.conn.Conn().Config().DefaultQueryExecMode
	applied := false
	all := &pgx.Batch{}
	all.Queue(b.statement(&t.store.sql), b.args()...).Query(func(rows pgx.Rows) error {
		answers, err = pgx.CollectRows(rows, scanAnswer)
		applied = err == nil
		return err
	})
	all.Queue("COMMIT")
	if err := t.conn.SendBatch(ctx, all).Close(); err != nil {
		err = judge(ctx, err, applied, mode)
		var refused *pgconn.PgError
		if errors.As(err, &refused) && refused.Code == codeIdleTimeout && !errors.Is(err, store.ErrUnknown) {
			err = fmt.Errorf("%w: %w", errTurnOver, err)
		}
		return nil, err
	}
	t.store.release(t.conn)
	t.conn = nil
	return answers, nil
}

// End implements [store.Turn].
func (t *turn) End() {
	t.once.Do(func() {
		t.over = true
		if t.conn != nil && t.own != (place{}) {
			t.endWithdrawn()
		}
		t.leave()
		t.withdraw()
	})
}

// leave lets those go on who wait.
func (t *turn) leave() {
	if t.conn != nil {
		t.store.rollback(t.conn)
		t.conn = nil
	}
	t.done()
}
