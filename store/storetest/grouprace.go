package storetest

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ipalloc/ipalloc/store"
)

// groupRaceCases let many handles commit for one another. What they ask for is a number: the head counts them. Each
// number must come to one of them, by its own commit or by an answer.
func groupRaceCases() []testCase {
	return []testCase{
		{"group/askers leave at any time", groupRace},
		{"group/turns are passed over", groupPassedOver},
		{"group/nobody starves", groupNobodyStarves},
	}
}

// tally is which numbers came to somebody, and at which revision.
type tally struct {
	mu                 sync.Mutex
	revisions          map[int]int64
	twice              int // a number that came twice; 0 for none
	unknown            int // how many numbers may have come without anybody knowing
	own, told, refused int // by a commit, by an answer, and commits that failed

	// To say of a number that nobody knows of where it went.
	asks  int               // how many there were; each is its own number
	given map[int]string    // the asks to which commits that succeeded gave numbers
	ends  map[string]string // how the calls ended that asked and got nothing
}

// ask returns an ask that no other call has.
func (t *tally) ask() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.asks++
	return strconv.Itoa(t.asks)
}

// nothing takes note of how a call ended that got no number.
func (t *tally) nothing(ask, how string, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ends == nil {
		t.ends = make(map[string]string)
	}
	t.ends[ask] = fmt.Sprintf("%s (%v)", how, err)
}

// gave takes note of what a commit gave to asks: to each the next number.
func (t *tally) gave(first int, asks [][]byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.given == nil {
		t.given = make(map[int]string)
	}
	for i, ask := range asks {
		t.given[first+i] = string(ask)
	}
}

// lost says of the first of the numbers up to n that nobody knows of where it went.
func (t *tally) lost(n int) string {
	for i := 1; i <= n; i++ {
		if _, ok := t.revisions[i]; ok {
			continue
		}
		ask, ok := t.given[i]
		if !ok {
			return fmt.Sprintf("; number %d came by no commit that succeeded", i)
		}
		return fmt.Sprintf("; a commit gave number %d to ask %s, whose call %s", i, ask,
			cmp.Or(t.ends[ask], "got another number, or cannot tell"))
	}
	return ""
}

// got takes note of a number.
func (t *tally) got(n int, revision int64, count *int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.revisions == nil {
		t.revisions = make(map[int]int64)
	}
	if _, ok := t.revisions[n]; ok {
		t.twice = n
	}
	t.revisions[n] = revision
	*count++
}

// unsure takes note of numbers that may have come.
func (t *tally) unsure(n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.unknown += n
}

// answered takes note of what another has done, and reports whether that was anything.
func (t *tally) answered(turn store.GroupTurn) (bool, error) {
	answer, revision, err := turn.Answered()
	switch {
	case errors.Is(err, store.ErrUnknown):
		t.unsure(1)
		return true, nil
	case err != nil || answer == nil:
		return false, err
	}
	n, err := strconv.Atoi(string(answer))
	if err != nil {
		return false, fmt.Errorf("an answer that nobody gave: %w", err)
	}
	t.got(n, revision, &t.told)
	return true, nil
}

// sharer takes numbers from the head under key.
type sharer struct {
	*tally
	handle store.Store
	key    store.Key
	most   int           // how many others it answers
	linger time.Duration // before it commits
	before func()        // is called then; may be nil
}

// take asks for a number once, which may come to nothing if ctx ends.
func (h *sharer) take(ctx context.Context) error {
	ask := h.ask()
	turn, err := h.handle.(store.Grouper).Join(ctx, h.key, []byte(ask))
	switch {
	case errors.Is(err, store.ErrUnknown):
		h.unsure(1)
		return nil
	case err != nil && ctx.Err() != nil:
		h.nothing(ask, "left", err)
		return nil
	case err != nil:
		return err
	}
	defer turn.End()
	if done, err := h.answered(turn); done || err != nil {
		return err
	}
	time.Sleep(h.linger)
	return h.commit(ctx, turn, ask)
}

// commit takes a number in a turn, and one for each of those that it answers.
func (h *sharer) commit(ctx context.Context, turn store.GroupTurn, ask string) error {
	head := turn.Heads()[0]
	c, err := counterOf(head)
	if err != nil {
		return err
	}
	own, asks := c.N+1, turn.Asks()
	asks = asks[:min(len(asks), h.most)]
	for i := range asks {
		turn.Answer(i, []byte(strconv.Itoa(own+1+i)))
	}
	if head.Data, err = json.Marshal(counter{own + len(asks)}); err != nil {
		return err
	}
	if h.before != nil {
		h.before()
	}
	heads, err := h.handle.Commit(context.WithoutCancel(ctx), store.Change{Head: head, Turn: turn})
	switch {
	case err == nil:
		h.gave(own+1, asks)
		h.got(own, heads[0].Revision, &h.own)
		return nil
	case errors.Is(err, store.ErrUnknown):
		h.unsure(1)
		return nil
	case !errors.Is(err, store.ErrConflict):
		return err
	}
	h.mu.Lock()
	h.refused++
	h.mu.Unlock()
	turn.End()
	done, failed := h.answered(turn)
	if !done && failed == nil {
		h.nothing(ask, "met a conflict in its turn", err)
	}
	return failed
}

// exact checks that each number came to somebody once, and numbers of later commits are greater.
func (s *subject) exact(t *tally, key store.Key) {
	s.Helper()
	head, _ := s.get(key)
	c, err := counterOf(head)
	s.check(err == nil, ruleData, "the head came back damaged: %v", err)
	s.check(t.twice == 0, ruleJoinOnce, "the number %d came twice", t.twice)
	s.check(len(t.revisions) <= c.N && c.N <= len(t.revisions)+t.unknown, ruleJoinOnce,
		"%d numbers were taken, %d by commits and %d by answers that somebody knows of; of %d nobody can tell%s", c.N, t.own,
		t.told, t.unknown, t.lost(c.N))
	last := int64(0)
	for n := 1; n <= c.N; n++ {
		revision, ok := t.revisions[n]
		s.check(ok || t.unknown > 0, ruleJoinOnce, "nobody got the number %d%s", n, t.lost(n))
		s.check(!ok || revision >= last, ruleAnswered, "number %d came at revision %d, the one before it at %d", n, revision,
			last)
		last = max(last, revision)
	}
}

// leavers are the contexts in which several wait, by their numbers.
type leavers []atomic.Pointer[context.CancelFunc]

// wait returns a context in which number i waits, which ends after at most so long, if that is not 0.
func (l leavers) wait(ctx context.Context, i int, most time.Duration) (context.Context, context.CancelFunc) {
	if most == 0 {
		most = time.Hour
	}
	ctx, cancel := context.WithTimeout(ctx, most)
	l[i].Store(&cancel)
	return ctx, cancel
}

// some has each but number i leave with a probability of one half, at once or very soon.
func (l leavers) some(i int, random *rand.Rand) {
	for j := range l {
		if cancel := l[j].Load(); j != i && cancel != nil && random.IntN(2) == 0 {
			go (*cancel)()
		}
	}
}

// groupRace has askers leave at random moments, mostly just when they are answered.
func groupRace(s *subject) {
	const writers, each, longest = 6, 300, time.Second
	s.grouper(s.s)
	begin := time.Now()
	head := s.commit(newHead("a"))
	usual := max(time.Since(begin), 100*time.Microsecond)
	begin = time.Now()
	var t tally
	all := make(leavers, writers)
	s.race(ruleJoinOnce, writers, func(i int, handle store.Store) error {
		random := rand.New(rand.NewPCG(uint64(i), 0))
		h := sharer{tally: &t, handle: handle, key: head.Key, most: writers, linger: usual / 4}
		h.before = func() { all.some(i, random) }
		for n := 0; n < each && time.Since(begin) < longest; n++ {
			most := time.Duration(0)
			if n%4 == 0 {
				most = 1 + time.Duration(random.Int64N(int64(3*usual)))
			}
			ctx, cancel := all.wait(s.ctx, i, most)
			err := h.take(ctx)
			cancel()
			if err != nil {
				return err
			}
		}
		return nil
	})
	s.exact(&t, head.Key)
}

// groupPassedOver has two of several take too long in their turns, and commit then.
func groupPassedOver(s *subject) {
	const writers, slow, each = 5, 2, 3
	s.grouper(s.s)
	head := s.commit(newHead("a"))
	var t tally
	var ended atomic.Int64
	s.race(ruleJoinOnce, writers, func(i int, handle store.Store) error {
		h := sharer{tally: &t, handle: handle, key: head.Key, most: writers}
		if i >= slow {
			for ended.Load() < slow {
				h.linger = time.Duration(rand.Int64N(int64(2 * time.Millisecond)))
				if err := h.take(s.ctx); err != nil {
					return err
				}
			}
			return nil
		}
		defer ended.Add(1)
		for round := range each {
			h.linger = store.MaxTurn*3/2 + time.Duration(round)*store.MaxTurn/3
			if err := h.take(s.ctx); err != nil {
				return err
			}
		}
		return nil
	})
	s.exact(&t, head.Key)
}

// groupNobodyStarves has handles take numbers again and again, of which some answer few others. None may be left
// behind. Each turn lasts long enough for those that were answered to ask again.
func groupNobodyStarves(s *subject) {
	const writers, most = 6, 40
	s.grouper(s.s)
	head := s.commit(newHead("a"))
	var t tally
	var full, slow atomic.Bool
	counts := make([]int, writers)
	first := s.turn(s.s, head.Key)
	time.AfterFunc(store.MaxTurn/4, first.End) // when all are in line
	s.race(ruleTurn, writers, func(i int, handle store.Store) error {
		h := sharer{tally: &t, handle: handle, key: head.Key, most: i, linger: time.Millisecond}
		for !full.Load() {
			begin := time.Now()
			if err := h.take(s.ctx); err != nil {
				return err
			}
			if counts[i] > 0 && late(begin) {
				slow.Store(true)
			}
			if counts[i]++; counts[i] == most {
				full.Store(true)
			}
		}
		return nil
	})
	s.exact(&t, head.Key)
	if slow.Load() {
		return // this machine is too slow to tell
	}
	s.check(t.refused == 0, ruleTurnOrder, "%d commits in a turn met others", t.refused)
	for i, n := range counts {
		s.check(n >= most/4, ruleTurn, "handle %d had %d numbers while another one had %d: %v", i, n, most, counts)
	}
}
