package postgres

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/ipalloc/ipalloc/store"
)

// Commit implements [store.Store]. It is one call of a function in the database, which is one transaction. The package comment says what the errors mean, and what it costs.
func (s *Store) Commit(ctx context.Context, head store.Record, writes []store.Write) (store.Record, error) {
	if err := s.begin(ctx); err != nil {
		return store.Record{}, err
	}
	if err := store.ValidateCommit(head, writes); err != nil {
		return store.Record{}, err
	}
	heads, err := s.commit(ctx, []store.Change{{Head: head, Writes: writes}})
	if err != nil {
		return store.Record{}, s.wrap(fmt.Errorf("commit %v: %w", head.Key, err))
	}
	return heads[0], nil
}

// CommitSeveral implements [store.SeveralCommitter]. It is one transaction, as a Commit is, and all records get the same revision.
func (s *Store) CommitSeveral(ctx context.Context, changes []store.Change) ([]store.Record, error) {
	if err := s.begin(ctx); err != nil {
		return nil, err
	}
	if err := store.ValidateSeveral(changes); err != nil {
		return nil, err
	}
	heads, err := s.commit(ctx, changes)
	if err != nil {
		return nil, s.wrap(fmt.Errorf("commit %d heads: %w", len(changes), err))
	}
	return heads, nil
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
	for attempt := 1; ; attempt++ {
		answers, err := s.apply(ctx, b)
		if err != nil {
			if attempt < maxAttempts && retriable(err) {
				continue
			}
			return nil, explain(b, err)
		}
		return b.result(answers)
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
	sql, mode := s.sql.apply, conn.Conn().Config().DefaultQueryExecMode
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

// batch is what the function apply is given, in columns: a row for each head and for each write.
type batch struct {
	keys             []store.Key
	heads            []store.Record // nothing for what is no head
	ops              []string
	expected         []int64
	kinds            []string
	pools            []string
	names            []string
	states           []string
	prefixes         []string
	created, expires []*time.Time
	data             []*string
	changed          string
	bytes            int
}

// The operations of apply.
const (
	opHead       = "h"
	opDeleteHead = "x"
	opCreate     = "c"
	opPut        = "p"
	opDelete     = "d"
)

func encodeBatch(changes []store.Change) (*batch, error) {
	b := &batch{}
	for i := range changes {
		head, writes := changes[i].Head, changes[i].Writes
		op := opHead
		if store.DeletesHead(head.Key, writes) {
			op = opDeleteHead
		}
		b.add(op, head)
		for j := range writes {
			if writes[j].Record.Key != head.Key {
				b.add(opOf(writes[j].Op), writes[j].Record)
			}
		}
	}
	b.changed = changedText(b.keys)
	return b, b.checkSize()
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

func (b *batch) add(op string, r store.Record) {
	head := store.Record{}
	switch op {
	case opHead, opDeleteHead:
		r.Created, r.Expires = timeOf(r.Created), timeOf(r.Expires)
		head = r.Canonical()
	case opDelete:
		r = store.Record{Key: r.Key}
	}
	b.keys, b.heads = append(b.keys, r.Key), append(b.heads, head)
	b.ops, b.expected = append(b.ops, op), append(b.expected, expectedOf(op, r))
	b.kinds, b.pools, b.names = append(b.kinds, string(r.Kind)), append(b.pools, r.Pool), append(b.names, r.Name)
	b.states, b.prefixes = append(b.states, r.State), append(b.prefixes, prefixArray(r.Prefixes))
	b.created, b.expires = append(b.created, timeOrNull(timeOf(r.Created))), append(b.expires, timeOrNull(timeOf(r.Expires)))
	b.data = append(b.data, dataOrNull(r.Data))
	b.bytes += len(r.Kind) + len(r.Pool) + len(r.Name) + len(r.State) + len(r.Data) + len(b.prefixes[len(b.prefixes)-1])
}

// timeOf cuts a time to the microsecond, in UTC.
func timeOf(t time.Time) time.Time { return t.UTC().Truncate(time.Microsecond) }

// expectedOf is the revision that a head must have; for what is no head one that none has.
func expectedOf(op string, r store.Record) int64 {
	if op == opHead || op == opDeleteHead {
		return r.Revision
	}
	return -1
}

func (b *batch) args() []any {
	return []any{b.ops, b.expected, b.kinds, b.pools, b.names, b.states, b.prefixes, b.created, b.expires, b.data, b.changed}
}

// How much goes into one commit. A key must fit into an entry of an index, which is at most 2,704 bytes; PostgreSQL takes messages up to 1 GiB, and has several copies
// of one in memory at once.
const (
	maxKeyBytes    = 2600
	maxCommitBytes = 128 << 20
)

func (b *batch) checkSize() error {
	for i, key := range b.keys {
		size := len(key.Kind) + len(key.Pool) + len(key.Name)
		if size > maxKeyBytes && b.ops[i] != opDelete {
			return &store.TooLargeError{What: "key in bytes", Size: int64(size), Limit: maxKeyBytes}
		}
	}
	if b.bytes > maxCommitBytes {
		return &store.TooLargeError{What: "commit in bytes", Size: int64(b.bytes), Limit: maxCommitBytes}
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
	var position int64
	f := &a.fields
	err := row.Scan(&a.outcome, &position, &a.revision, &f.state, &f.prefixes, &f.created, &f.expires, &f.data)
	a.position = int(position) - 1
	return a, err
}

// stored is the record that an answer has.
func (b *batch) stored(a answer) store.Record {
	r := store.Record{Key: b.keys[a.position], Revision: a.revision}
	a.fields.into(&r)
	return r
}

// result returns what the answers say: the new heads, or why there are none.
func (b *batch) result(answers []answer) ([]store.Record, error) {
	var heads, exist []store.Record
	for _, a := range answers {
		switch a.outcome {
		case "conflict":
			return nil, &store.ConflictError{Expected: b.expected[a.position], Current: b.stored(a)}
		case "exists":
			exist = append(exist, b.stored(a))
		default:
			head := b.heads[a.position]
			head.Revision = a.revision
			heads = append(heads, head)
		}
	}
	switch {
	case len(exist) > 0:
		return nil, &store.ExistsError{Records: exist}
	case len(heads) == 0:
		return nil, errors.New("the database gave no answer")
	}
	return heads, nil
}

// changedText tells listeners which records a commit changes, or that they are many. It is shorter than the 8,000 bytes that a notification may have.
func changedText(keys []store.Key) string {
	const most = 256
	if len(keys) > most {
		return changedMany
	}
	text := make([]string, len(keys))
	for i, key := range keys {
		text[i] = strconv.FormatUint(keyHash(key), 36)
	}
	return strings.Join(text, " ")
}
