package pool_test

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go4.org/netipx"
	"pgregory.net/rapid"

	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
)

// machine runs pools, each through one or several handles, beside their model. Each of its actions makes one call, and requires it to answer
// as the model does; after each of them all that can be seen of all pools is what the model says.
type machine struct {
	world    *world
	store    *store.Memory // nil if the pools are in memory
	options  *pool.Options
	handles  map[string][]*pool.Pool // also of pools that are deleted
	latest   map[string]int64        // the last generation
	stale    map[[2]string]int64     // a generation that an owner had in a pool and has no more
	revision map[string]int64
	earlier  map[string]int64 // some revision from before
	watches  map[string]*watch
	names    []string // of pools that may be created
	networks []string
}

func newMachine(t *rapid.T, memory *store.Memory) *machine {
	w := newWorld()
	random := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
	return &machine{
		world: w, store: memory,
		options: &pool.Options{Clock: func() time.Time { return w.now }, Random: random.Uint64},
		handles: map[string][]*pool.Pool{}, latest: map[string]int64{}, stale: map[[2]string]int64{},
		revision: map[string]int64{}, earlier: map[string]int64{}, watches: map[string]*watch{}, networks: []string{""},
	}
}

// run puts a pool under the machine.
func (s *machine) run(m *model, handles ...*pool.Pool) {
	m.world = s.world
	s.world.pools[m.name], s.handles[m.name] = m, append(s.handles[m.name], handles...)
}

// add makes a pool of a spec that is valid, and runs it.
func (s *machine) add(t *rapid.T, m *model) {
	p, err := pool.New(m.spec, s.options)
	if s.store != nil {
		p, err = pool.Create(context.Background(), s.store, m.name, m.spec, s.options)
	}
	require.NoError(t, err)
	s.run(m, p)
}

func (s *machine) open(t *rapid.T, name string) *pool.Pool {
	from := s.store
	if s.names == nil {
		from = s.store.Open() // as another process; calls over several pools want all in one
	}
	p, err := pool.Open(context.Background(), from, name, s.options)
	require.NoError(t, err)
	return p
}

// anyPool draws a pool that there is.
func (s *machine) anyPool(t *rapid.T) *model {
	if len(s.world.pools) == 0 {
		t.Skip("there is no pool")
	}
	return s.world.pools[rapid.SampledFrom(slices.Sorted(maps.Keys(s.world.pools))).Draw(t, "pool")]
}

func (s *machine) handle(t *rapid.T, name string) *pool.Pool {
	return s.handles[name][rapid.IntRange(0, len(s.handles[name])-1).Draw(t, "handle")]
}

// become is what a call has made of a pool.
func (s *machine) become(after *model) { s.world.pools[after.name] = after }

// answers requires a call to have failed with one of the refusals, if there are any, and tells whether it succeeded.
func (no refusals) answers(t *rapid.T, err error) bool {
	if len(no) == 0 {
		require.NoError(t, err)
		return true
	}
	require.True(t, slices.ContainsFunc(no, func(refusal error) bool { return errors.Is(err, refusal) }), "want one of %v, got %v", no, err)
	return false
}

// Tick moves the clock, mostly forward.
func (s *machine) Tick(t *rapid.T) {
	s.world.now = s.world.now.Add(time.Duration(rapid.SampledFrom([]int{1, 1, 2, 3, 6, -1, -4}).Draw(t, "minutes")) * time.Minute)
}

func (s *machine) Reopen(t *rapid.T) {
	if s.store == nil {
		t.Skip("in memory")
	}
	name := s.anyPool(t).name
	if len(s.handles[name]) < 3 && rapid.Bool().Draw(t, "more") {
		s.handles[name] = append(s.handles[name], s.open(t, name))
		return
	}
	s.handles[name][rapid.IntRange(0, len(s.handles[name])-1).Draw(t, "handle")] = s.open(t, name)
}

// Check is called after each step.
func (s *machine) Check(t *rapid.T) {
	for _, name := range slices.Sorted(maps.Keys(s.world.pools)) {
		p := s.handle(t, name)
		requireSame(t, s.world.pools[name], p)
		info, err := p.Info(context.Background())
		require.NoError(t, err)
		require.GreaterOrEqual(t, info.Revision, s.revision[name])
		if s.earlier[name] == 0 || rapid.IntRange(0, 9).Draw(t, "remember") == 0 {
			s.earlier[name] = info.Revision
		}
		s.revision[name] = info.Revision
	}
	if s.store != nil {
		s.checkNetworks(t)
	}
	s.world.now = s.world.now.Add(time.Millisecond)
}

// requireSame requires all that can be seen of a pool to be what the model says.
func requireSame(t *rapid.T, m *model, p *pool.Pool) {
	got, err := p.Snapshot(context.Background())
	require.NoError(t, err)
	want := m.snapshot()
	if p.Name() == "" {
		want.Name = ""
	} else {
		require.False(t, got.Created.IsZero())
	}
	want.Created, want.Revision = got.Created, got.Revision
	require.Equal(t, textOf(t, want), textOf(t, got))
	info, err := p.Info(context.Background())
	require.NoError(t, err)
	require.Equal(t, textOf(t, pool.Snapshot{Info: want.Info}), textOf(t, pool.Snapshot{Info: info}))
	report, err := p.Verify(context.Background())
	require.NoError(t, err)
	slices.SortFunc(report.OutOfRange, byAddr)
	require.Equal(t, m.report(), report)
}

// textOf is a snapshot as people read it.
func textOf(t *rapid.T, s pool.Snapshot) string {
	text, err := json.MarshalIndent(s, "", "  ")
	require.NoError(t, err)
	return string(text)
}

func (s *machine) checkNetworks(t *rapid.T) {
	want := map[string]pool.Network{}
	for name, foreign := range s.world.foreign {
		if len(foreign) > 0 {
			want[name] = pool.Network{Name: name, Pools: map[string][]netipx.IPRange{}, Foreign: foreign}
		}
	}
	for name, m := range s.world.pools {
		if m.spec.Network == "" || m.parent != (parentRef{}) {
			continue
		}
		n, known := want[m.spec.Network]
		if !known {
			n = pool.Network{Name: m.spec.Network, Pools: map[string][]netipx.IPRange{}}
		}
		n.Pools[name] = m.mergedRanges()
		want[m.spec.Network] = n
	}
	got := map[string]pool.Network{}
	for n, err := range pool.Networks(context.Background(), s.store) {
		require.NoError(t, err)
		got[n.Name] = n
	}
	require.Equal(t, want, got)
}

// actions are all that the machine does. What is done by more often stands here more often.
func (s *machine) actions() map[string]func(*rapid.T) {
	actions := map[string]func(*rapid.T){
		"tick": s.Tick, "reopen": s.Reopen, "": s.Check,
		"allocate": s.Allocate, "allocate default": s.AllocateDefault, "allocate default too": s.AllocateDefault,
		"allocate again": s.AllocateAgain, "allocate bad": s.AllocateBad,
		"release": s.Release, "release generation": s.ReleaseGeneration, "release stale": s.ReleaseStaleGeneration, "release held": s.ReleaseHeld,
		"renew": s.Renew, "reap": s.Reap, "reconcile": s.Reconcile,
		"allocate many": s.AllocateMany, "allocate all": s.AllocateAll, "release many": s.ReleaseMany, "adopt": s.Adopt,
		"allocate together": s.AllocateTogether, "release together": s.ReleaseTogether,
		"update": s.Update, "update too": s.Update,
		"get": s.Get, "lookup": s.Lookup, "list": s.List, "watch": s.Watch, "spoil": s.Spoil, "repair": s.Repair, "copy": s.Copy,
	}
	if s.names != nil {
		maps.Copy(actions, map[string]func(*rapid.T){
			"create": s.Create, "delete": s.Delete, "carve": s.Carve, "carve too": s.Carve, "foreign": s.SetForeign, "import": s.Import,
			"gone": s.Gone,
		})
	}
	return actions
}

func (s *machine) repeat(t *rapid.T) {
	defer s.stopWatches()
	t.Repeat(s.actions())
}

// anyPoolModel draws a pool with all its policies.
func anyPoolModel(t *rapid.T, name string) *model {
	m := anyModel().Draw(t, "pool")
	m.name = name
	anyPolicies(t, &m.spec)
	m.reset()
	return m
}

func TestPoolsInMemoryAgreeWithModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := newMachine(t, nil)
		s.add(t, anyPoolModel(t, "one"))
		if rapid.Bool().Draw(t, "another one") {
			s.add(t, anyPoolModel(t, "two"))
		}
		s.repeat(t)
	})
}

func TestPoolInStoreAgreesWithModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := newMachine(t, store.NewMemory())
		s.add(t, anyPoolModel(t, "blue"))
		s.handles["blue"] = append(s.handles["blue"], s.open(t, "blue"))
		s.repeat(t)
	})
}

func TestPoolsInStoreAgreeWithModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := newMachine(t, store.NewMemory())
		s.names, s.networks = []string{"blue", "green", "red", "node-1"}, []string{"", "net", "net"}
		if rapid.Bool().Draw(t, "begin with a large pool in the network") {
			m := newModel(s.universe(), specOf("10.0.0.0/26", "2001:db8::/122"))
			m.name, m.spec.Network = "blue", "net"
			s.add(t, m)
		}
		s.repeat(t)
	})
}
