package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/ipalloc/ipalloc/store"
)

// groupCases are about stores on which processes share commits. Those of several at once are in groupRaceCases.
func groupCases() []testCase {
	return []testCase{
		{"group/asks", groupAsks},
		{"group/answers", groupAnswers},
		{"group/answers come soon", groupSoon},
		{"group/failed commit", groupFailed},
		{"group/asker leaves", groupLeaves},
		{"group/asker leaves too late", groupLeavesLate},
		{"group/takes too long", groupTooLong},
		{"group/empty ask", groupEmpty},
		{"group/sizes and keys", groupInvalid},
		{"group/one line", groupOneLine},
		{"group/several heads", groupHeads},
		{"group/aliasing", groupAliasing},
	}
}

// grouper returns the handle as one on which commits are shared. It skips the case if it is none.
func (s *subject) grouper(handle store.Store) store.Grouper {
	s.Helper()
	grouper, ok := handle.(store.Grouper)
	if !ok {
		s.Skip("the store is no store.Grouper: processes do not share commits on it")
	}
	return grouper
}

// asker is a caller of Join in a goroutine of its own. What came of the call is there when ended is closed.
type asker struct {
	handle store.Store
	ended  chan struct{}
	turn   store.GroupTurn
	err    error
	at     time.Time // when Join returned
	leave  context.CancelFunc
}

// ask begins to wait for a turn with an ask.
func (s *subject) ask(handle store.Store, key store.Key, ask []byte) *asker {
	s.Helper()
	ctx, leave := context.WithCancel(s.ctx)
	a, grouper := &asker{handle: handle, ended: make(chan struct{}), leave: leave}, s.grouper(handle)
	go func() {
		defer close(a.ended)
		a.turn, a.err = grouper.Join(ctx, key, ask)
		a.at = time.Now()
	}()
	s.Cleanup(a.end)
	return a
}

// end ends the wait and the turn. A call that hangs does not hold it up, since other cases find that.
func (a *asker) end() {
	a.leave()
	select {
	case <-a.ended:
		if a.turn != nil {
			a.turn.End()
		}
	case <-time.After(store.MaxTurn):
	}
}

// joined waits until Join has returned, which it must without an error.
func (s *subject) joined(rule string, a *asker) {
	s.Helper()
	s.within(rule, func() error {
		<-a.ended
		return a.err
	})
}

// told checks that the asker gets the answer, and that the commit of the revision gave it. Should the asker have had
// its turn first, as on a slow machine, it ends that.
func (s *subject) told(a *asker, want string, revision int64) {
	s.Helper()
	s.joined(ruleJoin, a)
	a.turn.End()
	got, at, err := a.turn.Answered()
	s.check(err == nil, ruleAnswered, "Answered returned the error %v", err)
	s.check(got != nil && string(got) == want, ruleAnswered, "Answered returned %.80q, want %.80q", got, want)
	s.check(at == revision, ruleAnswered, "Answered returned the revision %d, of a commit of revision %d", at, revision)
}

// untold checks that the turn's ask has not been answered.
func (s *subject) untold(rule string, t store.GroupTurn) {
	s.Helper()
	got, at, err := t.Answered()
	s.check(got == nil && err == nil, rule, "Answered returned %.80q at revision %d and the error %v, want none", got, at,
		err)
}

// group is a turn, and those that wait behind it with asks.
type group struct {
	*subject
	handle store.Store
	begin  time.Time
	turn   store.GroupTurn
	head   store.Record // with which the turn began
	askers []*asker
}

// commit commits in the turn. It returns false if that came to nothing because this machine was too slow.
func (g *group) commit(changes ...store.Change) (store.Record, bool) {
	g.Helper()
	for i := range changes {
		changes[i].Turn = g.turn
	}
	heads, err := g.handle.Commit(g.ctx, changes...)
	if err != nil && late(g.begin) {
		return store.Record{}, false
	}
	g.check(err == nil, ruleAnswer, "a commit that gives answers failed: %v", err)
	return heads[0], true
}

// late reports whether a turn that began then may have been passed over by now.
func late(begin time.Time) bool { return time.Since(begin) > store.MaxTurn*3/4 }

// inOwnTurn commits head in the asker's own turn. It returns false if that came to nothing because this machine was too
// slow.
func (s *subject) inOwnTurn(a *asker, head store.Record) (store.Record, bool) {
	s.Helper()
	heads, err := a.handle.Commit(s.ctx, store.Change{Head: head, Turn: a.turn})
	if err != nil && late(a.at) {
		return store.Record{}, false
	}
	s.check(err == nil, ruleTurnOrder, "a commit in its turn failed: %v", err)
	return heads[0], true
}

// dissolve lets all go.
func (g *group) dissolve() {
	g.turn.End()
	for _, a := range g.askers {
		a.end()
	}
}

const slowTries = 10 // on a machine that is now and then too slow

// grouped has do look at a turn at a new head behind which the asks wait, in their order, on other handles. It does so
// again if do returns false.
func (s *subject) grouped(do func(g *group) bool, asks ...string) {
	s.Helper()
	s.grouper(s.s)
	head, handles := s.commit(newHead("a")), make([]store.Store, len(asks)+1)
	for i := range handles {
		handles[i] = s.another()
	}
	for range slowTries {
		g := s.gather(handles, head.Key, asks)
		done := do(g)
		g.dissolve()
		if done {
			return
		}
	}
}

// gather returns a turn of the first handle, behind which the others wait with the asks.
func (s *subject) gather(handles []store.Store, key store.Key, asks []string) *group {
	s.Helper()
	want := slices.DeleteFunc(slices.Clone(asks), func(ask string) bool { return ask == "" })
	var got []string
	for range slowTries {
		g := s.line(handles, key, asks)
		got = nil
		for _, ask := range g.turn.Asks() {
			got = append(got, string(ask))
		}
		if slices.Equal(got, want) {
			s.untold(ruleAnswered, g.turn)
			return g
		}
		g.dissolve()
	}
	s.broken(ruleAsks, "Asks returned %.200q to the turn before %.200q", got, want)
	return nil
}

// line lets the handles get in line one after the other, the first one without an ask, until that has its turn.
func (s *subject) line(handles []store.Store, key store.Key, asks []string) *group {
	s.Helper()
	first, pause := s.turn(s.s, key), store.MaxTurn/time.Duration(2*len(handles)+2)
	holder := s.ask(handles[0], key, nil)
	g := &group{subject: s, handle: handles[0]}
	for i, ask := range asks {
		time.Sleep(pause)
		g.askers = append(g.askers, s.ask(handles[i+1], key, []byte(ask)))
	}
	time.Sleep(pause)
	g.begin = time.Now()
	first.End()
	s.joined(ruleJoin, holder)
	g.turn = holder.turn
	heads := g.turn.Heads()
	s.check(len(heads) == 1 && heads[0].Key == key, ruleJoinTurn, "the turn has the heads %+v, want one, %v", heads, key)
	g.head = heads[0]
	return g
}

func groupAsks(s *subject) {
	s.grouped(func(g *group) bool {
		stored, _ := s.get(g.head.Key)
		s.same(ruleTurnHeads, "the head of a turn with asks", g.head, stored)
		g.turn.End()
		s.untold(ruleAnsweredAgain, g.turn)
		s.joined(ruleJoin, g.askers[0])
		s.same(ruleTurnHeads, "the head of the next turn", g.askers[0].turn.Heads()[0], stored)
		return true
	}, "three", "one", "two", "one")
}

// groupAnswers answers two of three, and has the third go on.
func groupAnswers(s *subject) {
	s.grouped(func(g *group) bool {
		g.turn.Answer(2, []byte("of three"))
		g.turn.Answer(0, []byte("of one"))
		head, ok := g.commit(change(g.head, create(claim("a", "x"))))
		if !ok {
			return false
		}
		first, other, last := g.askers[0], g.askers[1], g.askers[2]
		s.joined(ruleJoin, first)
		if !late(g.begin) {
			s.check(len(first.turn.Heads()) == 0, ruleAnsweredEnd, "an answered turn has the heads %+v", first.turn.Heads())
		}
		s.told(first, "of one", head.Revision)
		s.told(last, "of three", head.Revision)
		s.holds(ruleAnswer, at(claim("a", "x"), head.Revision))
		s.joined(ruleJoin, other)
		s.untold(ruleAnswered, other.turn)
		s.same(ruleTurnHeads, "the head of the turn after", other.turn.Heads()[0], head)
		if head, ok = s.inOwnTurn(other, head); ok {
			s.inTurn(last.handle, last.turn, s.inTurn(g.handle, g.turn, head)) // turns that have ended
		}
		return ok
	}, "one", "two", "three")
}

// groupSoon looks how long answers take to arrive.
func groupSoon(s *subject) {
	const rounds = 3
	soonest := time.Duration(-1)
	for range rounds {
		s.groupedAgain(func(g *group) bool {
			g.turn.Answer(0, []byte("of one"))
			head, ok := g.commit(change(g.head))
			if !ok {
				return false
			}
			committed := time.Now()
			s.told(g.askers[0], "of one", head.Revision)
			if took := g.askers[0].at.Sub(committed); soonest < 0 || took < soonest {
				soonest = took
			}
			return true
		})
	}
	s.check(soonest < store.MaxTurn/2, ruleJoin, "Join returned %v after the commit that answered, of %d the soonest",
		soonest, rounds)
}

// groupFailed answers in a commit that fails. All go on as if there had been none, in their order.
func groupFailed(s *subject) {
	disorders := 0
	s.grouped(func(g *group) bool {
		for i := range g.turn.Asks() {
			g.turn.Answer(i, []byte("done"))
		}
		verify := s.unchanged(g.head.Key, claimKey("a", "x"))
		wrong := change(at(g.head, g.head.Revision+1), create(claim("a", "x")))
		wrong.Turn = g.turn
		_, err := g.handle.Commit(s.ctx, wrong)
		s.check(err != nil, ruleConflict, "a commit with answers at a wrong revision succeeded")
		verify(ruleFailed)
		s.untold(ruleAnsweredAgain, g.turn)
		head, ok := g.head, true
		for i := 0; i < len(g.askers) && ok; i++ {
			a := g.askers[i]
			s.joined(ruleJoin, a)
			s.untold(ruleAnswer, a.turn)
			if anyEnded(g.askers[i+1:]) {
				disorders++
				return false
			}
			head, ok = s.inOwnTurn(a, head)
		}
		return ok
	}, "one", "two", "three")
	s.check(disorders < slowTries, ruleTurnOrder, "those that were not answered did not have their turns in order")
}

// anyEnded reports whether a Join has returned.
func anyEnded(askers []*asker) bool {
	return slices.ContainsFunc(askers, func(a *asker) bool {
		select {
		case <-a.ended:
			return true
		default:
			return false
		}
	})
}

// groupLeaves answers one that has left, and one that has not.
func groupLeaves(s *subject) {
	s.grouped(func(g *group) bool {
		leaver, stayer := g.askers[0], g.askers[1]
		leaver.leave()
		s.within(ruleJoinLeft, func() error {
			<-leaver.ended
			if !errors.Is(leaver.err, context.Canceled) && !errors.Is(leaver.err, store.ErrUnknown) {
				return fmt.Errorf("a Join whose context ended returned the error %w", leaver.err)
			}
			return nil
		})
		if errors.Is(leaver.err, store.ErrUnknown) {
			return false
		}
		g.turn.Answer(0, []byte("to nobody"))
		g.turn.Answer(1, []byte("to one who waits"))
		verify := s.unchanged(g.head.Key, claimKey("a", "x"))
		answering := change(g.head, create(claim("a", "x")))
		answering.Turn = g.turn
		_, err := g.handle.Commit(s.ctx, answering)
		if err != nil && late(g.begin) {
			return false
		}
		var conflict *store.ConflictError
		s.check(errors.As(err, &conflict), ruleAnswerLeft, "a commit that answers one that has left returned the error %v",
			err)
		s.same(ruleConflictCurrent, "the head in the conflict", conflict.Current, g.head)
		verify(ruleAnswerLeft)
		s.joined(ruleJoin, stayer)
		s.untold(ruleAnswer, stayer.turn)
		_, ok := s.inOwnTurn(stayer, g.head)
		return ok
	}, "leaves", "stays")
}

// groupLeavesLate answers one that leaves then, before it may have heard of that: the one before it has its turn.
func groupLeavesLate(s *subject) {
	s.grouped(func(g *group) bool {
		g.turn.Answer(0, []byte("of one"))
		g.turn.Answer(2, []byte("of three"))
		head, ok := g.commit(change(g.head))
		if !ok {
			return false
		}
		leaver := g.askers[2]
		leaver.leave()
		s.within(ruleJoinLeft, func() error {
			<-leaver.ended
			if leaver.err != nil && !errors.Is(leaver.err, store.ErrUnknown) {
				return fmt.Errorf("a Join that was answered, and whose context ended then, returned the error %w", leaver.err)
			}
			return nil
		})
		if leaver.err != nil {
			return false
		}
		s.told(leaver, "of three", head.Revision)
		return true
	}, "one", "two", "three")
}

// groupTooLong answers in a turn that was passed over, to one that has its own turn by then.
func groupTooLong(s *subject) {
	for _, in := range []struct {
		what                string
		holderCommits, left bool // first; the asker has ended its turn
	}{
		{"first", true, false},
		{"second", false, false},
		{"when the asker is gone", true, true},
	} {
		s.groupedAgain(func(g *group) bool {
			a := g.askers[0]
			s.joined(ruleTurnLong, a)
			s.untold(ruleAnswered, a.turn)
			g.turn.Answer(0, []byte("done"))
			byHolder, byAsker := change(g.head), change(a.turn.Heads()[0])
			byHolder.Turn, byAsker.Turn = g.turn, a.turn
			byHolder.Head.State, byAsker.Head.State = "by the holder", "by the asker"
			if in.left {
				a.turn.End()
				s.untold(ruleAnsweredAgain, a.turn)
				byHolder.Head = s.commitOn(a.handle, byAsker.Head)
			}
			held, asked := s.bothCommit(g.handle, byHolder, a.handle, byAsker, in.holderCommits)
			s.check((held == nil) != (asked == nil) || in.left && held != nil, ruleJoinOnce,
				"of one that had its turn too long, and committed %s, and of one that it answers, the commits returned %v and %v",
				in.what, held, asked)
			s.check(!in.left || held != nil, ruleAnswerLeft, "a commit answered one that has left")
			stored, _ := s.get(g.head.Key)
			if held == nil {
				s.told(a, "done", stored.Revision)
			} else if asked != nil {
				s.untold(ruleAnsweredAgain, a.turn)
			}
			return true
		})
	}
}

// bothCommit commits both, one after the other.
func (s *subject) bothCommit(
	one store.Store, ofOne store.Change, two store.Store, ofTwo store.Change, oneFirst bool,
) (errOne, errTwo error) {
	s.Helper()
	s.within(ruleCommit, func() error {
		if oneFirst {
			_, errOne = one.Commit(s.ctx, ofOne)
		}
		_, errTwo = two.Commit(s.ctx, ofTwo)
		if !oneFirst {
			_, errOne = one.Commit(s.ctx, ofOne)
		}
		return nil
	})
	return errOne, errTwo
}

// groupedAgain is grouped for one ask, in a case that does so several times.
func (s *subject) groupedAgain(do func(g *group) bool) {
	s.Helper()
	head, _ := s.get(headKey("a"))
	if head.Revision > 0 {
		s.commit(head, remove(head.Key))
	}
	s.grouped(do, "one")
}

func groupEmpty(s *subject) {
	s.grouped(func(g *group) bool {
		for i := range g.turn.Asks() {
			g.turn.Answer(i, []byte("done"))
		}
		head, ok := g.commit(change(g.head))
		if !ok {
			return false
		}
		s.told(g.askers[1], "done", head.Revision)
		for _, a := range []*asker{g.askers[0], g.askers[2]} {
			s.joined(ruleJoin, a)
			s.untold(ruleJoinEmpty, a.turn)
			if head, ok = s.inOwnTurn(a, head); !ok {
				return false
			}
		}
		return true
	}, "", "one", "")
}

func groupInvalid(s *subject) {
	grouper := s.grouper(s.s)
	_, err := grouper.Join(s.ctx, headKey("a"), make([]byte, store.MaxAskBytes+1))
	s.check(errors.Is(err, store.ErrInvalid), ruleJoinErrors, "Join with %d bytes returned the error %v",
		store.MaxAskBytes+1, err)
	for _, key := range invalidKeys() {
		_, err := grouper.Join(s.ctx, key, []byte("one"))
		s.check(errors.Is(err, store.ErrInvalid), ruleInvalidKey, "Join at %.80q returned the error %v", key, err)
	}
	every := make([]byte, store.MaxAskBytes)
	for i := range every {
		every[i] = byte(i)
	}
	s.grouped(func(g *group) bool {
		g.turn.Answer(0, every)
		g.turn.Answer(1, []byte{0})
		head, ok := g.commit(change(g.head))
		if !ok {
			return false
		}
		s.told(g.askers[0], string(every), head.Revision)
		s.told(g.askers[1], "\x00", head.Revision)
		return true
	}, "\x00\xff", string(every))
}

// groupOneLine lets callers of Turn and of Join get in line, one after the other.
func groupOneLine(s *subject) {
	s.grouper(s.s)
	head := s.commit(newHead("a"))
	var order []int
	for range tries {
		var slow bool
		if order, slow = s.lineOrder(head.Key, 4); slow || slices.IsSorted(order) {
			return
		}
	}
	s.check(false, ruleTurnOrder, "calls 0 to 3 had their turns in the order %v, in each of %d tries", order, tries)
}

// lineOrder returns the order in which calls had their turns that asked for them one after the other, every other one
// with an ask, and whether one of them took too long.
func (s *subject) lineOrder(key store.Key, waiting int) (had []int, slowly bool) {
	handles := make([]store.Store, waiting)
	for i := range handles {
		handles[i] = s.another()
		t, err := turnOrJoin(s.ctx, i%2 == 0, s.grouper(handles[i]), handles[i], key) // which may open a connection
		s.check(err == nil, ruleTurnOrder, "call %d at a head at which nobody waits returned the error %v", i, err)
		t.End()
	}
	var slow atomic.Bool
	order, ended := make(chan int, waiting), make(chan error, waiting)
	first := s.turn(s.s, key)
	for i, handle := range handles {
		grouper := s.grouper(handle)
		go func() {
			t, err := turnOrJoin(s.ctx, i%2 == 0, grouper, handle, key)
			begin := time.Now()
			if err == nil {
				order <- i
				_, err = handle.Commit(s.ctx, store.Change{Head: t.Heads()[0], Turn: t})
			}
			if err != nil && late(begin) {
				slow.Store(true)
				err = nil
			}
			ended <- err
		}()
		time.Sleep(store.MaxTurn / (2 * time.Duration(waiting))) // so that they come one after the other
	}
	s.letGo(first, order, ended)
	for range len(order) {
		had = append(had, <-order)
	}
	return had, slow.Load()
}

func turnOrJoin(
	ctx context.Context, joins bool, grouper store.Grouper, handle store.Store, key store.Key,
) (store.Turn, error) {
	if joins {
		return grouper.Join(ctx, key, []byte("one"))
	}
	return handle.Turn(ctx, key)
}

// groupHeads answers in a commit of several heads, of which the turn's is not the first.
func groupHeads(s *subject) {
	s.grouped(func(g *group) bool {
		g.turn.Answer(0, []byte("done"))
		other, _ := s.get(headKey("b"))
		other.Key = headKey("b")
		head, ok := g.commit(change(other), change(g.head))
		if !ok {
			return false
		}
		s.told(g.askers[0], "done", head.Revision)
		return true
	}, "one")
}

// groupAliasing overwrites all bytes that go in and come out.
func groupAliasing(s *subject) {
	s.grouped(func(g *group) bool {
		answer := []byte("done")
		g.turn.Answer(0, answer)
		g.turn.Answer(1, answer)
		clear(answer)
		head, ok := g.commit(change(g.head))
		if !ok {
			return false
		}
		for _, a := range g.askers {
			s.told(a, "done", head.Revision)
			got, _, _ := a.turn.Answered()
			clear(got)
			s.told(a, "done", head.Revision)
		}
		return true
	}, "one", "two")
	holder, leaver := s.another(), s.another()
	for range slowTries {
		if asks := s.asksOverwritten(holder, leaver); len(asks) == 1 {
			s.check(bytes.Equal(asks[0], []byte("one")), ruleBytes, "after a change to what Join was given, Asks returned %q",
				asks[0])
			return
		}
	}
}

// asksOverwritten returns what Asks returned of an ask that was left, and overwritten then.
func (s *subject) asksOverwritten(holder, leaver store.Store) [][]byte {
	s.Helper()
	first, given := s.turn(s.s, headKey("a")), []byte("one")
	h := s.ask(holder, headKey("a"), nil)
	time.Sleep(store.MaxTurn / 8)
	a := s.ask(leaver, headKey("a"), given)
	time.Sleep(store.MaxTurn / 8)
	first.End()
	s.joined(ruleJoin, h)
	defer h.end()
	a.end()
	<-a.ended
	clear(given)
	return h.turn.Asks()
}
