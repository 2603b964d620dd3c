package pool_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/ipalloc/ipalloc/internal/world"
	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/storetest/faults"
)

// history keeps the commits that took effect, in their order.
type history struct {
	mu      sync.Mutex
	commits []committed
}

// committed is what a commit wrote. The revision tells its place among all.
type committed struct {
	revision int64
	writes   []store.Write
}

// wrap returns a store whose commits are kept.
func (h *history) wrap(s store.Store) store.Store { return &recorder{Store: s, history: h} }

type recorder struct {
	store.Store
	history *history
}

func (r *recorder) Commit(ctx context.Context, changes ...store.Change) ([]store.Record, error) {
	got, err := r.Store.Commit(ctx, changes...)
	if err == nil {
		r.history.mu.Lock()
		defer r.history.mu.Unlock()
		for i, c := range changes {
			r.history.commits = append(r.history.commits, committed{got[i].Revision, c.Writes})
		}
	}
	return got, err
}

// replay does in an empty model what was committed, and requires each grant to be what the model grants.
func (h *history) replay(t require.TestingT, w *world.World, claimOf func(owner string) pool.Claim) *world.Pool {
	h.mu.Lock()
	defer h.mu.Unlock()
	slices.SortStableFunc(h.commits, func(a, b committed) int { return cmp.Compare(a.revision, b.revision) })
	for _, c := range h.commits {
		for _, write := range c.writes {
			r := write.Record
			switch {
			case r.Kind != store.KindAllocation:
			case write.Op == store.Delete:
				after, _, err := w.Release("blue", pool.Held{Owner: r.Name})
				require.NoError(t, err, "what is released was held")
				w = after
			default:
				require.Nil(t, w.Pools["blue"].Live(r.Name))
				after, want, err := w.Allocate("blue", claimOf(r.Name), world.Sight{})
				require.NoError(t, err, "%q", r.Name)
				require.Equal(t, want.Prefixes, r.Prefixes, "%q", r.Name)
				w = after
			}
		}
	}
	return w.Pools["blue"]
}

// requireStored requires a pool to hold what the model does.
func requireStored(t require.TestingT, m *world.Pool, p *pool.Pool) {
	got := map[string][]netip.Prefix{}
	for a, err := range p.Allocations(context.Background()) {
		require.NoError(t, err)
		got[a.Owner] = a.Prefixes
	}
	want := map[string][]netip.Prefix{}
	for owner, a := range m.Held() {
		want[owner] = a.Prefixes
	}
	require.Equal(t, want, got)
	info, err := p.Info(context.Background())
	require.NoError(t, err)
	stats := info.Stats
	require.Equal(t, m.Stats(), stats)
	requireOK(t, p)
}

// smallDual is a world with a pool of both families that is soon exhausted.
func smallDual() (*world.World, pool.Spec) {
	spec := specOf("10.0.0.0/26", "2001:db8::/122")
	w, _ := (&world.World{}).Create(world.NewPool("blue", firstUniverse(), spec))
	return w, spec
}

// claimNamed is the claim of an owner whose name says what it wants.
func claimNamed(owner string) pool.Claim {
	c := pool.Claim{Owner: owner}
	kind, _, _ := strings.Cut(owner, " ")
	switch kind {
	case "dual":
		c.Policy = pool.RequireDualStack
	case "prefix":
		c.Requests = []pool.Request{{Family: pool.IPv4, Bits: 30}}
	case "exact":
		c.Requests = []pool.Request{pool.ExactAddr(addr("10.0.0.9"))}
	case "within":
		c.Requests = []pool.Request{{Within: setOf("10.0.0.32/28")}}
	}
	return c
}

func namedOwner(worker, n int) string {
	kinds := []string{"one", "dual", "prefix", "exact", "within", "one"}
	return fmt.Sprintf("%s %d", kinds[(worker+n)%len(kinds)], worker*4+n%4)
}

func TestInvariant4LowestFreeInTheOrderOfCommits(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			w, spec := smallDual()
			h, memory := &history{}, store.NewMemory()
			create(t, memory, spec)
			var handles []*pool.Pool
			for range 4 {
				handles = append(handles, open(t, h.wrap(memory.Open())))
			}
			var workers sync.WaitGroup
			for worker := range 16 {
				random := rand.New(rand.NewPCG(seed, uint64(worker)))
				workers.Go(func() {
					for n := range 60 {
						p, owner := handles[random.IntN(len(handles))], namedOwner(worker, n)
						if random.IntN(5) < 3 {
							a, err := p.Allocate(t.Context(), claimNamed(owner))
							if err != nil && !errors.Is(err, pool.ErrExhausted) && !errors.Is(err, pool.ErrTaken) {
								t.Error(err)
							}
							if again, err2 := handles[random.IntN(len(handles))].Allocate(t.Context(), claimNamed(owner)); err == nil {
								if err2 != nil || again.Generation != a.Generation || texts(again) != texts(a) {
									t.Errorf("first %v, then %v, %v", a, again, err2)
								}
							}
						} else if _, err := p.Release(t.Context(), pool.Held{Owner: owner, Optional: true}); err != nil {
							t.Error(err)
						}
					}
				})
			}
			workers.Wait()
			require.NotEmpty(t, h.commits)
			m := h.replay(t, w, claimNamed)
			requireStored(t, m, open(t, memory))
			for _, p := range handles {
				requireStored(t, m, p)
			}
		})
	}
}

func TestGroupCommitNeedsFewCommits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		injector := &faults.Injector{}
		p := create(t, injector.Wrap(store.NewMemory()), specOf("10.0.0.0/16"))
		injector.ResetCounts()
		injector.Choose = faults.Script(faults.Fault{Delay: time.Second})
		var calls sync.WaitGroup
		for i := range 1000 {
			calls.Go(func() {
				if _, err := p.Allocate(t.Context(), pool.Claim{Owner: fmt.Sprint(i)}); err != nil {
					t.Error(err)
				}
			})
			if i == 0 {
				synctest.Wait() // were more in the first commit, which is slow, the next ones would have fewer
			}
		}
		calls.Wait()
		require.Equal(t, 1+1, injector.Counts().Commit, "one alone, and then 999 together")
		require.Equal(t, 0, injector.Counts().Get)
		require.Equal(t, uint64(1000), used(t, p))
		requireOK(t, p)
	})
}

func used(t testing.TB, p *pool.Pool) uint64 {
	t.Helper()
	info, err := p.Info(t.Context())
	require.NoError(t, err)
	stats := info.Stats
	return countsOf(stats, pool.IPv4).Used.Uint64()
}

// belief is what an owner knows of what it holds.
type belief struct {
	certain bool
	held    *pool.Allocation
	// pending are the handles that did not know the outcome of a call for the owner, until they answer another: what
	// they began may yet take effect, and other handles cannot tell.
	pending map[*pool.Pool]bool
}

func (b *belief) unknown(p *pool.Pool) {
	if b.pending == nil {
		b.pending = map[*pool.Pool]bool{}
	}
	b.pending[p] = true
	b.certain, b.held = false, nil
}

func (b *belief) known(p *pool.Pool, held *pool.Allocation) {
	delete(b.pending, p)
	b.certain, b.held = len(b.pending) == 0, held
}

// step makes one call for an owner and holds the answer against what the owner knew.
func step(t require.TestingT, ctx context.Context, p *pool.Pool, owner string, releases bool, b *belief) {
	if releases {
		a, err := p.Release(ctx, pool.Held{Owner: owner})
		switch {
		case err == nil:
			// Who held nothing may be told of an earlier grant, if the reply was lost: see planOne.
			if b.certain && b.held != nil {
				require.Equal(t, *b.held, a)
			}
			b.known(p, nil)
		case errors.Is(err, pool.ErrNotFound):
			require.False(t, b.certain && b.held != nil, "%q lost %v", owner, b.held)
			b.known(p, nil)
		case errors.Is(err, store.ErrUnknown):
			b.unknown(p)
		}
		requireExpected(t, err)
		return
	}
	a, err := p.Allocate(ctx, claimNamed(owner))
	switch {
	case err == nil:
		if b.certain && b.held != nil {
			require.Equal(t, *b.held, a, "same owner, same answer")
		}
		b.known(p, &a)
	case errors.Is(err, store.ErrUnknown):
		b.unknown(p)
	case errors.Is(err, pool.ErrExhausted), errors.Is(err, pool.ErrTaken):
		require.False(t, b.certain && b.held != nil, "%q lost %v: %v", owner, b.held, err)
		b.known(p, nil)
	}
	requireExpected(t, err)
}

// requireExpected lets those errors pass that faults and full pools make.
func requireExpected(t require.TestingT, err error) {
	for _, expected := range []error{
		nil, store.ErrUnknown, faults.ErrInjected, pool.ErrExhausted, pool.ErrTaken, pool.ErrNotFound,
		pool.ErrBusy, context.Canceled, context.DeadlineExceeded,
	} {
		if errors.Is(err, expected) {
			return
		}
	}
	require.NoError(t, err)
}

// settleFaults lets what is late land, and stops the faults.
func settleFaults(t require.TestingT, injector *faults.Injector, s store.Store) {
	injector.Choose = nil
	for range 20 {
		_, err := s.Get(context.Background(), store.Key{Kind: store.KindPool, Pool: "blue"})
		require.NoError(t, err)
	}
}

func requireBeliefs(t require.TestingT, m *world.Pool, beliefs map[string]*belief) {
	for owner, b := range beliefs {
		a, ok := m.Held()[owner]
		if b.certain {
			require.Equal(t, b.held != nil, ok, "%q", owner)
		}
		if b.certain && ok {
			require.Equal(t, b.held.Prefixes, a.Prefixes)
		}
	}
}

var rates = faults.Rates{Refuse: 0.1, LoseRequest: 0.1, LoseReply: 0.1, LandLate: 0.15, Read: 0.1, MaxLate: 6}

// One call at a time, so that what fails can be repeated and shrinks.
func TestInvariant3SameAnswerUntilReleasedDespiteFaults(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w, spec := smallDual()
		h, memory := &history{}, store.NewMemory()
		ctx := context.Background()
		injector := &faults.Injector{}
		faulty := injector.Wrap(h.wrap(memory))
		_, err := pool.Create(ctx, memory, "blue", spec, nil)
		require.NoError(t, err)
		var handles []*pool.Pool
		for range 3 {
			p, err := pool.Open(ctx, faulty, "blue", &pool.Options{Backoff: time.Nanosecond, Attempts: 4})
			require.NoError(t, err)
			handles = append(handles, p)
		}
		injector.Choose = func(call faults.Call) faults.Fault {
			effects := []faults.Effect{faults.Pass, faults.Pass, faults.Pass, faults.Pass, faults.Refuse}
			if call.Method == faults.Commit {
				effects = append(effects[:3], faults.Refuse, faults.LoseRequest, faults.LoseReply, faults.LandLate)
			}
			return faults.Fault{
				Effect: rapid.SampledFrom(effects).Draw(t, string(call.Method)), Late: rapid.IntRange(1, 4).Draw(t, "late"),
			}
		}
		beliefs := map[string]*belief{}
		for range rapid.IntRange(1, 40).Draw(t, "calls") {
			owner := rapid.SampledFrom([]string{
				"one 1", "one 2", "dual 1", "prefix 1", "exact 1", "exact 2", "within 1",
			}).Draw(t, "owner")
			if beliefs[owner] == nil {
				beliefs[owner] = &belief{certain: true}
			}
			p := handles[rapid.IntRange(0, 2).Draw(t, "handle")]
			step(t, ctx, p, owner, rapid.IntRange(0, 2).Draw(t, "release") == 0, beliefs[owner])
		}
		settleFaults(t, injector, faulty)
		m := h.replay(t, w, claimNamed)
		requireBeliefs(t, m, beliefs)
		for _, p := range append(handles, mustOpen(t, memory)) {
			requireStored(t, m, p)
		}
	})
}

func mustOpen(t require.TestingT, s store.Store) *pool.Pool {
	p, err := pool.Open(context.Background(), s, "blue", nil)
	require.NoError(t, err)
	return p
}

// Many calls at once, with faults, lost and late commits, and contexts that end.
func TestInvariant1NoAddressIsHeldTwice(t *testing.T) {
	for seed := range uint64(12) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { hammer(t, seed) })
		})
	}
}

func hammer(t *testing.T, seed uint64) {
	w, spec := smallDual()
	h, memory := &history{}, store.NewMemory()
	create(t, memory, spec)
	injector := &faults.Injector{}
	faulty := injector.Wrap(h.wrap(memory))
	options := &pool.Options{CommitTimeout: 20 * time.Millisecond, Random: func() uint64 { return 1 << 63 }}
	var handles []*pool.Pool
	for range 3 {
		p, err := pool.Open(t.Context(), faulty, "blue", options)
		require.NoError(t, err)
		handles = append(handles, p)
	}
	some := rates
	some.MaxDelay = 10 * time.Millisecond
	injector.Choose = faults.Random(seed, some)
	beliefs := map[string]*belief{}
	var owners sync.WaitGroup
	for i := range 40 {
		owner, b := namedOwner(i, 0), &belief{certain: true}
		beliefs[owner] = b
		random := rand.New(rand.NewPCG(seed, uint64(i)+2))
		owners.Go(func() {
			for range 25 {
				ctx, cancel := context.WithCancel(t.Context())
				if random.IntN(3) == 0 {
					ctx, cancel = context.WithTimeout(ctx, time.Duration(random.IntN(30))*time.Millisecond)
				}
				step(t, ctx, handles[random.IntN(len(handles))], owner, random.IntN(3) == 0, b)
				cancel()
			}
		})
	}
	owners.Wait()
	settleFaults(t, injector, faulty)
	m := h.replay(t, w, claimNamed)
	requireBeliefs(t, m, beliefs)
	for _, p := range append(handles, open(t, memory)) {
		requireStored(t, m, p)
	}
	require.Greater(t, injector.Counts().Commit, 10, "how many depends on which calls share one: 40 are usual")
}
