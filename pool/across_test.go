package pool_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/internal/world"
	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/storetest/faults"
)

// What once broke across pools, case by case.

// requireSound checks the invariants over all that a store has.
func requireSound(t testing.TB, s store.Store) {
	t.Helper()
	require.NoError(t, world.Audit(t.Context(), s))
}

// A network guards what a pool of it holds out of range, for as long as it is held.
func TestInvariant1NetworkGuardsWhatIsHeldOutOfRange(t *testing.T) {
	s := store.NewMemory()
	p1 := createNamed(t, s, "p1", inNetwork("net", "10.0.0.0/24", "10.0.9.0/24"))
	allocate(t, p1, claim("X", "10.0.0.1"))
	require.NoError(t, p1.Drain(t.Context(), inNetwork("net", "10.0.9.0/24")))
	require.Equal(t, ranges("10.0.0.1"), network(t, s, "net").Held["p1"])

	_, err := pool.Create(t.Context(), s, "p2", inNetwork("net", "10.0.0.0/24"), nil)
	require.ErrorIs(t, err, pool.ErrOverlap)
	require.ErrorContains(t, err, "10.0.0.1")
	p3 := createNamed(t, s, "p3", inNetwork("net", "10.0.3.0/24"))
	require.ErrorIs(t, p3.Update(t.Context(), inNetwork("net", "10.0.0.0/30", "10.0.3.0/24")), pool.ErrOverlap)
	createNamed(t, s, "beside", inNetwork("net", "10.0.0.2-10.0.0.255"))
	createNamed(t, s, "elsewhere", inNetwork("other", "10.0.0.0/24"))
	requireSound(t, s)

	release(t, p1, "X")
	p2 := createNamed(t, s, "p2", inNetwork("net", "10.0.0.0-10.0.0.1"))
	require.Equal(t, "10.0.0.0", texts(allocate(t, p2, pool.Claim{Owner: "Y"})))
	require.Empty(t, network(t, s, "net").Held, "what is released is no hindrance, and goes when it is met")
	requireSound(t, s)
}

// The same with a delegated block, which is held as anything else is, and what was granted in the block.
func TestInvariant1NetworkGuardsDelegatedBlocks(t *testing.T) {
	s := store.NewMemory()
	p1 := createNamed(t, s, "p1", inNetwork("net", "10.0.0.0/24", "10.0.9.0/24"))
	block := pool.Claim{Owner: "node", Requests: []pool.Request{{Exact: prefix("10.0.0.32/28")}}}
	child, _, err := pool.Delegate(t.Context(), p1, block, "child", everyAddress(), nil)
	require.NoError(t, err)
	allocate(t, child, claim("W", "10.0.0.33"))
	require.NoError(t, p1.Drain(t.Context(), inNetwork("net", "10.0.9.0/24")))

	_, err = pool.Create(t.Context(), s, "p2", inNetwork("net", "10.0.0.0/24"), nil)
	require.ErrorIs(t, err, pool.ErrOverlap)
	_, err = child.Allocate(t.Context(), pool.Claim{Owner: "Z"})
	require.ErrorIs(t, err, pool.ErrExhausted, "a child hands out nothing that its parent no longer may")
	info, err := child.Info(t.Context())
	require.NoError(t, err)
	require.Equal(t, ranges("10.0.0.32-10.0.0.47"), info.Withheld)
	require.Equal(t, uint64(1), info.StatsOf(pool.IPv4).OutOfRange.Uint64(), "what it holds stays held")
	requireOK(t, child)
	requireSound(t, s)

	require.NoError(t, p1.Update(t.Context(), inNetwork("net", "10.0.0.0/24", "10.0.9.0/24")))
	require.Equal(t, "10.0.0.32", texts(allocate(t, child, pool.Claim{Owner: "Z"})),
		"taken back in, it is handed out again")
	info, err = child.Info(t.Context())
	require.NoError(t, err)
	stats := info.Stats
	require.True(t, countsOf(stats, pool.IPv4).OutOfRange.IsZero())
	requireSound(t, s)
}

func TestInvariant1PoolIsNotDrainedIntoANetworkThatHasWhatItHolds(t *testing.T) {
	s := store.NewMemory()
	p1 := createNamed(t, s, "p1", inNetwork("", "10.0.0.0/24", "10.0.9.0/24"))
	allocate(t, p1, claim("X", "10.0.0.1"))
	p2 := createNamed(t, s, "p2", inNetwork("net", "10.0.0.0/24"))
	require.ErrorIs(t, p1.Drain(t.Context(), inNetwork("net", "10.0.9.0/24")), pool.ErrOverlap)
	info, err := p1.Info(t.Context())
	require.NoError(t, err)
	require.Empty(t, info.Spec.Network, "nothing has changed")

	// And by Import.
	require.NoError(t, p1.Drain(t.Context(), inNetwork("", "10.0.9.0/24")))
	snapshot, err := p1.Snapshot(t.Context())
	require.NoError(t, err)
	snapshot.Spec.Network = "net"
	_, err = pool.Import(t.Context(), s, "copy", snapshot, nil)
	require.ErrorIs(t, err, pool.ErrOverlap)
	allocate(t, p2, claim("Y", "10.0.0.1"))
	requireSound(t, s)
}

// A parent that is drained to a spec whose gateway lies in a child's block: nobody is given the gateway.
func TestInvariant5ChildDoesNotHandOutTheGatewayOfItsParent(t *testing.T) {
	s := store.NewMemory()
	parent := createNamed(t, s, "parent", specOf("10.0.0.0/24"))
	child, _, err := pool.Delegate(t.Context(), parent, ofBits("node", 30), "child", everyAddress(), nil)
	require.NoError(t, err)
	grandchild, _, err := pool.Delegate(t.Context(), child, ofBits("rack", 31), "grandchild",
		everyAddress(), nil)
	require.NoError(t, err)
	spec := specOf("10.0.0.0/24")
	spec.Subnets = []pool.Subnet{{Prefix: prefix("10.0.0.0/24"), Gateway: addr("10.0.0.0")}}
	require.ErrorIs(t, parent.Update(t.Context(), spec), pool.ErrOutOfRange)
	require.NoError(t, parent.Drain(t.Context(), spec))
	require.Equal(t, "10.0.0.1", texts(allocate(t, grandchild, pool.Claim{Owner: "a"})), "not the gateway")
	_, err = grandchild.Allocate(t.Context(), claim("b", "10.0.0.0"))
	require.ErrorIs(t, err, pool.ErrNotInPool)
	require.Equal(t, "10.0.0.2", texts(allocate(t, child, pool.Claim{Owner: "a"})))
	requireSound(t, s)
}

// acrossCall is a call that needs more than one head, and what shows that it has taken effect.
type acrossCall struct {
	name string
	call func(ctx context.Context, w *acrossWorld) error
	done func(t *testing.T, w *acrossWorld) bool
}

// acrossWorld is what such calls are made on.
type acrossWorld struct {
	store       store.Store
	options     *pool.Options
	a, b, child *pool.Pool
}

func newAcrossWorld(t *testing.T, memory *store.Memory, s store.Store, options *pool.Options) *acrossWorld {
	t.Helper()
	createNamed(t, memory, "a", inNetwork("net", "10.0.0.0/24"))
	createNamed(t, memory, "b", inNetwork("net", "10.0.1.0/24"))
	w := &acrossWorld{store: s, options: options}
	for name, p := range map[string]**pool.Pool{"a": &w.a, "b": &w.b} {
		var err error
		*p, err = pool.Open(t.Context(), s, name, options)
		require.NoError(t, err)
		allocate(t, *p, pool.Claim{Owner: "both"})
	}
	var err error
	w.child, _, err = pool.Delegate(t.Context(), w.a, ofBits("node", 30), "child", everyAddress(), options)
	require.NoError(t, err)
	_, err = w.child.Extend(t.Context(), ofBits("node/1", 30))
	require.NoError(t, err)
	return w
}

func (w *acrossWorld) holds(t *testing.T, p *pool.Pool, owner string) bool {
	t.Helper()
	_, err := p.Get(context.Background(), pool.Held{Owner: owner})
	if !errors.Is(err, pool.ErrNotFound) {
		require.NoError(t, err)
	}
	return err == nil
}

func (w *acrossWorld) has(t *testing.T, name string) bool {
	t.Helper()
	for info, err := range pool.List(context.Background(), w.store) {
		require.NoError(t, err)
		if info.Name == name {
			return true
		}
	}
	return false
}

// acrossCalls are all that commit several heads.
func acrossCalls() []acrossCall {
	return []acrossCall{
		{"allocate together", func(ctx context.Context, w *acrossWorld) error {
			_, err := together(ctx, "new", []*pool.Pool{w.a}, []*pool.Pool{w.b})
			return err
		}, func(t *testing.T, w *acrossWorld) bool {
			require.Equal(t, w.holds(t, w.a, "new"), w.holds(t, w.b, "new"), "all or nothing")
			return w.holds(t, w.a, "new")
		}},
		{"release together", func(ctx context.Context, w *acrossWorld) error {
			_, err := releaseTogether(ctx, "both", w.a, w.b)
			return err
		}, func(t *testing.T, w *acrossWorld) bool {
			require.Equal(t, w.holds(t, w.a, "both"), w.holds(t, w.b, "both"), "all or nothing")
			return !w.holds(t, w.a, "both")
		}},
		{"delegate", func(ctx context.Context, w *acrossWorld) error {
			_, _, err := pool.Delegate(ctx, w.a, ofBits("rack", 29), "rack", pool.Spec{}, w.options)
			return err
		}, func(t *testing.T, w *acrossWorld) bool {
			require.Equal(t, w.holds(t, w.a, "rack"), w.has(t, "rack"), "all or nothing")
			return w.has(t, "rack")
		}},
		{"extend", func(ctx context.Context, w *acrossWorld) error {
			_, err := w.child.Extend(ctx, ofBits("node/2", 30))
			return err
		}, func(t *testing.T, w *acrossWorld) bool { return w.holds(t, w.a, "node/2") }},
		{"retract", func(ctx context.Context, w *acrossWorld) error {
			_, err := w.child.Retract(ctx, "node/1")
			return err
		}, func(t *testing.T, w *acrossWorld) bool { return !w.holds(t, w.a, "node/1") }},
		{"release of a grant", func(ctx context.Context, w *acrossWorld) error {
			_, err := w.a.Release(ctx, pool.Held{Owner: "node/1"})
			return err
		}, func(t *testing.T, w *acrossWorld) bool { return !w.holds(t, w.a, "node/1") }},
		{"drain", func(ctx context.Context, w *acrossWorld) error {
			return w.a.Drain(ctx, inNetwork("net", "10.0.0.2-10.0.0.255"))
		}, func(t *testing.T, w *acrossWorld) bool {
			info, err := w.a.Info(context.Background())
			require.NoError(t, err)
			return len(info.Spec.Ranges) == 1 && info.Spec.Ranges[0].From() == addr("10.0.0.2")
		}},
		{"create", func(ctx context.Context, w *acrossWorld) error {
			_, err := pool.Create(ctx, w.store, "c", inNetwork("net", "10.0.2.0/24"), w.options)
			return err
		}, func(t *testing.T, w *acrossWorld) bool { return w.has(t, "c") }},
		{"delete", func(ctx context.Context, w *acrossWorld) error {
			return pool.Delete(ctx, w.store, "child", w.options)
		}, func(t *testing.T, w *acrossWorld) bool {
			require.Equal(t, w.has(t, "child"), w.holds(t, w.a, "node"), "all or nothing")
			return !w.has(t, "child")
		}},
		{"external", func(ctx context.Context, w *acrossWorld) error {
			return pool.SetExternal(ctx, w.store, "net", ranges("10.0.1.128/25"), false, w.options)
		}, func(t *testing.T, w *acrossWorld) bool {
			info, err := w.b.Info(context.Background())
			require.NoError(t, err)
			return len(info.Withheld) > 0
		}},
	}
}

// An error other than ErrUnknown means that nothing took effect. It holds when the context of the call ends during the
// commit, when the answer is lost and the store cannot be reached afterwards, and with one attempt.
func TestInvariant2CallsOverSeveralPoolsKeepTheirUncertainty(t *testing.T) {
	for _, c := range acrossCalls() {
		for _, effect := range []faults.Effect{faults.LoseRequest, faults.LoseReply, faults.LandLate} {
			for _, trouble := range []string{"context ends", "unreachable then", "one attempt"} {
				t.Run(fmt.Sprintf("%s/%v/%s", c.name, effect, trouble), func(t *testing.T) {
					memory, injector := store.NewMemory(), &faults.Injector{}
					options := &pool.Options{CommitTimeout: 50 * time.Millisecond}
					if trouble == "one attempt" {
						options.Attempts = 1
					}
					w := newAcrossWorld(t, memory, injector.Wrap(memory), options)
					ctx, cancel := context.WithCancel(t.Context())
					defer cancel()
					down, hit := false, false
					injector.Choose = func(call faults.Call) faults.Fault {
						switch {
						case call.Method == faults.Commit && !hit:
							hit, down = true, trouble == "unreachable then"
							if trouble == "context ends" {
								cancel()
							}
							return faults.Fault{Effect: effect, Late: 3}
						case down:
							return faults.Fault{Effect: faults.Refuse}
						}
						return faults.Fault{}
					}
					err := c.call(ctx, w)
					injector.Choose = nil
					for range 4 { // what is late lands
						_, _ = w.store.Get(t.Context(), store.Key{Kind: store.KindPool, Pool: "nobody's"})
					}
					done := c.done(t, w)
					switch {
					case err == nil:
						require.True(t, done)
					case !errors.Is(err, store.ErrUnknown):
						require.False(t, done, "%v, but it took effect", err)
					}
					if trouble == "unreachable then" {
						require.ErrorIs(t, err, store.ErrUnknown)
					}
					requireSound(t, memory)
				})
			}
		}
	}
}

// A commit that hangs is bounded by CommitTimeout, whatever the call. So is the time for which it holds up other
// calls on the handles that take part.
func TestCommitTimeoutBoundsCallsOverSeveralPools(t *testing.T) {
	for _, c := range acrossCalls() {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				memory := store.NewMemory()
				hung := &hangs{Store: memory}
				const timeout = 2 * time.Second
				w := newAcrossWorld(t, memory, hung, &pool.Options{CommitTimeout: timeout})
				hung.commits.Store(1000)
				begin, ended, waited := time.Now(), make(chan error), make(chan error)
				go func() { ended <- c.call(t.Context(), w) }()
				synctest.Wait()
				go func() {
					ctx, cancel := context.WithTimeout(t.Context(), timeout/2)
					defer cancel()
					_, err := w.b.Allocate(ctx, pool.Claim{Owner: "waits"})
					waited <- err
				}()
				require.ErrorIs(t, <-waited, context.DeadlineExceeded, "it waits no longer than it wants to")
				require.ErrorIs(t, <-ended, store.ErrUnknown)
				require.LessOrEqual(t, time.Since(begin), 3*timeout)
				hung.commits.Store(0)
				allocate(t, w.b, pool.Claim{Owner: "through the same handle"})
			})
		})
	}
}

// One owner has one allocation in a writer's blocks, through whichever of the writer's live handles.
func TestInvariant3OneOwnerInBlocksWithTwoHandles(t *testing.T) {
	s := store.NewMemory()
	parent := create(t, s, specOf("10.0.0.0/26"))
	old, fresh := openBlocks(t, parent, "node", 31), openBlocks(t, open(t, s.Open()), "node", 31)
	allocateIn(t, old, "a")
	allocateIn(t, old, "b")
	got := allocateIn(t, fresh, "c") // a second block, which the old handle does not know
	_, err := fresh.Release(t.Context(), pool.Held{Owner: "a"})
	require.NoError(t, err)
	require.Equal(t, got, allocateIn(t, old, "c"), "although there is room in the block that the old handle knows")
	requireSound(t, s)
}

// No two pairs of a parent and a writer share the names of their blocks.
func TestNamesOfBlocksDoNotCollide(t *testing.T) {
	s := store.NewMemory()
	a := createNamed(t, s, "a", specOf("10.0.0.0/26"))
	ab := createNamed(t, s, "a/b", specOf("10.0.1.0/26"))
	escaped := createNamed(t, s, "a%2Fb", specOf("10.0.2.0/26"))
	require.Equal(t, "10.0.0.0", texts(allocateIn(t, openBlocks(t, a, "b/c", 30), "x")))
	require.Equal(t, "10.0.1.0", texts(allocateIn(t, openBlocks(t, ab, "c", 30), "x")))
	require.Equal(t, "10.0.2.0", texts(allocateIn(t, openBlocks(t, escaped, "c", 30), "x")))
	requireSound(t, s)
}

// What a process sent before it died cannot undo the answer to a fenced claim.
func TestFencedAnswer(t *testing.T) {
	for _, fenced := range []bool{false, true} {
		t.Run(fmt.Sprint(fenced), func(t *testing.T) {
			memory := store.NewMemory()
			got := allocate(t, create(t, memory, specOf("10.0.0.0/24")), pool.Claim{Owner: "a"})
			// A process has sent a release, and dies. It is on its way.
			head, err := memory.Get(t.Context(), store.Key{Kind: store.KindPool, Pool: "blue"})
			require.NoError(t, err)
			late := store.Change{Head: head, Writes: []store.Write{
				{Op: store.Delete, Record: store.Record{Key: store.Key{Kind: store.KindAllocation, Pool: "blue", Name: "a"}}},
			}}

			p := open(t, memory.Open())
			again := allocate(t, p, pool.Claim{Owner: "a", Fenced: fenced})
			require.Equal(t, got, again)
			_, err = memory.Commit(t.Context(), late) // it arrives
			if !fenced {
				require.NoError(t, err)
				return
			}
			require.ErrorIs(t, err, store.ErrConflict)
			require.Equal(t, got, allocate(t, p, pool.Claim{Owner: "a"}))
			requireOK(t, p)
		})
	}
}

// It costs one commit where there would be none, and nothing where something is granted.
func TestCostOfAFencedAnswer(t *testing.T) {
	b := stored(t, specOf("10.0.0.0/24"))
	c := pool.Claim{Owner: "a", Fenced: true}
	for _, each := range []struct {
		what   string
		fenced bool
		want   int
	}{{"granted", true, 1}, {"held already", true, 1}, {"held already", false, 0}} {
		b.faults.ResetCounts()
		c.Fenced = each.fenced
		allocate(t, b.Pool, c)
		require.Equal(t, each.want, b.faults.Counts().Committed, each.what)
	}
}

// A step that may be done in several pools is done in the first one with room, whatever refuses a later step: the error
// is that step's, also if all is planned again because another process has changed a pool.
func TestAlternativesAndALaterRefusal(t *testing.T) {
	s := store.NewMemory()
	room, err := pool.Create(t.Context(), s, "room", specOf("10.0.0.0-10.0.0.7"), nil)
	require.NoError(t, err)
	full, err := pool.Create(t.Context(), s, "full", specOf("10.0.1.0/32"), nil)
	require.NoError(t, err)
	allocate(t, full, pool.Claim{Owner: "all"})
	allocate(t, room, claim("holder", "10.0.0.5"))
	other, err := pool.Open(t.Context(), s.Open(), "room", nil)
	require.NoError(t, err)
	allocate(t, other, pool.Claim{Owner: "somebody else"})
	_, err = room.All(t.Context(), pool.Allocate(pool.Claim{Owner: "x"}).In(room, full),
		pool.Allocate(claim("y", "10.0.0.5")))
	require.ErrorIs(t, err, pool.ErrTaken)
	var failed *pool.Error
	require.ErrorAs(t, err, &failed)
	require.Equal(t, "y", failed.Owner)
}
