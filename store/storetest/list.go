package storetest

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/ipalloc/ipalloc/store"
)

func listCases() []testCase {
	return []testCase{
		{"list/empty", listEmpty},
		{"list/kinds and pools apart", listApart},
		{"list/whole records", listWhole},
		{"list/invalid arguments", listInvalid},
		{"list/early stop", listStop},
		{"list/again", listAgain},
		{"list/commits in the body", listCommitsInBody},
		{"list/reads in the body", listReadsInBody},
		{"list/beside commits", listBesideCommits},
		{"list/errors come last", listErrorLast},
		{"list/damaged records", listDamaged},
	}
}

// filled commits n claims of pool a, in commits of at most 50, and returns the head.
func (s *subject) filled(n int) store.Record {
	s.Helper()
	head := newHead("a")
	for i := 0; i < n; {
		var writes []store.Write
		for ; i < n && len(writes) < 50; i++ {
			writes = append(writes, create(claim("a", fmt.Sprintf("owner-%04d", i))))
		}
		head = s.commit(head, writes...)
	}
	return head
}

func listEmpty(s *subject) {
	s.check(len(s.list(store.KindAllocation, "a")) == 0, ruleList, "an empty store is not")
	s.check(len(s.list(store.KindPool, "")) == 0, ruleList, "an empty store is not")
	s.commit(newHead("a"))
	s.check(len(s.list(store.KindAllocation, "")) == 0, ruleList, "a record of another kind came up")
	s.check(len(s.list(store.KindPool, "b")) == 0, ruleList, "a record of another pool came up")
}

func listApart(s *subject) {
	var keys []store.Key
	for _, pool := range []string{"a", "ab", "b", "a/b", "A"} {
		writes := []store.Write{create(store.Record{Key: store.Key{Kind: store.KindSpace, Pool: pool, Name: "1"}})}
		for i := range len(pool) + 1 {
			writes = append(writes, create(claim(pool, fmt.Sprint(i))))
		}
		s.commit(newHead(pool), writes...)
		keys = append(keys, headKey(pool))
		for _, w := range writes {
			keys = append(keys, w.Record.Key)
		}
	}
	s.commit(newHead("guard"))
	s.listsApart(ruleList, keys)
}

func listWhole(s *subject) {
	head := s.commit(fullRecord(headKey("a")), create(fullRecord(claimKey("a", "x"))), create(claim("a", "y")))
	s.same(ruleList, "the record that List yields", s.list(store.KindPool, "")[headKey("a")], head)
	listed := s.list(store.KindAllocation, "a")
	s.same(ruleList, "the record that List yields", listed[claimKey("a", "x")],
		at(fullRecord(claimKey("a", "x")), head.Revision))
	s.same(ruleList, "the record that List yields", listed[claimKey("a", "y")], at(claim("a", "y"), head.Revision))
}

func listInvalid(s *subject) {
	for _, key := range invalidKeys() {
		if key.Pool == "" && key.Kind != "" || (store.Key{Kind: key.Kind, Pool: key.Pool}).Validate() == nil {
			continue
		}
		var last error
		for _, last = range s.s.List(s.ctx, key.Kind, key.Pool) {
		}
		s.check(errors.Is(last, store.ErrInvalid), ruleInvalidKey, "List of kind %.40q, pool %.40q ended with the error %v",
			key.Kind, key.Pool, last)
	}
}

func listStop(s *subject) {
	head := s.filled(60)
	s.within(ruleListBody, func() error {
		for stop := 1; stop <= 40; stop += 13 {
			n := 0
			for range s.s.List(s.ctx, store.KindAllocation, "a") {
				if n++; n == stop {
					break
				}
			}
			var err error
			if head, err = CommitOne(s.ctx, s.s, head); err != nil {
				return fmt.Errorf("a commit after a loop that stopped early failed: %w", err)
			}
		}
		return nil
	})
}

// listAgain ranges over one iterator twice.
func listAgain(s *subject) {
	s.filled(5)
	all := s.s.List(s.ctx, store.KindAllocation, "a")
	for range 2 {
		n := 0
		for _, err := range all {
			s.check(err == nil, ruleList, "List failed: %v", err)
			n++
		}
		s.check(n == 5, ruleList, "the iterator yielded %d records, want 5", n)
	}
}

// listCommitsInBody deletes some of the records that come up, and creates others. What is still there must come up.
func listCommitsInBody(s *subject) {
	const n = 300
	head := s.filled(n)
	seen := make(map[string]bool)
	s.within(ruleListBody, func() error {
		for record, err := range s.s.List(s.ctx, store.KindAllocation, "a") {
			if err != nil {
				return fmt.Errorf("a list failed: %w", err)
			}
			if seen[record.Name] {
				return fmt.Errorf("%v came up twice", record.Key)
			}
			seen[record.Name] = true
			if len(record.Name) != len("owner-0000") || len(seen)%10 != 0 {
				continue
			}
			writes := []store.Write{remove(record.Key)}
			if len(seen)%20 == 0 {
				writes = append(writes, create(claim("a", "new-"+record.Name)))
			}
			head, err = CommitOne(s.ctx, s.s, head, writes...)
			if err != nil {
				return fmt.Errorf("a commit in the loop's body failed: %w", err)
			}
		}
		return nil
	})
	for i := range n {
		name := fmt.Sprintf("owner-%04d", i)
		s.check(seen[name], ruleListOnce, "%v did not come up", claimKey("a", name))
	}
}

func listReadsInBody(s *subject) {
	s.filled(10)
	s.within(ruleListBody, func() error {
		for record, err := range s.s.List(s.ctx, store.KindAllocation, "a") {
			if err != nil {
				return err
			}
			if _, err := s.s.Get(s.ctx, record.Key); err != nil {
				return fmt.Errorf("a get in the loop's body failed: %w", err)
			}
			for _, err := range s.s.List(s.ctx, store.KindPool, "") {
				if err != nil {
					return fmt.Errorf("a list in the loop's body failed: %w", err)
				}
			}
		}
		return nil
	})
}

// listBesideCommits lists while others replace, create and delete records.
func listBesideCommits(s *subject) {
	const stable = 200
	head := s.filled(stable)
	ctx, stop := context.WithCancel(s.ctx)
	var writer sync.WaitGroup
	var failure error
	handle := s.another()
	writer.Go(func() { failure = churn(ctx, handle, head) })
	for range 5 {
		counts := make(map[string]int)
		for key := range s.list(store.KindAllocation, "a") {
			counts[key.Name]++
		}
		for i := range stable {
			name := fmt.Sprintf("owner-%04d", i)
			s.check(counts[name] == 1, ruleListOnce, "%v, which exists all the time, came up %d times",
				claimKey("a", name), counts[name])
		}
	}
	stop()
	writer.Wait()
	s.check(failure == nil, ruleListBody, "a commit beside List failed: %v", failure)
}

// churn replaces stable records and creates and deletes others until ctx ends.
func churn(ctx context.Context, handle store.Store, head store.Record) error {
	for i := 0; ctx.Err() == nil; i++ {
		stable := claim("a", fmt.Sprintf("owner-%04d", (i*37)%200))
		stable.State = fmt.Sprint("round ", i)
		passing := claimKey("a", fmt.Sprintf("owner-%04d-passing", i%50))
		write := put(store.Record{Key: passing})
		if i%3 == 0 {
			write = remove(passing)
		}
		next, err := CommitOne(context.WithoutCancel(ctx), handle, head, put(stable), write)
		if err != nil {
			return err
		}
		head = next
	}
	return nil
}

// listErrorLast ends the context in the body: what comes after is at most an error, and then nothing.
func listErrorLast(s *subject) {
	s.filled(300)
	ctx, cancel := context.WithCancel(s.ctx)
	defer cancel()
	errs, n := 0, 0
	for _, err := range s.s.List(ctx, store.KindAllocation, "a") {
		s.check(errs == 0, ruleListError, "something came up after the error")
		if err != nil {
			errs++
			s.check(errors.Is(err, context.Canceled), ruleContext, "the error after the context ended is %v", err)
		}
		n++
		cancel()
	}
	s.check(errs == 1 || n == 300, ruleListError, "the iteration ended after %d of 300 records without an error", n)
}

// listDamaged damages some records, if the backend says how.
func listDamaged(s *subject) {
	if s.backend.Damage == nil {
		return
	}
	const n = 7
	s.filled(n)
	damaged := map[store.Key]bool{}
	for _, i := range []int{2, 5} {
		key := claimKey("a", fmt.Sprintf("owner-%04d", i))
		if err := s.backend.Damage(s.ctx, key); err != nil {
			s.Fatalf("damage the record %v: %v", key, err)
		}
		damaged[key] = true
	}
	var last error
	come := 0
	for r, err := range s.s.List(s.ctx, store.KindAllocation, "a") {
		s.check(last == nil, ruleListError, "something came up after the error")
		if last = err; err == nil {
			s.check(!damaged[r.Key], ruleDamaged, "%v came up", r.Key)
			come++
		}
	}
	s.check(last != nil, ruleDamaged, "no error came up")
	var all *store.DamagedError
	if errors.As(last, &all) {
		s.check(come == n-len(damaged), ruleDamaged, "%d of the %d others came up", come, n-len(damaged))
		s.check(len(all.Damaged) == len(damaged), ruleDamaged, "the error names %d of %d", len(all.Damaged), len(damaged))
	}
}
