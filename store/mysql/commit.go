package mysql

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/ipalloc/ipalloc/internal/retry"
	"github.com/ipalloc/ipalloc/store"
)

// Commit implements [store.Store]. It calls one procedure, which makes one transaction. The package comment describes
// its errors and its cost.
func (s *Store) Commit(ctx context.Context, changes ...store.Change) ([]store.Record, error) {
	defer store.EndTurns(changes)
	if err := s.begin(ctx); err != nil {
		return nil, s.wrap(err)
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

// maxAttempts is how often a commit is tried that others keep from being carried out: see retriable.
const maxAttempts = 20

func (s *Store) commit(ctx context.Context, changes []store.Change) ([]store.Record, error) {
	b, err := s.encodeBatch(changes)
	if err != nil {
		return nil, err
	}
	apply, t := s.apply, s.turnOf(changes)
	if t != nil {
		if b.answering, err = t.answering(); err != nil {
			return nil, err
		}
		if t.conn != nil {
			apply = t.apply
		}
	}
	for attempt := 1; ; attempt++ {
		heads, err := apply(ctx, b)
		if t != nil { // another attempt, and others that wait, need its locks
			t.leave()
			apply = s.apply
		}
		switch {
		case err == nil:
			return heads, nil
		case attempt == maxAttempts || !retriable(err):
			return nil, explain(err)
		case b.answering != nil: // only who has the lock may give answers
			return nil, s.left(ctx, b, err)
		}
		retry.GiveWay(ctx, attempt)
	}
}

// apply sends the batch once, without a turn. The error says by itself whether the outcome is unknown.
func (s *Store) apply(ctx context.Context, b *batch) ([]store.Record, error) {
	leave, err := s.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	conn, err := s.acquire(ctx)
	if err != nil {
		return nil, err
	}
	stop := s.patrol(b.lines...)
	defer stop()
	return s.send(ctx, conn, b, strings.Join(b.lines, ""))
}

// enter takes one of the places for calls that wait in the server, and returns what gives it back.
func (s *Store) enter(ctx context.Context) (leave func(), err error) {
	if cap(s.locking) == 0 {
		return func() {}, nil
	}
	select {
	case s.locking <- struct{}{}:
		return func() { <-s.locking }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// send sends the batch on the connection, of which the session has all locks but those named. It gives the connection
// back, or closes it.
func (s *Store) send(ctx context.Context, conn *sql.Conn, b *batch, locks string) ([]store.Record, error) {
	result, done := b.newResult(), false
	args := []any{locks, patience(ctx), b.items, b.addresses, b.labels, b.answering.lineOf(), b.answering.text()}
	err := s.checkSize(args)
	if err == nil {
		err = call(ctx, conn, s.sql.apply, args, func(r *reply) error {
			done = done || r.outcome == outcomeDone
			result.take(r)
			return nil
		})
		err = judge(withContext(ctx, err), done)
	}
	if err != nil && !isCleanedUp(err) {
		discard(conn)
		return nil, err
	}
	_ = conn.Close() // which gives it back
	if err != nil {
		return nil, err
	}
	return result.heads, result.err()
}

// longestWait is how long a call waits in the server for locks, in seconds.
const longestWait = 3600

// patience is how long a call that has ctx waits in the server, in seconds.
func patience(ctx context.Context) int {
	end, ok := ctx.Deadline()
	if !ok {
		return longestWait
	}
	return min(longestWait, int(end.Sub(now()).Seconds())+1)
}

// batch is what the procedure apply is given.
type batch struct {
	rows      []row
	heads     int
	lines     []string // of the heads, in order
	items     string
	addresses any        // JSON, or nil if there are none
	labels    any        // the same
	answering *answering // nil if it gives no answers
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
	return cmp.Or(cmp.Compare(rank(a.op), rank(b.op)), a.record.Key.Compare(b.record.Key))
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

// item is a row as procedure apply takes it.
type item struct {
	Op       string `json:"o"`
	Expected int64  `json:"r,omitempty"`
	Kind     string `json:"k"`
	Pool     string `json:"p"`
	Name     string `json:"n"`
	State    string `json:"s"`
	Prefixes string `json:"a"`
	Labels   string `json:"l"`
	Created  string `json:"b,omitempty"`
	Expires  string `json:"e,omitempty"`
	Data     string `json:"d,omitempty"`
}

func (s *Store) encodeBatch(changes []store.Change) (*batch, error) {
	b := &batch{rows: rowsOf(changes), heads: len(changes)}
	items, addresses, labels := make([]item, len(b.rows)), []address(nil), []label(nil)
	for i := range b.rows {
		w := &b.rows[i]
		if i < b.heads {
			b.lines = append(b.lines, s.line(w.record.Key))
		}
		var err error
		if items[i], err = newItem(w); err != nil {
			return nil, err
		}
		if w.op != opDelete && w.op != opDeleteHead {
			addresses = append(addresses, addressesOf(&w.record)...)
			labels = append(labels, labelsOf(&w.record)...)
		}
	}
	var err error
	if b.items, err = jsonText(items); err != nil {
		return nil, err
	}
	if len(addresses) > 0 {
		if b.addresses, err = jsonText(addresses); err != nil {
			return nil, err
		}
	}
	if len(labels) > 0 {
		b.labels, err = jsonText(labels)
	}
	return b, err
}

// rowsOf are the heads and the other writes, in the order of apply.
func rowsOf(changes []store.Change) (rows []row) {
	for i := range changes {
		head, writes := changes[i].Head, changes[i].Writes
		op := opHead
		if changes[i].DeletesHead() {
			op = opDeleteHead
		}
		rows = append(rows, row{op, i, head.Canonical()})
		for j := range writes {
			switch r := writes[j].Record; {
			case r.Key == head.Key:
			case writes[j].Op == store.Delete:
				rows = append(rows, row{opDelete, i, store.Record{Key: r.Key}})
			default:
				rows = append(rows, row{opOf(writes[j].Op), i, r.Canonical()})
			}
		}
	}
	slices.SortFunc(rows, rowOrder)
	return rows
}

func opOf(op store.Op) string {
	if op == store.Create {
		return opCreate
	}
	return opPut
}

func newItem(w *row) (item, error) {
	r := &w.record
	it := item{
		Op: w.op, Kind: string(r.Kind), Pool: r.Pool, Name: r.Name, State: r.State, Prefixes: "[]",
		Created: timeText(r.Created), Expires: timeText(r.Expires), Data: string(r.Data),
	}
	if w.op == opHead || w.op == opDeleteHead {
		it.Expected = r.Revision
	}
	var err error
	if it.Labels, err = labelsText(r.Labels); err != nil || len(r.Prefixes) == 0 {
		return it, err
	}
	it.Labels = strings.TrimSuffix(it.Labels, "\n")
	it.Prefixes, err = jsonText(r.Prefixes)
	it.Prefixes = strings.TrimSuffix(it.Prefixes, "\n")
	return it, err
}

// maxPacket is the largest packet that MySQL takes, however it is configured, and callBytes how many bytes a call has
// beside its arguments, at most.
const (
	maxPacket = 1 << 30
	callBytes = 512
)

// checkSize returns an error if the arguments are too large for one packet. In a statement, which the driver writes
// unless it is told not to, some characters take two bytes.
func (s *Store) checkSize(args []any) error {
	size := callBytes
	for _, arg := range args {
		if text, ok := arg.(string); ok {
			size += len(text)
			for _, escaped := range "\"'\\\n" {
				size += strings.Count(text, string(escaped))
			}
		}
	}
	if size > s.packet {
		return &store.TooLargeError{What: "commit in bytes, as sent", Size: int64(size), Limit: int64(s.packet)}
	}
	return nil
}

// What the procedure apply returns.
const (
	outcomeDone     = "done"
	outcomeConflict = "conflict"
	outcomeExists   = "exists"
	outcomeOverlap  = "overlap"
	outcomeLeft     = "left"
)

// result is what became of a batch.
type result struct {
	batch   *batch
	heads   []store.Record // as they are stored; nil if they are not
	refused error
	exist   []store.Record
	broken  error // of reading it
}

func (b *batch) newResult() *result { return &result{batch: b} }

// take takes a row that apply has returned.
func (a *result) take(r *reply) {
	var err error
	switch r.outcome {
	case outcomeDone:
		var revision int64
		if revision, err = r.number(0); err == nil {
			a.heads = a.batch.stored(revision)
		}
	case outcomeConflict:
		var i int
		var current store.Record
		i, current, err = a.batch.found(r)
		a.refused = &store.ConflictError{Expected: a.batch.rows[i].record.Revision, Current: current}
	case outcomeExists:
		var found store.Record
		_, found, err = a.batch.found(r)
		a.exist = append(a.exist, found)
	case outcomeOverlap:
		a.refused, err = overlapError(r)
	case outcomeLeft:
		a.refused = errLeft
	default:
		err = fmt.Errorf("the server's answer is %q", r.outcome)
	}
	a.broken = errors.Join(a.broken, err)
}

// err is the reason for which nothing was changed.
func (a *result) err() error {
	switch {
	case a.broken != nil:
		return a.broken
	case a.refused != nil:
		return a.refused
	case len(a.exist) > 0:
		return &store.ExistsError{Records: a.exist}
	case a.heads == nil:
		return errVanished
	}
	return nil
}

// found is the record that a reply has, and of which row.
func (b *batch) found(r *reply) (i int, found store.Record, err error) {
	if i, err = r.index(len(b.rows)); err != nil {
		return 0, found, err
	}
	found, err = r.record(b.rows[i].record.Key)
	return i, found, err
}

// stored are the heads as the commit of the revision has stored them.
func (b *batch) stored(revision int64) []store.Record {
	heads := make([]store.Record, b.heads)
	for _, w := range b.rows[:b.heads] {
		heads[w.change] = w.record
		heads[w.change].Revision = revision
	}
	return heads
}
