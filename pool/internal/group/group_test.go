package group_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/pool/internal/group"
)

var errFailed = errors.New("failed")

// op is a member: a call with a name.
type op struct {
	group.Call
	name      string
	err       error
	uncertain bool
}

// runner is a Runner made of functions. A missing one does the least.
type runner struct {
	round func(batch []*op)
	pause func(own *op)
	room  func(batch []*op, next *op) bool
	fail  func(batch []*op, panicked any)
	leave func(o *op) bool
}

func (r *runner) Round(batch []*op) {
	if r.round != nil {
		r.round(batch)
		return
	}
	finish(batch)
}

func (*runner) Ready(*op) {}

func (r *runner) Pause(own *op) {
	if r.pause != nil {
		r.pause(own)
	}
}

func (r *runner) Room(batch []*op, next *op) bool { return r.room == nil || r.room(batch, next) }

func (r *runner) Fail(batch []*op, panicked any) {
	if r.fail != nil {
		r.fail(batch, panicked)
		return
	}
	for _, o := range batch {
		if !o.IsDone() {
			o.err = errFailed
			o.Done()
		}
	}
}

func (r *runner) MayLeave(o *op) bool {
	if r.leave != nil {
		return r.leave(o)
	}
	return !o.uncertain
}

func finish(batch []*op) {
	for _, o := range batch {
		o.Done()
	}
}

func names(batch []*op) []string {
	list := make([]string, len(batch))
	for i, o := range batch {
		list[i] = o.name
	}
	return list
}

// scene runs calls in the bubble of a test, one after the other: each has got as far as it can when the next one
// starts. Each round waits until its leader is allowed to go on.
type scene struct {
	t     *testing.T
	run   *runner
	calls map[string]*op
	gates map[string]chan struct{} // of each call, for the rounds that it leads

	mu     sync.Mutex
	rounds [][]string        // the names of each batch
	ended  map[string]string // how each call that has ended did: "done", or its error
}

// newScene returns a scene whose rounds call the function once they may go on.
func newScene(t *testing.T, round func(batch []*op)) *scene {
	s := &scene{t: t, calls: map[string]*op{}, gates: map[string]chan struct{}{}, ended: map[string]string{}}
	s.run = &runner{round: func(batch []*op) {
		s.mu.Lock()
		s.rounds = append(s.rounds, names(batch))
		gate := s.gates[batch[0].name]
		s.mu.Unlock()
		<-gate
		round(batch)
	}}
	return s
}

// start starts a call, and returns what ends its context.
func (s *scene) start(name string, queues ...*group.Queue) context.CancelFunc {
	return s.startWith(s.t.Context(), name, queues...)
}

// startWith does so with a context that may end otherwise too.
func (s *scene) startWith(ctx context.Context, name string, queues ...*group.Queue) context.CancelFunc {
	ctx, cancel := context.WithCancel(ctx)
	o := &op{name: name}
	s.mu.Lock()
	s.calls[name], s.gates[name] = o, make(chan struct{})
	s.mu.Unlock()
	go func() {
		end := "exited"
		defer func() {
			if r := recover(); r != nil {
				end = fmt.Sprint("panic: ", r)
			}
			s.mu.Lock()
			defer s.mu.Unlock()
			s.ended[name] = end
		}()
		err := group.Do(ctx, o, queues, s.run)
		switch {
		case err != nil:
			end = err.Error()
		case o.err != nil:
			end = o.err.Error()
		default:
			end = "done"
		}
	}()
	synctest.Wait()
	return func() { cancel(); synctest.Wait() }
}

// step lets the round that each of these leads go on, and returns when no call can do more.
func (s *scene) step(leaders ...string) {
	for _, name := range leaders {
		select {
		case s.gates[name] <- struct{}{}:
		default:
			require.Fail(s.t, "no round", "%s does not lead", name)
		}
		synctest.Wait()
	}
}

// finish lets all rounds go on. Afterwards all calls have ended, and nobody has a lead.
func (s *scene) finish(queues ...*group.Queue) {
	for _, gate := range s.gates {
		close(gate)
	}
	synctest.Wait()
	require.Len(s.t, s.ended, len(s.calls), "calls hang")
	for i, q := range queues {
		require.True(s.t, group.Idle(q), "queue %d still has a leader or calls that wait", i)
	}
}

// inBubble runs a test in a bubble with queues whose order is that in which it names them.
func inBubble(t *testing.T, round func(batch []*op), f func(s *scene, a, b, c *group.Queue)) {
	synctest.Test(t, func(t *testing.T) {
		a, b, c := &group.Queue{}, &group.Queue{}, &group.Queue{}
		order(a, b, c)
		f(newScene(t, round), a, b, c)
	})
}

// until returns a round that leaves a call undone until it was in so many rounds. Calls that are not named are done at
// once.
func until(rounds map[string]int) func(batch []*op) {
	return func(batch []*op) {
		for _, o := range batch {
			if rounds[o.name]--; rounds[o.name] <= 0 {
				o.Done()
			}
		}
	}
}

func order(queues ...*group.Queue) {
	for i, q := range queues {
		group.SetPlace(q, uint64(i)+1)
	}
}

func TestAlone(t *testing.T) {
	var q group.Queue
	rounds := 0
	run := &runner{round: func(batch []*op) {
		require.Len(t, batch, 1)
		if rounds++; rounds%3 == 0 {
			finish(batch)
		}
	}}
	for _, queues := range [][]*group.Queue{nil, {&q}, {&q, &q}, {&q, new(group.Queue)}} {
		rounds = 0
		o := &op{}
		for range 2 { // a call may be used again
			require.NoError(t, group.Do(t.Context(), o, queues, run))
			require.True(t, o.IsDone())
		}
		require.Equal(t, 6, rounds)
		require.True(t, group.Idle(&q))
	}
}

func TestNoAllocationAlone(t *testing.T) {
	o, queues, run, ctx := &op{}, []*group.Queue{new(group.Queue)}, &runner{}, t.Context()
	require.Zero(t, testing.AllocsPerRun(100, func() {
		if err := group.Do(ctx, o, queues, run); err != nil {
			t.Error(err)
		}
	}))
}

// What comes during a round is in the next one, in the order in which it came.
func TestBatch(t *testing.T) {
	inBubble(t, finish, func(s *scene, a, _, _ *group.Queue) {
		for i := range 5 {
			s.start(fmt.Sprint(i), a)
		}
		s.step("0")
		s.start("5", a)
		s.finish(a)
		require.Equal(t, [][]string{{"0"}, {"1", "2", "3", "4"}, {"5"}}, s.rounds)
		for _, o := range group.Scratch[*op](a) {
			require.Nil(t, o, "a queue keeps calls that have ended")
		}
	})
}

// A member that is not done keeps its place, before those that came later, and the leader tries again until its own
// call is done.
func TestUndone(t *testing.T) {
	inBubble(t, until(map[string]int{"lead": 3, "slow": 4}), func(s *scene, a, _, _ *group.Queue) {
		var pauses []string
		s.run.pause = func(own *op) { pauses = append(pauses, own.name) }
		s.start("lead", a)
		s.start("slow", a)
		s.start("quick", a)
		s.step("lead")
		s.start("late", a)
		s.step("lead")
		require.Equal(t, map[string]string{"quick": "done"}, s.ended)
		s.start("later", a)
		s.finish(a)
		require.Equal(t, [][]string{
			{"lead"}, {"lead", "slow", "quick"}, {"lead", "slow", "late"}, {"slow", "later"}, {"slow"},
		}, s.rounds)
		require.Equal(t, []string{"lead", "lead", "slow"}, pauses)
	})
}

// A call for which there is no room is passed over, and leads next.
func TestRoom(t *testing.T) {
	inBubble(t, until(map[string]int{"lead": 2}), func(s *scene, a, _, _ *group.Queue) {
		s.run.room = func(batch []*op, next *op) bool {
			return len(batch) < 3 && batch[0].name != "alone" && next.name != "alone"
		}
		for _, name := range []string{"lead", "alone", "1", "2", "3"} {
			s.start(name, a)
		}
		s.finish(a)
		require.Equal(t, [][]string{{"lead"}, {"lead", "1", "2"}, {"alone"}, {"3"}}, s.rounds)
	})
}

// A full batch does not cost a look at every call that waits.
func TestRoomIsAskedSoOften(t *testing.T) {
	inBubble(t, finish, func(s *scene, a, _, _ *group.Queue) {
		asked, most := 0, 0
		s.run.room = func([]*op, *op) bool { asked++; return false }
		round := s.run.round
		s.run.round = func(batch []*op) {
			most, asked = max(most, asked), 0
			round(batch)
		}
		for i := range 1000 {
			s.start(fmt.Sprint(i), a)
		}
		s.finish(a)
		require.Len(t, s.rounds, 1000)
		for i, batch := range s.rounds {
			require.Equal(t, []string{fmt.Sprint(i)}, batch)
		}
		require.LessOrEqual(t, most, 256)
	})
}

// A call over several queues waits in each of them, and then takes along what wants no other ones.
func TestSeveralQueues(t *testing.T) {
	inBubble(t, finish, func(s *scene, a, b, c *group.Queue) {
		s.start("x", a)
		s.start("y", b)
		s.start("ab", b, a)
		s.start("a1", a)
		s.start("ab2", a, b)
		s.start("abc", c, a, b)
		s.start("b1", b)
		s.step("x") // ab has a, and waits in b
		require.Len(t, s.rounds, 2)
		s.start("bc", b, c)
		s.step("y", "b1") // which has passed over ab and bc
		s.start("b2", b)
		s.step("ab", "bc")
		s.finish(a, b, c)
		require.Equal(t, [][]string{{"x"}, {"y"}, {"b1"}, {"ab", "a1", "ab2"}, {"bc", "b2"}, {"abc"}}, s.rounds)
	})
}

// A call over several queues comes first where it came first, and last where it came last.
func TestSeveralQueuesInTurn(t *testing.T) {
	inBubble(t, finish, func(s *scene, a, b, c *group.Queue) {
		s.run.room = func([]*op, *op) bool { return false }
		s.start("x", a)
		s.start("y", b)
		s.start("a1", a)
		s.start("ab", a, b)
		s.start("a2", a)
		s.start("b1", b)
		s.step("x", "a1")
		s.start("b2", b)
		s.step("y", "b1", "ab")
		s.step("b2", "a2")
		s.finish(a, b, c)
		require.Equal(t, [][]string{{"x"}, {"y"}, {"a1"}, {"b1"}, {"ab"}}, s.rounds[:5])
		require.ElementsMatch(t, [][]string{{"a2"}, {"b2"}}, s.rounds[5:])
	})
}

// other is a member of another type than op.
type other struct{ group.Call }

type otherRunner struct{ group.Runner[*other] }

func (otherRunner) Ready(*other) {}

func (otherRunner) Round(batch []*other) {
	for _, o := range batch {
		o.Done()
	}
}

func (otherRunner) Room([]*other, *other) bool { return true }

// Calls of different types take turns in a queue.
func TestTypes(t *testing.T) {
	inBubble(t, until(map[string]int{"x": 2}), func(s *scene, a, _, _ *group.Queue) {
		s.start("x", a)
		var others sync.WaitGroup
		for range 3 {
			others.Go(func() {
				if err := group.Do(s.t.Context(), &other{}, []*group.Queue{a}, otherRunner{}); err != nil {
					t.Error(err)
				}
			})
			synctest.Wait()
		}
		s.start("y", a)
		s.finish(a)
		others.Wait()
		require.Equal(t, [][]string{{"x"}, {"x", "y"}}, s.rounds)
	})
}

// Calls share rounds instead of taking turns, also when there are only two.
func TestBatchesForm(t *testing.T) {
	for _, callers := range []int{2, 64} {
		t.Run(fmt.Sprint(callers), func(t *testing.T) {
			const each = 100
			rounds, members := 0, 0
			run := &runner{round: func(batch []*op) {
				rounds++
				members += len(batch)
				time.Sleep(200 * time.Microsecond) // a commit
				finish(batch)
			}}
			queues := []*group.Queue{new(group.Queue)}
			var wait sync.WaitGroup
			for range callers {
				wait.Go(func() {
					o := &op{}
					for range each {
						if err := group.Do(t.Context(), o, queues, run); err != nil {
							t.Error(err)
						}
					}
				})
			}
			wait.Wait()
			t.Logf("%d calls, %d rounds", members, rounds)
			require.Equal(t, callers*each, members)
			require.Less(t, rounds, members*3/4/(callers/2))
		})
	}
}
