package pool_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/storetest/faults"
)

func requireHoldsNothing(t testing.TB, p *pool.Pool, owner string) {
	t.Helper()
	_, err := p.Get(t.Context(), pool.Held{Owner: owner})
	require.ErrorIs(t, err, pool.ErrNotFound)
}

func TestCancelledBefore(t *testing.T) {
	injector := &faults.Injector{}
	inStore := create(t, injector.Wrap(store.NewMemory()), specOf("10.0.0.0/24"))
	inMemory, err := pool.New(specOf("10.0.0.0/24"), nil)
	require.NoError(t, err)
	for name, p := range map[string]*pool.Pool{"in a store": inStore, "in memory": inMemory} {
		t.Run(name, func(t *testing.T) {
			allocate(t, p, pool.Claim{Owner: "held"})
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			injector.ResetCounts()
			_, err := p.Allocate(ctx, pool.Claim{Owner: "a"})
			require.ErrorIs(t, err, context.Canceled)
			require.NotErrorIs(t, err, pool.ErrTurn, "it did not wait")
			_, err = p.Release(ctx, pool.Held{Owner: "held"})
			require.ErrorIs(t, err, context.Canceled)
			_, err = p.Verify(ctx)
			require.ErrorIs(t, err, context.Canceled)
			require.Zero(t, injector.Counts().RoundTrips())
			requireHoldsNothing(t, p, "a")
			require.Equal(t, uint64(1), used(t, p))
			requireOK(t, p)
		})
	}
}

// blocked is a pool whose first commit waits until it is let go.
func blocked(t *testing.T) (p *pool.Pool, entered, proceed chan struct{}) {
	hooks := &hooked{Store: store.NewMemory()}
	p = create(t, hooks, specOf("10.0.0.0/24"))
	entered, proceed = make(chan struct{}), make(chan struct{})
	var once sync.Once
	hooks.beforeCommit = func(store.Record, []store.Write) error {
		once.Do(func() { close(entered); <-proceed })
		return nil
	}
	return p, entered, proceed
}

type answer struct {
	allocation pool.Allocation
	err        error
}

func start(ctx context.Context, p *pool.Pool, owner string) chan answer {
	answers := make(chan answer, 1)
	go func() {
		a, err := p.Allocate(ctx, pool.Claim{Owner: owner})
		answers <- answer{a, err}
	}()
	return answers
}

func TestCancelledWhileQueued(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, entered, proceed := blocked(t)
		leader := start(t.Context(), p, "leader")
		<-entered
		ctx, cancel := context.WithCancel(t.Context())
		first := start(ctx, p, "first")
		synctest.Wait()
		second := start(t.Context(), p, "second")
		synctest.Wait()
		cancel()
		left := <-first
		require.ErrorIs(t, left.err, context.Canceled, "at once, not when the commit is done")
		require.ErrorIs(t, left.err, pool.ErrTurn)
		close(proceed)
		require.NoError(t, (<-leader).err)
		require.Equal(t, "10.0.0.1", texts((<-second).allocation), "the one who left took nothing")
		requireHoldsNothing(t, p, "first")
		requireOK(t, p)
	})
}

// One that leaves a line before it was tried says so.
func TestCancelledBeforeItsTry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, entered, proceed := blocked(t)
		first, last := make(chan error, 1), make(chan error, 1)
		wait := func(ctx context.Context, owner string, result chan error) {
			_, err := p.AllocateWait(ctx, pool.Claim{Owner: owner})
			result <- err
		}
		go wait(t.Context(), "first", first)
		<-entered
		ctx, cancel := context.WithCancel(t.Context())
		go wait(ctx, "last", last)
		synctest.Wait()
		cancel()
		err := <-last
		require.ErrorIs(t, err, context.Canceled)
		require.ErrorIs(t, err, pool.ErrTurn)
		close(proceed)
		require.NoError(t, <-first)
		requireHoldsNothing(t, p, "last")
	})
}

func TestCancelledWhileCommitting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, entered, proceed := blocked(t)
		ctx, cancel := context.WithCancel(t.Context())
		leader := start(ctx, p, "leader")
		<-entered
		other := start(t.Context(), p, "other")
		synctest.Wait()
		cancel()
		synctest.Wait()
		require.Empty(t, leader, "what has begun is brought to its end")
		close(proceed)
		require.NoError(t, (<-leader).err)
		require.NoError(t, (<-other).err)
		require.Equal(t, uint64(2), used(t, p))
		requireOK(t, p)
	})
}

// The call that is cancelled was to lead next, or is in the batch of another that leads.
func TestLeadPassesOverTheCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory := store.NewMemory()
		injector := &faults.Injector{Choose: func(call faults.Call) faults.Fault {
			return faults.Fault{Delay: time.Duration(call.N%3) * time.Millisecond}
		}}
		create(t, memory, specOf("10.0.0.0/25"))
		var handles []*pool.Pool
		for range 2 {
			handles = append(handles, open(t, injector.Wrap(memory)))
		}
		random := rand.New(rand.NewPCG(7, 7))
		var calls sync.WaitGroup
		var mu sync.Mutex
		granted := map[string]bool{}
		cancelled := 0
		for i := range 5000 {
			owner := fmt.Sprint(i)
			delay := time.Duration(random.IntN(500_000)) * time.Microsecond
			patience := time.Duration(random.IntN(8000)) * time.Microsecond
			p := handles[i%2]
			verify := random.IntN(50) == 0
			calls.Go(func() {
				time.Sleep(delay) // virtual
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				defer cancel()
				if verify {
					_, err := p.Verify(ctx)
					requireExpected(t, err)
					return
				}
				_, err := p.Allocate(ctx, pool.Claim{Owner: owner})
				switch {
				case err == nil:
					if i%3 == 0 {
						mu.Lock()
						granted[owner] = true
						mu.Unlock()
					} else if _, err := p.Release(context.WithoutCancel(ctx), pool.Held{Owner: owner}); err != nil {
						t.Error(err)
					}
				case errors.Is(err, context.DeadlineExceeded):
					mu.Lock()
					cancelled++
					mu.Unlock()
				case !errors.Is(err, pool.ErrExhausted):
					t.Error(err)
				}
			})
		}
		calls.Wait() // a lost wake-up would be a deadlock, which the bubble reports
		require.Greater(t, cancelled, 1000)
		require.Greater(t, len(granted), 50)
		got := map[string]bool{}
		for a, err := range handles[0].Allocations(t.Context()) {
			require.NoError(t, err)
			got[a.Owner] = true
		}
		require.Equal(t, granted, got)
		requireOK(t, handles[1])
	})
}

func TestCommitTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		injector := &faults.Injector{}
		s := injector.Wrap(store.NewMemory())
		create(t, s, specOf("10.0.0.0/24"))
		options := &pool.Options{CommitTimeout: 5 * time.Second, Random: func() uint64 { return 0 }}

		// The store hangs, and then says that it does not know.
		begin, hung := time.Now(), &hangs{Store: s}
		hung.commits.Store(1)
		p, err := pool.Open(t.Context(), hung, "blue", options)
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		a, err := p.Allocate(ctx, pool.Claim{Owner: "a"})
		require.NoError(t, err, "found out, although the call's context has ended")
		require.Equal(t, "10.0.0.0", texts(a))
		require.Equal(t, 5*time.Second, time.Since(begin))

		// It hangs for good.
		begin, hung.gets = time.Now(), true
		hung.commits.Store(1000)
		_, err = p.Allocate(t.Context(), pool.Claim{Owner: "b"})
		require.ErrorIs(t, err, store.ErrUnknown)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, 10*time.Second, time.Since(begin), "a commit and a read")
	})
}

// hangs is a store whose calls wait for the end of their context.
type hangs struct {
	store.Store
	commits atomic.Int64 // how many more commits hang
	gets    bool
}

func (h *hangs) Commit(ctx context.Context, changes ...store.Change) ([]store.Record, error) {
	if h.commits.Add(-1) < 0 {
		return h.Store.Commit(ctx, changes...)
	}
	<-ctx.Done()
	return nil, fmt.Errorf("%w: %w", store.ErrUnknown, ctx.Err())
}

func (h *hangs) Get(ctx context.Context, key store.Key) (store.Record, error) {
	if h.gets {
		<-ctx.Done()
		return store.Record{}, ctx.Err()
	}
	return h.Store.Get(ctx, key)
}

// overtakes is a store whose commits wait for nobody's turn.
type overtakes struct{ store.Store }

func (o overtakes) Commit(ctx context.Context, changes ...store.Change) ([]store.Record, error) {
	changes = slices.Clone(changes)
	for i := range changes {
		changes[i].Turn = noTurn{}
	}
	return o.Store.Commit(ctx, changes...)
}

type noTurn struct{}

func (noTurn) Heads() []store.Record { return nil }
func (noTurn) End()                  {}

func TestBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory := store.NewMemory()
		hooks := &hooked{Store: memory}
		create(t, memory, specOf("10.0.0.0/24"))
		p, err := pool.Open(t.Context(), hooks, "blue", &pool.Options{
			Attempts: 10, Backoff: 8 * time.Millisecond, Random: func() uint64 { return 1 << 63 },
		})
		require.NoError(t, err)
		other := open(t, overtakes{memory.Open()})
		hooks.beforeCommit = func(store.Record, []store.Write) error {
			allocate(t, other, pool.Claim{Owner: "other"})
			release(t, other, "other")
			return nil
		}
		begin := time.Now()
		_, err = p.Allocate(t.Context(), pool.Claim{Owner: "a"})
		require.ErrorIs(t, err, pool.ErrBusy)
		require.ErrorContains(t, err, "10 attempts")
		// Nine waits between ten attempts, each half of a longest one that doubles up to 64 times. There are none after the
		// first two conflicts, which were outside of a turn.
		require.Equal(t, (0+0+4+8+16+32+64+64+64)*4*time.Millisecond, time.Since(begin))
		requireHoldsNothing(t, p, "a")

		// A context that ends cuts the waiting short.
		begin = time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
		defer cancel()
		_, err = p.Allocate(ctx, pool.Claim{Owner: "a"})
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, 30*time.Millisecond, time.Since(begin))
		hooks.beforeCommit = nil
		requireHoldsNothing(t, p, "a")
		requireOK(t, p)
	})
}

// A call that waits is given the lead at the very moment at which it gives up.
func TestLeadIsHandedOnByTheOneWhoLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		injector := &faults.Injector{}
		p := create(t, injector.Wrap(store.NewMemory()), specOf("10.0.0.0/24"))
		injector.Choose = func(faults.Call) faults.Fault { return faults.Fault{Delay: time.Millisecond} }
		for range 3000 {
			leader := start(t.Context(), p, "leader")
			synctest.Wait()
			ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
			leaves := start(ctx, p, "leaves")
			synctest.Wait()
			stays := start(t.Context(), p, "stays")
			require.NoError(t, (<-leader).err)
			require.NoError(t, (<-stays).err, "a lost lead is a deadlock")
			left := <-leaves
			cancel()
			for _, owner := range []string{"leader", "stays"} {
				release(t, p, owner)
			}
			if left.err == nil {
				release(t, p, "leaves")
			} else {
				require.ErrorIs(t, left.err, context.DeadlineExceeded)
			}
		}
		require.Zero(t, used(t, p))
	})
}

// Calls for one owner that wait together are answered one after the other.
func TestOneOwnerAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, entered, proceed := blocked(t)
		leader := start(t.Context(), p, "leader")
		<-entered
		var answers []chan answer
		for range 50 {
			answers = append(answers, start(t.Context(), p, "a"))
			synctest.Wait()
		}
		released := make(chan error, 1)
		go func() {
			_, err := p.Release(t.Context(), pool.Held{Owner: "a"})
			released <- err
		}()
		synctest.Wait()
		last := start(t.Context(), p, "a")
		synctest.Wait()
		close(proceed)
		require.NoError(t, (<-leader).err)
		first := <-answers[0]
		require.NoError(t, first.err)
		for _, answers := range answers[1:] {
			require.Equal(t, first, <-answers)
		}
		require.NoError(t, <-released)
		again := <-last
		require.NoError(t, again.err)
		require.Greater(t, again.allocation.Generation, first.allocation.Generation)
		requireOK(t, p)
	})
}

// Calls that commit in other ways than a claim back off alike.
func TestBackoffOfOtherCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory := store.NewMemory()
		hooks := &hooked{Store: memory}
		create(t, memory, specOf("10.0.0.0/24"))
		options := &pool.Options{Attempts: 10, Backoff: 8 * time.Millisecond, Random: func() uint64 { return 1 << 63 }}
		other := open(t, overtakes{memory.Open()})
		hooks.beforeCommit = func(store.Record, []store.Write) error {
			allocate(t, other, pool.Claim{Owner: "other"})
			release(t, other, "other")
			return nil
		}
		for name, call := range map[string]func(context.Context, *pool.Pool) error{
			"together": func(ctx context.Context, p *pool.Pool) error {
				_, err := together(ctx, "a", []*pool.Pool{p})
				return err
			},
			"update": func(ctx context.Context, p *pool.Pool) error { return p.Update(ctx, specOf("10.0.0.0/25")) },
			"delete": func(ctx context.Context, _ *pool.Pool) error { return pool.Delete(ctx, hooks, "blue", options) },
		} {
			p, err := pool.Open(t.Context(), hooks, "blue", options)
			require.NoError(t, err, name)
			begin := time.Now()
			err = call(t.Context(), p)
			require.ErrorIs(t, err, pool.ErrBusy, name)
			require.Equal(t, (0+0+4+8+16+32+64+64+64)*4*time.Millisecond, time.Since(begin), name)
		}
	})
}

// jammed is a store in which nobody has a turn.
type jammed struct{ *hooked }

func (jammed) Turn(ctx context.Context, _ ...store.Key) (store.Turn, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// jammedGroup is one that shares commits.
type jammedGroup struct{ jammed }

func (jammedGroup) Join(ctx context.Context, _ store.Key, _ []byte) (store.GroupTurn, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// A call that runs out of time before it has its turn says so, whatever it waited for.
func TestWaitedForTurn(t *testing.T) {
	const timeout = 5 * time.Second
	for name, in := range map[string]struct {
		shares  bool
		patient time.Duration // of the call
		fails   error         // of the commit without a turn
		took    time.Duration
	}{
		"context, alone":         {false, time.Second, nil, time.Second},
		"context, shared":        {true, time.Second, nil, time.Second},
		"CommitTimeout, alone":   {false, time.Hour, context.DeadlineExceeded, 2 * timeout},
		"CommitTimeout, shared":  {true, time.Hour, context.DeadlineExceeded, 2 * timeout},
		"CommitTimeout, unknown": {true, time.Hour, fmt.Errorf("%w: %w", store.ErrUnknown, context.DeadlineExceeded), 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				memory := store.NewMemory()
				other := create(t, overtakes{memory.Open()}, specOf("10.0.0.0/24"))
				j := jammed{&hooked{Store: memory}}
				var s store.Store = j
				if in.shares {
					s = jammedGroup{j}
				}
				p, err := pool.Open(t.Context(), s, "blue", &pool.Options{CommitTimeout: timeout})
				require.NoError(t, err)
				commits := 0
				j.beforeCommit = func(store.Record, []store.Write) error {
					if commits++; commits > 2 {
						time.Sleep(timeout)
						return in.fails
					}
					allocate(t, other, pool.Claim{Owner: "other"})
					release(t, other, "other")
					return nil
				}
				begin := time.Now()
				ctx, cancel := context.WithTimeout(t.Context(), in.patient)
				defer cancel()
				_, err = p.Allocate(ctx, pool.Claim{Owner: "a"})
				require.ErrorIs(t, err, pool.ErrTurn)
				require.ErrorIs(t, err, context.DeadlineExceeded)
				if in.took > 0 {
					require.NotErrorIs(t, err, store.ErrUnknown)
					require.Equal(t, in.took, time.Since(begin))
				}
				require.Equal(t, errors.Is(in.fails, store.ErrUnknown), errors.Is(err, store.ErrUnknown))
				j.beforeCommit = nil
				requireHoldsNothing(t, other, "a")
			})
		})
	}
}
