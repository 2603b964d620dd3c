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

// headCases are about commits of several heads.
func headCases() []testCase {
	return []testCase{
		{"heads/commit", headsCommit},
		{"heads/conflict", headsConflict},
		{"heads/exists", headsExist},
		{"heads/come and go", headsComeAndGo},
		{"heads/revisions rise", headsRise},
		{"heads/invalid", headsInvalid},
		{"heads/aliasing", headsAliasing},
		{"heads/contention", headsContention},
		{"heads/whole commits only", headsWhole},
		{"heads/reopen", headsReopen},
	}
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

func headsCommit(s *subject) {
	heads := s.pools("b", "a")
	b, a, c := heads[0], heads[1], fullRecord(headKey("c"))
	b.State, a.Data = "changed", json.RawMessage(`{"n":1}`)
	got := s.commitAll(
		change(b, create(claim("b", "x")), put(fullRecord(claimKey("b", "standing")))),
		change(c, create(fullRecord(claimKey("c", "x")))),
		change(a, remove(claimKey("a", "standing")), put(claim("other", "y"))),
	)
	for i, want := range []store.Record{b, c, a} {
		s.holds(ruleCommit, at(want, got[i].Revision))
	}
	s.holds(ruleRevision, at(claim("b", "x"), got[0].Revision))
	s.holds(ruleRevision, at(fullRecord(claimKey("b", "standing")), got[0].Revision))
	s.holds(ruleRevision, at(fullRecord(claimKey("c", "x")), got[1].Revision))
	s.holds(ruleRevision, at(claim("other", "y"), got[2].Revision))
	s.lacks(ruleCommit, claimKey("a", "standing"))
	s.check(len(s.list(store.KindPool, "")) == 3, ruleCommit, "List does not yield the three heads")
	got = s.commitAll(change(got[2]), change(got[0]))
	s.commit(got[0])
	s.commit(got[1])
}

func headsConflict(s *subject) {
	stale := s.pools("a", "b", "c")
	fresh := s.commit(stale[1])
	missing := at(newHead("d"), 7)
	verify := s.unchanged(headKey("a"), headKey("b"), headKey("c"), headKey("d"), claimKey("a", "x"), claimKey("b", "x"),
		claimKey("c", "x"), claimKey("a", "standing"), claimKey("b", "standing"), claimKey("c", "standing"))
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
			err := s.refusedAll(ruleConflict, store.ErrConflict, changes...)
			var conflict *store.ConflictError
			s.check(errors.As(err, &conflict), ruleConflict, "the error %q is no ConflictError", err)
			s.check(conflict.Expected == c.bad.Revision, ruleConflict,
				"the conflict says that revision %d was expected, want %d", conflict.Expected, c.bad.Revision)
			s.same(ruleConflictCurrent, "the current head in the conflict", conflict.Current, c.current)
			verify(ruleFailed)
		}
	}
	s.commitAll(change(stale[0]), change(fresh), change(stale[2]))
}

func headsExist(s *subject) {
	heads := s.pools("a", "b")
	verify := s.unchanged(headKey("a"), headKey("b"), headKey("c"), claimKey("a", "x"), claimKey("b", "x"),
		claimKey("a", "standing"), claimKey("b", "standing"))
	changes := []store.Change{
		change(heads[0], create(claim("a", "x")), remove(claimKey("a", "standing"))),
		change(heads[1], put(claim("b", "x")), create(fullRecord(claimKey("b", "standing")))),
		change(newHead("c")),
	}
	for range changes {
		changes = append(changes[1:], changes[0])
		err := s.refusedAll(ruleExists, store.ErrExists, changes...)
		var exists *store.ExistsError
		s.check(errors.As(err, &exists) && len(exists.Records) == 1, ruleExistsRecords,
			"the error %q does not have the one record that exists", err)
		s.same(ruleExistsRecords, "the record in the error", exists.Records[0], at(claim("b", "standing"), heads[1].Revision))
		verify(ruleFailed)
	}
	s.commitAll(change(heads[0]), change(heads[1]))
}

func headsComeAndGo(s *subject) {
	heads := s.pools("a", "b")
	got := s.commitAll(
		change(heads[0], remove(headKey("a")), remove(claimKey("a", "standing"))),
		change(newHead("c"), create(claim("c", "x"))),
		change(heads[1]),
		change(newHead("none"), remove(headKey("none"))),
	)
	s.lacks(ruleDeleteHead, headKey("a"))
	s.lacks(ruleCommit, claimKey("a", "standing"))
	s.lacks(ruleDeleteHead, headKey("none"))
	s.holds(ruleCommit, got[1])
	s.holds(ruleCommit, got[2])
	again := s.commitAll(change(newHead("a")), change(got[1], remove(headKey("c"))))
	s.check(again[0].Revision > got[0].Revision, ruleRising, "head a was deleted at revision %d and created again at %d",
		got[0].Revision, again[0].Revision)
	s.holds(ruleCommit, again[0])
	s.lacks(ruleDeleteHead, headKey("c"))
	s.holds(ruleCommit, at(claim("c", "x"), got[1].Revision))
}

func headsRise(s *subject) {
	heads := s.pools("a", "b")
	for i := range 12 {
		switch i % 3 {
		case 0:
			heads = s.commitAll(change(heads[0]), change(heads[1]))
		case 1:
			next := s.commitAll(change(heads[1]), change(heads[0], remove(headKey("a"))))
			created := s.commit(newHead("a"))
			s.check(created.Revision > next[1].Revision, ruleRising, "head a was deleted at revision %d and created again at %d",
				next[1].Revision, created.Revision)
			heads = []store.Record{created, next[0]}
		default:
			heads[i%2] = s.commit(heads[i%2])
		}
		s.holds(ruleRevision, heads[0])
		s.holds(ruleRevision, heads[1])
	}
}

func headsInvalid(s *subject) {
	heads := s.pools("a", "b")
	verify := s.unchanged(headKey("a"), headKey("b"), headKey("c"), claimKey("a", "standing"), claimKey("b", "standing"),
		claimKey("a", "x"), claimKey("b", "x"))
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
		s.refusedAll(ruleValid, store.ErrInvalid, changes...)
		if len(changes) > 1 {
			s.refusedAll(ruleValid, store.ErrInvalid, changes[1], changes[0])
		}
		verify(ruleValid)
	}
}

func headsAliasing(s *subject) {
	given := []store.Change{
		change(fullRecord(headKey("a")), put(fullRecord(claimKey("a", "x")))), change(fullRecord(headKey("b"))),
	}
	heads := s.commitAll(given...)
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
func transfer(ctx context.Context, handle store.Store, from, to, name string) error {
	for lost := false; ; lost = true {
		heads, turn, err := readHeads(ctx, handle, lost, from, to)
		if err != nil {
			return err
		}
		var changes []store.Change
		for i, add := range []int{-1, 1} {
			head := heads[i]
			c, err := counterOf(head)
			if err != nil {
				return err
			}
			c.N += add
			if head.Data, err = json.Marshal(c); err != nil {
				return err
			}
			r := claim(head.Pool, name)
			r.Data = json.RawMessage(fmt.Sprint(add))
			changes = append(changes, store.Change{Head: head, Writes: []store.Write{create(r)}, Turn: turn})
		}
		_, err = handle.Commit(ctx, changes...)
		if !errors.Is(err, store.ErrConflict) {
			return err
		}
	}
}

// readHeads reads the heads of pools, in a turn if the caller wants one.
func readHeads(
	ctx context.Context, handle store.Store, inTurn bool, pools ...string,
) (heads []store.Record, turn store.Turn, err error) {
	keys := make([]store.Key, len(pools))
	for i, pool := range pools {
		keys[i] = headKey(pool)
	}
	if inTurn {
		if turn, err = handle.Turn(ctx, keys...); err != nil {
			return nil, nil, err
		}
		return turn.Heads(), turn, nil
	}
	for _, key := range keys {
		head, err := handle.Get(ctx, key)
		if err != nil {
			return nil, nil, err
		}
		heads = append(heads, head)
	}
	return heads, nil, nil
}

// sum reads all accounts. Read one by one they need not be of one moment; a commit of all of them as they were read
// proves that they are.
func sum(ctx context.Context, handle store.Store) (total int, err error) {
	for {
		heads, turn, err := readHeads(ctx, handle, true, accounts...)
		if err != nil {
			return 0, err
		}
		total = 0
		var changes []store.Change
		for _, head := range heads {
			c, err := counterOf(head)
			if err != nil {
				return 0, err
			}
			total += c.N
			changes = append(changes, store.Change{Head: head, Turn: turn})
		}
		_, err = handle.Commit(ctx, changes...)
		if !errors.Is(err, store.ErrConflict) {
			return total, err
		}
	}
}

func headsContention(s *subject) {
	s.pools(accounts...)
	const writers, each = 4, 6
	s.race(ruleCommit, writers, func(i int, handle store.Store) error {
		for n := range each {
			from, to := accounts[(i+n)%len(accounts)], accounts[(i+2*n+1+i%2)%len(accounts)]
			if from == to {
				to = accounts[(i+n+1)%len(accounts)]
			}
			if err := transfer(s.ctx, handle, from, to, fmt.Sprint(i, " ", n)); err != nil {
				return fmt.Errorf("transfer %d of writer %d: %w", n, i, err)
			}
		}
		return nil
	})
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
		s.check(c.N == balance, ruleCommit, "head %v has %d, the records that were created with its changes have %d together",
			head.Key, c.N, balance)
	}
	s.check(records == 2*writers*each, ruleCommit, "%d records were created, want %d", records, 2*writers*each)
}

func headsWhole(s *subject) {
	writer := s.another()
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
	s.within(ruleCommit, func() error {
		for last := false; !last; {
			last = ended.Load()
			total, err := sum(s.ctx, s.s)
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

func headsReopen(s *subject) {
	heads := s.pools("a", "b")
	for round := range 4 {
		heads[0].State = fmt.Sprint(round)
		heads = s.commitAll(change(heads[0], put(claim("a", fmt.Sprint(round)))),
			change(heads[1], remove(claimKey("b", "standing"))))
		s.reopen()
		s.holds(ruleDurable, heads[0])
		s.holds(ruleDurable, heads[1])
		s.holds(ruleDurable, at(claim("a", fmt.Sprint(round)), heads[0].Revision))
		s.lacks(ruleDurable, claimKey("b", "standing"))
	}
}
