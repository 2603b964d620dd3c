package pool_test

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/storetest/faults"
)

func openBlocks(t testing.TB, parent *pool.Pool, writer string, bits int) *pool.Blocks {
	t.Helper()
	c := pool.Claim{Requests: []pool.Request{{Bits: bits}}}
	b, err := pool.OpenBlocks(t.Context(), parent, writer, c, everyAddress(), nil)
	require.NoError(t, err)
	return b
}

func allocateIn(t testing.TB, b *pool.Blocks, owner string) pool.Allocation {
	t.Helper()
	a, err := b.Allocate(t.Context(), pool.Claim{Owner: owner})
	require.NoError(t, err)
	return a
}

// blocksOf is how many blocks a writer has.
func blocksOf(t testing.TB, b *pool.Blocks) int {
	t.Helper()
	p := b.Pool()
	if p == nil {
		return 0
	}
	grants, err := p.Grants(t.Context())
	require.NoError(t, err)
	return len(grants)
}

func TestWriterTakesAnotherBlockWhenFullAndGivesEmptyOnesBack(t *testing.T) {
	memory := store.NewMemory()
	parent := create(t, memory, specOf("10.0.0.0/28"))
	b := openBlocks(t, parent, "node", 30)
	require.Zero(t, blocksOf(t, b), "none, until it is needed")
	require.Zero(t, used(t, parent))
	for i := range 12 {
		require.Equal(t, fmt.Sprintf("10.0.0.%d", i), texts(allocateIn(t, b, fmt.Sprint(i))))
		require.Equal(t, i/4+1, blocksOf(t, b))
	}
	again := allocateIn(t, b, "5")
	require.Equal(t, "10.0.0.5", texts(again), "idempotent")
	found, err := b.Get(t.Context(), pool.Held{Addr: addr("10.0.0.5")})
	require.NoError(t, err)
	require.Equal(t, again, found)
	_, err = b.Get(t.Context(), pool.Held{Addr: addr("10.0.0.15")})
	require.ErrorIs(t, err, pool.ErrNotFound)

	releaseIn := func(owner string, want int) {
		_, err := b.Release(t.Context(), pool.Held{Owner: owner})
		require.NoError(t, err)
		require.Equal(t, want, blocksOf(t, b))
	}
	for i := range 4 {
		releaseIn(fmt.Sprint(i), 3) // the last block that has room is kept, though empty: it would be taken again at once
	}
	for i := 4; i < 7; i++ {
		releaseIn(fmt.Sprint(i), 3)
	}
	releaseIn("7", 2) // this one is not needed, since another has room
	require.Equal(t, uint64(8), used(t, parent))
	_, err = b.Release(t.Context(), pool.Held{Owner: "7"})
	require.ErrorIs(t, err, pool.ErrNotFound)
	for i := 8; i < 11; i++ {
		releaseIn(fmt.Sprint(i), 2)
	}
	releaseIn("11", 1)
	given, err := b.GiveBack(t.Context(), 0)
	require.NoError(t, err)
	require.Equal(t, 1, given)
	require.Zero(t, used(t, parent))
	requireOK(t, parent)
	require.Equal(t, "10.0.0.0", texts(allocateIn(t, b, "new")))
}

// A block that was given back does not make two take turns: a single claim that comes and goes next to a full block.
func TestBlockIsKeptWhileNoOtherHasRoom(t *testing.T) {
	injector := &faults.Injector{}
	parent := create(t, injector.Wrap(store.NewMemory()), specOf("10.0.0.0/28"))
	b := openBlocks(t, parent, "node", 31)
	allocateIn(t, b, "a")
	allocateIn(t, b, "b")
	allocateIn(t, b, "c")
	injector.Choose = func(call faults.Call) faults.Fault {
		assert.LessOrEqual(t, call.Heads, 1, "the parent is left alone")
		return faults.Fault{}
	}
	for range 10 {
		_, err := b.Release(t.Context(), pool.Held{Owner: "c"})
		require.NoError(t, err)
		allocateIn(t, b, "c")
	}
}

// A block that has all that an update left of the pool's ranges stays until the others are given back.
func TestBlockWithTheLastRangesStays(t *testing.T) {
	parent := create(t, store.NewMemory(), specOf("10.0.0.0/28"))
	b := openBlocks(t, parent, "node", 30)
	for i := range 8 {
		allocateIn(t, b, fmt.Sprint(i))
	}
	require.NoError(t, b.Pool().Drain(t.Context(), specOf("10.0.0.4/30")))
	for i := range 8 {
		_, err := b.Pool().Release(t.Context(), pool.Held{Owner: fmt.Sprint(i)})
		require.NoError(t, err)
	}
	grants, err := b.Pool().Grants(t.Context())
	require.NoError(t, err)
	_, err = b.Pool().Retract(t.Context(), grants[1].Owner)
	require.ErrorIs(t, err, pool.ErrInvalid)
	require.ErrorContains(t, err, "nothing of what else was granted")
	for left := 1; left >= 0; left-- {
		given, err := b.GiveBack(t.Context(), 0)
		require.NoError(t, err)
		require.Equal(t, 1, given)
		require.Equal(t, left, blocksOf(t, b))
	}
	require.Zero(t, used(t, parent))
}

func TestBlocksAreResumedAfterARestart(t *testing.T) {
	memory := store.NewMemory()
	parent := create(t, memory, specOf("10.0.0.0/24"))
	b := openBlocks(t, parent, "node", 30)
	for i := range 6 {
		allocateIn(t, b, fmt.Sprint(i))
	}
	restarted := openBlocks(t, open(t, memory.Open()), "node", 30)
	require.Equal(t, 2, blocksOf(t, restarted))
	require.Equal(t, "10.0.0.3", texts(allocateIn(t, restarted, "3")), "the same answer")
	require.Equal(t, "10.0.0.6", texts(allocateIn(t, restarted, "new")), "and in the blocks that it has")
	_, err := restarted.Release(t.Context(), pool.Held{Owner: "0"})
	require.NoError(t, err)
	other := openBlocks(t, open(t, memory.Open()), "other node", 30)
	require.Zero(t, blocksOf(t, other))
	require.Equal(t, "10.0.0.8", texts(allocateIn(t, other, "0")), "the same owner's name, of another writer")
}

func TestBlocksThatMakeNoSense(t *testing.T) {
	parent := create(t, store.NewMemory(), specOf("10.0.0.0/29"))
	memory, err := pool.New(specOf("10.0.0.0/24"), nil)
	require.NoError(t, err)
	_, err = pool.OpenBlocks(t.Context(), memory, "node", ofBits("", 30), pool.Spec{}, nil)
	require.ErrorIs(t, err, pool.ErrInvalid)
	_, err = pool.OpenBlocks(t.Context(), parent, "", ofBits("", 30), pool.Spec{}, nil)
	require.ErrorIs(t, err, pool.ErrInvalid)
	b := openBlocks(t, parent, "node", 30)
	_, err = b.Allocate(t.Context(), pool.Claim{})
	require.ErrorIs(t, err, pool.ErrInvalid)
	_, err = b.Allocate(t.Context(), ofBits("large", 29))
	require.ErrorIs(t, err, pool.ErrExhausted)
	require.Zero(t, blocksOf(t, b), "no block is kept for what fits into none")
	for i := range 8 {
		allocateIn(t, b, fmt.Sprint(i))
	}
	_, err = b.Allocate(t.Context(), pool.Claim{Owner: "late"})
	require.ErrorIs(t, err, pool.ErrExhausted)
	require.Equal(t, uint64(8), used(t, parent))
}

// Many writers at once on one pool: each in blocks of its own, no address twice, and the parent is met only for blocks.
func TestWritersInBlocksOfTheirOwnDoNotContend(t *testing.T) {
	const writers, each = 32, 40
	memory, injector := store.NewMemory(), &faults.Injector{}
	create(t, memory, specOf("10.0.0.0/16"))
	var parentCommits, childCommits int
	injector.Choose = func(call faults.Call) faults.Fault {
		switch {
		case call.Heads > 1:
			parentCommits++
		case call.Heads == 1:
			childCommits++
		}
		return faults.Fault{}
	}
	all := make([][]netip.Addr, writers)
	var calls sync.WaitGroup
	for w := range writers {
		parent := open(t, injector.Wrap(memory.Open()))
		calls.Go(func() {
			b, err := pool.OpenBlocks(t.Context(), parent, fmt.Sprint(w), ofBits("", 27), everyAddress(), nil)
			if err != nil {
				t.Error(err)
				return
			}
			for i := range each {
				a, err := b.Allocate(t.Context(), pool.Claim{Owner: fmt.Sprint(i)})
				if err != nil {
					t.Error(err)
					return
				}
				all[w] = append(all[w], a.Addrs()...)
			}
		})
	}
	calls.Wait()
	seen := map[netip.Addr]bool{}
	for _, addrs := range all {
		for _, a := range addrs {
			require.False(t, seen[a], "%v is given twice", a)
			seen[a] = true
		}
	}
	require.Len(t, seen, writers*each)
	require.Equal(t, writers*each, childCommits, "one for each claim, and none in vain: nobody is in the way")
	require.GreaterOrEqual(t, parentCommits, 2*writers)
	require.Equal(t, 2*writers, injector.Counts().Committed-childCommits, "two blocks for each")
	requireNothingLeaked(t, memory)
}

// That is not what it is for, but two handles of one writer keep out of each other's way.
func TestTwoHandlesOfOneWriter(t *testing.T) {
	memory := store.NewMemory()
	parent := create(t, memory, specOf("10.0.0.0/26"))
	a, b := openBlocks(t, parent, "node", 30), openBlocks(t, open(t, memory.Open()), "node", 30)
	seen := map[string]bool{}
	for i := range 32 {
		handle := a
		if i%3 == 0 {
			handle = b
		}
		got := texts(allocateIn(t, handle, fmt.Sprint(i)))
		require.False(t, seen[got], got)
		seen[got] = true
	}
	for i := range 32 { // the other one than before
		handle := b
		if i%3 == 0 {
			handle = a
		}
		_, err := handle.Release(t.Context(), pool.Held{Owner: fmt.Sprint(i)})
		require.NoError(t, err)
	}
	allocateIn(t, a, "new")
	allocateIn(t, b, "newer")
	requireNothingLeaked(t, memory)

	var calls sync.WaitGroup
	for w, handle := range []*pool.Blocks{a, b} {
		calls.Go(func() {
			for i := range 50 {
				owner := fmt.Sprint(w, i)
				_, err := handle.Allocate(t.Context(), pool.Claim{Owner: owner})
				if err == nil && i%5 != 0 {
					_, err = handle.Release(t.Context(), pool.Held{Owner: owner})
				}
				if err != nil && !errors.Is(err, pool.ErrExhausted) {
					t.Error(err)
				}
			}
		})
	}
	calls.Wait()
	requireNothingLeaked(t, memory)
}

// TestClaimTooLargeForAKnownBlock: a handle that does not know yet that the writer has a block leaves that alone when a
// claim turns out to be too large for any block.
func TestClaimTooLargeForAKnownBlock(t *testing.T) {
	memory := store.NewMemory()
	parent := create(t, memory, specOf("10.0.0.0/26"))
	late, b := openBlocks(t, parent, "node", 30), openBlocks(t, parent, "node", 30)
	allocateIn(t, b, "a")
	_, err := b.Release(t.Context(), pool.Held{Owner: "a"})
	require.NoError(t, err)
	require.Equal(t, 1, blocksOf(t, b))
	_, err = late.Allocate(t.Context(), pool.Claim{Owner: "a", Requests: []pool.Request{{Bits: 27}}})
	require.ErrorIs(t, err, pool.ErrExhausted)
	require.Equal(t, 1, blocksOf(t, b))
}

// The process dies at each call to the store while it takes or gives back a block.
func TestCrashesInBlocks(t *testing.T) {
	for _, effect := range []faults.Effect{faults.Refuse, faults.LoseRequest, faults.LoseReply} {
		t.Run(fmt.Sprint(effect), func(t *testing.T) {
			for n := 1; ; n++ {
				memory, injector := store.NewMemory(), &faults.Injector{}
				create(t, memory, specOf("10.0.0.0/28"))
				act := func(s store.Store) error {
					parent, err := pool.Open(t.Context(), s, "blue", nil)
					if err != nil {
						return err
					}
					b, err := pool.OpenBlocks(t.Context(), parent, "node", ofBits("", 31), everyAddress(), nil)
					if err != nil {
						return err
					}
					for i := range 4 {
						if _, err := b.Allocate(t.Context(), pool.Claim{Owner: fmt.Sprint(i)}); err != nil {
							return err
						}
					}
					for _, owner := range []string{"0", "2", "3"} {
						if _, err := b.Release(t.Context(), pool.Held{Owner: owner}); err != nil && !errors.Is(err, pool.ErrNotFound) {
							return err
						}
					}
					return nil
				}
				calls := 0
				injector.Choose = func(faults.Call) faults.Fault {
					switch calls++; {
					case calls == n:
						return faults.Fault{Effect: effect}
					case calls > n:
						return faults.Fault{Effect: faults.Refuse}
					}
					return faults.Fault{}
				}
				err := act(injector.Wrap(memory))
				if calls < n {
					require.NoError(t, err)
					require.Greater(t, n, 10)
					return
				}
				requireNothingLeaked(t, memory)
				require.NoError(t, act(memory), "call %d", n)
				requireNothingLeaked(t, memory)
				b := openBlocks(t, open(t, memory), "node", 31)
				require.Equal(t, 1, blocksOf(t, b))
				require.Equal(t, uint64(2), used(t, open(t, memory)))
			}
		})
	}
}
