package postgres

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/ipalloc/ipalloc/internal/retry"
	"github.com/ipalloc/ipalloc/store"
)

// Commit implements [store.Store]. It calls one function in the database, in one transaction. The package comment
// describes its errors and its cost.
func (s *Store) Commit(ctx context.Context, changes ...store.Change) ([]store.Record, error) {
	defer store.EndTurns(changes)
	if err := s.begin(ctx); err != nil {
		return nil, err
	}
	if err := store.ValidateCommit(changes...); err != nil {
		return nil, err
	}
	done, err := s.turns.Yield(ctx, changes)
	if err != nil {
		return nil, s.wrap(err)
	}
	defer done()
	given, err := s.turns.Answers(ctx, changes) // of turns in the order of this process
	if err != nil {
		return nil, s.wrap(err)
	}
	heads, err := s.commit(ctx, changes)
	given(heads, err)
	if err != nil {
		return nil, s.wrap(fmt.Errorf("commit %s: %w", headsText(changes), err))
	}
	return heads, nil
}

// headsText names the head of changes, or says how many there are.
func headsText(changes []store.Change) string {
	if len(changes) == 1 {
		return changes[0].Head.Key.String()
	}
	return fmt.Sprintf("%v and %d more heads", changes[0].Head.Key, len(changes)-1)
}

// begin returns an error if the context has ended or the store is closed.
func (s *Store) begin(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return s.wrap(err)
	}
	if s.isClosed() {
		return s.wrap(store.ErrClosed)
	}
	return nil
}

// maxAttempts is how often a commit is tried that others keep from being carried out: see retriable.
const maxAttempts = 20

func (s *Store) commit(ctx context.Context, changes []store.Change) ([]store.Record, error) {
	b, err := encodeBatch(changes)
	if err != nil {
		return nil, err
	}
	apply, t := s.apply, s.turnOf(changes)
	if t != nil {
		b.answering = t.answering()
	}
	if t != nil && t.conn != nil {
		apply = t.apply
	} else {
		b.queue(s)
	}
	for attempt := 1; ; attempt++ {
		answers, err := apply(ctx, b)
		if t != nil && t.conn != nil { // another attempt, and who waits, need its locks
			apply = s.apply
			b.queue(s)
		}
		if t != nil {
			t.leave()
		}
		if err != nil {
			if attempt < maxAttempts && retriable(err) {
				retry.GiveWay(ctx, attempt)
				continue
			}
			if isLeft(b, err) {
				return nil, s.left(ctx, b, err)
			}
			return nil, explain(b, err)
		}
		heads, err := b.result(answers)
		if err == nil && t != nil {
			t.settle()
		}
		return heads, err
	}
}

// apply sends the batch once. The error says by itself whether the outcome is unknown.
func (s *Store) apply(ctx context.Context, b *batch) ([]answer, error) {
	conn, err := s.acquire(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Release()
	// What goes wrong before the statement is sent is no reason for doubt.
	sql, mode := b.statement(&s.sql), conn.Conn().Config().DefaultQueryExecMode
	if mode == pgx.QueryExecModeCacheStatement {
		if _, err := conn.Conn().Prepare(ctx, sql, sql); err != nil {
			return nil, withContext(ctx, err)
		}
	}
	rows, err := conn.Query(ctx, sql, b.args()...)
	if err != nil {
		return nil, judge(ctx, err, false, mode)
	}
	answers, err := pgx.CollectRows(rows, scanAnswer)
	if err != nil {
		return nil, judge(ctx, err, rows.CommandTag().String() != "", mode)
	}
	return answers, nil
}

// batch is what the function apply is given, in columns: a row for each head, and then one for each write.
type batch struct {
	rows             []row
	heads            int
	ops              []string
	expected         []int64
	kinds            []string
	pools            []string
	names            []string
	states           []string
	prefixes         []string
	labels           []*string
	created, expires []*time.Time
	data             []*string
	changed          string
	lines            []int64    // of the heads, if it has no turn
	answering        *answering // nil if it does nothing to asks
}

// row is one head or write.
type row struct {
	op     string
	change int // of which it is the head
	record store.Record
}

// The operations of apply, in the order of their rows.
const (
	opHead       = "h"
	opDeleteHead = "x"
	opDelete     = "d"
	opCreate     = "c"
	opPut        = "p"
)

// rowOrder is the order of the rows, in which commits lock the records: two commits that lock several do not wait for
// one another.
func rowOrder(a, b row) int {
	return cmp.Or(cmp.Compare(rank(a.op), rank(b.op)), cmp.Compare(a.record.Kind, b.record.Kind),
		cmp.Compare(a.record.Pool, b.record.Pool), cmp.Compare(a.record.Name, b.record.Name))
}

func rank(op string) int {
	switch op {
	case opHead, opDeleteHead:
		return 0
	case opDelete:
		return 1
	default:
		return 2
	}
}

func encodeBatch(changes []store.Change) (*batch, error) {
	b := &batch{heads: len(changes), lines: []int64{}}
	for i := range changes {
		head, writes := changes[i].Head, changes[i].Writes
		op := opHead
		if changes[i].DeletesHead() {
			op = opDeleteHead
		}
		b.rows = append(b.rows, row{op, i, head.Canonical()})
		for j := range writes {
			if writes[j].Record.Key != head.Key {
				b.rows = append(b.rows, row{opOf(writes[j].Op), i, writes[j].Record})
			}
		}
	}
	slices.SortFunc(b.rows, rowOrder)
	if err := b.checkSize(); err != nil {
		return nil, err
	}
	for i := range b.rows {
		b.add(&b.rows[i])
	}
	b.changed = changedText(b.rows)
	return b, nil
}

func opOf(op store.Op) string {
	switch op {
	case store.Create:
		return opCreate
	case store.Put:
		return opPut
	default:
		return opDelete
	}
}

func (b *batch) add(w *row) {
	r := w.record
	if w.op == opDelete {
		r = store.Record{Key: r.Key}
	}
	if w.op == opHead || w.op == opDeleteHead {
		b.expected = append(b.expected, r.Revision)
	}
	b.ops, b.kinds = append(b.ops, w.op), append(b.kinds, string(r.Kind))
	b.pools, b.names = append(b.pools, r.Pool), append(b.names, r.Name)
	b.states, b.prefixes = append(b.states, r.State), append(b.prefixes, prefixArray(r.Prefixes))
	b.labels = append(b.labels, labelsOrNull(r.Labels))
	b.created, b.expires = append(b.created, timeOrNull(r.Created)), append(b.expires, timeOrNull(r.Expires))
	b.data = append(b.data, dataOrNull(r.Data))
}

// statement is what is sent, with args.
func (b *batch) statement(sql *statements) string {
	if b.answering != nil {
		return sql.applyTurn
	}
	return sql.apply
}

func (b *batch) args() []any {
	args := []any{
		b.heads, b.ops, b.expected, b.kinds, b.pools, b.names, b.states, b.prefixes, b.labels, b.created, b.expires, b.data,
		b.changed,
	}
	if a := b.answering; a != nil {
		return append(args, a.line, a.slots, a.serials, a.answers)
	}
	return append(args, b.lines)
}

// queue has the commit, which has no turn, wait behind those that have come before.
func (b *batch) queue(s *Store) {
	for i := range b.rows[:b.heads] {
		b.lines = append(b.lines, s.line(b.rows[i].record.Key))
	}
}

// How much goes into one commit. A key must fit into an entry of an index, which is at most 2,704 bytes; PostgreSQL
// takes messages up to 1 GiB, and has several copies of one in memory at once.
const (
	maxKeyBytes    = 2600
	maxCommitBytes = 128 << 20
	prefixBytes    = 44 // at most, as text
)

func (b *batch) checkSize() error {
	total := 0
	for i := range b.rows {
		w := &b.rows[i]
		size := len(w.record.Kind) + len(w.record.Pool) + len(w.record.Name)
		if size > maxKeyBytes && w.op != opDelete {
			return &store.TooLargeError{What: "key in bytes", Size: int64(size), Limit: maxKeyBytes}
		}
		total += size + len(w.record.State) + len(w.record.Data) + prefixBytes*len(w.record.Prefixes)
		for name, value := range w.record.Labels {
			total += len(name) + len(value)
		}
	}
	if total > maxCommitBytes {
		return &store.TooLargeError{What: "commit in bytes", Size: int64(total), Limit: maxCommitBytes}
	}
	return nil
}

// answer is a row that apply returns.
type answer struct {
	outcome  string
	position int // in the batch
	revision int64
	fields   fields
}

func scanAnswer(row pgx.CollectableRow) (answer, error) {
	var a answer
	f := &a.fields
	err := row.Scan(&a.outcome, &a.position, &a.revision, &f.state, &f.prefixes, &f.labels, &f.created, &f.expires,
		&f.data)
	a.position--
	return a, err
}

// stored is the record that an answer has.
func (b *batch) stored(a answer) store.Record {
	r := store.Record{Key: b.rows[a.position].record.Key, Revision: a.revision}
	a.fields.into(&r)
	return r
}

// result returns what the answers say: the new heads, or why there are none.
func (b *batch) result(answers []answer) ([]store.Record, error) {
	heads := make([]store.Record, b.heads)
	var exist []store.Record
	for _, a := range answers {
		switch w := &b.rows[a.position]; a.outcome {
		case "conflict":
			return nil, &store.ConflictError{Expected: w.record.Revision, Current: b.stored(a)}
		case "exists":
			exist = append(exist, b.stored(a))
		default:
			heads[w.change] = w.record
			heads[w.change].Revision = a.revision
		}
	}
	if len(exist) > 0 {
		return nil, &store.ExistsError{Records: exist}
	}
	return heads, nil
}

// changedText tells listeners which records a commit changes, or that they are many. It is shorter than the 8,000 bytes
// that a notification may have.
func changedText(rows []row) string {
	const most = 256
	if len(rows) > most {
		return changedMany
	}
	text := make([]string, len(rows))
	for i := range rows {
		text[i] = strconv.FormatUint(keyHash(rows[i].record.Key), 36)
	}
	return strings.Join(text, " ")
}
