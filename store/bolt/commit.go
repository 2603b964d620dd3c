package bolt

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

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
	written := false
	err := guard(func() error {
		return s.db.Update(func(tx *bbolt.Tx) (err error) {
			if err := ctx.Err(); err != nil {
				return err
			}
			head, err = newChange(tx).apply(head, writes)
			written = err == nil
			return err
		})
	})
	if err != nil && written {
		err = fmt.Errorf("%w: %w", store.ErrUnknown, err)
	}
	if err != nil {
		return store.Record{}, s.wrap(err)
	}
	return head, nil
}

// change is a commit within its transaction.
type change struct {
	records, prefixes *bbolt.Bucket
}

func newChange(tx *bbolt.Tx) change {
	return change{tx.Bucket([]byte(bucketRecords)), tx.Bucket([]byte(bucketPrefixes))}
}

// apply does what [store.Store.Commit] says, and returns the new head. If it fails, the transaction must be rolled
// back.
func (c change) apply(head store.Record, writes []store.Write) (store.Record, error) {
	if err := c.admit(head, writes); err != nil {
		return store.Record{}, err
	}
	sequence, err := c.records.NextSequence()
	if err != nil {
		return store.Record{}, err
	}
	revision := int64(sequence)
	for i := range writes {
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
func (c change) admit(head store.Record, writes []store.Write) error {
	value := c.records.Get(encodeKey(head.Key))
	revision, err := revisionOf(head.Key, value)
	if err != nil {
		return err
	}
	if revision != head.Revision {
		return c.conflict(head, value)
	}
	var standing []store.Record
	for i := range writes {
		if writes[i].Op != store.Create {
			continue
		}
		key := writes[i].Record.Key
		if value := c.records.Get(encodeKey(key)); value != nil {
			record, err := decodeRecord(key, value)
			if err != nil {
				return err
			}
			standing = append(standing, record)
		}
	}
	if standing != nil {
		return &store.ExistsError{Records: standing}
	}
	return nil
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
	if r.Kind == store.KindAllocation {
		if err := c.reindex(r.Key, r.Prefixes); err != nil {
			return err
		}
	}
	return c.records.Put(encodeKey(r.Key), value)
}

func (c change) remove(key store.Key) error {
	if key.Kind == store.KindAllocation {
		if err := c.reindex(key, nil); err != nil {
			return err
		}
	}
	return c.records.Delete(encodeKey(key))
}

// reindex makes the index say that the allocation under key, still as it was in the file, has prefixes.
func (c change) reindex(key store.Key, prefixes []netip.Prefix) error {
	var old store.Record
	if value := c.records.Get(encodeKey(key)); value != nil {
		var err error
		if old, err = decodeRecord(key, value); err != nil {
			return err
		}
	}
	if slices.Equal(old.Prefixes, prefixes) {
		return nil
	}
	for _, p := range old.Prefixes {
		if err := c.prefixes.Delete(encodeIndex(key, p)); err != nil {
			return err
		}
	}
	for _, p := range prefixes {
		if err := c.prefixes.Put(encodeIndex(key, p), []byte(p.String())); err != nil {
			return err
		}
	}
	return nil
}
