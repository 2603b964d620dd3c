package storetest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"

	"github.com/ipalloc/ipalloc/store"
)

func contentionCases() []testCase {
	return []testCase{
		{"contention/first head", contentionFirst},
		{"contention/one winner a revision", contentionWinners},
		{"contention/whole commits only", contentionWhole},
	}
}

// race runs do in n goroutines, each with a handle of its own where possible, and checks that none fails.
func (s *subject) race(rule string, n int, do func(i int, handle store.Store) error) {
	s.Helper()
	handles := make([]store.Store, n)
	for i := range handles {
		handles[i] = s.another()
	}
	s.within(rule, func() error {
		errs := make([]error, n)
		var all sync.WaitGroup
		for i := range n {
			all.Go(func() { errs[i] = do(i, handles[i]) })
		}
		all.Wait()
		return errors.Join(errs...)
	})
}

// contentionFirst lets several create the same head.
func contentionFirst(s *subject) {
	for round := range 5 {
		pool := fmt.Sprint("pool-", round)
		var mu sync.Mutex
		var won []store.Record
		currents := map[int64]bool{}
		s.race(ruleNoHead, 6, func(i int, handle store.Store) error {
			head := newHead(pool)
			head.State = fmt.Sprint("by ", i)
			got, err := CommitOne(s.ctx, handle, head, create(claim(pool, head.State)))
			mu.Lock()
			defer mu.Unlock()
			var conflict *store.ConflictError
			switch {
			case err == nil:
				won = append(won, got)
			case errors.As(err, &conflict):
				currents[conflict.Current.Revision] = true
			default:
				return err
			}
			return nil
		})
		s.check(len(won) == 1, ruleNoHead, "%d commits created the same head", len(won))
		s.holds(ruleNoHead, won[0])
		delete(currents, won[0].Revision)
		s.check(len(currents) == 0, ruleConflictCurrent, "the conflicts with revision %d name the revisions %v",
			won[0].Revision, currents)
		s.check(len(s.list(store.KindAllocation, pool)) == 1, ruleFailed, "a commit that lost left records")
	}
}

// counter is what contending writers keep in the head.
type counter struct{ N int }

func counterOf(head store.Record) (c counter, err error) {
	if len(head.Data) > 0 {
		err = json.Unmarshal(head.Data, &c)
	}
	return c, err
}

// increment adds one to the counter in the head, starting with what it thinks is stored, and returns what it stored.
// Each increment creates a record of its number, and puts the number in the record "last".
func increment(ctx context.Context, handle store.Store, head store.Record) (store.Record, int, error) {
	for {
		c, err := counterOf(head)
		if err != nil {
			return head, 0, err
		}
		c.N++
		head.Data, err = json.Marshal(c)
		if err != nil {
			return head, 0, err
		}
		last := claim(head.Pool, "last")
		last.Data = head.Data
		next, err := CommitOne(ctx, handle, head, create(claim(head.Pool, fmt.Sprintf("number-%d", c.N))), put(last))
		var conflict *store.ConflictError
		if !errors.As(err, &conflict) {
			return next, c.N, err
		}
		head = conflict.Current
	}
}

func contentionWinners(s *subject) {
	const writers, each = 6, 8
	var mu sync.Mutex
	revisions := map[int]int64{}
	s.race(ruleCommit, writers, func(_ int, handle store.Store) error {
		head := newHead("a")
		for range each {
			next, n, err := increment(s.ctx, handle, head)
			if err != nil {
				return err
			}
			head = next
			mu.Lock()
			_, twice := revisions[n]
			revisions[n] = next.Revision
			mu.Unlock()
			if twice {
				return fmt.Errorf("two commits replaced the head that had the number %d", n-1)
			}
		}
		return nil
	})
	s.check(len(revisions) == writers*each, ruleCommit, "%d commits succeeded, want %d", len(revisions), writers*each)
	for n := 1; n <= len(revisions); n++ {
		s.check(revisions[n] > revisions[n-1], ruleRising, "commit %d has revision %d, the one before it %d", n, revisions[n],
			revisions[n-1])
		s.holds(ruleRevision, at(claim("a", fmt.Sprintf("number-%d", n)), revisions[n]))
	}
	head, _ := s.get(headKey("a"))
	c, err := counterOf(head)
	s.check(err == nil && c.N == writers*each, ruleCommit, "the head has %s, want the number %d", head.Data, writers*each)
}

// contentionWhole reads while another writes: a record written with a head is never seen before it, nor missing after.
func contentionWhole(s *subject) {
	const commits = 40
	head := s.commit(newHead("a"))
	writer, done := s.another(), make(chan error, 1)
	go func() {
		var err error
		for i := 0; i < commits && err == nil; i++ {
			head, _, err = increment(s.ctx, writer, head)
		}
		done <- err
	}()
	for {
		s.readsWhole()
		select {
		case err := <-done:
			s.check(err == nil, ruleCommit, "a commit beside reads failed: %v", err)
			s.readsWhole()
			return
		default:
		}
	}
}

// readsWhole reads the head, the record that each commit writes with it, and the head again.
func (s *subject) readsWhole() {
	s.Helper()
	before, _ := s.get(headKey("a"))
	last, exists := s.get(claimKey("a", "last"))
	after, _ := s.get(headKey("a"))
	from, err1 := counterOf(before)
	middle, err2 := counterOf(last)
	to, err3 := counterOf(after)
	s.check(err1 == nil && err2 == nil && err3 == nil, ruleData, "a head or record came back damaged")
	s.check(from.N <= middle.N && middle.N <= to.N, ruleLinear, "the head had %d, then the record %d, then the head %d",
		from.N, middle.N, to.N)
	s.check(exists || from.N == 0, ruleCommit, "the head has %d, and the record written with it is missing", from.N)
	if to.N == from.N && exists {
		s.check(last.Revision == before.Revision, ruleRevision, "the head has revision %d, the record written with it %d",
			before.Revision, last.Revision)
	}
}
