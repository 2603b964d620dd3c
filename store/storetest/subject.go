package storetest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/ipalloc/ipalloc/store"
)

// subject is the store under test within one case, with what cases do again and again. Its methods that take a rule
// end the case with that rule as the reason; they must be called by the goroutine that runs the case.
type subject struct {
	testing.TB
	backend Backend
	ctx     context.Context
	s       store.Store // the first handle
	handles []store.Store
}

// broken ends the case: rule was broken, in the way that the rest says.
func (s *subject) broken(rule, format string, args ...any) {
	s.Helper()
	s.Fatalf("the contract says: %q\nbut "+format, append([]any{rule}, args...)...)
}

// check ends the case unless ok.
func (s *subject) check(ok bool, rule, format string, args ...any) {
	s.Helper()
	if !ok {
		s.broken(rule, format, args...)
	}
}

// openNew opens a handle that is closed at the end of the case.
func (s *subject) openNew() store.Store {
	s.Helper()
	handle, err := s.backend.Open(s.ctx)
	if err != nil {
		s.Fatalf("open a handle on the backend: %v", err)
	}
	s.handles = append(s.handles, handle)
	s.Cleanup(func() { handle.Close() })
	return handle
}

// another returns a second handle, or the first if the backend admits only one.
func (s *subject) another() store.Store {
	s.Helper()
	if s.backend.OneHandle {
		return s.s
	}
	return s.openNew()
}

// reopen closes all handles and opens a new first one.
func (s *subject) reopen() {
	s.Helper()
	for _, handle := range s.handles {
		if err := handle.Close(); err != nil {
			s.broken(ruleClose, "Close failed: %v", err)
		}
	}
	s.handles = nil
	s.s = s.openNew()
}

// commit commits what must succeed, and checks what it returns.
func (s *subject) commit(head store.Record, writes ...store.Write) store.Record {
	s.Helper()
	return s.commitOn(s.s, head, writes...)
}

func (s *subject) commitOn(handle store.Store, head store.Record, writes ...store.Write) store.Record {
	s.Helper()
	return s.commitAllOn(handle, change(head, writes...))[0]
}

// commitAll commits several heads at once, which must succeed, and checks what it returns.
func (s *subject) commitAll(changes ...store.Change) []store.Record {
	s.Helper()
	return s.commitAllOn(s.s, changes...)
}

func (s *subject) commitAllOn(handle store.Store, changes ...store.Change) []store.Record {
	s.Helper()
	heads, err := handle.Commit(s.ctx, changes...)
	if err != nil {
		s.broken(ruleCommit, "a valid commit of %v failed: %v", headsOf(changes), err)
	}
	s.check(len(heads) == len(changes), ruleReturned, "Commit of %d changes returned %d heads", len(changes),
		len(heads))
	for i, got := range heads {
		head := changes[i].Head
		s.check(got.Revision >= 1, ruleExistent, "Commit returned head %v with revision %d", head.Key, got.Revision)
		s.check(got.Revision > head.Revision, ruleRising, "Commit of head %v at revision %d returned revision %d",
			head.Key, head.Revision, got.Revision)
		s.check(got.Revision == heads[0].Revision, ruleRevision,
			"Commit returned head %v with revision %d, and head %v with revision %d",
			heads[0].Key, heads[0].Revision, got.Key, got.Revision)
		s.same(ruleReturned, "the head that Commit returned", got, at(head, got.Revision))
	}
	return heads
}

func headsOf(changes []store.Change) []store.Key {
	keys := make([]store.Key, len(changes))
	for i := range changes {
		keys[i] = changes[i].Head.Key
	}
	return keys
}

// refused commits what must fail with target, and returns the error.
func (s *subject) refused(rule string, target error, head store.Record, writes ...store.Write) error {
	s.Helper()
	return s.refusedAll(rule, target, change(head, writes...))
}

func (s *subject) refusedAll(rule string, target error, changes ...store.Change) error {
	s.Helper()
	_, err := s.s.Commit(s.ctx, changes...)
	s.check(err != nil, rule, "Commit of %v succeeded, want %q", headsOf(changes), target)
	s.check(errors.Is(err, target), rule, "Commit returned the error %q, want one that is %q", err, target)
	return err
}

// get returns what is stored under key, and whether there is anything.
func (s *subject) get(key store.Key) (store.Record, bool) {
	s.Helper()
	return s.getFrom(s.s, key)
}

func (s *subject) getFrom(handle store.Store, key store.Key) (store.Record, bool) {
	s.Helper()
	record, err := handle.Get(s.ctx, key)
	switch {
	case err == nil:
		s.check(record.Key == key, ruleGet, "Get of %v returned %v", key, record.Key)
		return record, true
	case errors.Is(err, store.ErrNotFound):
		return store.Record{}, false
	default:
		s.broken(ruleGet, "Get of %v failed: %v", key, err)
		return store.Record{}, false
	}
}

// holds checks that want is stored.
func (s *subject) holds(rule string, want store.Record) {
	s.Helper()
	got, ok := s.get(want.Key)
	s.check(ok, rule, "record %v is not there", want.Key)
	s.same(rule, "the stored record", got, want)
}

// lacks checks that nothing is stored under key.
func (s *subject) lacks(rule string, key store.Key) {
	s.Helper()
	got, ok := s.get(key)
	s.check(!ok, rule, "record %v is there: %+v", key, got)
}

// same checks that got is want, and has its revision.
func (s *subject) same(rule, what string, got, want store.Record) {
	s.Helper()
	if difference := diff(got, want); difference != "" {
		s.broken(rule, "%s, %v, has %s", what, want.Key, difference)
	}
}

// list returns the records that List yields by key.
func (s *subject) list(kind store.Kind, pool string) map[store.Key]store.Record {
	s.Helper()
	found := make(map[store.Key]store.Record)
	for record, err := range s.s.List(s.ctx, kind, pool) {
		if err != nil {
			s.broken(ruleList, "List failed: %v", err)
		}
		_, twice := found[record.Key]
		s.check(!twice, ruleListOnce, "%v came up twice", record.Key)
		s.check(record.Kind == kind && (pool == "" || record.Pool == pool), ruleList, "List of kind %q, pool %q yielded %v",
			kind, pool, record.Key)
		found[record.Key] = record
	}
	return found
}

// unchanged remembers records and returns a function that checks that they, and nothing else, are still there.
func (s *subject) unchanged(keys ...store.Key) (verify func(rule string)) {
	s.Helper()
	type state struct {
		record store.Record
		exists bool
	}
	before := make([]state, len(keys))
	for i, key := range keys {
		before[i].record, before[i].exists = s.get(key)
	}
	return func(rule string) {
		s.Helper()
		for i, key := range keys {
			if before[i].exists {
				s.holds(rule, before[i].record)
			} else {
				s.lacks(rule, key)
			}
		}
	}
}

// within runs do in a goroutine of its own, which must return nil before the backend's patience ends.
func (s *subject) within(rule string, do func() error) {
	s.Helper()
	done := make(chan error, 1)
	go func() {
		defer func() {
			if reason := recover(); reason != nil {
				done <- fmt.Errorf("a call panicked: %v", reason)
			}
		}()
		done <- do()
	}()
	select {
	case err := <-done:
		s.check(err == nil, rule, "%v", err)
	case <-time.After(s.backend.Patience):
		s.broken(rule, "a call did not return in %v", s.backend.Patience)
	}
}

// The records that cases use where it does not matter which.

func headKey(pool string) store.Key { return store.Key{Kind: store.KindPool, Pool: pool} }

func newHead(pool string) store.Record { return store.Record{Key: headKey(pool)} }

func claimKey(pool, name string) store.Key {
	return store.Key{Kind: store.KindAllocation, Pool: pool, Name: name}
}

func claim(pool, name string) store.Record {
	return store.Record{Key: claimKey(pool, name), State: "allocated"}
}

func create(r store.Record) store.Write { return store.Write{Op: store.Create, Record: r} }

func put(r store.Record) store.Write { return store.Write{Op: store.Put, Record: r} }

func remove(key store.Key) store.Write {
	return store.Write{Op: store.Delete, Record: store.Record{Key: key}}
}

// change returns a change of a head.
func change(head store.Record, writes ...store.Write) store.Change {
	return store.Change{Head: head, Writes: writes}
}

// at returns r as it is after a commit with the revision.
func at(r store.Record, revision int64) store.Record {
	r.Revision = revision
	return r
}
