package bolt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"go.etcd.io/bbolt"

	"github.com/ipalloc/ipalloc/store"
)

// Commit implements [store.Store]. It is one bbolt transaction: O(log of the records stored) for each head and write,
// and two flushes of the file. The context is honoured while the commit waits for another commit, and not later.
//
// An error of the system, such as [syscall.ENOSPC] for a full disk, means that nothing was changed; the store works
// again when there is room. If the error also wraps [store.ErrUnknown], the disk failed in the last step, or the file
// was removed or replaced during the commit. [store.ErrTooLarge] is returned for a record of 2 GiB or more.
func (s *Store) Commit(ctx context.Context, changes ...store.Change) (heads []store.Record, err error) {
	defer store.EndTurns(changes)
	if err := ctx.Err(); err != nil {
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
	given, err := s.turns.Answers(ctx, changes)
	if err != nil {
		return nil, s.wrap(err)
	}
	heads, err = s.commit(ctx, changes)
	given(heads, err)
	return heads, err
}

// commit makes the transaction of a commit.
func (s *Store) commit(ctx context.Context, changes []store.Change) (heads []store.Record, err error) {
	s.writing.Lock()
	defer s.writing.Unlock()
	var done writer
	err = s.transact(ctx, func(w writer) (err error) {
		done = w
		if heads, err = w.apply(changes); err == nil {
			err = w.balance()
		}
		return err
	})
	if done.pages != nil {
		done.pages.recycle()
	}
	if err == nil || errors.Is(err, store.ErrUnknown) {
		s.waiting.wake(changes)
	}
	if err != nil {
		return nil, s.wrap(err)
	}
	s.considerShrinking(done.deleted())
	return heads, nil
}

// transact runs plan in a transaction that writes. The caller holds s.writing. An error that does not wrap
// [store.ErrUnknown] means that it has not taken effect.
func (s *Store) transact(ctx context.Context, plan func(w writer) error) error {
	if _, err := s.file.check(); err != nil {
		return err
	}
	planned := false
	err := s.guard(func() error {
		return s.db.Update(func(tx *bbolt.Tx) (err error) {
			if want := s.file.latest.Load() + 1; int64(tx.ID()) != want {
				return s.file.breaks(foreign(tx.ID(), want))
			}
			if err := ctx.Err(); err != nil {
				return err
			}
			w, err := s.newWriter(tx)
			if err != nil { // Open has found these pages whole
				return s.file.breaks(err)
			}
			err = plan(w)
			planned = err == nil
			return err
		})
	})
	if err != nil && !planned {
		return err
	}
	return s.settle(err)
}

// settle returns what is known of a transaction that bbolt has written, or has failed to write with err. An error that
// does not wrap [store.ErrUnknown] means that it has not taken effect.
func (s *Store) settle(err error) error {
	if err != nil {
		return s.settleFailed(err)
	}
	s.file.latest.Add(1)
	size, err := s.file.check() // another process may have begun a new file while this one was written
	if err != nil {
		return fmt.Errorf("%w: %w", store.ErrUnknown, err)
	}
	s.file.size.Store(size)
	return nil
}

// settleFailed looks whether the failed transaction is in the file nevertheless. The last page that a transaction
// writes makes it valid: until then nothing of it counts. If it is in the file, only the last flush has failed, and
// another transaction, an empty one, brings both to the disk.
func (s *Store) settleFailed(err error) error {
	if s.file.isCutOff() {
		return fmt.Errorf("%w: %w", store.ErrUnknown, err)
	}
	var id int
	if seen := s.read(func(tx *bbolt.Tx) error { id = tx.ID(); return nil }); seen != nil {
		return fmt.Errorf("%w: %w: %w", store.ErrUnknown, err, seen)
	}
	if int64(id) == s.file.latest.Load() {
		return err
	}
	s.file.latest.Store(int64(id))
	if s.guard(func() error { return s.db.Update(func(*bbolt.Tx) error { return nil }) }) != nil {
		// What is read from the file now may be lost with the power.
		return fmt.Errorf("%w: %w", store.ErrUnknown, s.file.breaks(err))
	}
	return s.settle(nil)
}

// writer makes a commit within its transaction.
type writer struct {
	tx                                        *bbolt.Tx
	pages                                     *pages
	records, pieces, prefixes, expiry, labels *batch
	below                                     uint64 // see [demand]
}

// of returns the batch for records of a kind.
func (w writer) of(kind store.Kind) *batch {
	if bucketOf(kind) == bucketPieces {
		return w.pieces
	}
	return w.records
}

// all returns all batches.
func (w writer) all() []*batch { return []*batch{w.records, w.pieces, w.prefixes, w.expiry, w.labels} }

// newWriter checks the pages that every commit replaces: the list of free pages, and the roots of the buckets.
func (s *Store) newWriter(tx *bbolt.Tx) (w writer, err error) {
	p := s.pages(tx)
	w.tx, w.pages, w.below = tx, p, s.shrinking.below
	if m, ok := newestMeta(p.file); !ok || int64(m.id)+1 != int64(tx.ID()) {
		return w, fmt.Errorf("%w: the meta of transaction %d is gone", ErrCorrupt, tx.ID()-1)
	} else if _, err := p.freeList(m.free); err != nil {
		return w, err
	}
	if w.records, err = p.batch(tx, bucketRecords); err != nil {
		return w, err
	}
	if w.pieces, err = p.batch(tx, bucketPieces); err != nil {
		return w, err
	}
	if w.prefixes, err = p.batch(tx, bucketPrefixes); err != nil {
		return w, err
	}
	if w.expiry, err = p.batch(tx, bucketExpiry); err != nil {
		return w, err
	}
	w.labels, err = p.batch(tx, bucketLabels)
	return w, err
}

// flush makes all changes that were planned.
func (w writer) flush() error {
	for _, b := range w.all() {
		if err := b.flush(); err != nil {
			return err
		}
	}
	return nil
}

// balance sees to the free pages, after all else.
func (w writer) balance() error {
	size, span := 0, 0
	for _, b := range w.all() {
		for i := range b.ops {
			op := elementSize + len(b.ops[i].key) + len(b.ops[i].value)
			size, span = size+op, max(span, op)
		}
	}
	page := int(w.pages.pageSize)
	d := demand{pages: len(w.pages.checked) + size/page*2, below: w.below}
	if span > page-pageHeader {
		d.span = span/page + 1
	}
	return w.pages.balance(w.tx, d)
}

// deleted is how many bytes flush has deleted.
func (w writer) deleted() (n int64) {
	for _, b := range w.all() {
		n += b.deleted
	}
	return n
}

// apply does what [store.Store] says of Commit, and returns the new heads. If it fails, the transaction must be rolled
// back.
func (w writer) apply(changes []store.Change) ([]store.Record, error) {
	if err := w.admit(changes); err != nil {
		return nil, err
	}
	sequence, err := w.records.in.NextSequence()
	if err != nil {
		return nil, err
	}
	w.expect(changes)
	heads := make([]store.Record, len(changes))
	for i := range changes {
		if head := changes[i].Head; int64(sequence) <= head.Revision {
			return nil, fmt.Errorf("%w: the next revision is %d, and head %v is at %d",
				ErrCorrupt, sequence, head.Key, head.Revision)
		}
		if heads[i], err = w.applyOne(&changes[i], int64(sequence)); err != nil {
			return nil, err
		}
	}
	return heads, w.flush()
}

// expect makes room for what the changes put into the two buckets that nearly every write is about.
func (w writer) expect(changes []store.Change) {
	n := len(changes)
	for i := range changes {
		n += len(changes[i].Writes)
	}
	w.records.ops, w.prefixes.ops = make([]op, 0, n), make([]op, 0, n)
}

func (w writer) applyOne(c *store.Change, revision int64) (store.Record, error) {
	for i := range c.Writes {
		var err error
		if c.Writes[i].Op == store.Delete {
			err = w.remove(c.Writes[i].Record.Key)
		} else {
			err = w.put(c.Writes[i].Record.Canonical(), revision)
		}
		if err != nil {
			return store.Record{}, err
		}
	}
	head := c.Head.Canonical()
	head.Revision = revision
	if c.DeletesHead() {
		return head, nil
	}
	return head, w.put(head, revision)
}

// admit returns why the commit must not happen, or nil.
func (w writer) admit(changes []store.Change) error {
	for i := range changes {
		if err := w.admitHead(changes[i].Head); err != nil {
			return err
		}
	}
	var standing []store.Record
	for i := range changes {
		var err error
		if standing, err = w.standing(standing, changes[i].Writes); err != nil {
			return err
		}
	}
	if standing != nil {
		return &store.ExistsError{Records: standing}
	}
	return nil
}

func (w writer) admitHead(head store.Record) error {
	value, err := w.of(head.Kind).get(encodeKey(head.Key))
	if err != nil {
		return err
	}
	revision, err := revisionOf(head.Key, value)
	if err != nil {
		return err
	}
	if revision != head.Revision {
		return w.conflict(head, value)
	}
	return nil
}

// standing appends the records that are in the way of the creates among writes.
func (w writer) standing(found []store.Record, writes []store.Write) ([]store.Record, error) {
	var text []byte
	for i := range writes {
		if writes[i].Op != store.Create {
			continue
		}
		key := writes[i].Record.Key
		text = appendKey(text[:0], key)
		value, err := w.of(key.Kind).get(text)
		if err != nil {
			return nil, err
		}
		if value != nil {
			record, err := decodeRecord(key, value)
			if err != nil {
				return nil, err
			}
			found = append(found, record)
		}
	}
	return found, nil
}

// conflict returns the error of a commit whose head is stored as value.
func (w writer) conflict(head store.Record, value []byte) error {
	current := store.Record{Key: head.Key}
	if value != nil {
		var err error
		if current, err = decodeRecord(head.Key, value); err != nil {
			return err
		}
	}
	return &store.ConflictError{Expected: head.Revision, Current: current}
}

func (w writer) put(r store.Record, revision int64) error {
	r.Revision = revision
	value, err := encodeRecord(r)
	if err != nil {
		return err
	}
	if len(value) > bbolt.MaxValueSize {
		return &store.TooLargeError{
			What: fmt.Sprintf("record %v in bytes", r.Key), Size: int64(len(value)), Limit: bbolt.MaxValueSize,
		}
	}
	key := encodeKey(r.Key)
	if err := w.reindex(key, r); err != nil {
		return err
	}
	w.of(r.Kind).put(key, value, len(r.Kind)+len(r.Pool)+2)
	return nil
}

func (w writer) remove(k store.Key) error {
	key := encodeKey(k)
	if err := w.reindex(key, store.Record{Key: k}); err != nil {
		return err
	}
	w.of(k.Kind).delete(key)
	return nil
}

// reindex makes the indexes say what they are to say of r, which is about to take the place of the record under its
// key.
func (w writer) reindex(key []byte, r store.Record) error {
	var old store.Record
	value, err := w.of(r.Kind).get(key)
	if err != nil {
		return err
	}
	if indexed(r.Kind, value) {
		if old, err = decodeRecord(r.Key, value); err != nil {
			return err
		}
	}
	if r.Kind == store.KindAllocation {
		w.reindexPrefixes(r.Key, old.Prefixes, r.Prefixes)
	}
	if r.Kind.IsLabelled() {
		w.reindexLabels(r.Key, old.Labels, r.Labels)
	}
	w.reindexExpires(r.Key, old.Expires, r.Expires)
	return nil
}

// indexed reports whether an index may have something of the record of a kind with such a value. It saves decoding a
// head, which may be large: "expires" in quotes occurs in the text of a record that expires, and hardly in another.
func indexed(kind store.Kind, value []byte) bool {
	return value != nil && (kind.IsLabelled() || bytes.Contains(value, []byte(`"expires":`)))
}

func (w writer) reindexPrefixes(key store.Key, before, after []netip.Prefix) {
	if slices.Equal(before, after) {
		return
	}
	for _, p := range before {
		if !slices.Contains(after, p) {
			w.prefixes.delete(encodeIndex(key, p))
		}
	}
	for i, p := range after {
		if !slices.Contains(before, p) && !slices.Contains(after[:i], p) {
			text, _ := p.MarshalText()
			w.prefixes.put(encodeIndex(key, p), text, len(key.Pool)+indexHeader)
		}
	}
}

func (w writer) reindexExpires(key store.Key, before, after time.Time) {
	if before.Equal(after) {
		return
	}
	if !before.IsZero() {
		w.expiry.delete(encodeExpiry(key, before))
	}
	if !after.IsZero() {
		w.expiry.put(encodeExpiry(key, after), []byte(after.Format(time.RFC3339Nano)), len(key.Kind)+len(key.Pool)+2)
	}
}
