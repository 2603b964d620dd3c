package storetest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"

	"github.com/ipalloc/ipalloc/store"
)

func severalCases() []testCase {
	return []testCase{
		{"several/commit", severalCommit},
		{"several/one change", severalOne},
		{"several/conflict", severalConflict},
		{"several/exists", severalExists},
		{"several/heads come and go", severalHeads},
		{"several/revisions rise", severalRising},
		{"several/invalid", severalInvalid},
		{"several/aliasing", severalAliasing},
		{"several/contention", severalContention},
		{"several/whole commits only", severalWhole},
		{"several/reopen", severalReopen},
	}
}

// commitSeveral commits what must succeed, and checks what it returns. From then on the subject's first handle is one that can.
func (s *subject) commitSeveral(changes ...store.Change) []store.Record {
	s.Helper()
	several := store.Several(s.s)
	s.s = several
	heads, err := several.CommitSeveral(s.ctx, changes)
	if err != nil {
		s.broken(ruleSeveral, "a valid commit of %d heads failed: %v", len(changes), err)
	}
	s.check(len(heads) == len(changes), ruleSeveralReturned, "CommitSeveral of %d changes returned %d heads", len(changes), len(heads))
	for i, head := range heads {
		was := changes[i].Head
		s.check(head.Revision > was.Revision, ruleRising, "CommitSeveral of head %v at revision %d returned revision %d", was.Key, was.Revision, head.Revision)
		s.same(ruleSeveralReturned, "the head that CommitSeveral returned", head, at(was, head.Revision))
	}
	return heads
}

// refusedSeveral commits what must fail with target, and returns the error.
func (s *subject) refusedSeveral(rule string, target error, changes ...store.Change) error {
	s.Helper()
	several := store.Several(s.s)
	s.s = several
	_, err := several.CommitSeveral(s.ctx, changes)
	s.check(err != nil, rule, "CommitSeveral succeeded, want %q", target)
	s.check(errors.Is(err, target), rule, "CommitSeveral returned the error %q, want one that is %q", err, target)
	return err
}

// change returns a change of a head.
func change(head store.Record, writes ...store.Write) store.Change {
	return store.Change{Head: head, Writes: writes}
}

// pools returns the heads of pools, newly created, each with a record "standing".
func (s *subject) pools(names ...string) []store.Record {
	s.Helper()
	heads := make([]store.Record, len(names))
	for i, name := range names {
		heads[i] = s.commit(newHead(name), create(claim(name, "standing")))
	}
	return heads
}

func severalCommit(s *subject) {
	heads := s.pools("b", "a")
	b, a, c := heads[0], heads[1], fullRecord(headKey("c"))
	b.State, a.Data = "changed", json.RawMessage(`{"n":1}`)
	got := s.commitSeveral(
		change(b, create(claim("b", "x")), put(fullRecord(claimKey("b", "standing")))),
		change(c, create(fullRecord(claimKey("c", "x")))),
		change(a, remove(claimKey("a", "standing")), put(claim("other", "y"))),
	)
	for i, want := range []store.Record{b, c, a} {
		s.holds(ruleSeveral, at(want, got[i].Revision))
	}
	s.holds(ruleSeveralRevision, at(claim("b", "x"), got[0].Revision))
	s.holds(ruleSeveralRevision, at(fullRecord(claimKey("b", "standing")), got[0].Revision))
	s.holds(ruleSeveralRevision, at(fullRecord(claimKey("c", "x")), got[1].Revision))
	s.holds(ruleSeveralRevision, at(claim("other", "y"), got[2].Revision))
	s.lacks(ruleSeveral, claimKey("a", "standing"))
	s.check(len(s.list(store.KindPool, "")) == 3, ruleSeveral, "List does not yield the three heads")
	got = s.commitSeveral(change(got[2]), change(got[0]))
	s.commit(got[0])
	s.commit(got[1])
}

func severalOne(s *subject) {
	head := s.commitSeveral(change(newHead("a"), create(claim("a", "x"))))[0]
	s.holds(ruleSeveral, head)
	s.holds(ruleSeveralRevision, at(claim("a", "x"), head.Revision))
	s.refusedSeveral(ruleSeveralFails, store.ErrConflict, change(newHead("a")))
	s.commit(head)
}

func severalConflict(s *subject) {
	stale := s.pools("a", "b", "c")
	fresh := s.commit(stale[1])
	missing := at(newHead("d"), 7)
	verify := s.unchanged(headKey("a"), headKey("b"), headKey("c"), headKey("d"), claimKey("a", "x"), claimKey("b", "x"), claimKey("c", "x"),
		claimKey("a", "standing"), claimKey("b", "standing"), claimKey("c", "standing"))
	for _, c := range []struct {
		bad     store.Record
		current store.Record
	}{{stale[1], fresh}, {newHead("b"), fresh}, {missing, newHead("d")}} {
		changes := []store.Change{
			change(stale[0], create(claim("a", "x")), remove(claimKey("a", "standing"))),
			change(c.bad, create(claim("b", "x")), create(claim("b", "standing"))),
			change(stale[2], create(claim("c", "x"))),
		}
		for range changes {
			changes = append(changes[1:], changes[0])
			err := s.refusedSeveral(ruleSeveralFails, store.ErrConflict, changes...)
			var conflict *store.ConflictError
			s.check(errors.As(err, &conflict), ruleSeveralFails, "the error %q is no ConflictError", err)
			s.check(conflict.Expected == c.bad.Revision, ruleSeveralFails, "the conflict says that revision %d was expected, want %d", conflict.Expected, c.bad.Revision)
			s.same(ruleConflictCurrent, "the current head in the conflict", conflict.Current, c.current)
			verify(ruleSeveral)
		}
	}
	s.commitSeveral(change(stale[0]), change(fresh), change(stale[2]))
}

func severalExists(s *subject) {
	heads := s.pools("a", "b")
	verify := s.unchanged(headKey("a"), headKey("b"), headKey("c"), claimKey("a", "x"), claimKey("b", "x"), claimKey("a", "standing"), claimKey("b", "standing"))
	changes := []store.Change{
		change(heads[0], create(claim("a", "x")), remove(claimKey("a", "standing"))),
		change(heads[1], put(claim("b", "x")), create(fullRecord(claimKey("b", "standing")))),
		change(newHead("c")),
	}
	for range changes {
		changes = append(changes[1:], changes[0])
		err := s.refusedSeveral(ruleSeveralFails, store.ErrExists, changes...)
		var exists *store.ExistsError
		s.check(errors.As(err, &exists) && len(exists.Records) == 1, ruleExistsRecords, "the error %q does not have the one record that exists", err)
		s.same(ruleExistsRecords, "the record in the error", exists.Records[0], at(claim("b", "standing"), heads[1].Revision))
		verify(ruleSeveral)
	}
	s.commitSeveral(change(heads[0]), change(heads[1]))
}

func severalHeads(s *subject) {
	heads := s.pools("a", "b")
	got := s.commitSeveral(
		change(heads[0], remove(headKey("a")), remove(claimKey("a", "standing"))),
		change(newHead("c"), create(claim("c", "x"))),
		change(heads[1]),
		change(newHead("none"), remove(headKey("none"))),
	)
	s.lacks(ruleDeleteHead, headKey("a"))
	s.lacks(ruleSeveral, claimKey("a", "standing"))
	s.lacks(ruleDeleteHead, headKey("none"))
	s.holds(ruleSeveral, got[1])
	s.holds(ruleSeveral, got[2])
	again := s.commitSeveral(change(newHead("a")), change(got[1], remove(headKey("c"))))
	s.check(again[0].Revision > got[0].Revision, ruleRising, "head a was deleted at revision %d and created again at %d", got[0].Revision, again[0].Revision)
	s.holds(ruleSeveral, again[0])
	s.lacks(ruleDeleteHead, headKey("c"))
	s.holds(ruleSeveral, at(claim("c", "x"), got[1].Revision))
}

func severalRising(s *subject) {
	heads := s.pools("a", "b")
	for i := range 12 {
		switch i % 3 {
		case 0:
			heads = s.commitSeveral(change(heads[0]), change(heads[1]))
		case 1:
			next := s.commitSeveral(change(heads[1]), change(heads[0], remove(headKey("a"))))
			created := s.commit(newHead("a"))
			s.check(created.Revision > next[1].Revision, ruleRising, "head a was deleted at revision %d and created again at %d", next[1].Revision, created.Revision)
			heads = []store.Record{created, next[0]}
		default:
			heads[i%2] = s.commit(heads[i%2])
		}
		s.holds(ruleRevision, heads[0])
		s.holds(ruleRevision, heads[1])
	}
}

func severalInvalid(s *subject) {
	heads := s.pools("a", "b")
	verify := s.unchanged(headKey("a"), headKey("b"), headKey("c"), claimKey("a", "standing"), claimKey("b", "standing"), claimKey("a", "x"), claimKey("b", "x"))
	good := change(heads[0], create(claim("a", "x")), remove(claimKey("a", "standing")))
	invalid := store.Record{Key: headKey("a"), State: "\xff"}
	for _, changes := range [][]store.Change{
		{},
		{good, good},
		{good, change(heads[0])},
		{good, change(heads[1], put(newHead("a")))},
		{good, change(heads[1], remove(headKey("a")))},
		{good, change(heads[1], put(claim("a", "x")))},
		{good, change(heads[1], remove(claimKey("a", "standing")))},
		{good, change(newHead("c"), create(newHead("c")))},
		{good, change(invalid)},
		{good, change(heads[1], put(invalid))},
		{good, change(at(newHead("c"), -1))},
		{good, change(heads[1], store.Write{Record: claim("b", "x")})},
		{good, change(store.Record{})},
	} {
		s.refusedSeveral(ruleSeveralValid, store.ErrInvalid, changes...)
		if len(changes) > 1 {
			s.refusedSeveral(ruleSeveralValid, store.ErrInvalid, changes[1], changes[0])
		}
		verify(ruleSeveralValid)
	}
}

func severalAliasing(s *subject) {
	given := []store.Change{change(fullRecord(headKey("a")), put(fullRecord(claimKey("a", "x")))), change(fullRecord(headKey("b")))}
	heads := s.commitSeveral(given...)
	keep := []int64{heads[0].Revision, heads[1].Revision}
	scribble(given[0].Head)
	scribble(given[0].Writes[0].Record)
	scribble(heads[0])
	scribble(heads[1])
	s.holds(ruleBytes, at(fullRecord(headKey("a")), keep[0]))
	s.holds(ruleBytes, at(fullRecord(headKey("b")), keep[1]))
	s.holds(ruleBytes, at(fullRecord(claimKey("a", "x")), keep[0]))
}

// The accounts between which contending writers move amounts. The sum stays what it was: nothing.
var accounts = []string{"a", "b", "c", "d"}

// transfer moves one unit between two accounts, whatever contends, and creates a record of it beside both.
func transfer(ctx context.Context, handle store.SeveralStore, from, to, name string) error {
	for {
		var changes []store.Change
		for _, side := range []struct {
			pool string
			add  int
		}{{from, -1}, {to, 1}} {
			head, err := handle.Get(ctx, headKey(side.pool))
			if err != nil {
				return err
			}
			c, err := counterOf(head)
			if err != nil {
				return err
			}
			c.N += side.add
			if head.Data, err = json.Marshal(c); err != nil {
				return err
			}
			r := claim(side.pool, name)
			r.Data = json.RawMessage(fmt.Sprint(side.add))
			changes = append(changes, change(head, create(r)))
		}
		_, err := handle.CommitSeveral(ctx, changes)
		if !errors.Is(err, store.ErrConflict) {
			return err
		}
	}
}

// sum reads all accounts. Read one by one they need not be of one moment; a commit of all of them as they were read proves that they are.
func sum(ctx context.Context, handle store.SeveralStore) (total int, err error) {
	for {
		total = 0
		var changes []store.Change
		for _, pool := range accounts {
			head, err := handle.Get(ctx, headKey(pool))
			if err != nil {
				return 0, err
			}
			c, err := counterOf(head)
			if err != nil {
				return 0, err
			}
			total += c.N
			changes = append(changes, change(head))
		}
		_, err = handle.CommitSeveral(ctx, changes)
		if !errors.Is(err, store.ErrConflict) {
			return total, err
		}
	}
}

func severalContention(s *subject) {
	s.pools(accounts...)
	const writers, each = 4, 6
	s.race(ruleSeveral, writers, func(i int, handle store.Store) error {
		for n := range each {
			from, to := accounts[(i+n)%len(accounts)], accounts[(i+2*n+1+i%2)%len(accounts)]
			if from == to {
				to = accounts[(i+n+1)%len(accounts)]
			}
			if err := transfer(s.ctx, store.Several(handle), from, to, fmt.Sprint(i, " ", n)); err != nil {
				return fmt.Errorf("transfer %d of writer %d: %w", n, i, err)
			}
		}
		return nil
	})
	s.s = store.Several(s.s)
	records := 0
	for _, pool := range accounts {
		head, _ := s.get(headKey(pool))
		c, err := counterOf(head)
		s.check(err == nil, ruleData, "head %v came back damaged", head.Key)
		balance := 0
		for key, r := range s.list(store.KindAllocation, pool) {
			if key.Name != "standing" {
				add, err := strconv.Atoi(string(r.Data))
				s.check(err == nil, ruleData, "record %v came back damaged", key)
				balance += add
				records++
			}
		}
		s.check(c.N == balance, ruleSeveral, "head %v has %d, the records that were created with its changes have %d together", head.Key, c.N, balance)
	}
	s.check(records == 2*writers*each, ruleSeveral, "%d records were created, want %d", records, 2*writers*each)
}

func severalWhole(s *subject) {
	writer := store.Several(s.another())
	s.pools(accounts...)
	var ended atomic.Bool
	done := make(chan error, 1)
	go func() {
		var err error
		for n := 0; n < 30 && err == nil; n++ {
			err = transfer(s.ctx, writer, accounts[n%4], accounts[(n+1+n%3)%4], fmt.Sprint(n))
		}
		ended.Store(true)
		done <- err
	}()
	s.within(ruleSeveral, func() error {
		for last := false; !last; {
			last = ended.Load()
			total, err := sum(s.ctx, store.Several(s.s))
			if err != nil {
				return err
			}
			if total != 0 {
				return fmt.Errorf("a commit of all heads succeeded with the sum %d, want 0", total)
			}
		}
		return <-done
	})
}

func severalReopen(s *subject) {
	heads := s.pools("a", "b")
	for round := range 4 {
		heads[0].State = fmt.Sprint(round)
		heads = s.commitSeveral(change(heads[0], put(claim("a", fmt.Sprint(round)))), change(heads[1], remove(claimKey("b", "standing"))))
		s.reopen()
		s.holds(ruleDurable, heads[0])
		s.holds(ruleDurable, heads[1])
		s.holds(ruleDurable, at(claim("a", fmt.Sprint(round)), heads[0].Revision))
		s.lacks(ruleDurable, claimKey("b", "standing"))
	}
}
