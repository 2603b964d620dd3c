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

// Commit implements [store.Store]. It is one bbolt transaction: O(log of the records stored) for each write, and
// two flushes of the file. A context that ends while the commit waits for another one is honoured; one that ends
// later is not.
//
// [store.ErrUnknown] means that the disk failed while the transaction was written. [store.ErrTooLarge] means a
// record of 2 GiB.
func (s *Store) Commit(ctx context.Context, head store.Record, writes []store.Write) (store.Record, error) {
	if err := ctx.Err(); err != nil {
		return store.Record{}, s.wrap(err)
	}
	if err := store.ValidateCommit(head, writes); err != nil {
		return store.Record{}, err
	}
	heads, err := s.update(ctx, []store.Change{{Head: head, Writes: writes}})
	if err != nil {
		return store.Record{}, err
	}
	return heads[0], nil
}

// CommitSeveral implements [store.SeveralCommitter]. It is one bbolt transaction, as a Commit is, and all records get the same revision.
func (s *Store) CommitSeveral(ctx context.Context, changes []store.Change) ([]store.Record, error) {
	if err := ctx.Err(); err != nil {
		return nil, s.wrap(err)
	}
	if err := store.ValidateSeveral(changes); err != nil {
		return nil, err
	}
	return s.update(ctx, changes)
}

// update makes all of changes or none, and returns the new heads.
func (s *Store) update(ctx context.Context, changes []store.Change) (heads []store.Record, err error) {
	written := false
	err = guard(func() error {
		return s.db.Update(func(tx *bbolt.Tx) (err error) {
			if err := ctx.Err(); err != nil {
				return err
			}
			heads, err = newChange(tx).apply(changes)
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

// change is a commit within its transaction.
type change struct {
	records, prefixes, expiry *bbolt.Bucket
}

func newChange(tx *bbolt.Tx) change {
	return change{tx.Bucket([]byte(bucketRecords)), tx.Bucket([]byte(bucketPrefixes)), tx.Bucket([]byte(bucketExpiry))}
}

// apply does what [store.SeveralCommitter] says, and returns the new heads. If it fails, the transaction must be rolled back.
func (c change) apply(changes []store.Change) ([]store.Record, error) {
	if err := c.admit(changes); err != nil {
		return nil, err
	}
	sequence, err := c.records.NextSequence()
	if err != nil {
		return nil, err
	}
	heads := make([]store.Record, len(changes))
	for i := range changes {
		if heads[i], err = c.applyOne(changes[i].Head, changes[i].Writes, int64(sequence)); err != nil {
			return nil, err
		}
	}
	return heads, nil
}

func (c change) applyOne(head store.Record, writes []store.Write, revision int64) (store.Record, error) {
	for i := range writes {
		var err error
		if writes[i].Op == store.Delete {
			err = c.remove(writes[i].Record.Key)
		} else {
			err = c.put(writes[i].Record.Canonical(), revision)
		}
		if err != nil {
			return store.Record{}, err
		}
	}
	head = head.Canonical()
	head.Revision = revision
	if store.DeletesHead(head.Key, writes) {
		return head, nil
	}
	return head, c.put(head, revision)
}

// admit returns why the commit must not happen, or nil.
func (c change) admit(changes []store.Change) error {
	for i := range changes {
		if err := c.admitHead(changes[i].Head); err != nil {
			return err
		}
	}
	var standing []store.Record
	for i := range changes {
		var err error
		if standing, err = c.standing(standing, changes[i].Writes); err != nil {
			return err
		}
	}
	if standing != nil {
		return &store.ExistsError{Records: standing}
	}
	return nil
}

func (c change) admitHead(head store.Record) error {
	value := c.records.Get(encodeKey(head.Key))
	revision, err := revisionOf(head.Key, value)
	if err != nil {
		return err
	}
	if revision != head.Revision {
		return c.conflict(head, value)
	}
	return nil
}

// standing appends the records that are in the way of the creates among writes.
func (c change) standing(found []store.Record, writes []store.Write) ([]store.Record, error) {
	for i := range writes {
		if writes[i].Op != store.Create {
			continue
		}
		key := writes[i].Record.Key
		if value := c.records.Get(encodeKey(key)); value != nil {
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
func (c change) conflict(head store.Record, value []byte) error {
	current := store.Record{Key: head.Key}
	if value != nil {
		var err error
		if current, err = decodeRecord(head.Key, value); err != nil {
			return err
		}
	}
	return &store.ConflictError{Expected: head.Revision, Current: current}
}

func (c change) put(r store.Record, revision int64) error {
	r.Revision = revision
	value, err := encodeRecord(r)
	if err != nil {
		return err
	}
	if len(value) > bbolt.MaxValueSize {
		return &store.TooLargeError{What: fmt.Sprintf("record %v in bytes", r.Key), Size: int64(len(value)), Limit: bbolt.MaxValueSize}
	}
	if err := c.reindex(r); err != nil {
		return err
	}
	return c.records.Put(encodeKey(r.Key), value)
}

func (c change) remove(key store.Key) error {
	if err := c.reindex(store.Record{Key: key}); err != nil {
		return err
	}
	return c.records.Delete(encodeKey(key))
}

// reindex makes the indexes say what they are to say of r, which is about to take the place of the record under its key.
func (c change) reindex(r store.Record) error {
	var old store.Record
	if value := c.records.Get(encodeKey(r.Key)); indexed(r.Kind, value) {
		var err error
		if old, err = decodeRecord(r.Key, value); err != nil {
			return err
		}
	}
	if r.Kind == store.KindAllocation {
		if err := c.reindexPrefixes(r.Key, old.Prefixes, r.Prefixes); err != nil {
			return err
		}
	}
	return c.reindexExpires(r.Key, old.Expires, r.Expires)
}

// indexed reports whether an index may have something of the record of a kind with such a value. It saves decoding a head, which may be large:
// "expires" in quotes occurs in the text of a record that expires, and hardly in another.
func indexed(kind store.Kind, value []byte) bool {
	return value != nil && (kind == store.KindAllocation || bytes.Contains(value, []byte(`"expires":`)))
}

func (c change) reindexPrefixes(key store.Key, before, after []netip.Prefix) error {
	if slices.Equal(before, after) {
		return nil
	}
	for _, p := range before {
		if err := c.prefixes.Delete(encodeIndex(key, p)); err != nil {
			return err
		}
	}
	for _, p := range after {
		if err := c.prefixes.Put(encodeIndex(key, p), []byte(p.String())); err != nil {
			return err
		}
	}
	return nil
}

func (c change) reindexExpires(key store.Key, before, after time.Time) error {
	if before.Equal(after) {
		return nil
	}
	if !before.IsZero() {
		if err := c.expiry.Delete(encodeExpiry(key, before)); err != nil {
			return err
		}
	}
	if after.IsZero() {
		return nil
	}
	return c.expiry.Put(encodeExpiry(key, after), []byte(after.Format(time.RFC3339Nano)))
}
