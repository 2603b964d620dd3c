package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	lib "modernc.org/sqlite/lib"

	"github.com/ipalloc/ipalloc/store"
)

// maxRecordBytes is how large a record may be.
const maxRecordBytes = 1_000_000_000

// Commit implements [store.Store]. It is one transaction: O(log of the records stored) for each head and write, and one
// flush of the log. Now and then it also moves what is in the log into the file, with two flushes more. The context is
// honoured while the commit waits for other commits, and not later.
//
// [syscall.ENOSPC] for a full disk, and any other error without [store.ErrUnknown], means that nothing was changed; the
// store works again when there is room. The error wraps [store.ErrUnknown] if the disk failed in the last step, or if
// the file was removed or replaced during the commit. [store.ErrTooLarge] is returned for a record of more than 10^9
// bytes.
func (s *Store) Commit(ctx context.Context, changes ...store.Change) (heads []store.Record, err error) {
	defer store.EndTurns(changes)
	if err := ctx.Err(); err != nil {
		return nil, s.wrap(err)
	}
	if err := store.ValidateCommit(changes...); err != nil {
		return nil, err
	}
	if !s.hasTurn(changes) {
		end, err := s.line.wait(ctx)
		if err != nil {
			return nil, s.wrap(fmt.Errorf("wait to commit: %w", err))
		}
		defer end()
	}
	heads, err = s.commit(ctx, changes)
	if err == nil || errors.Is(err, store.ErrUnknown) {
		s.waiting.wake(changes)
	}
	return heads, s.wrap(translate(err))
}

// commit makes the transaction of a commit.
func (s *Store) commit(ctx context.Context, changes []store.Change) ([]store.Record, error) {
	c, err := s.take(ctx)
	if err != nil {
		return nil, err
	}
	_, err = retry(ctx, func() (struct{}, error) { return struct{}{}, c.do("BEGIN IMMEDIATE") })
	if err != nil {
		s.conns.put(c)
		return nil, err
	}
	heads, err := c.apply(changes)
	if err == nil {
		err = c.shrink()
	}
	if err == nil {
		err = unlessFull(c.do("COMMIT"))
	}
	if err != nil {
		s.cancel(c)
		return nil, err
	}
	s.conns.put(c)
	if err := s.files.check(); err != nil {
		return nil, fmt.Errorf("%w: %w", store.ErrUnknown, err)
	}
	return heads, nil
}

// cancel ends the transaction of a commit that has failed, if SQLite has not done that itself.
func (s *Store) cancel(c *conn) {
	if err := c.do("ROLLBACK"); err == nil {
		s.conns.put(c)
		return
	}
	s.conns.drop(c)
}

// unlessFull returns what an error of COMMIT means. Where there was no room, the last page is missing in the log, and
// without that the others do not count. After any other error it may yet be there.
func unlessFull(err error) error {
	if primary, _ := code(err); err == nil || primary == lib.SQLITE_FULL {
		return err
	}
	return fmt.Errorf("%w: %w", store.ErrUnknown, err)
}

// The statements of a commit.
const (
	revisionSQL = "SELECT revision FROM record WHERE kind = ? AND pool = ? AND name = ?"
	indexedSQL  = "SELECT prefixes, labels FROM record WHERE kind = ? AND pool = ? AND name = ?"
	latestSQL   = "UPDATE latest SET revision = revision + 1 RETURNING revision"
	putSQL      = "INSERT INTO record (" + columns + ") VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) " +
		"ON CONFLICT (kind, pool, name) DO UPDATE SET revision = excluded.revision, state = excluded.state, " +
		"prefixes = excluded.prefixes, labels = excluded.labels, created = excluded.created, " +
		"expires = excluded.expires, data = excluded.data"
	deleteSQL        = "DELETE FROM record WHERE kind = ? AND pool = ? AND name = ?"
	deleteAddressSQL = "DELETE FROM address " +
		"WHERE kind = ? AND pool = ? AND family = ? AND first = ? AND bits = ? AND name = ?"
	putAddressSQL = "INSERT OR IGNORE INTO address (kind, pool, family, first, bits, name, last, prefix) " +
		"VALUES (?, ?, ?, ?, ?, ?, ?, ?)" // a record may name a prefix twice
)

// apply does what [store.Store] says of Commit, and returns the new heads. If it fails, the transaction must be rolled
// back.
func (c *conn) apply(changes []store.Change) ([]store.Record, error) {
	if err := c.admit(changes); err != nil {
		return nil, err
	}
	var revision int64
	if err := c.one(latestSQL, nil, &revision); err != nil {
		return nil, err
	}
	heads := make([]store.Record, len(changes))
	for i := range changes {
		if head := changes[i].Head; revision <= head.Revision {
			return nil, fmt.Errorf("%w: the next revision is %d, and head %v is at %d",
				ErrCorrupt, revision, head.Key, head.Revision)
		}
		var err error
		if heads[i], err = c.applyOne(&changes[i], revision); err != nil {
			return nil, err
		}
	}
	return heads, nil
}

func (c *conn) applyOne(change *store.Change, revision int64) (store.Record, error) {
	for i := range change.Writes {
		w := &change.Writes[i]
		var err error
		switch w.Op {
		case store.Delete:
			err = c.remove(w.Record.Key)
		default:
			err = c.put(w.Record.Canonical(), revision)
		}
		if err != nil {
			return store.Record{}, err
		}
	}
	head := change.Head.Canonical()
	head.Revision = revision
	if change.DeletesHead() {
		return head, nil
	}
	return head, c.put(head, revision)
}

// admit returns why the commit must not happen, or nil.
func (c *conn) admit(changes []store.Change) error {
	for i := range changes {
		if err := c.admitHead(changes[i].Head); err != nil {
			return err
		}
	}
	var standing []store.Record
	for i := range changes {
		for j := range changes[i].Writes {
			w := &changes[i].Writes[j]
			if w.Op != store.Create {
				continue
			}
			r, err := c.record(w.Record.Key)
			if err != nil {
				return err
			}
			if r.Revision > 0 {
				standing = append(standing, r)
			}
		}
	}
	if standing != nil {
		return &store.ExistsError{Records: standing}
	}
	return nil
}

func (c *conn) admitHead(head store.Record) error {
	var revision int64
	err := c.column(revisionSQL, head.Key, &revision)
	if err != nil || revision == head.Revision {
		return err
	}
	current, err := c.record(head.Key)
	if err != nil {
		return err
	}
	return &store.ConflictError{Expected: head.Revision, Current: current}
}

// column scans columns of the record under key into dest, which stays as it is if there is no such record.
func (c *conn) column(text string, key store.Key, dest ...any) error {
	err := c.one(text, []any{string(key.Kind), key.Pool, key.Name}, dest...)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	return err
}

func (c *conn) put(r store.Record, revision int64) error {
	r.Revision = revision
	put, err := newRow(r)
	if err != nil {
		return err
	}
	if size := put.size(); size > maxRecordBytes {
		return &store.TooLargeError{
			What: fmt.Sprintf("record %v in bytes", r.Key), Size: int64(size), Limit: maxRecordBytes,
		}
	}
	if err := c.reindex(r.Key, r.Prefixes, r.Labels); err != nil {
		return err
	}
	return c.do(putSQL, put.args()...)
}

func (c *conn) remove(key store.Key) error {
	if err := c.reindex(key, nil, nil); err != nil {
		return err
	}
	return c.do(deleteSQL, string(key.Kind), key.Pool, key.Name)
}

// reindex gives the tables address and label what the record under key is about to have, in place of what it has.
func (c *conn) reindex(key store.Key, prefixes []netip.Prefix, labels map[string]string) error {
	if !hasAddresses(key.Kind) && !key.Kind.IsLabelled() {
		return nil
	}
	oldPrefixes, oldLabels := "[]", "{}"
	if err := c.column(indexedSQL, key, &oldPrefixes, &oldLabels); err != nil {
		return err
	}
	if hasAddresses(key.Kind) {
		before, err := parsePrefixes(oldPrefixes)
		if err != nil {
			return fmt.Errorf("%w: record %v: %w", store.ErrDamaged, key, err)
		}
		if err := c.moveTo(key, before, prefixes); err != nil {
			return err
		}
	}
	if !key.Kind.IsLabelled() {
		return nil
	}
	had, err := parseLabels(oldLabels)
	if err != nil {
		return fmt.Errorf("%w: record %v: %w", store.ErrDamaged, key, err)
	}
	return c.relabel(key, had, labels)
}

// moveTo gives table address the prefixes of the record under key.
func (c *conn) moveTo(key store.Key, before, after []netip.Prefix) error {
	if slices.Equal(before, after) {
		return nil
	}
	for _, p := range before {
		if err := c.do(deleteAddressSQL, addressArgs(key, p)[:6]...); err != nil {
			return err
		}
	}
	for _, p := range after {
		if err := c.do(putAddressSQL, addressArgs(key, p)...); err != nil {
			return err
		}
	}
	return nil
}

// A commit makes the file smaller by a few pages if many of its pages are free.
const (
	shrinkFrom  = 256 // free pages, below which it is not worth it
	shrinkShare = 4   // one of so many pages is free
	shrinkSQL   = "PRAGMA incremental_vacuum(16)"
)

func (c *conn) shrink() error {
	var free, all int
	if err := c.one("PRAGMA freelist_count", nil, &free); err != nil || free < shrinkFrom {
		return err
	}
	if err := c.one("PRAGMA page_count", nil, &all); err != nil || free < all/shrinkShare {
		return err
	}
	return c.do(shrinkSQL)
}
