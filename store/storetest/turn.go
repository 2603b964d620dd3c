package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ipalloc/ipalloc/store"
)

func turnCases() []testCase {
	return []testCase{
		{"turn/heads", turnHeads},
		{"turn/keys", turnKeys},
		{"turn/in order", turnInOrder},
		{"turn/nobody starves", turnNobodyStarves},
		{"turn/beside commits without", turnBesideCommits},
		{"turn/guards nothing", turnGuards},
		{"turn/takes too long", turnTooLong},
		{"turn/context ends", turnContext},
		{"turn/ends", turnEnds},
		{"turn/several heads", turnSeveral},
	}
}

// turn takes a turn that must be had.
func (s *subject) turn(handle store.Store, keys ...store.Key) store.Turn {
	s.Helper()
	var t store.Turn
	s.within(ruleTurn, func() (err error) {
		t, err = handle.Turn(s.ctx, keys...)
		return err
	})
	s.Cleanup(t.End)
	return t
}

// inTurn commits head in a turn, which must succeed.
func (s *subject) inTurn(handle store.Store, t store.Turn, head store.Record) store.Record {
	s.Helper()
	return s.commitAllOn(handle, store.Change{Head: head, Turn: t})[0]
}

func turnHeads(s *subject) {
	a, b := s.commit(fullRecord(headKey("a"))), s.commit(newHead("b"))
	other := s.another()
	for range 3 {
		t := s.turn(other, headKey("c"), headKey("b"), headKey("a"))
		s.check(len(t.Heads()) == 3, ruleTurnHeads, "Heads of a turn at 3 heads returned %d", len(t.Heads()))
		s.same(ruleTurnHeads, "the first of Heads", t.Heads()[0], newHead("c"))
		s.same(ruleTurnHeads, "the second of Heads", t.Heads()[1], b)
		s.same(ruleTurnHeads, "the third of Heads", t.Heads()[2], a)
		t.End()
		a = s.commit(a)
	}
}

func turnKeys(s *subject) {
	for what, keys := range map[string][]store.Key{
		"no key":         {},
		"a key twice":    {headKey("a"), headKey("b"), headKey("a")},
		"an invalid key": {headKey("a"), {Kind: store.KindPool}},
	} {
		_, err := s.s.Turn(s.ctx, keys...)
		s.check(errors.Is(err, store.ErrInvalid), ruleTurnKeys, "Turn with %s returned the error %v", what, err)
	}
}

// tries is how often a case that measures time is tried: a busy machine may spoil one.
const tries = 3

// turnInOrder lets several get in line, one after the other, behind a turn.
func turnInOrder(s *subject) {
	s.commit(newHead("a"))
	handles := make([]store.Store, 5)
	for i := range handles {
		handles[i] = s.another()
		s.turn(handles[i], headKey("a")).End() // connects, which takes longer than the calls are apart
	}
	var order []int
	for range tries {
		if order = s.turnOrder(handles); slices.IsSorted(order) {
			return
		}
	}
	s.check(false, ruleTurnOrder, "calls 0 to 4 had their turns in the order %v, in each of %d tries", order, tries)
}

// turnOrder returns the order in which handles had their turns that asked for them one after the other.
func (s *subject) turnOrder(handles []store.Store) (had []int) {
	waiting := len(handles)
	first := s.turn(s.s, headKey("a"))
	order, ended := make(chan int, waiting), make(chan error, waiting)
	for i, handle := range handles {
		go func() {
			t, err := handle.Turn(s.ctx, headKey("a"))
			if err == nil {
				order <- i
				t.End()
			}
			ended <- err
		}()
		time.Sleep(store.MaxTurn / (2 * time.Duration(waiting))) // so that they come one after the other
	}
	s.letGo(first, order, ended)
	for range waiting {
		had = append(had, <-order)
	}
	return had
}

// letGo ends the turn behind which others wait, each of whom notes the order in which they go on, and awaits them all.
func (s *subject) letGo(first store.Turn, order chan int, ended chan error) {
	s.Helper()
	s.check(len(order) == 0, ruleTurnOrder, "%d turns began beside another one", len(order))
	first.End()
	s.within(ruleTurnOrder, func() error {
		var err error
		for range cap(ended) {
			err = errors.Join(err, <-ended)
		}
		return err
	})
}

// turnNobodyStarves lets handles take turns as fast as they can. None may be left behind, and what a turn has read must
// still be so at its commit. A machine that has other things to do may leave one behind now and then, but a driver that
// starves does so each time.
func turnNobodyStarves(s *subject) {
	const writers, most, rounds = 5, 24, 4
	head := s.commit(newHead("a"))
	var counts []int
	for range rounds {
		if counts = s.turnsOfMany(head, writers, most); slices.Min(counts) >= most/2 {
			return
		}
	}
	s.check(false, ruleTurn, "a handle had %d turns while another one had %d, in each of %d rounds: %v",
		slices.Min(counts), slices.Max(counts), rounds, counts)
}

// turnsOfMany lets handles take turns as fast as they can until one has had the most, and returns how many each has
// had.
func (s *subject) turnsOfMany(head store.Record, writers, most int) []int {
	s.Helper()
	var full atomic.Bool
	var conflicts, long atomic.Int64
	counts := make([]int, writers)
	first := s.turn(s.s, head.Key)
	time.AfterFunc(store.MaxTurn/4, first.End) // when all are in line
	s.race(ruleTurn, writers, func(i int, handle store.Store) error {
		for !full.Load() {
			begin := time.Now() // the turn begins within the call: before it has read the head
			t, err := handle.Turn(s.ctx, head.Key)
			if err != nil {
				return err
			}
			_, err = handle.Commit(s.ctx, store.Change{Head: t.Heads()[0], Turn: t})
			switch {
			case err == nil:
				if counts[i]++; counts[i] == most {
					full.Store(true)
				}
			case !errors.Is(err, store.ErrConflict):
				return err
			case time.Since(begin) < store.MaxTurn:
				conflicts.Add(1)
			default:
				long.Add(1) // the others were right to go on
			}
		}
		return nil
	})
	if long.Load() > 0 {
		return []int{most} // this machine is too slow to tell
	}
	s.check(conflicts.Load() == 0, ruleTurnOrder, "%d commits in a turn met others", conflicts.Load())
	return counts
}

// turnBesideCommits takes turns while another handle commits without one, again and again.
func turnBesideCommits(s *subject) {
	const turns, most = 8, 24
	head := s.commit(newHead("a"))
	greedy, done, ended := s.another(), make(chan struct{}), make(chan error, 1)
	var all sync.WaitGroup
	all.Go(func() {
		current := head
		for {
			select {
			case <-done:
				ended <- nil
				return
			default:
			}
			next, _, err := increment(s.ctx, greedy, current)
			if err != nil {
				ended <- err
				return
			}
			current = next
		}
	})
	won, tried := 0, 0
	s.within(ruleTurnBeside, func() error {
		defer func() {
			close(done)
			all.Wait()
		}()
		for ; won < turns && tried < most; tried++ {
			t, err := s.s.Turn(s.ctx, head.Key)
			if err != nil {
				return err
			}
			_, err = s.s.Commit(s.ctx, store.Change{Head: t.Heads()[0], Turn: t})
			switch {
			case err == nil:
				won++
			case !errors.Is(err, store.ErrConflict):
				return err
			}
		}
		return nil
	})
	if err := <-ended; err != nil {
		s.broken(ruleCommit, "a commit beside turns failed: %v", err)
	}
	s.check(won == turns, ruleTurnBeside, "of %d turns %d could commit", tried, won)
}

// turnGuards commits in a turn on a head that another commit has replaced, and on a head that the turn is not at.
func turnGuards(s *subject) {
	old := s.commit(newHead("a"))
	current := s.commit(old)
	t := s.turn(s.s, headKey("a"))
	_, err := s.s.Commit(s.ctx, store.Change{Head: old, Turn: t})
	s.check(errors.Is(err, store.ErrConflict), ruleTurnGuard,
		"a commit in a turn at an old revision returned the error %v", err)
	s.holds(ruleTurnGuard, current)
	t = s.turn(s.s, headKey("a"))
	heads := s.commitAllOn(s.s, store.Change{Head: current, Turn: t}, store.Change{Head: newHead("b"), Turn: t})
	s.holds(ruleTurnGuard, heads[0])
	s.holds(ruleTurnGuard, heads[1])
}

// turnTooLong never ends a turn.
func turnTooLong(s *subject) {
	head, begin := s.commit(newHead("a")), time.Now()
	s.turn(s.s, head.Key)
	other, asked := s.another(), time.Now()
	t := s.turn(other, head.Key)
	held, waited := time.Since(begin), time.Since(asked)
	s.check(held >= store.MaxTurn/2, ruleTurnOrder, "another turn began after %v, before the first one ended", held)
	s.check(waited <= s.backend.LongTurn+s.backend.Patience/10, ruleTurnLong, "a turn was held up for %v", waited)
	s.inTurn(other, t, head)
}

// turnContext leaves the line.
func turnContext(s *subject) {
	head := s.commit(newHead("a"))
	first := s.turn(s.s, head.Key)
	ctx, cancel := context.WithTimeout(s.ctx, store.MaxTurn/8)
	defer cancel()
	other := s.another()
	s.within(ruleTurnPlace, func() error {
		_, err := other.Turn(ctx, head.Key)
		if !errors.Is(err, context.DeadlineExceeded) {
			return fmt.Errorf("a Turn whose context ended returned the error %w", err)
		}
		return nil
	})
	first.End()
	s.inTurn(s.another(), s.turn(s.another(), head.Key), head)
}

// turnEnds ends turns, by a commit and without one, more than once and after the other.
func turnEnds(s *subject) {
	const rounds = 20
	head := s.commit(newHead("a"))
	took := leastTime(rounds*store.MaxTurn, func() { head = s.endTurns(head, rounds) })
	s.check(took < rounds*store.MaxTurn, ruleTurnEnd, "%d turns, each ended at once, took %v", rounds, took)
	took = leastTime(store.MaxTurn, func() {
		_, err := s.s.Commit(s.ctx, store.Change{Head: at(head, head.Revision+1), Turn: s.turn(s.s, head.Key)})
		s.check(errors.Is(err, store.ErrConflict), ruleConflict, "a commit at a wrong revision returned the error %v", err)
		s.turn(s.another(), head.Key).End()
	})
	s.check(took < store.MaxTurn, ruleTurnCommit, "a turn whose commit failed held others up for %v", took)
}

// leastTime returns how long do took the first time that it took less than the limit, or the last of some times.
func leastTime(limit time.Duration, do func()) (took time.Duration) {
	for range tries {
		begin := time.Now()
		do()
		if took = time.Since(begin); took < limit {
			break
		}
	}
	return took
}

// endTurns ends so many turns at the head, which it returns as it is then.
func (s *subject) endTurns(head store.Record, rounds int) store.Record {
	before := store.Turn(nil)
	for round := range rounds {
		t := s.turn(s.another(), head.Key)
		switch {
		case round%3 == 1:
			head = s.inTurn(s.s, t, head) // perhaps a turn of another store
		case round%3 == 2:
			t.End()
			head = s.inTurn(s.s, before, head)
		}
		t.End()
		t.End()
		before = t
	}
	return head
}

// turnSeveral takes turns at two heads, in either order.
func turnSeveral(s *subject) {
	const writers, each = 4, 5
	keys := []store.Key{headKey("a"), headKey("b")}
	s.commitAll(change(newHead("a")), change(newHead("b")))
	s.race(ruleTurn, writers, func(i int, handle store.Store) error {
		for won := 0; won < each; {
			t, err := handle.Turn(s.ctx, keys[i%2], keys[1-i%2])
			if err != nil {
				return err
			}
			heads := t.Heads()
			_, err = handle.Commit(s.ctx, store.Change{Head: heads[0], Turn: t}, store.Change{Head: heads[1], Turn: t})
			switch {
			case err == nil:
				won++
			case !errors.Is(err, store.ErrConflict):
				return err
			}
		}
		return nil
	})
}
