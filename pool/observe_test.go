package pool_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/storetest/faults"
)

// witness keeps what an observer is told, and checks that begins and ends make pairs.
type witness struct {
	t testing.TB

	mu      sync.Mutex
	last    int // the span that began last
	open    map[int]string
	begins  []pool.Call
	calls   []pool.Call
	started []pool.Commit
	commits []pool.Commit
	parents []string // of the commits
}

func newWitness(t testing.TB) *witness { return &witness{t: t, open: map[int]string{}} }

// span is what a witness puts into a context.
type span struct {
	id     int
	name   string
	parent *span
}

type spanKey struct{}

func spanOf(ctx context.Context) *span {
	s, _ := ctx.Value(spanKey{}).(*span)
	return s
}

// begin begins a span. The caller holds mu.
func (w *witness) begin(ctx context.Context, name string) context.Context {
	w.last++
	w.open[w.last] = name
	return context.WithValue(ctx, spanKey{}, &span{w.last, name, spanOf(ctx)})
}

// end ends the span of the context. The caller holds mu.
func (w *witness) end(ctx context.Context, name string) *span {
	s := spanOf(ctx)
	if assert.NotNil(w.t, s) {
		assert.Equal(w.t, name, s.name)
		assert.Equal(w.t, name, w.open[s.id], "ended again")
		delete(w.open, s.id)
	}
	return s
}

func (w *witness) BeginCall(ctx context.Context, call pool.Call) context.Context {
	w.mu.Lock()
	defer w.mu.Unlock()
	call.Steps = slices.Clone(call.Steps)
	w.begins = append(w.begins, call)
	return w.begin(ctx, call.Method)
}

func (w *witness) EndCall(ctx context.Context, call pool.Call) {
	w.mu.Lock()
	defer w.mu.Unlock()
	call.Steps, call.Results = slices.Clone(call.Steps), slices.Clone(call.Results)
	w.calls = append(w.calls, call)
	w.end(ctx, call.Method)
}

func (w *witness) BeginCommit(ctx context.Context, commit pool.Commit) context.Context {
	w.mu.Lock()
	defer w.mu.Unlock()
	commit.Calls = slices.Clone(commit.Calls)
	w.started = append(w.started, commit)
	return w.begin(ctx, "commit")
}

func (w *witness) EndCommit(ctx context.Context, commit pool.Commit) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.commits = append(w.commits, commit)
	parent := ""
	if s := w.end(ctx, "commit"); s.parent != nil {
		parent = s.parent.name
	}
	w.parents = append(w.parents, parent)
}

// take returns what has ended since, and forgets it. All that began must have ended.
func (w *witness) take() ([]pool.Call, []pool.Commit) {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	require.Empty(w.t, w.open, "has no end")
	calls, commits := w.calls, w.commits
	w.begins, w.calls, w.started, w.commits, w.parents = nil, nil, nil, nil, nil
	return calls, commits
}

// observed runs a test on observed pools, whose clock goes on by a second each time that it is asked.
func observed(
	t *testing.T, spec pool.Spec, test func(t *testing.T, p *pool.Pool, w *witness, injector *faults.Injector),
) {
	options := func(w *witness) *pool.Options {
		clock := newManualClock()
		return &pool.Options{Observer: w, Clock: func() time.Time { clock.Add(time.Second); return clock.Now() }}
	}
	t.Run("in memory", func(t *testing.T) {
		w := newWitness(t)
		p, err := pool.New(spec, options(w))
		require.NoError(t, err)
		test(t, p, w, nil)
	})
	t.Run("stored", func(t *testing.T) {
		w, injector := newWitness(t), &faults.Injector{}
		p, err := pool.Create(t.Context(), injector.Wrap(store.NewMemory()), "blue", spec, options(w))
		require.NoError(t, err)
		_, commits := w.take()
		require.Len(t, commits, 1, "that which made the pool")
		test(t, p, w, injector)
	})
}

// did is what a test expects of a step.
type did struct {
	op    string
	owner string
	err   error
}

// requireCall checks that one call has ended since, and what became of its steps.
func (w *witness) requireCall(in, method string, want ...did) {
	w.t.Helper()
	begins := w.begins
	calls, _ := w.take()
	require.Len(w.t, begins, 1)
	require.Len(w.t, calls, 1)
	require.Equal(w.t, method, begins[0].Method)
	require.Equal(w.t, method, calls[0].Method)
	require.Equal(w.t, in, calls[0].Pool)
	require.GreaterOrEqual(w.t, calls[0].Duration, time.Second)
	require.Len(w.t, calls[0].Steps, len(want))
	if method != "Reconcile" {
		require.Len(w.t, begins[0].Steps, len(want))
	}
	require.Len(w.t, calls[0].Results, len(want))
	for i, step := range calls[0].Steps {
		require.Equal(w.t, want[i].op, step.Op)
		require.Equal(w.t, want[i].owner, step.Held.Owner)
		if len(begins[0].Steps) > 0 {
			asked := begins[0].Steps[i]
			require.Equal(w.t, want[i].op, asked.Op)
			require.Equal(w.t, want[i].owner, asked.Held.Owner)
			if asked.Op == "allocate" {
				require.Equal(w.t, want[i].owner, asked.Claim.Owner)
			}
		}
		if want[i].err != nil {
			require.ErrorIs(w.t, calls[0].Results[i].Err, want[i].err)
			require.Empty(w.t, calls[0].Results[i].Allocation)
		} else {
			result := calls[0].Results[i]
			require.NoError(w.t, result.Err)
			require.Equal(w.t, in, result.Pool.Name())
			require.Equal(w.t, want[i].owner, result.Allocation.Owner)
			require.NotEmpty(w.t, result.Allocation.Prefixes)
		}
	}
}
func TestObserverIsToldOfEachCall(t *testing.T) {
	observed(t, cooling("10.0.0.0/31"), func(t *testing.T, p *pool.Pool, w *witness, _ *faults.Injector) {
		ctx, require1 := t.Context(), func(method string, want ...did) {
			t.Helper()
			w.requireCall(p.Name(), method, want...)
		}
		allocate(t, p, lease("a", time.Hour))
		require1("Allocate", did{"allocate", "a", nil})
		_, _ = p.Renew(ctx, pool.Held{Owner: "a"}, 2*time.Hour)
		require1("Renew", did{"renew", "a", nil})
		_, _ = p.Renew(ctx, pool.Held{Owner: "x"}, time.Hour)
		require1("Renew", did{"renew", "x", pool.ErrNotFound})
		_, _ = p.Allocate(ctx, ofBits("b", 31))
		require1("Allocate", did{"allocate", "b", pool.ErrExhausted})
		_, _ = p.Allocate(ctx, pool.Claim{})
		require1("Allocate", did{"allocate", "", pool.ErrInvalid})
		_, _ = p.AllocateWait(ctx, pool.Claim{Owner: "w"})
		require1("AllocateWait", did{"allocate", "w", nil})
		ended, cancel := context.WithCancel(ctx)
		cancel()
		_, _ = p.AllocateWait(ended, pool.Claim{Owner: "v"})
		require1("AllocateWait", did{"allocate", "v", context.Canceled})
		_, _ = p.Decline(ctx, pool.Held{Owner: "w"}, time.Second)
		require1("Decline", did{"decline", "w", nil})
		release(t, p, "a")
		require1("Release", did{"release", "a", nil})
		_, _ = p.Release(ctx, pool.Held{Owner: "a"})
		require1("Release", did{"release", "a", pool.ErrNotFound})

		_, _ = allocateMany(ctx, p, claimsOf("b", "c", ""))
		require1("Each", did{"allocate", "b", nil}, did{"allocate", "c", pool.ErrExhausted},
			did{"allocate", "", pool.ErrInvalid})
		_, _ = allocateAll(ctx, p, claimsOf("d", "e"))
		require1("All", did{"allocate", "d", pool.ErrExhausted}, did{"allocate", "e", pool.ErrExhausted})
		_, _ = releaseMany(ctx, p, []string{"b", "c"})
		require1("Each", did{"release", "b", nil}, did{"release", "c", pool.ErrNotFound})
		_, err := together(ctx, "a", []*pool.Pool{p})
		require.NoError(t, err)
		require1("All", did{"allocate", "a", nil})
		_, _ = p.All(ctx)
		require1("All")
		_, err = releaseTogether(ctx, "a", p)
		require.NoError(t, err)
		require1("All", did{"release", "a", nil})
		_, _ = p.Expire(ctx)
		require1("Expire")

		// What is no call of an owner is not told as one: looks, changes.
		allocate(t, p, pool.Claim{Owner: "b"})
		w.take()
		dry(t, p, pool.Claim{Owner: "b"})
		require.NoError(t, p.Update(ctx, cooling("10.0.0.0/30")))
		requireOK(t, p)
		calls, _ := w.take()
		require.Empty(t, calls)

		reconcile(t, p, live(), &pool.ReconcileOptions{Grace: time.Hour})
		require1("Reconcile")
		reconcile(t, p, live(), nil)
		require1("Reconcile", did{"release", "b", nil})
		_, err = p.Reconcile(ctx, pool.Mark{}, live(), nil)
		require.ErrorIs(t, err, pool.ErrInvalid)
		calls, _ = w.take()
		require.Len(t, calls, 1)
		require.Equal(t, err, calls[0].Err)
	})
}

// A step that an observer was told of can be changed and done.
func TestObservedStepIsUsedAgain(t *testing.T) {
	observed(t, specOf("10.0.0.0/24"), func(t *testing.T, p *pool.Pool, w *witness, _ *faults.Injector) {
		_, err := each(t.Context(), p, []pool.Step{pool.Allocate(pool.Claim{Owner: "a", TTL: -1})})
		require.NoError(t, err)
		calls, _ := w.take()
		require.ErrorIs(t, calls[0].Results[0].Err, pool.ErrInvalid)
		again := calls[0].Steps[0]
		again.Claim.TTL = 0
		results, err := p.All(t.Context(), again)
		require.NoError(t, err)
		require.Equal(t, "10.0.0.0", texts(results[0].Allocation))
	})
}

// What is asked for is told as the caller has put it.
func TestObserverIsToldOfTheClaim(t *testing.T) {
	observed(t, specOf("10.0.0.0/24"), func(t *testing.T, p *pool.Pool, w *witness, _ *faults.Injector) {
		asked := pool.Claim{
			Owner: "a", TTL: time.Hour, Labels: map[string]string{"node": "n"},
			Requests: []pool.Request{{Within: setOf("10.0.0.8/29")}, pool.ExactAddr(addr("10.0.0.1"))},
		}
		a := allocate(t, p, asked)
		held := pool.Held{Owner: "a", Generation: a.Generation, Addr: addr("10.0.0.1")}
		_, err := p.Renew(t.Context(), held, 2*time.Hour)
		require.NoError(t, err)
		_, err = p.Decline(t.Context(), pool.Held{Addr: addr("10.0.0.1")}, time.Minute)
		require.NoError(t, err)
		require.Equal(t, [][]pool.Step{
			{pool.Allocate(asked)},
			{{Op: "renew", Held: held, Duration: 2 * time.Hour}},
			{{Op: "decline", Held: pool.Held{Addr: addr("10.0.0.1")}, Duration: time.Minute}},
		}, [][]pool.Step{w.begins[0].Steps, w.begins[1].Steps, w.begins[2].Steps})
		calls, _ := w.take()
		require.Equal(t, "a", calls[2].Results[0].Allocation.Owner, "which turned out")
	})
}

func TestObserverIsToldOfGrantsInTheParent(t *testing.T) {
	w, s := newWitness(t), store.NewMemory()
	options := &pool.Options{Observer: w}
	parent, err := pool.Create(t.Context(), s, "parent", specOf("10.0.0.0/24"), options)
	require.NoError(t, err)
	w.take()
	child, _, err := pool.Delegate(t.Context(), parent, ofBits("node", 30), "child", pool.Spec{}, options)
	require.NoError(t, err)
	require.Equal(t, []string{"commit", "Delegate"}, w.parents, "of the commits, one within the other")
	calls, commits := w.take()
	require.Equal(t, "parent", calls[0].Pool)
	require.Equal(t, "node", calls[0].Results[0].Allocation.Owner)
	require.ElementsMatch(t, []string{"parent", "child"}, []string{commits[0].Pool, commits[1].Pool})
	_, _, err = pool.Delegate(t.Context(), parent, ofBits("node", 30), "parent", pool.Spec{}, options)
	require.ErrorIs(t, err, pool.ErrInvalid)
	calls, _ = w.take()
	require.Equal(t, err, calls[0].Err)

	for _, want := range []struct {
		method string
		op     string
		err    error
	}{
		{"Extend", "allocate", nil},
		{"Retract", "release", nil},
		{"Retract", "release", pool.ErrNotFound},
	} {
		if want.op == "allocate" {
			_, err = child.Extend(t.Context(), ofBits("more", 30))
		} else {
			_, err = child.Retract(t.Context(), "more")
		}
		require.ErrorIs(t, err, want.err)
		require.Equal(t, "child", w.begins[0].Pool)
		for _, parent := range w.parents {
			require.Contains(t, []string{want.method, "commit"}, parent)
		}
		calls, _ = w.take()
		require.Len(t, calls, 1)
		require.Equal(t, want.method, calls[0].Method)
		require.Equal(t, "parent", calls[0].Pool)
		require.Equal(t, err, calls[0].Err)
		require.Equal(t, want.op, calls[0].Steps[0].Op)
		require.Equal(t, "more", calls[0].Steps[0].Held.Owner)
	}
}

func TestObserverSeesConflictsAndUnknownOutcomes(t *testing.T) {
	observed(t, specOf("10.0.0.0/24"), func(t *testing.T, p *pool.Pool, w *witness, injector *faults.Injector) {
		if injector == nil {
			return
		}
		requireCommits := func(want ...error) {
			t.Helper()
			_, commits := w.take()
			require.Len(t, commits, len(want))
			for i, commit := range commits {
				require.Equal(t, "blue", commit.Pool)
				require.Positive(t, commit.Duration)
				if want[i] == nil {
					require.NoError(t, commit.Err)
				} else {
					require.ErrorIs(t, commit.Err, want[i])
				}
			}
		}
		allocate(t, p, pool.Claim{Owner: "a"})
		requireCommits(nil)
		allocate(t, p, pool.Claim{Owner: "a"})
		requireCommits() // the answer was there

		injector.ResetCounts()
		injector.Choose = faults.Script(faults.Fault{Effect: faults.LoseReply})
		allocate(t, p, pool.Claim{Owner: "b"})
		requireCommits(store.ErrUnknown, store.ErrExists)
		injector.ResetCounts()
		injector.Choose = faults.Script(faults.Fault{Effect: faults.Refuse})
		_, err := p.Allocate(t.Context(), pool.Claim{Owner: "c"})
		require.ErrorIs(t, err, faults.ErrInjected)
		requireCommits(faults.ErrInjected)
		injector.ResetCounts()
		_, err = together(t.Context(), "d", []*pool.Pool{p})
		require.ErrorIs(t, err, faults.ErrInjected)
		requireCommits(faults.ErrInjected)
		injector.Choose = nil
		require.NoError(t, p.Update(t.Context(), specOf("10.0.0.0/25")))
		requireCommits(nil)
	})

	w, memory := newWitness(t), store.NewMemory()
	create(t, memory, specOf("10.0.0.0/24"))
	p, err := pool.Open(t.Context(), memory, "blue", &pool.Options{Observer: w})
	require.NoError(t, err)
	allocate(t, open(t, memory.Open()), pool.Claim{Owner: "a"})
	allocate(t, p, pool.Claim{Owner: "b"})
	require.Equal(t, []int{1, 2}, []int{w.started[0].Attempt, w.started[1].Attempt})
	_, commits := w.take()
	require.Len(t, commits, 2)
	require.ErrorIs(t, commits[0].Err, store.ErrConflict)
	require.Equal(t, 1, commits[1].Writes)
}

func TestDurationIsNeverNegative(t *testing.T) {
	w, clock := newWitness(t), newManualClock()
	back := func() time.Time { clock.Add(-time.Hour); return clock.Now() }
	p, err := pool.New(specOf("10.0.0.0/24"), &pool.Options{Observer: w, Clock: back})
	require.NoError(t, err)
	allocate(t, p, pool.Claim{Owner: "a"})
	calls, _ := w.take()
	require.Zero(t, calls[0].Duration)
}

// spanned is a store that notes which spans it is called in.
type spanned struct {
	store.Store
	seen []string
}

// path names the spans of a context, the inner one first.
func path(ctx context.Context) string {
	var names []string
	for s := spanOf(ctx); s != nil; s = s.parent {
		names = append(names, s.name)
	}
	return strings.Join(names, " < ")
}

func (s *spanned) Get(ctx context.Context, key store.Key) (store.Record, error) {
	s.seen = append(s.seen, "get < "+path(ctx))
	return s.Store.Get(ctx, key)
}

func (s *spanned) Commit(ctx context.Context, changes ...store.Change) ([]store.Record, error) {
	s.seen = append(s.seen, "commit < "+path(ctx))
	return s.Store.Commit(ctx, changes...)
}

// The context that an observer returns is that of the rest of the call, down to the store.
func TestContextOfTheObserverReachesTheStore(t *testing.T) {
	w := newWitness(t)
	s := &spanned{Store: store.NewMemory()}
	create(t, s.Store, specOf("10.0.0.0/24"))
	options := &pool.Options{Observer: w}
	ctx := context.WithValue(t.Context(), spanKey{}, &span{name: "caller"})
	held := pool.Held{Owner: "a"}
	for method, call := range map[string]func(p *pool.Pool) error{
		"Allocate":     func(p *pool.Pool) error { _, err := p.Allocate(ctx, pool.Claim{Owner: "a"}); return err },
		"AllocateWait": func(p *pool.Pool) error { _, err := p.AllocateWait(ctx, pool.Claim{Owner: "a"}); return err },
		"Release":      func(p *pool.Pool) error { _, err := p.Release(ctx, held); return err },
		"Renew":        func(p *pool.Pool) error { _, err := p.Renew(ctx, held, time.Hour); return err },
		"Decline":      func(p *pool.Pool) error { _, err := p.Decline(ctx, held, time.Hour); return err },
		"All":          func(p *pool.Pool) error { _, err := all(ctx, p, releases([]string{"a"})); return err },
		"Each":         func(p *pool.Pool) error { _, err := each(ctx, p, releases([]string{"a"})); return err },
		"Expire":       func(p *pool.Pool) error { _, err := p.Expire(ctx); return err },
		"Reconcile": func(p *pool.Pool) error {
			_, err := p.Reconcile(ctx, markOf(t, p), live(), nil)
			return err
		},
	} {
		for _, fails := range []bool{false, true} {
			q, err := pool.Open(t.Context(), s.Store, "blue", nil)
			require.NoError(t, err)
			_, _ = q.Release(t.Context(), pool.Held{Owner: "a", Optional: true})
			if !strings.HasPrefix(method, "Allocate") {
				allocate(t, q, lease("a", time.Minute))
			}
			injector := &faults.Injector{}
			p, err := pool.Open(t.Context(), injector.Wrap(s), "blue", options)
			require.NoError(t, err)
			if fails {
				injector.Choose = faults.Script(faults.Fault{Effect: faults.Refuse})
			}
			s.seen = nil
			err = call(p)
			if !fails {
				require.NoError(t, err, method)
			}
			for _, seen := range s.seen {
				if strings.HasPrefix(seen, "commit") {
					require.Equal(t, "commit < commit < "+method+" < caller", seen)
				} else if method != "Reconcile" || seen != "get < " { // which is the mark
					require.Regexp(t, "^get < (commit < )?"+method+" < caller$", seen) // the injector reads in a commit
				}
			}
			if !fails && method != "Expire" {
				require.Contains(t, s.seen, "commit < commit < "+method+" < caller")
			}
			calls, _ := w.take()
			require.Len(t, calls, 1, method)
			require.Equal(t, method, calls[0].Method)
			require.Equal(t, err, calls[0].Err)
		}
	}
}

// A call over several pools is told to the observer of each.
func TestObserversOfSeveralPools(t *testing.T) {
	for _, stored := range []bool{true, false} {
		s, log := store.NewMemory(), newWitness(t)
		make1 := func(name, text string, w *witness) *pool.Pool {
			t.Helper()
			var p *pool.Pool
			var err error
			if stored {
				p, err = pool.Create(t.Context(), s, name, specOf(text), &pool.Options{Observer: w})
			} else {
				p, err = pool.New(specOf(text), &pool.Options{Observer: w})
			}
			require.NoError(t, err)
			w.take()
			return p
		}
		other := newWitness(t)
		v4, v6 := make1("v4", "10.0.0.1", log), make1("v6", "2001:db8::1", log)
		apart := make1("apart", "10.1.0.1", other)
		claim := pool.Claim{Owner: "a"}
		_, err := v4.All(t.Context(), pool.Allocate(claim), pool.Allocate(claim).In(v6), pool.Allocate(claim).In(apart))
		require.NoError(t, err)
		require.Len(t, log.begins, 2)
		require.ElementsMatch(t, []string{"All", "commit"}, log.parents, "one commit within the other")
		calls, commits := log.take()
		require.Equal(t, v6.Name(), calls[0].Pool, "the last one to begin ends first")
		require.Equal(t, v4.Name(), calls[1].Pool)
		require.Len(t, commits, 2)
		require.Len(t, calls[0].Steps, 1)
		require.Len(t, calls[1].Steps, 1)
		require.Equal(t, "2001:db8::1", texts(calls[0].Results[0].Allocation))
		calls, commits = other.take()
		require.Len(t, calls, 1)
		require.Equal(t, "10.1.0.1", texts(calls[0].Results[0].Allocation))
		require.Len(t, commits, 1)

		// A step with alternatives ends where it was done, or else in the first.
		release(t, apart, "a")
		other.take()
		step := pool.Allocate(pool.Claim{Owner: "b"}).In(v4, apart)
		for i, want := range []struct {
			here, there int
			err         error
		}{{0, 1, nil}, {1, 0, pool.ErrExhausted}} {
			_, err = v4.All(t.Context(), step)
			require.ErrorIs(t, err, want.err)
			require.Len(t, log.begins[0].Steps, 1)
			require.Len(t, other.begins[0].Steps, 1)
			here, _ := log.take()
			there, _ := other.take()
			require.Len(t, here[0].Steps, want.here, i)
			require.Len(t, there[0].Steps, want.there, i)
			require.Equal(t, err, here[0].Err)
			require.Equal(t, err, there[0].Err)
			step = pool.Allocate(pool.Claim{Owner: "c"}).In(v4, apart)
		}
		_, err = each(t.Context(), v4, []pool.Step{step})
		require.NoError(t, err)
		here, _ := log.take()
		require.Equal(t, "Each", here[0].Method)
	}
}

// What leases had ended and were freed is told with the commit that freed them.
func TestObserverIsToldOfEndedLeases(t *testing.T) {
	w, clock := newWitness(t), newManualClock()
	options := &pool.Options{Observer: w, Clock: clock.Now}
	injector := &faults.Injector{}
	inMemory, err := pool.New(cooling("10.0.0.0/31"), options)
	require.NoError(t, err)
	inStore, err := pool.Create(t.Context(), injector.Wrap(store.NewMemory()), "blue", cooling("10.0.0.0/31"), options)
	require.NoError(t, err)
	for _, p := range []*pool.Pool{inMemory, inStore} {
		w.take()
		freed := func(commits ...string) {
			t.Helper()
			_, ended := w.take()
			got := make([]string, len(ended))
			for i, c := range ended {
				for _, a := range c.Freed {
					require.False(t, a.Expires.IsZero())
					got[i] += a.Owner + "=" + texts(a) + " "
				}
			}
			require.Equal(t, commits, got)
		}
		a, b := claim("a", "10.0.0.0"), claim("b", "10.0.0.1")
		a.TTL, b.TTL = time.Hour, time.Hour
		allocate(t, p, a)
		allocate(t, p, b)
		freed("", "")
		clock.Add(time.Hour)
		allocate(t, p, lease("c", time.Hour))
		freed("a=10.0.0.0 ")
		release(t, p, "b")
		freed("") // released, though it had ended
		clock.Add(time.Hour)
		allocate(t, p, lease("c", time.Hour))
		freed("") // it has the same again
		clock.Add(time.Hour)
		other := claim("c", "10.0.0.1")
		other.TTL = time.Hour
		allocate(t, p, other)
		freed("c=10.0.0.0 ")
		allocate(t, p, lease("d", 2*time.Hour))
		release(t, p, "d") // which cools down
		freed("", "")
		clock.Add(time.Hour)
		n, err := p.Expire(t.Context())
		require.NoError(t, err)
		require.Equal(t, 2, n)
		freed("c=10.0.0.1 ")
		allocate(t, p, a)
		allocate(t, p, b)
		clock.Add(time.Hour)
		w.take()
		_, err = p.Allocate(t.Context(), pool.Claim{Owner: "e", Requests: make([]pool.Request, 2)})
		require.NoError(t, err)
		freed("a=10.0.0.0 b=10.0.0.1 ")
		release(t, p, "e")
	}

	clock.Add(time.Hour)
	allocate(t, inStore, lease("f", time.Minute))
	for _, effect := range []faults.Effect{faults.Refuse, faults.LoseRequest} {
		w.take()
		clock.Add(time.Minute)
		injector.ResetCounts()
		injector.Choose = faults.Script(faults.Fault{Effect: effect})
		_, err = inStore.Expire(t.Context())
		_, commits := w.take()
		if effect == faults.Refuse {
			require.ErrorIs(t, err, faults.ErrInjected)
			require.Len(t, commits, 1)
			require.Empty(t, commits[0].Freed)
			continue
		}
		require.NoError(t, err)
		require.Len(t, commits, 2)
		require.ErrorIs(t, commits[0].Err, store.ErrUnknown)
		require.Equal(t, "f", commits[0].Freed[0].Owner)
		require.Equal(t, "f", commits[1].Freed[0].Owner)
	}
}

// A commit tells which calls share it.
func TestObserverIsToldWhoSharesACommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, s, wait := newWitness(t), &hooked{Store: store.NewMemory()}, make(chan struct{})
		p, err := pool.Create(t.Context(), s, "blue", specOf("10.0.0.0/29"), &pool.Options{Observer: w})
		require.NoError(t, err)
		w.take()
		s.beforeCommit = func(store.Record, []store.Write) error { <-wait; return nil }
		var calls sync.WaitGroup
		for i := range 5 {
			calls.Go(func() { allocate(t, p, pool.Claim{Owner: fmt.Sprint(i)}) })
			synctest.Wait()
		}
		close(wait)
		calls.Wait()
		require.Len(t, w.started, 2)
		require.Len(t, w.started[0].Calls, 1)
		require.Len(t, w.started[1].Calls, 4)
		require.Equal(t, []string{"Allocate", "Allocate"}, w.parents)
		ids := map[int]bool{}
		for _, c := range w.started {
			require.Equal(t, 1, c.Attempt)
			for _, ctx := range c.Calls {
				require.Equal(t, "Allocate", spanOf(ctx).name)
				ids[spanOf(ctx).id] = true
			}
		}
		require.Len(t, ids, 5)
		_, commits := w.take()
		require.Equal(t, 4, commits[1].Writes)
		require.Positive(t, commits[1].Bytes)

		// Claims that wait in a line share the commit of a release.
		s.beforeCommit = nil
		for i := range 3 {
			allocate(t, p, pool.Claim{Owner: fmt.Sprint("more-", i)})
		}
		for i := range 2 {
			calls.Go(func() {
				_, err := p.AllocateWait(t.Context(), pool.Claim{Owner: fmt.Sprint("late-", i)})
				assert.NoError(t, err)
			})
			synctest.Wait()
		}
		w.mu.Lock()
		w.started = nil
		w.mu.Unlock()
		release(t, p, "0")
		synctest.Wait()
		w.mu.Lock()
		var names []string
		for _, ctx := range w.started[0].Calls {
			names = append(names, spanOf(ctx).name)
		}
		w.mu.Unlock()
		require.Equal(t, []string{"Release", "AllocateWait", "AllocateWait"}, names)
		release(t, p, "1")
		calls.Wait()
		w.take()
	})
}

// A commit tells how many calls of other handles it serves.
func TestObserverIsToldOfOtherHandles(t *testing.T) {
	inLine(t, specOf("10.0.0.0/24"), func(c *waiters) {
		w := newWitness(c)
		c.options.Observer = w
		lead, others := c.lead(), []func(){}
		for i := range 3 {
			p := c.handle()
			others = append(others, func() { allocate(c, p, pool.Claim{Owner: fmt.Sprint(i)}) })
		}
		w.take()
		c.together(append([]func(){lead}, others...)...)
		require.Len(c, w.started, 1)
		require.Len(c, w.started[0].Calls, 1)
		require.Equal(c, 3, w.started[0].Others)
		calls, commits := w.take()
		require.Len(c, calls, 4)
		require.Len(c, commits, 1)
		c.options.Observer = nil
	})
}

// breaks is an observer that panics.
type breaks struct {
	pool.NoObserver
	at   string
	told []string
}

func (b *breaks) tell(what string) {
	b.told = append(b.told, what)
	if b.at == what {
		panic(what)
	}
}

func (b *breaks) BeginCall(ctx context.Context, _ pool.Call) context.Context {
	b.tell("begin")
	return ctx
}

func (b *breaks) EndCall(context.Context, pool.Call) { b.tell("end") }

func (b *breaks) BeginCommit(ctx context.Context, _ pool.Commit) context.Context {
	b.tell("begin commit")
	return ctx
}

func (b *breaks) EndCommit(context.Context, pool.Commit) { b.tell("end commit") }

// A panic of an observer reaches the caller, and leaves the pool as good as any panic does.
func TestObserverThatPanics(t *testing.T) {
	for _, stored := range []bool{false, true} {
		b := &breaks{}
		p, err := pool.New(specOf("10.0.0.0/24"), &pool.Options{Observer: b})
		if stored {
			p, err = pool.Create(t.Context(), store.NewMemory(), "blue", specOf("10.0.0.0/24"), &pool.Options{Observer: b})
		}
		require.NoError(t, err)
		for at, want := range map[string]struct {
			told  []string
			taken bool
		}{
			"begin":        {[]string{"begin"}, false},
			"begin commit": {[]string{"begin", "begin commit", "end"}, false},
			"end commit":   {[]string{"begin", "begin commit", "end commit", "end"}, true},
			"end":          {[]string{"begin", "begin commit", "end commit", "end"}, true},
		} {
			b.at, b.told = at, nil
			require.PanicsWithValue(t, at, func() { _, _ = p.Allocate(t.Context(), pool.Claim{Owner: at}) })
			require.Equal(t, want.told, b.told)
			b.at = ""
			_, err := p.Get(t.Context(), pool.Held{Owner: at})
			require.Equal(t, want.taken, err == nil, at)
			allocate(t, p, pool.Claim{Owner: at})
			requireOK(t, p)
		}
	}
}

// A call in which the store panics has an end too, and so has its commit.
func TestObserverIsToldOfPanics(t *testing.T) {
	w := newWitness(t)
	s := &panicking{Store: store.NewMemory(), waiting: func() {}}
	p, err := pool.Create(t.Context(), s, "blue", specOf("10.0.0.0/24"), &pool.Options{Observer: w})
	require.NoError(t, err)
	for _, call := range []func(context.Context, pool.Claim) error{
		func(ctx context.Context, c pool.Claim) error { _, err := p.Allocate(ctx, c); return err },
		func(ctx context.Context, c pool.Claim) error { _, err := p.All(ctx, pool.Allocate(c)); return err },
	} {
		w.take()
		s.armed.Store(true)
		require.Panics(t, func() { _ = call(t.Context(), pool.Claim{Owner: "a"}) })
		calls, commits := w.take()
		require.Len(t, calls, 1)
		require.ErrorIs(t, calls[0].Err, store.ErrUnknown)
		require.Len(t, commits, 1)
		require.ErrorIs(t, commits[0].Err, store.ErrUnknown)
	}
}

// tally keeps the counts that it is told of, and copies them as it must.
type tally struct {
	pool.NoObserver
	ends map[string]pool.Commit
}

func (y *tally) EndCommit(_ context.Context, end pool.Commit) {
	end.Stats = slices.Clone(end.Stats)
	y.ends[end.Pool] = end
}

// requireCounts checks that the last commit of each pool was reported with the revision and the counts that it has.
func (y *tally) requireCounts(t *testing.T, pools ...*pool.Pool) {
	t.Helper()
	for _, p := range pools {
		info, err := p.Info(t.Context())
		require.NoError(t, err)
		require.NoError(t, y.ends[p.Name()].Err)
		require.Equal(t, info.Revision, y.ends[p.Name()].Revision)
		require.Equal(t, info.Stats, y.ends[p.Name()].Stats)
	}
}

func TestObserverIsToldTheCountsAfterEachCommit(t *testing.T) {
	spec := specOf("10.0.0.0/28", "2001:db8::/64")
	spec.Cooldown = time.Hour
	seen := &tally{ends: map[string]pool.Commit{}}
	options := &pool.Options{Observer: seen}
	memory, err := pool.New(spec, options)
	require.NoError(t, err)
	var injector faults.Injector
	s := injector.Wrap(store.NewMemory())
	stored, err := pool.Create(t.Context(), s, "blue", spec, options)
	require.NoError(t, err)
	seen.requireCounts(t, stored)
	for _, p := range []*pool.Pool{memory, stored} {
		allocate(t, p, pool.Claim{Owner: "a", Policy: pool.RequireDualStack})
		seen.requireCounts(t, p)
		allocate(t, p, pool.Claim{Owner: "b"})
		_, err = p.Release(t.Context(), pool.Held{Owner: "a"})
		require.NoError(t, err)
		seen.requireCounts(t, p)
		narrow := specOf("10.0.0.0/29", "2001:db8::/64")
		require.NoError(t, p.Drain(t.Context(), narrow))
		seen.requireCounts(t, p)
		_, err = together(t.Context(), "c", []*pool.Pool{p})
		require.NoError(t, err)
		seen.requireCounts(t, p)
	}
	claim := pool.Claim{Owner: "node", Requests: []pool.Request{{Family: pool.IPv6, Bits: 80}}}
	child, _, err := pool.Delegate(t.Context(), stored, claim, "child", pool.Spec{}, options)
	require.NoError(t, err)
	seen.requireCounts(t, stored, child)

	injector.ResetCounts()
	injector.Choose = faults.Script(faults.Fault{Effect: faults.Refuse})
	_, err = stored.Allocate(t.Context(), pool.Claim{Owner: "d"})
	require.ErrorIs(t, err, faults.ErrInjected)
	require.Zero(t, seen.ends["blue"].Revision)
	require.Nil(t, seen.ends["blue"].Stats)
	injector.Choose = nil
	require.NoError(t, pool.Delete(t.Context(), s, "child", options))
	require.NoError(t, seen.ends["child"].Err)
	require.Zero(t, seen.ends["child"].Revision)
	require.Nil(t, seen.ends["child"].Stats)
	seen.requireCounts(t, stored)
}
