package pool_test

import (
	"context"
	"errors"
	"slices"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/ipalloc/ipalloc/internal/world"
	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
)

// Blocks of writers.

// writer is a writer with its handles.
type writer struct {
	world.Blocks
	handles []*pool.Blocks
}

// OpenBlocks opens the blocks of a writer, as another handle if they are open already.
func (s *machine) OpenBlocks(t *rapid.T) {
	m := s.anyPool(t)
	names := []string{"c", "b/c"} // so that a and b/c, and a/b and c, are not to be mixed up
	key := [2]string{m.Name, rapid.SampledFrom(names).Draw(t, "writer")}
	w := s.writers[key]
	if w == nil {
		w = &writer{Blocks: s.anyBlocks(t, m, key[1])}
	}
	b, err := pool.OpenBlocks(context.Background(), s.handle(t, m.Name), key[1], w.Claim, w.Spec, s.options)
	require.NoError(t, err)
	w.handles = append(w.handles, b)
	s.writers[key] = w
}

// anyBlocks draws what the blocks of a writer are.
func (s *machine) anyBlocks(t *rapid.T, m *world.Pool, name string) world.Blocks {
	f := m.Families()[0]
	blocks := world.Blocks{
		Parent: m.Name, Writer: name,
		Claim: pool.Claim{Scope: m.Spec.Scope, Requests: []pool.Request{{
			Family: f, Bits: f.Width() - rapid.IntRange(0, 3).Draw(t, "bits"),
		}}},
		Spec: pool.Spec{Ranges: ranges("10.0.0.1")},
	}
	anyPolicies(t, &blocks.Spec)
	blocks.Spec.Ranges, blocks.Spec.Bands = nil, nil
	blocks.Spec.IPv4.AllocateReserved, blocks.Spec.IPv6.AllocateReserved = true, true
	return blocks
}

// anyWriter draws a writer with blocks of a pool that there is, and one of its handles.
func (s *machine) anyWriter(t *rapid.T) (*writer, *pool.Blocks) {
	var some []*writer
	for _, name := range s.world.Names() {
		for _, writerName := range []string{"b/c", "c"} {
			if w := s.writers[[2]string{name, writerName}]; w != nil {
				some = append(some, w)
			}
		}
	}
	if len(some) == 0 {
		t.Skip("there is no writer")
	}
	w := some[rapid.IntRange(0, len(some)-1).Draw(t, "writer")]
	i := rapid.IntRange(0, len(w.handles)-1).Draw(t, "handle")
	return w, w.handles[i]
}

func (s *machine) AllocateInBlock(t *rapid.T) {
	w, b := s.anyWriter(t)
	for _, each := range append(w.Of(s.world), world.Block{Pool: w.Parent}) {
		if s.world.Pools[each.Pool].Tied(s.world.Now) {
			t.Skip("which one goes is open")
		}
	}
	c := pool.Claim{Owner: rapid.SampledFrom(owners).Draw(t, "owner"), Scope: w.Spec.Scope, TTL: anyTTL(t)}
	f := w.Claim.Requests[0].Family
	if rapid.IntRange(0, 3).Draw(t, "prefix") == 0 {
		c.Requests = []pool.Request{{Family: f, Bits: f.Width() - rapid.IntRange(0, 3).Draw(t, "bits")}}
	}
	var got pool.Allocation
	err := s.call(t, func(ctx context.Context) (err error) {
		got, err = b.Allocate(ctx, c)
		return err
	})
	parent, snapshotErr := s.handle(t, w.Parent).Snapshot(context.Background())
	require.NoError(t, snapshotErr)
	fresh := w.Fresh(s.world, parent)
	seen := world.Sight{Prefixes: got.Prefixes}
	for _, block := range append(w.Of(s.world), fresh) {
		if errors.Is(err, store.ErrUnknown) && block.Pool != "" {
			seen.Prefixes = append(seen.Prefixes, s.sight(t, block.Pool, c.Owner, got, err).Prefixes...)
		}
	}
	after, name, want, fails := w.Allocate(s.world, c, seen, fresh, blockSeen(parent, fresh))
	if s.isTrouble(err) {
		possible := []*world.World{s.world}
		if larger, err := w.Take(s.world, fresh, blockSeen(parent, fresh)); err == nil && fresh != (world.Block{}) {
			possible = append(possible, larger)
		}
		if errors.Is(err, store.ErrUnknown) || fails != nil {
			possible = append(possible, after)
		}
		s.adopt(t, possible...)
		return
	}
	if fails != nil {
		require.ErrorIs(t, err, fails)
		s.become(t, after)
		s.learnAll(t)
		return
	}
	require.NoError(t, err)
	latest := s.latest[name]
	s.become(t, after)
	s.granted(t, name, want, got, latest)
	s.learnAll(t)
}

// blockSeen is what was seen of a new block.
func blockSeen(parent pool.Snapshot, fresh world.Block) (seen world.Sight) {
	for _, a := range slices.Concat(parent.Cooling, parent.Allocations) { // what it holds, or else has given back
		if a.Owner == fresh.Owner {
			seen.Prefixes = a.Prefixes
		}
	}
	return seen
}

// learnAll fills in the generations that the model does not know yet, of all pools.
func (s *machine) learnAll(t *rapid.T) {
	for _, name := range s.world.Names() {
		all, err := s.handles[name][0].Snapshot(context.Background())
		require.NoError(t, err)
		s.learnGenerations(s.world.Pools[name], all)
	}
}

func (s *machine) ReleaseInBlock(t *rapid.T) {
	w, b := s.anyWriter(t)
	owner := rapid.SampledFrom(owners).Draw(t, "owner")
	for _, block := range w.Of(s.world) { // mostly somebody who holds something
		if held := s.world.Pools[block.Pool].Held(); len(held) > 0 && rapid.Bool().Draw(t, "held") {
			owner = anyHeld(t, s.world.Pools[block.Pool]).Owner
		}
	}
	var got pool.Allocation
	err := s.call(t, func(ctx context.Context) (err error) {
		got, err = b.Release(ctx, pool.Held{Owner: owner})
		return err
	})
	after, want, fails := w.Release(s.world, owner)
	if s.isTrouble(err) {
		possible := []*world.World{s.world}
		if errors.Is(err, store.ErrUnknown) && fails == nil {
			released, _, _ := s.world.Release(w.Home(s.world, owner), pool.Held{Owner: owner})
			possible = append(possible, released, after)
		}
		s.adopt(t, possible...)
		return
	}
	if fails != nil {
		require.ErrorIs(t, err, fails)
		return
	}
	require.NoError(t, err)
	require.Equal(t, want.Allocation, got)
	released, _, err := s.world.Release(w.Home(s.world, owner), pool.Held{Owner: owner})
	if err == nil && s.trouble.any() {
		s.adopt(t, after, released) // perhaps the block could not be given back
		return
	}
	s.become(t, after)
}

func (s *machine) GiveBackBlocks(t *rapid.T) {
	w, b := s.anyWriter(t)
	keep := rapid.IntRange(0, 2).Draw(t, "keep")
	var got int
	err := s.call(t, func(ctx context.Context) (err error) {
		got, err = b.GiveBack(ctx, keep)
		return err
	})
	after, want := w.GiveBack(s.world, keep)
	if s.isTrouble(err) {
		var possible []*world.World
		for n := len(w.Of(s.world)); n >= keep; n-- {
			some, _ := w.GiveBack(s.world, n)
			possible = append(possible, some)
		}
		s.adopt(t, append(possible, s.world)...)
		return
	}
	require.NoError(t, err)
	require.Equal(t, want, got)
	s.become(t, after)
}

// adopt takes as the world after a call in which something went wrong the one of these that the store has.
func (s *machine) adopt(t *rapid.T, possible ...*world.World) {
	for _, w := range possible {
		if s.looksLike(t, w) {
			s.become(t, w)
			return
		}
	}
	require.Fail(t, "what is in the store is none of what the call may have left there")
}
