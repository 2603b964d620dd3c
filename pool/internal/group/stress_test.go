package group_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/pool/internal/group"
)

// stress runs many calls at random over some queues, and checks every round: no call is in two, no queue is in two, a
// batch is what it may be, and no call waits for more turns than calls could be in front of it.
type stress struct {
	queues  []*group.Queue
	callers int
	each    int                // calls of each caller
	seed    uint64             // of everything that is drawn
	calm    bool               // no panics, and no context ends
	stuck   time.Duration      // how long nothing may end before the calls are found to hang
	before  func(o *stressOp)  // called before each call; may be nil
	after   func()             // called when the calls are found to hang, to let them end; may be nil
	busy    []atomic.Bool      // the queues of the rounds under way
	plain   []int              // rounds of each queue; unguarded, for the race detector
	line    [][]any            // the calls that waited in each queue at its last round, in order
	ends    atomic.Int64       // calls that have ended
	shared  atomic.Int64       // calls that were done in a round of another call
	gone    atomic.Int64       // calls that ended with their context
	failed  atomic.Int64       // calls that were in a round that panicked
	cancel  context.CancelFunc // ends all contexts
	context context.Context
	once    sync.Once
	wrong   error // the first thing that was found
}

// stressOp is a member of a stress.
type stressOp struct {
	group.Call
	on      []int // the queues
	weight  int
	rng     *rand.Rand // used by the call that leads
	rounds  int        // that it was in; unguarded, for the race detector
	effects int
	err     error
	unsure  bool
	inRound atomic.Bool
}

var errRound = errors.New("the round panicked")

// isErrRound reports whether a recovered panic is errRound.
func isErrRound(panicked any) bool {
	err, ok := panicked.(error)
	return ok && errors.Is(err, errRound)
}

const maxWeight = 12

func newStress(queues, callers, each int, seed uint64) *stress {
	s := &stress{
		callers: callers, each: each, seed: seed, stuck: 30 * time.Second,
		busy: make([]atomic.Bool, queues), plain: make([]int, queues), line: make([][]any, queues),
	}
	for range queues {
		s.queues = append(s.queues, new(group.Queue))
	}
	return s
}

// report notes what is wrong.
func (s *stress) report(format string, args ...any) {
	s.once.Do(func() { s.wrong = fmt.Errorf(format, args...) })
}

// run runs all calls, and returns the first thing that was wrong.
func (s *stress) run() error {
	s.context, s.cancel = context.WithCancel(context.Background())
	defer s.cancel()
	over := make(chan struct{})
	go func() {
		defer close(over)
		var wait sync.WaitGroup
		for i := range s.callers {
			rng := rand.New(rand.NewPCG(s.seed, uint64(i)))
			wait.Go(func() {
				for range s.each {
					if s.context.Err() != nil {
						return
					}
					s.call(rng)
					s.ends.Add(1)
				}
			})
		}
		wait.Wait()
	}()
	if !s.watch(over) {
		return s.wrong
	}
	for i, q := range s.queues {
		if !group.Idle(q) {
			s.report("queue %d still has a leader or calls that wait", i)
		}
	}
	return s.wrong
}

// watch reports whether all calls ended. If nothing ends for a while it reports that, and lets the calls end.
func (s *stress) watch(over <-chan struct{}) bool {
	for before := int64(-1); ; {
		select {
		case <-over:
			return true
		case <-time.After(s.stuck):
		}
		if now := s.ends.Load(); now != before {
			before = now
			continue
		}
		s.report("all calls wait, after %d of them", before)
		s.cancel()
		if s.after != nil {
			s.after()
		}
		select {
		case <-over:
		case <-time.After(s.stuck):
		}
		return false
	}
}

// call runs one call, and checks how it ended.
func (s *stress) call(rng *rand.Rand) {
	o, queues := s.draw(rng)
	ctx, cancel := context.WithCancel(s.context)
	defer cancel()
	if !s.calm && rng.IntN(4) == 0 {
		timer := time.AfterFunc(time.Duration(rng.IntN(200))*time.Microsecond, cancel)
		defer timer.Stop()
	}
	if s.before != nil {
		s.before(o)
	}
	panicked, err := s.do(ctx, o, queues)
	switch {
	case s.context.Err() != nil:
	case o.inRound.Load():
		s.report("a call returned during its round")
	case panicked != nil && (!isErrRound(panicked) || (o.effects == 1) == (o.err != nil)):
		s.report("a call panicked with %v, after %d effects and the error %v", panicked, o.effects, o.err)
	case err != nil && (!errors.Is(err, ctx.Err()) || o.effects > 0 || o.unsure):
		s.report("a call ended with %v after %d effects, uncertain: %t", err, o.effects, o.unsure)
	case err == nil && panicked == nil && (o.effects == 1) == (o.err != nil):
		s.report("a call is done, after %d effects and the error %v", o.effects, o.err)
	}
	if err != nil {
		s.gone.Add(1)
	}
	if o.err != nil {
		s.failed.Add(1)
	}
}

// draw makes a call on one queue or on several.
func (s *stress) draw(rng *rand.Rand) (*stressOp, []*group.Queue) {
	n := 1
	if rng.IntN(3) == 0 {
		n += rng.IntN(len(s.queues))
	}
	o := &stressOp{on: rng.Perm(len(s.queues))[:n], weight: 1 + rng.IntN(maxWeight/2)}
	o.rng = rand.New(rand.NewPCG(rng.Uint64(), 0))
	queues := make([]*group.Queue, n)
	for i, on := range o.on {
		queues[i] = s.queues[on]
	}
	return o, queues
}

func (s *stress) do(ctx context.Context, o *stressOp, queues []*group.Queue) (panicked any, err error) {
	defer func() { panicked = recover() }()
	return nil, group.Do(ctx, o, queues, stressRunner{s})
}

// stressRunner is the Runner of a stress.
type stressRunner struct{ *stress }

func (s stressRunner) Round(batch []*stressOp) {
	own := batch[0]
	defer s.enter(batch)()
	if own.rng.IntN(4) == 0 {
		runtime.Gosched()
	}
	explode := !s.calm && own.rng.IntN(40) == 0
	for i, o := range batch {
		if explode && own.rng.IntN(len(batch)) == 0 {
			panic(errRound)
		}
		switch own.rng.IntN(5) {
		case 0:
			o.unsure = true
		case 1:
			o.unsure = false
		default:
			o.unsure = false
			o.effects++
			o.Done()
			if i > 0 {
				s.shared.Add(1)
			}
		}
	}
}

// enter checks the beginning of a round, and returns what is to be called at its end.
func (s stressRunner) enter(batch []*stressOp) (leave func()) {
	own, weight := batch[0], 0
	for _, on := range own.on {
		if !s.busy[on].CompareAndSwap(false, true) {
			s.report("queue %d is in two rounds", on)
		}
		s.plain[on]++
		s.checkTurn(on, own)
	}
	for _, o := range batch {
		weight += o.weight
		o.rounds++
		switch {
		case !o.inRound.CompareAndSwap(false, true):
			s.report("a call is in two rounds")
		case o.IsDone():
			s.report("a call that is done is in a round")
		case !covers(own.on, o.on):
			s.report("a call on the queues %v is in a round of %v", o.on, own.on)
		}
	}
	if weight > maxWeight {
		s.report("a batch has the weight %d", weight)
	}
	return func() {
		for _, o := range batch {
			o.inRound.Store(false)
		}
		for _, on := range own.on {
			s.busy[on].Store(false)
		}
	}
}

// checkTurn reports it if a call that leads was not the first of those that waited. What is not calm may have left
// meanwhile.
func (s stressRunner) checkTurn(on int, own *stressOp) {
	for _, member := range s.line[on] {
		if member == any(own) {
			break
		}
		if s.calm && !member.(*stressOp).IsDone() {
			s.report("a call leads queue %d before one that waited longer", on)
		}
	}
	s.line[on] = append([]any{own}, group.Line(s.queues[on])...)
}

func covers(all, some []int) bool {
	set := map[int]bool{}
	for _, i := range all {
		set[i] = true
	}
	for _, i := range some {
		if !set[i] {
			return false
		}
	}
	return true
}

func (stressRunner) Ready(*stressOp) {}

func (s stressRunner) Pause(own *stressOp) {
	if own.rng.IntN(2) == 0 {
		runtime.Gosched()
	}
}

func (s stressRunner) Room(batch []*stressOp, next *stressOp) bool {
	weight := next.weight
	for _, o := range batch {
		weight += o.weight
	}
	return weight <= maxWeight
}

func (s stressRunner) Fail(batch []*stressOp, panicked any) {
	if !isErrRound(panicked) {
		s.report("the panic %v", panicked)
	}
	for _, o := range batch {
		if !o.IsDone() {
			o.err = errRound
			o.Done()
		}
	}
}

func (s stressRunner) MayLeave(o *stressOp) bool { return !o.unsure }

func TestStress(t *testing.T) {
	for _, calm := range []bool{false, true} {
		for _, queues := range []int{1, 2, 5} {
			for _, callers := range []int{2, 16, 64} {
				t.Run(fmt.Sprintf("calm=%t/queues=%d/callers=%d", calm, queues, callers), func(t *testing.T) {
					s := newStress(queues, callers, 6400/callers, rand.Uint64())
					s.calm = calm
					require.NoError(t, s.run(), "seed %d", s.seed)
					shared, gone, failed := s.shared.Load(), s.gone.Load(), s.failed.Load()
					t.Logf("%d calls were done by others, %d withdrawn, %d failed", shared, gone, failed)
					require.Equal(t, calm, failed == 0)
					if callers > 2 {
						require.NotZero(t, shared)
						require.Equal(t, calm, gone == 0)
					}
				})
			}
		}
	}
}

// What the protocol forbids is found: a queue that changes its place in the order.
func TestStressFindsAnotherOrder(t *testing.T) {
	s := newStress(4, 32, 100_000, 1)
	s.calm, s.stuck = true, time.Second/2
	s.before = func(o *stressOp) {
		for _, on := range o.on {
			group.SetPlace(s.queues[on], uint64(1+rand.IntN(100)))
		}
	}
	require.ErrorContains(t, s.run(), "all calls wait")
}

// What the protocol forbids is found: a wake-up that does not arrive.
func TestStressFindsLostWake(t *testing.T) {
	s := newStress(2, 16, 10_000, 1)
	s.calm, s.stuck = true, time.Second/2
	var calls atomic.Int64
	stop, back := make(chan struct{}), make(chan struct{})
	s.before = func(o *stressOp) {
		wake := group.Wake(&o.Call)
		if calls.Add(1)%500 != 0 {
			return
		}
		go func() { // which comes before the call itself
			select {
			case <-wake:
				<-back
				wake <- struct{}{}
			case <-stop:
			}
		}()
		time.Sleep(time.Millisecond)
	}
	s.after = func() { close(back) }
	require.ErrorContains(t, s.run(), "all calls wait")
	close(stop)
}

// nested is a stressRunner that does something in the middle of its first round.
type nested struct {
	stressRunner
	middle *func()
}

func (n nested) Round(batch []*stressOp) {
	defer n.enter(batch)()
	if middle := *n.middle; middle != nil {
		*n.middle = nil
		middle()
	}
	for _, o := range batch {
		o.Done()
	}
}

// What the protocol forbids is found: a second leader of a queue.
func TestStressFindsSecondLeader(t *testing.T) {
	s := newStress(2, 0, 0, 1)
	order(s.queues...)
	run := nested{stressRunner{s}, new(func())}
	do := func(on []int, queues []*group.Queue) {
		require.NoError(t, group.Do(t.Context(), &stressOp{on: on}, queues, run))
	}
	do([]int{0, 1}, s.queues)
	require.NoError(t, s.wrong)
	*run.middle = func() {
		group.Free(s.queues[1])
		do([]int{0, 1}, s.queues)
	}
	do([]int{1}, s.queues[1:])
	require.ErrorContains(t, s.wrong, "queue 1 is in two rounds")
}
