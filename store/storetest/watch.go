package storetest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ipalloc/ipalloc/store"
)

func watchCases() []testCase {
	return []testCase{
		{"watch/changed already", watchChanged},
		{"watch/waits", watchWaits},
		{"watch/every record", watchRecords},
		{"watch/misses nothing", watchMissesNothing},
		{"watch/many", watchMany},
		{"watch/context ends", watchContext},
		{"watch/close", watchClose},
		{"watch/invalid key", watchInvalid},
	}
}

// watched is what came of a Watch.
type watched struct {
	record store.Record
	err    error
}

// watch begins a Watch in a goroutine of its own.
func (s *subject) watch(ctx context.Context, handle store.Store, key store.Key, revision int64) <-chan watched {
	result := make(chan watched, 1)
	go func() {
		r, err := handle.Watch(ctx, key, revision)
		result <- watched{r, err}
	}()
	return result
}

// underWay gives calls of Watch that were begun time to wait. A store that keeps the contract passes without it; it is
// there so that one that does not is noticed.
func underWay() { time.Sleep(10 * time.Millisecond) }

// returns waits for the Watch of a record at revision, and checks that it says what must be said: want, or that there
// is none if want has no revision.
func (s *subject) returns(result <-chan watched, revision int64, want store.Record) {
	s.Helper()
	var got watched
	s.within(ruleWatch, func() error {
		got = <-result
		return nil
	})
	if want.Revision == 0 {
		s.check(errors.Is(got.err, store.ErrNotFound), ruleWatchReturned,
			"Watch of %v, which was deleted, returned the error %v", want.Key, got.err)
		return
	}
	s.check(got.err == nil, ruleWatchReturned, "Watch of %v at revision %d failed: %v", want.Key, revision, got.err)
	s.same(ruleWatchReturned, "the record that Watch returned", got.record, want)
}

func watchChanged(s *subject) {
	first := s.commit(fullRecord(headKey("a")))
	second := s.commit(first)
	for _, revision := range []int64{first.Revision, 0, second.Revision + 1} {
		s.returns(s.watch(s.ctx, s.s, headKey("a"), revision), revision, second)
	}
	s.commit(second, remove(headKey("a")))
	s.returns(s.watch(s.ctx, s.s, headKey("a"), second.Revision), second.Revision, newHead("a"))
}

// watchWaits changes other records first: a Watch that returned for that would say so with a record, or an error, that
// is not new.
func watchWaits(s *subject) {
	aside := s.commit(newHead("aside"))
	other := s.another()
	var head store.Record
	for round := range 3 {
		created := s.watch(s.ctx, s.s, headKey("a"), 0)
		underWay()
		aside = s.commitOn(other, aside, put(claim("a", "x")), remove(headKey("a")))
		head = newHead("a")
		head.State = fmt.Sprint(round)
		head = s.commitOn(other, head)
		s.returns(created, 0, head)

		replaced := s.watch(s.ctx, s.s, headKey("a"), head.Revision)
		underWay()
		aside = s.commitOn(other, aside, put(claim("a", "y")), put(newHead("ab")))
		underWay()
		before := head.Revision
		head = s.commitOn(other, head)
		s.returns(replaced, before, head)

		deleted := s.watch(s.ctx, s.s, headKey("a"), head.Revision)
		underWay()
		aside = s.commitOn(other, aside)
		s.commitOn(other, head, remove(headKey("a")))
		s.returns(deleted, head.Revision, newHead("a"))
	}
}

// watchRecords watches what is no head.
func watchRecords(s *subject) {
	head := s.commit(newHead("a"))
	key := claimKey("a", `/"x" `)
	created := s.watch(s.ctx, s.s, key, 0)
	underWay()
	head = s.commit(head, create(fullRecord(key)))
	s.returns(created, 0, at(fullRecord(key), head.Revision))
	replaced, before := s.watch(s.ctx, s.s, key, head.Revision), head.Revision
	head = s.commit(head, put(claim("a", key.Name)))
	s.returns(replaced, before, at(claim("a", key.Name), head.Revision))
	deleted, before := s.watch(s.ctx, s.s, key, head.Revision), head.Revision
	s.commit(head, remove(key))
	s.returns(deleted, before, store.Record{Key: key})
}

// watchMissesNothing follows a head that changes all the time. It need not see each revision, but the last one.
func watchMissesNothing(s *subject) {
	const commits = 60
	head := s.commit(newHead("a"))
	writer, last := s.another(), make(chan error, 1)
	revision := head.Revision
	go func() {
		var err error
		for n := 0; n < commits && err == nil; n++ {
			head.State = fmt.Sprint(n + 1)
			head, err = CommitOne(s.ctx, writer, head)
		}
		last <- err
	}()
	s.within(ruleWatch, func() error {
		for {
			r, err := s.s.Watch(s.ctx, headKey("a"), revision)
			if err != nil {
				return err
			}
			if r.Revision <= revision {
				return fmt.Errorf("watch of revision %d returned revision %d", revision, r.Revision)
			}
			if revision = r.Revision; r.State == fmt.Sprint(commits) {
				return <-last
			}
		}
	})
}

// watchMany has many calls wait at once, and does other things through the same handle.
func watchMany(s *subject) {
	const each = 40
	head := s.commit(newHead("a"))
	s.watch(s.ctx, s.s, claimKey("a", "never"), 0)
	underWay()
	var same, others []<-chan watched
	for i := range each {
		same = append(same, s.watch(s.ctx, s.s, headKey("a"), head.Revision))
		others = append(others, s.watch(s.ctx, s.s, claimKey("a", fmt.Sprint(i)), 0))
	}
	underWay()
	aside := newHead("aside")
	s.within(ruleWatchOthers, func() (err error) {
		for i := 0; i < 5 && err == nil; i++ {
			if aside, err = CommitOne(s.ctx, s.s, aside); err == nil {
				_, err = s.s.Get(s.ctx, headKey("a"))
			}
			for _, listErr := range s.s.List(s.ctx, store.KindPool, "") {
				err = errors.Join(err, listErr)
			}
		}
		return err
	})
	writes := make([]store.Write, each)
	for i := range writes {
		writes[i] = create(claim("a", fmt.Sprint(i)))
	}
	before := head.Revision
	head = s.commit(head, writes...)
	for i := range each {
		s.returns(same[i], before, head)
		s.returns(others[i], 0, at(claim("a", fmt.Sprint(i)), head.Revision))
	}
}

func watchContext(s *subject) {
	head := s.commit(newHead("a"))
	ctx, cancel := context.WithCancel(s.ctx)
	var results []<-chan watched
	for range 3 {
		results = append(results, s.watch(ctx, s.s, headKey("a"), head.Revision), s.watch(ctx, s.s, headKey("b"), 0))
	}
	stays := s.watch(s.ctx, s.s, headKey("a"), head.Revision)
	underWay()
	cancel()
	results = append(results, s.watch(ctx, s.s, headKey("a"), head.Revision), s.watch(ctx, s.s, headKey("a"), 0))
	for _, result := range results {
		s.within(ruleWatchContext, func() error {
			if got := <-result; !errors.Is(got.err, context.Canceled) {
				return fmt.Errorf("watch whose context was cancelled returned the error %w", got.err)
			}
			return nil
		})
	}
	next := s.commit(head)
	s.returns(stays, head.Revision, next)
}

func watchClose(s *subject) {
	head := s.commit(newHead("a"))
	closed := s.s
	var results []<-chan watched
	for range 3 {
		results = append(results, s.watch(s.ctx, closed, headKey("a"), head.Revision),
			s.watch(s.ctx, closed, headKey("b"), 0))
	}
	underWay()
	s.within(ruleWatchClose, closed.Close)
	s.reopen()
	results = append(results, s.watch(s.ctx, closed, headKey("a"), head.Revision))
	for _, result := range results {
		s.within(ruleWatchClose, func() error {
			if got := <-result; !errors.Is(got.err, store.ErrClosed) {
				return fmt.Errorf("watch through a handle that was closed returned the error %w", got.err)
			}
			return nil
		})
	}
}

func watchInvalid(s *subject) {
	for _, key := range invalidKeys() {
		s.within(ruleInvalidKey, func() error {
			if _, err := s.s.Watch(s.ctx, key, 0); !errors.Is(err, store.ErrInvalid) {
				return fmt.Errorf("watch of the key %.40q returned the error %w", key, err)
			}
			return nil
		})
	}
}
