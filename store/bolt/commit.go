package bolt

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"go.etcd.io/bbolt"

	"github.com/ipalloc/ipalloc/store"
)

// Commit implements [store.Store]. It is one bbolt transaction: O(log of the records stored) for each head and
// write, and two flushes of the file. A context that ends while the commit waits for another one is honoured; one
// that ends later is not.
//
// [store.ErrUnknown] means that the disk failed while the transaction was written. [store.ErrTooLarge] means a
// record of 2 GiB.
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
	written := false
	err = guard(func() error {
		return s.db.Update(func(tx *bbolt.Tx) (err error) {
			if err := ctx.Err(); err != nil {
				return err
			}
			heads, err = newWriter(tx).apply(changes)
			written = err == nil
			return err
		})
	})
	if written {
		s.waiting.wake(changes)
	}
	if err != nil && written {
		err = fmt.Errorf("%w: %w", store.ErrUnknown, err)
	}
	if err != nil {
		return nil, s.wrap(err)
	}
	return heads, nil
}

// writer makes a commit within its transaction.
type writer struct {
	records, prefixes, expiry *bbolt.Bucket
}

func newWriter(tx *bbolt.Tx) writer {
	return writer{tx.Bucket([]byte(bucketRecords)), tx.Bucket([]byte(bucketPrefixes)), tx.Bucket([]byte(bucketExpiry))}
}

// apply does what [store.Store] says of Commit, and returns the new heads. If it fails, the transaction must be rolled
// back.
func (w writer) apply(changes []store.Change) ([]store.Record, error) {
	if err := w.admit(changes); err != nil {
		return nil, err
	}
	sequence, err := w.records.NextSequence()
	if err != nil {
		return nil, err
	}
	heads := make([]store.Record, len(changes))
	for i := range changes {
		if heads[i], err = w.applyOne(&changes[i], int64(sequence)); err != nil {
			return nil, err
		}
	}
	return heads, nil
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
	value := w.records.Get(encodeKey(head.Key))
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
	for i := range writes {
		if writes[i].Op != store.Create {
			continue
		}
		key := writes[i].Record.Key
		if value := w.records.Get(encodeKey(key)); value != nil {
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
	if err := w.reindex(r); err != nil {
		return err
	}
	return w.records.Put(encodeKey(r.Key), value)
}

func (w writer) remove(key store.Key) error {
	if err := w.reindex(store.Record{Key: key}); err != nil {
		return err
	}
	return w.records.Delete(encodeKey(key))
}

// reindex makes the indexes say what they are to say of r, which is about to take the place of the record under its
// key.
func (w writer) reindex(r store.Record) error {
	var old store.Record
	if value := w.records.Get(encodeKey(r.Key)); indexed(r.Kind, value) {
		var err error
		if old, err = decodeRecord(r.Key, value); err != nil {
			return err
		}
	}
	if r.Kind == store.KindAllocation {
		if err := w.reindexPrefixes(r.Key, old.Prefixes, r.Prefixes); err != nil {
			return err
		}
	}
	return w.reindexExpires(r.Key, old.Expires, r.Expires)
}

// indexed reports whether an index may have something of the record of a kind with such a value. It saves decoding a
// head, which may be large: "expires" in quotes occurs in the text of a record that expires, and hardly in another.
func indexed(kind store.Kind, value []byte) bool {
	return value != nil && (kind == store.KindAllocation || bytes.Contains(value, []byte(`"expires":`)))
}

func (w writer) reindexPrefixes(key store.Key, before, after []netip.Prefix) error {
	if slices.Equal(before, after) {
		return nil
	}
	for _, p := range before {
		if err := w.prefixes.Delete(encodeIndex(key, p)); err != nil {
			return err
		}
	}
	for _, p := range after {
		if err := w.prefixes.Put(encodeIndex(key, p), []byte(p.String())); err != nil {
			return err
		}
	}
	return nil
}

func (w writer) reindexExpires(key store.Key, before, after time.Time) error {
	if before.Equal(after) {
		return nil
	}
	if !before.IsZero() {
		if err := w.expiry.Delete(encodeExpiry(key, before)); err != nil {
			return err
		}
	}
	if after.IsZero() {
		return nil
	}
	return w.expiry.Put(encodeExpiry(key, after), []byte(after.Format(time.RFC3339Nano)))
}
