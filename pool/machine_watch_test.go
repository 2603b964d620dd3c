package pool_test

import (
	"context"
	"iter"
	"maps"
	"net/netip"

	"github.com/stretchr/testify/require"
	"go4.org/netipx"
	"pgregory.net/rapid"

	"github.com/ipalloc/ipalloc/pool"
)

// watch is a Watch that is under way, and what it has told so far.
type watch struct {
	next func() (pool.Change, error, bool)
	stop func()
	free map[netip.Addr]bool
	at   int64 // revision
}

// Watch asks for the next change of a pool, if there has been one.
func (s *machine) Watch(t *rapid.T) {
	name := s.anyPool(t).Name
	w := s.watches[name]
	if w == nil {
		w = &watch{}
		w.next, w.stop = iter.Pull2(s.handle(t, name).Watch(context.Background(), 0))
		s.watches[name] = w
	}
	m := s.world.Pools[name]
	info, err := s.handle(t, name).Info(context.Background())
	require.NoError(t, err)
	if info.Revision == w.at {
		t.Skip("nothing has changed")
	}
	change, err, ok := w.next()
	require.NoError(t, err)
	require.True(t, ok)
	require.Equal(t, info.Revision, change.Revision)
	require.Equal(t, m.Stats(), change.Stats)
	free := maps.Clone(w.free)
	if free == nil {
		free = map[netip.Addr]bool{}
	}
	for _, a := range addrsIn(change.Freed) {
		require.False(t, free[a], "%v was free before", a)
		free[a] = true
	}
	for _, a := range addrsIn(change.Taken) {
		require.True(t, free[a], "%v was not free before", a)
		delete(free, a)
	}
	require.Equal(t, m.Free(), free)
	w.free, w.at = free, change.Revision
}

func addrsIn(ranges []netipx.IPRange) []netip.Addr {
	var all []netip.Addr
	for _, r := range ranges {
		for _, p := range r.Prefixes() {
			all = append(all, addrsOf(p)...)
		}
	}
	return all
}

func (s *machine) stopWatches() {
	for _, w := range s.watches {
		w.stop()
	}
}
