package pool_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
)

// gauge is a store that counts what is asked of it, takes some time for it, and can be made deaf: its Watch then tells
// of no change.
type gauge struct {
	*store.Memory
	commit, read time.Duration
	deaf         bool

	commits, gets, watches, watching, mostWatching, turns, joins atomic.Int64

	onWatch, onCommit func() error // instead of the method, if it returns an error
}

func (g *gauge) Commit(ctx context.Context, changes ...store.Change) ([]store.Record, error) {
	g.commits.Add(1)
	time.Sleep(g.commit)
	if g.onCommit != nil {
		if err := g.onCommit(); err != nil {
			return nil, err
		}
	}
	return g.Memory.Commit(ctx, changes...)
}

func (g *gauge) Get(ctx context.Context, key store.Key) (store.Record, error) {
	g.gets.Add(1)
	time.Sleep(g.read)
	return g.Memory.Get(ctx, key)
}

func (g *gauge) Turn(ctx context.Context, keys ...store.Key) (store.Turn, error) {
	g.turns.Add(1)
	turn, err := g.Memory.Turn(ctx, keys...)
	time.Sleep(g.read)
	return turn, err
}

func (g *gauge) Join(ctx context.Context, key store.Key, ask []byte) (store.GroupTurn, error) {
	g.joins.Add(1)
	turn, err := g.Memory.Join(ctx, key, ask)
	time.Sleep(g.read)
	return turn, err
}

func (g *gauge) Watch(ctx context.Context, key store.Key, revision int64) (store.Record, error) {
	g.watches.Add(1)
	defer g.watching.Add(-1)
	for now := g.watching.Add(1); ; {
		if most := g.mostWatching.Load(); now <= most || g.mostWatching.CompareAndSwap(most, now) {
			break
		}
	}
	if g.onWatch != nil {
		if err := g.onWatch(); err != nil {
			return store.Record{}, err
		}
	}
	if g.deaf {
		<-ctx.Done()
		return store.Record{}, ctx.Err()
	}
	return g.Memory.Watch(ctx, key, revision)
}

// queued is an AllocateWait that is under way.
type queued struct {
	owner  string
	cancel context.CancelFunc
	done   atomic.Bool
	got    pool.Allocation
	err    error
	left   bool // its context was ended
}

// queue starts an AllocateWait.
func queue(ctx context.Context, p *pool.Pool, c pool.Claim) *queued {
	ctx, cancel := context.WithCancel(ctx)
	q := &queued{owner: c.Owner, cancel: cancel}
	go func() {
		defer q.done.Store(true)
		defer func() {
			if r := recover(); r != nil {
				q.err = fmt.Errorf("panic: %v", r)
			}
		}()
		q.got, q.err = p.AllocateWait(ctx, c)
	}()
	return q
}

// queueAll starts one after the other, so that they wait in this order.
func queueAll(ctx context.Context, p *pool.Pool, claims ...pool.Claim) []*queued {
	all := make([]*queued, len(claims))
	for i, c := range claims {
		all[i] = queue(ctx, p, c)
		synctest.Wait()
	}
	return all
}

// anyOf are claims of these owners for any address.
func anyOf(owners ...string) []pool.Claim {
	claims := make([]pool.Claim, len(owners))
	for i, owner := range owners {
		claims[i].Owner = owner
	}
	return claims
}

// served are the owners whose calls have ended well, after all has come to rest.
func served(all []*queued) []string {
	time.Sleep(100 * time.Millisecond)
	synctest.Wait()
	owners := []string{}
	for _, q := range all {
		if q.done.Load() && q.err == nil {
			owners = append(owners, q.owner)
		}
	}
	return owners
}

// Whatever arrives, leaves and is released, in whichever order, those who wait on a handle are served in the order of
// their arrival.
func TestLineIsServedInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rapid.Check(struct{ testing.TB }{t}, func(t *rapid.T) { // whose deadline is none of the bubble's
			ctx, cancel := context.WithCancel(context.Background())
			defer synctest.Wait()
			defer cancel()
			spec := specOf("10.0.0.0/30")
			p, err := pool.New(spec, nil)
			releasing := []*pool.Pool{p}
			if rapid.Bool().Draw(t, "stored") {
				memory := store.NewMemory()
				s := &gauge{Memory: memory, commit: 300 * time.Microsecond, read: 100 * time.Microsecond}
				p, err = pool.Create(ctx, s, "blue", spec, nil)
				require.NoError(t, err)
				other, err := pool.Open(ctx, memory.Open(), "blue", nil)
				require.NoError(t, err)
				releasing = []*pool.Pool{p, p, other}
			}
			require.NoError(t, err)
			o := &orderly{ctx: ctx, p: p, releasing: releasing}
			t.Repeat(map[string]func(*rapid.T){
				"arrive": o.arrive, "arrive more": o.arrive, "leave": o.leave, "release": o.release, "rest": o.rest,
			})
			o.rest(t)
		})
	})
}

// orderly are calls on one handle, in the order of arrival.
type orderly struct {
	ctx       context.Context
	p         *pool.Pool
	releasing []*pool.Pool // the handles through which is released
	all       []*queued
	released  map[string]bool
	failed    atomic.Pointer[error] // of a release
}

func (o *orderly) arrive(*rapid.T) {
	o.all = append(o.all, queue(o.ctx, o.p, pool.Claim{Owner: fmt.Sprint(len(o.all))}))
	synctest.Wait() // or the order would not be known; a commit may still be under way, as that takes time
}

func (o *orderly) leave(t *rapid.T) {
	i := slices.IndexFunc(o.all, func(q *queued) bool { return !q.done.Load() && !q.left })
	if i < 0 {
		t.Skip("nobody waits")
	}
	if i += rapid.IntRange(0, len(o.all)-1-i).Draw(t, "who"); !o.all[i].done.Load() {
		o.all[i].left = true
		o.all[i].cancel()
	}
}

func (o *orderly) release(t *rapid.T) {
	var held []string
	for _, q := range o.all {
		if q.done.Load() && q.err == nil && !o.released[q.owner] {
			held = append(held, q.owner)
		}
	}
	if len(held) == 0 {
		t.Skip("nobody holds anything")
	}
	owner := rapid.SampledFrom(held).Draw(t, "owner")
	p := o.releasing[rapid.IntRange(0, len(o.releasing)-1).Draw(t, "through")]
	if o.released == nil {
		o.released = map[string]bool{}
	}
	o.released[owner] = true
	many := rapid.Bool().Draw(t, "many")
	go func() {
		var err error
		if many {
			_, err = releaseAll(o.ctx, p, []string{owner})
		} else {
			_, err = p.Release(o.ctx, pool.Held{Owner: owner})
		}
		if err != nil {
			o.failed.Store(&err)
		}
	}()
}

// rest waits until nothing moves. Then nobody waits while anything is free, and the calls were served in their order.
func (o *orderly) rest(t *rapid.T) {
	time.Sleep(100 * time.Millisecond)
	synctest.Wait()
	if err := o.failed.Load(); err != nil {
		require.NoError(t, *err)
	}
	waiting, held, last := -1, 0, int64(0)
	for i, q := range o.all {
		switch {
		case !q.done.Load():
			require.False(t, q.left, "%s has left, and is still there", q.owner)
			if waiting < 0 {
				waiting = i
			}
		case q.err != nil:
			require.True(t, q.left, "%s: %v", q.owner, q.err)
			require.ErrorIs(t, q.err, context.Canceled)
		default:
			require.Negative(t, waiting, "%s was served before %d", q.owner, waiting)
			require.GreaterOrEqual(t, q.got.Generation, last, "%s was served before one that came earlier", q.owner)
			last = q.got.Generation
			if !o.released[q.owner] {
				held++
			}
		}
	}
	require.True(t, waiting < 0 || held == 4, "%d waits although something is free", waiting)
	n := 0
	for a, err := range o.p.Allocations(o.ctx) {
		require.NoError(t, err)
		i := slices.IndexFunc(o.all, func(q *queued) bool { return q.owner == a.Owner })
		require.True(t, o.all[i].done.Load() && o.all[i].err == nil, "%s was granted something, and does not know", a.Owner)
		n++
	}
	require.Equal(t, held, n)
}

// What another handle asks this one to release comes free in the very commit in which the claims of the line were
// refused. They are tried again, for no later change of the pool tells of it.
func TestLineIsToldOfWhatGuestsRelease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for i := range 625 { // releases at all sorts of moments within two commits
			memory := store.NewMemory()
			_, err := pool.Create(t.Context(), memory, "blue", specOf("10.0.0.0/30"), nil)
			require.NoError(t, err)
			var handles [3]*pool.Pool
			for h := range handles {
				s := &gauge{Memory: memory.Open(), commit: 300 * time.Microsecond, read: 100 * time.Microsecond}
				handles[h], err = pool.Open(t.Context(), s, "blue", nil)
				require.NoError(t, err)
			}
			for owner := range 4 {
				allocate(t, handles[0], pool.Claim{Owner: fmt.Sprint(owner)})
			}
			for _, p := range handles {
				p.Contend()
			}
			waits := queueAll(t.Context(), handles[0], anyOf("a", "b", "c", "d")...)
			var wg sync.WaitGroup
			for owner, through := range []int{1, 0, 2, 1} {
				wg.Go(func() {
					time.Sleep(time.Duration(i/[]int{1, 5, 25, 125}[owner]%5) * 150 * time.Microsecond)
					release(t, handles[through], fmt.Sprint(owner))
				})
			}
			wg.Wait()
			require.Equal(t, []string{"a", "b", "c", "d"}, served(waits), i)
		}
	})
}

// A claim that cannot be met does not hold up those behind it that ask for something else, and these do not take what
// it could have.
func TestClaimThatCannotBeMetHoldsUpNobodyElse(t *testing.T) {
	spec := specOf("10.0.0.0/30", "2001:db8::/127")
	watched(t, spec, func(t *testing.T, p, other *pool.Pool) {
		for i := range 4 {
			allocate(t, p, claim(fmt.Sprint("v4-", i), fmt.Sprint("10.0.0.", i)))
		}
		for i := range 2 {
			allocate(t, p, claim(fmt.Sprint("v6-", i), fmt.Sprint("2001:db8::", i)))
		}
		waits := queueAll(t.Context(), p,
			pool.Claim{Owner: "block", Requests: []pool.Request{{Bits: 31}}},
			claim("exact", "10.0.0.3"),
			pool.Claim{Owner: "within", Requests: []pool.Request{{Within: setOf("10.0.0.2/31")}}},
			pool.Claim{Owner: "v6", Requests: []pool.Request{{Family: pool.IPv6}}},
			pool.Claim{Owner: "any"},
			claim("exact again", "10.0.0.3"),
		)
		require.Empty(t, served(waits))
		release(t, other, "v6-0")
		require.Equal(t, []string{"v6"}, served(waits))
		release(t, other, "v4-0")
		require.Equal(t, []string{"v6", "any"}, served(waits))
		release(t, other, "v4-3")
		require.Equal(t, []string{"exact", "v6", "any"}, served(waits))
		release(t, other, "exact")
		require.Equal(t, []string{"exact", "within", "v6", "any"}, served(waits), "which came before the other exact one")
		release(t, other, "any")
		require.Equal(t, []string{"exact", "within", "v6", "any"}, served(waits), "half a block")
		release(t, other, "v4-1")
		require.Equal(t, []string{"block", "exact", "within", "v6", "any"}, served(waits))
		release(t, other, "within")
		require.Equal(t, []string{"block", "exact", "within", "v6", "any", "exact again"}, served(waits))
		requireOK(t, p)
	})
}

// More claims than a try has at first are served in their order too, before later ones that ask for something else.
func TestLongLineIsServedInOrder(t *testing.T) {
	watched(t, specOf("10.0.0.0/26"), func(t *testing.T, p, other *pool.Pool) {
		allocate(t, p, claim("all", "10.0.0.0/26"))
		var claims []pool.Claim
		for i := range 40 {
			claims = append(claims, pool.Claim{Owner: fmt.Sprint("any", i)})
		}
		claims = append(claims, claim("taken by an earlier one", "10.0.0.20"), claim("free", "10.0.0.50"))
		waits := queueAll(t.Context(), p, claims...)
		release(t, other, "all")
		require.Len(t, served(waits), 41)
		require.False(t, waits[40].done.Load())
		for i, q := range waits[:40] {
			require.Equal(t, fmt.Sprint("10.0.0.", i), texts(q.got))
		}
		waits[40].cancel()
	})
}

// Whoever leaves the line, also while it leads, leaves the others waiting in their order.
func TestLeaderThatLeavesHandsOn(t *testing.T) {
	watched(t, specOf("10.0.0.0/32"), func(t *testing.T, p, other *pool.Pool) {
		allocate(t, p, pool.Claim{Owner: "holder"})
		waits := queueAll(t.Context(), p, anyOf("a", "b", "c", "d", "e")...)
		for i, leaves := range []int{0, 4, 2} {
			waits[leaves].cancel()
			synctest.Wait()
			for j, q := range waits {
				require.Equal(t, slices.Contains([]int{0, 4, 2}[:i+1], j), q.done.Load(), "%s when %d leaves", q.owner, leaves)
			}
			require.ErrorIs(t, waits[leaves].err, context.Canceled)
			require.ErrorIs(t, waits[leaves].err, pool.ErrExhausted)
		}
		release(t, other, "holder")
		require.Equal(t, []string{"b"}, served(waits))
		release(t, p, "b")
		require.Equal(t, []string{"b", "d"}, served(waits))
		requireOK(t, p)
	})
}

// A call whose context ends while it is being granted something either gets it or leaves nothing.
func TestCallThatLeavesInATry(t *testing.T) {
	for late := range 8 {
		synctest.Test(t, func(t *testing.T) {
			s := &gauge{Memory: store.NewMemory(), commit: 4 * time.Millisecond, read: time.Millisecond}
			p := create(t, s, specOf("10.0.0.0/31"))
			other := open(t, s.Open())
			allocate(t, p, claim("block", "10.0.0.0/31"))
			waits := queueAll(t.Context(), p, anyOf("a", "b", "c")...)
			time.Sleep(time.Second)
			go func() { _, _ = other.Release(t.Context(), pool.Held{Owner: "block"}) }()
			time.Sleep(time.Duration(late) * time.Millisecond)
			waits[0].cancel()
			waits[1].cancel()
			time.Sleep(50 * time.Millisecond)
			for i, q := range waits {
				require.Equal(t, q.done.Load(), i < 2 || q.err == nil && q.done.Load())
				_, err := p.Get(t.Context(), pool.Held{Owner: q.owner})
				if q.done.Load() && q.err == nil {
					require.NoError(t, err)
				} else {
					require.ErrorIs(t, err, pool.ErrNotFound)
				}
			}
			require.Equal(t, waits[0].err != nil || waits[1].err != nil, waits[2].done.Load())
			waits[2].cancel()
			requireOK(t, p)
		})
	}
}

// while lets a commit of the handle be under way, which takes a second, while f starts other calls.
func while(t *testing.T, p *pool.Pool, owner string, f func()) {
	go func() { _, _ = p.Renew(t.Context(), pool.Held{Owner: owner}, 24*time.Hour) }()
	time.Sleep(time.Millisecond)
	f()
	time.Sleep(10 * time.Second)
}

// What is freed in the same commit in which the claims were tried, but after they were, is not overlooked.
func TestReleaseBehindATryIsNotOverlooked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := func() time.Time { time.Sleep(time.Millisecond); return time.Now() } // so that the release ends first
		s := &gauge{Memory: store.NewMemory(), commit: time.Second}
		p, err := pool.Create(t.Context(), s, "blue", specOf("10.0.0.0/31"), &pool.Options{Clock: slow})
		require.NoError(t, err)
		allocate(t, p, lease("renews", time.Hour))
		allocate(t, p, pool.Claim{Owner: "holder"})
		waits := queueAll(t.Context(), p, pool.Claim{Owner: "a"})
		time.Sleep(time.Second)
		while(t, p, "renews", func() {
			waits = append(waits, queueAll(t.Context(), p, claim("b", "10.0.0.0"))...) // which lets all be tried
			time.Sleep(10 * time.Millisecond)
			go func() { _, _ = releaseAll(t.Context(), p, []string{"holder"}) }()
		})
		require.Equal(t, []string{"a"}, served(waits))
		waits[1].cancel()
	})
}

// A call whose context ends leaves at once, although a try with it waits for a commit that is under way.
func TestCallLeavesATryThatHasNotBegun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := create(t, &gauge{Memory: store.NewMemory(), commit: time.Second}, specOf("10.0.0.0/31"))
		allocate(t, p, lease("renews", time.Hour))
		allocate(t, p, pool.Claim{Owner: "holder"})
		waits := queueAll(t.Context(), p, anyOf("a", "b", "c")...)
		while(t, p, "renews", func() {
			waits = append(waits, queueAll(t.Context(), p, claim("d", "10.0.0.0"))...)
			for _, q := range waits[:2] {
				q.cancel()
				synctest.Wait()
				require.True(t, q.done.Load(), q.owner)
			}
		})
		release(t, p, "holder")
		require.Equal(t, []string{"c"}, served(waits))
		waits[3].cancel()
	})
}

// However many wait, one of them watches, and a change costs as much as for one.
func TestOneWatchHoweverManyWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &gauge{Memory: store.NewMemory()}
		p, other := create(t, s, specOf("10.0.0.0/30")), open(t, s.Open())
		block := allocate(t, p, claim("block", "10.0.0.0/30"))
		var waits []*queued
		for i := range 50 {
			waits = append(waits, queueAll(t.Context(), p, pool.Claim{Owner: fmt.Sprint(i)})...)
		}
		require.EqualValues(t, 1, s.mostWatching.Load())
		require.LessOrEqual(t, s.watches.Load(), int64(2), "it is not started again for each that comes")
		s.commits.Store(0)
		s.watches.Store(0)
		s.gets.Store(0)
		// Changes from elsewhere that free nothing.
		for i := range 20 {
			require.NoError(t, other.Update(t.Context(), specOf("10.0.0.0/30", fmt.Sprintf("2001:db8::%d/128", i%2))))
			synctest.Wait()
		}
		require.Zero(t, s.commits.Load())
		require.Zero(t, s.gets.Load())
		require.LessOrEqual(t, s.watches.Load(), int64(20))
		time.Sleep(time.Minute)
		require.LessOrEqual(t, s.gets.Load(), int64(50), "owners are looked up once after changes")
		s.gets.Store(0)
		time.Sleep(time.Hour)
		require.Zero(t, s.gets.Load())

		release(t, other, block.Owner)
		require.Equal(t, []string{"0", "1", "2", "3"}, served(waits))
		require.EqualValues(t, 1, s.commits.Load(), "one for all that can be granted")
		require.EqualValues(t, 1, s.mostWatching.Load())
		for _, q := range waits {
			q.cancel()
		}
	})
}

// What frees something through the same handle wakes those who wait without a word from the store.
func TestReleaseThroughTheSameHandleWakesAtOnce(t *testing.T) {
	for name, free := range map[string]func(t *testing.T, p *pool.Pool) error{
		"release": func(t *testing.T, p *pool.Pool) error {
			_, err := p.Release(t.Context(), pool.Held{Owner: "a"})
			return err
		},
		"generation": func(t *testing.T, p *pool.Pool) error {
			a, err := p.Get(t.Context(), pool.Held{Owner: "a"})
			if err == nil {
				_, err = p.Release(t.Context(), pool.Held{Owner: "a", Generation: a.Generation})
			}
			return err
		},
		"many": func(t *testing.T, p *pool.Pool) error {
			_, err := releaseMany(t.Context(), p, []string{"a"})
			return err
		},
		"all": func(t *testing.T, p *pool.Pool) error {
			_, err := releaseAll(t.Context(), p, []string{"a"})
			return err
		},
		"together": func(t *testing.T, p *pool.Pool) error {
			_, err := releaseTogether(t.Context(), "a", p)
			return err
		},
		"update": func(t *testing.T, p *pool.Pool) error { return p.Update(t.Context(), specOf("10.0.0.0/31")) },
		"reconcile": func(t *testing.T, p *pool.Pool) error {
			_, err := p.Reconcile(t.Context(), markOf(t, p), live(), nil)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := create(t, &gauge{Memory: store.NewMemory(), deaf: true}, specOf("10.0.0.0/32"))
				allocate(t, p, pool.Claim{Owner: "a"})
				waits := queueAll(t.Context(), p, anyOf("b", "c")...)
				require.NoError(t, free(t, p))
				require.Equal(t, []string{"b"}, served(waits))
				waits[1].cancel()
			})
		})
	}
}

// crowd lets callers on some handles claim, hold and release, in a bubble, and returns how long each claim waited, and
// how long all of it took.
func crowd(t *testing.T, pools []*pool.Pool, callers, each int, hold time.Duration) ([]time.Duration, time.Duration) {
	var mu sync.Mutex
	var waits []time.Duration
	var all sync.WaitGroup
	begin := time.Now()
	for i := range callers {
		p, owner := pools[i%len(pools)], fmt.Sprint(i)
		all.Go(func() {
			for range each {
				asked := time.Now()
				if _, err := p.AllocateWait(t.Context(), pool.Claim{Owner: owner}); err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				waits = append(waits, time.Since(asked))
				mu.Unlock()
				time.Sleep(hold)
				if _, err := p.Release(t.Context(), pool.Held{Owner: owner}); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	slices.Sort(waits)
	return waits, time.Since(begin)
}

// Those who wait get nearly all that can be had, none of them waits much longer than most, and what is done for it is
// in proportion to what they get.
func TestWaitingIsQuickFairAndCheap(t *testing.T) {
	for _, test := range []struct {
		handles, callers int
		commit           time.Duration // takes so long; a read takes a third
		rate             float64       // of grants, at least
		commits, turns   float64       // for each grant, at most
	}{
		{1, 50, 300 * time.Microsecond, 670, 1.1, 0},
		{2, 30, 300 * time.Microsecond, 650, 1.3, 1},
		{4, 40, 300 * time.Microsecond, 650, 1.4, 1},
		{1, 50, time.Millisecond, 650, 1.1, 0},
		{4, 40, time.Millisecond, 600, 1.1, 1.3},
		{1, 50, 2 * time.Millisecond, 610, 1.1, 0},
		{4, 40, 2 * time.Millisecond, 500, 0.8, 1},
	} {
		t.Run(fmt.Sprintf("handles=%d,callers=%d,commit=%v", test.handles, test.callers, test.commit), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const each = 100
				memory := store.NewMemory()
				create(t, memory, specOf("10.0.0.0-10.0.0.13"))
				pools, gauges := make([]*pool.Pool, test.handles), make([]*gauge, test.handles)
				for i := range pools {
					gauges[i] = &gauge{Memory: memory.Open(), commit: test.commit, read: test.commit / 3}
					pools[i] = open(t, gauges[i])
				}
				waits, took := crowd(t, pools, test.callers, each, 20*time.Millisecond)
				grants := float64(test.callers * each)
				rate := grants / took.Seconds()
				unlucky := func() bool { return waits[len(waits)-1] >= 10*waits[len(waits)/2] }
				if unlucky() { // which handle is first is chance: in one of some hundred crowds somebody has none often
					waits, _ = crowd(t, pools, test.callers, each, 20*time.Millisecond)
					grants *= 2
					require.False(t, unlucky(), "%v, twice", waits[len(waits)-1])
				}
				var commits, turns, reads, watches float64
				for _, s := range gauges {
					commits += float64(s.commits.Load()) / grants
					turns += float64(s.turns.Load()+s.joins.Load()) / grants
					reads += float64(s.gets.Load()) / grants
					watches += float64(s.watches.Load()) / grants
				}
				t.Logf("%.0f grants a second, median %v, longest %v", rate, waits[len(waits)/2], waits[len(waits)-1])
				t.Logf("for each: %.2f commits, %.2f turns, %.2f reads, %.2f watches", commits, turns, reads, watches)
				require.GreaterOrEqual(t, rate, test.rate)
				require.LessOrEqual(t, commits, test.commits)
				require.LessOrEqual(t, turns, test.turns)
			})
		})
	}
}

// The lines of handles whose turn it is together are one: what all of them release goes to those who wait longest.
func TestLinesInOneTurnAreOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory := store.NewMemory()
		create(t, memory, specOf("10.0.0.0/30"))
		var handles [3]*pool.Pool
		for i := range handles {
			handles[i] = open(t, &gauge{Memory: memory.Open(), commit: 20 * time.Millisecond})
		}
		for i, owner := range []string{"x", "y", "z"} {
			allocate(t, handles[i], pool.Claim{Owner: owner})
		}
		allocate(t, handles[2], lease("renews", time.Hour))
		for _, p := range handles {
			p.Contend()
		}
		waits := queueAll(t.Context(), handles[0], anyOf("a", "b", "leaves", "stays")...)
		time.Sleep(time.Second)
		waits = append(waits, queueAll(t.Context(), handles[1], anyOf("c", "d")...)...)
		time.Sleep(time.Second)
		while(t, handles[2], "renews", func() {
			go func() { _, _ = handles[1].Release(t.Context(), pool.Held{Owner: "y"}) }()
			synctest.Wait()
			go func() { _, _ = handles[0].Release(t.Context(), pool.Held{Owner: "x"}) }()
		})
		require.Equal(t, []string{"a", "b"}, served(waits))
		require.Equal(t, waits[0].got.Generation, waits[1].got.Generation, "in one commit")
		for _, i := range []int{2, 4, 5} {
			waits[i].cancel()
		}
		require.Equal(t, []string{"a", "b"}, served(waits))
		require.ErrorIs(t, waits[2].err, pool.ErrExhausted)
		require.ErrorContains(t, waits[2].err, "free addresses: 0 of 4", "as its own handle had found")
		time.Sleep(24 * time.Hour) // in which nothing changes but that the lease ends
		require.Equal(t, []string{"a", "b", "stays"}, served(waits))
	})
}

// A handle whose own callers always wait gives those of another handle their share, whenever they come.
func TestHandleThatAlwaysHasWaitersSharesWithOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &gauge{Memory: store.NewMemory(), commit: 300 * time.Microsecond, read: 100 * time.Microsecond}
		p, other := create(t, s, specOf("10.0.0.0/30")), open(t, s)
		var all sync.WaitGroup
		all.Go(func() { crowd(t, []*pool.Pool{p}, 12, 60, 20*time.Millisecond) })
		for range 10 {
			time.Sleep(100 * time.Millisecond)
			asked := time.Now()
			_, err := other.AllocateWait(t.Context(), pool.Claim{Owner: "rare"})
			require.NoError(t, err)
			require.Less(t, time.Since(asked), 400*time.Millisecond, "the others wait for 40 ms")
			release(t, other, "rare")
		}
		all.Wait()
	})
}

// A panic of the store reaches who made the call in which it happens. The others are told, or wait on.
func TestPanicWhileOthersWait(t *testing.T) {
	for _, method := range []string{"commit", "watch"} {
		t.Run(method, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &gauge{Memory: store.NewMemory()}
				p, other := create(t, s, specOf("10.0.0.0/32")), open(t, s.Open())
				allocate(t, p, pool.Claim{Owner: "holder"})
				waits := queueAll(t.Context(), p, anyOf("a", "b", "c", "d")...)
				var armed atomic.Bool
				boom := func() error {
					if armed.CompareAndSwap(true, false) {
						panic("on purpose")
					}
					return nil
				}
				armed.Store(true)
				if method == "watch" {
					s.onWatch = boom
					require.NoError(t, other.Update(t.Context(), specOf("10.0.0.0/32", "2001:db8::/128")))
				} else {
					s.onCommit = boom
				}
				release(t, other, "holder")
				served(waits)
				require.False(t, armed.Load())
				panicked, unknown, granted := 0, 0, 0
				for _, q := range waits {
					switch {
					case !q.done.Load():
					case q.err == nil:
						granted++
					case errors.Is(q.err, store.ErrUnknown):
						unknown++
					default:
						require.ErrorContains(t, q.err, "panic: on purpose")
						panicked++
					}
				}
				require.Equal(t, 1, panicked)
				require.LessOrEqual(t, unknown, 1, "that which was to be granted")
				require.LessOrEqual(t, granted, 1)
				if granted == 0 {
					p.AllocateWait(t.Context(), pool.Claim{Owner: "e"})
				}
				for _, q := range waits {
					q.cancel()
				}
				synctest.Wait()
				requireOK(t, p)
			})
		})
	}
}

// An error of the watch reaches all that wait; one of a commit those that were to be granted something.
func TestErrorsReachThoseTheyConcern(t *testing.T) {
	errBroken := errors.New("broken")
	synctest.Test(t, func(t *testing.T) {
		s := &gauge{Memory: store.NewMemory()}
		p, other := create(t, s, specOf("10.0.0.0/32")), open(t, s.Open())
		allocate(t, p, pool.Claim{Owner: "holder"})
		waits := queueAll(t.Context(), p, anyOf("a", "b", "c")...)
		s.onCommit = func() error { s.onCommit = nil; return errBroken }
		release(t, other, "holder")
		require.Equal(t, []string{"b"}, served(waits))
		require.ErrorIs(t, waits[0].err, errBroken)
		require.False(t, waits[2].done.Load())

		waits = append(waits, queueAll(t.Context(), p, pool.Claim{Owner: "d"})...)
		s.onWatch = func() error { return errBroken }
		require.NoError(t, other.Update(t.Context(), specOf("10.0.0.0/32", "2001:db8::/128")))
		require.Equal(t, []string{"b"}, served(waits))
		for _, q := range waits[2:] {
			require.ErrorIs(t, q.err, errBroken)
			require.NotErrorIs(t, q.err, pool.ErrExhausted, "which comes only with the end of the context")
			require.ErrorAs(t, q.err, new(*pool.Error))
		}
	})
}

// An owner that is granted what it waits for through another handle is told so, although nothing becomes free.
func TestOwnerThatWaitsIsGrantedElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &gauge{Memory: store.NewMemory()}
		p, other := create(t, s, specOf("10.0.0.0/31")), open(t, s.Open())
		allocate(t, other, pool.Claim{Owner: "a"})
		allocate(t, other, pool.Claim{Owner: "b"})
		waits := queueAll(t.Context(), p, pool.Claim{Owner: "first"}, pool.Claim{Owner: "c"}, pool.Claim{Owner: "d"})
		elsewhere := queueAll(t.Context(), other, anyOf("c", "d")...)
		release(t, other, "a") // in the commits in which c and d are granted
		release(t, other, "b")
		require.Equal(t, []string{"c", "d"}, served(elsewhere))
		time.Sleep(2 * time.Second)
		require.Equal(t, []string{"c", "d"}, served(waits))
		waits[0].cancel()
	})
}

// A claim and a release of one owner that come at once are not committed together.
func TestClaimAndReleaseOfOneOwnerAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := create(t, &gauge{Memory: store.NewMemory(), commit: time.Second}, specOf("10.0.0.0/31"))
		allocate(t, p, lease("renews", time.Hour))
		allocate(t, p, lease("holder", time.Hour))
		waits := queueAll(t.Context(), p, pool.Claim{Owner: "a"})
		released := make(chan error, 1)
		while(t, p, "renews", func() {
			waits = append(waits, queueAll(t.Context(), p, claim("b", "10.0.0.0"), pool.Claim{Owner: "holder"})...)
			go func() { _, err := p.Release(t.Context(), pool.Held{Owner: "holder"}); released <- err }()
		})
		require.NoError(t, <-released)
		require.Equal(t, []string{"a"}, served(waits))
		release(t, p, "a")
		require.Equal(t, []string{"a", "holder"}, served(waits), "after what it held was released")
		waits[1].cancel()
	})
}

// Two calls of one owner get the same.
func TestOneOwnerWaitsTwice(t *testing.T) {
	watched(t, specOf("10.0.0.0/31"), func(t *testing.T, p, other *pool.Pool) {
		allocate(t, p, pool.Claim{Owner: "holder"})
		allocate(t, p, pool.Claim{Owner: "holds on"})
		waits := queueAll(t.Context(), p, anyOf("a", "a", "b")...)
		waits = append(waits, queueAll(t.Context(), p, pool.Claim{Owner: "a", Requests: []pool.Request{{Bits: 31}}})...)
		release(t, other, "holder")
		require.Equal(t, []string{"a", "a"}, served(waits))
		require.Equal(t, waits[0].got, waits[1].got)
		require.ErrorIs(t, waits[3].err, pool.ErrHeld)
		waits[2].cancel()
	})
}

// The release of an owner that waits for something again, and one of an owner that holds nothing, end as they do when
// nobody waits.
func TestReleasesWhileClaimsWait(t *testing.T) {
	watched(t, specOf("10.0.0.0/32"), func(t *testing.T, p, _ *pool.Pool) {
		allocate(t, p, pool.Claim{Owner: "a"})
		waits := queueAll(t.Context(), p, anyOf("b", "c")...)
		_, err := p.Release(t.Context(), pool.Held{Owner: "nobody"})
		require.ErrorIs(t, err, pool.ErrNotFound)
		_, err = p.Release(t.Context(), pool.Held{Owner: "a", Generation: 99})
		require.ErrorIs(t, err, pool.ErrGeneration)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err = p.Release(ctx, pool.Held{Owner: "a"})
		require.ErrorIs(t, err, context.Canceled)
		require.Empty(t, served(waits))
		require.Equal(t, "10.0.0.0", texts(release(t, p, "a")))
		waits = append(waits, queueAll(t.Context(), p, pool.Claim{Owner: "a"})...)
		require.Equal(t, []string{"b"}, served(waits))
		release(t, p, "b")
		require.Equal(t, []string{"b", "c"}, served(waits))
		release(t, p, "c")
		require.Equal(t, []string{"b", "c", "a"}, served(waits))
	})
}

// Where calls of a handle come one after the other, the store is hardly ever asked to watch: each of them would cut
// that short.
func TestBusyLineHardlyWatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &gauge{Memory: store.NewMemory(), commit: 2 * time.Millisecond}
		p := create(t, s, specOf("10.0.0.0-10.0.0.6"))
		var callers sync.WaitGroup
		for i := range 30 {
			owner := fmt.Sprint(i)
			callers.Go(func() {
				for n := range 20 {
					_, err := p.AllocateWait(t.Context(), pool.Claim{Owner: owner})
					require.NoError(t, err)
					time.Sleep(20*time.Millisecond + time.Duration(i*n%7)*time.Millisecond)
					release(t, p, owner)
				}
			})
		}
		callers.Wait()
		require.Less(t, 2*s.watches.Load(), s.commits.Load(), "%d watches", s.watches.Load())
	})
}
