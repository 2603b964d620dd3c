package pool_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go4.org/netipx"
	"pgregory.net/rapid"

	"github.com/ipalloc/ipalloc/internal/world"
	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/storetest/faults"
)

// machine runs pools, each through one or several handles, beside a model of the world that they are in. Each of its
// actions makes one call, and requires it to answer as the model does; after each of them all that can be seen of all
// pools is what the model says. What may go wrong during a call is drawn too: the call has then either taken effect or
// not, and not unless it says that it may have.
type machine struct {
	world   *world.World
	store   *store.Memory // nil if the pools are in memory
	base    store.Store   // with faults, of all handles that calls over several pools may name
	faults  *faults.Injector
	trouble trouble // in the last call
	options *pool.Options
	handles map[string][]*pool.Pool // also of pools that are deleted
	latest  map[string]int64        // the last generation, by pool

	stale    map[[2]string]int64 // a generation that an owner had in a pool and has no more
	revision map[string]int64
	earlier  map[string]earlier // some moment from before
	watches  map[string]*watch
	writers  map[[2]string]*writer // by parent and writer
	names    []string              // of pools that may be created
	networks []string

	unsettled map[string]bool             // pools whose renumbering was cut short
	silent    map[string]bool             // pools that have recorded no history for a time
	vague     map[string]map[grantOf]bool // what they held then, whose histories the model does not know
	checked   *world.World                // when the histories were compared
	step      int
	several   bool // the last step may have made several commits
}

func newMachine(t *rapid.T, memory *store.Memory) *machine {
	random := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
	s := &machine{
		world: &world.World{Now: time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC)},
		store: memory, faults: &faults.Injector{},
		handles: map[string][]*pool.Pool{}, latest: map[string]int64{}, stale: map[[2]string]int64{},
		revision: map[string]int64{}, earlier: map[string]earlier{},
		watches: map[string]*watch{}, writers: map[[2]string]*writer{},
		networks: []string{""}, unsettled: map[string]bool{}, silent: map[string]bool{}, vague: map[string]map[grantOf]bool{},
	}
	if memory != nil {
		s.base = s.faults.Wrap(memory)
	}
	s.options = &pool.Options{
		Clock: func() time.Time { return s.world.Now }, Random: random.Uint64, Attempts: 8, Backoff: time.Nanosecond,
	}
	return s
}

// run puts a pool that is there under the machine.
func (s *machine) run(t *rapid.T, m *world.Pool, handles ...*pool.Pool) {
	after, no := s.world.Create(m)
	require.Empty(t, no)
	s.become(t, after)
	s.handles[m.Name] = append(s.handles[m.Name], handles...)
}

// add makes a pool of a spec that is valid, and runs it.
func (s *machine) add(t *rapid.T, m *world.Pool) {
	p, err := pool.New(m.Spec, s.options)
	if s.store != nil {
		p, err = pool.Create(context.Background(), s.base, m.Name, m.Spec, s.options)
	}
	require.NoError(t, err)
	s.handles[m.Name] = append(s.handles[m.Name], p)
	s.run(t, m)
}

// open returns another handle of a pool.
func (s *machine) open(t *rapid.T, name string) *pool.Pool {
	from := s.base
	if s.names == nil {
		from = s.faults.Wrap(s.store.Open()) // as another process; calls over several pools want all in one
	}
	p, err := pool.Open(context.Background(), from, name, s.options)
	require.NoError(t, err)
	return p
}

// become is what a call has made of the world.
func (s *machine) become(t *rapid.T, after *world.World) {
	for _, name := range s.world.Names() {
		if after.Pools[name] == nil {
			delete(s.revision, name)
			delete(s.earlier, name)
			delete(s.unsettled, name)
		}
	}
	s.world = after
	for _, name := range after.Names() {
		if len(s.handles[name]) == 0 {
			s.handles[name] = []*pool.Pool{s.open(t, name)}
		}
	}
}

// pools are the names of those that calls are made on.
func (s *machine) pools() []string {
	return s.world.Names()
}

// anyPool draws a pool that there is.
func (s *machine) anyPool(t *rapid.T) *world.Pool {
	if len(s.pools()) == 0 {
		t.Skip("there is no pool")
	}
	return s.world.Pools[rapid.SampledFrom(s.pools()).Draw(t, "pool")]
}

func (s *machine) handle(t *rapid.T, name string) *pool.Pool {
	return s.handles[name][rapid.IntRange(0, len(s.handles[name])-1).Draw(t, "handle")]
}

// answered requires a call to have failed with one of the refusals, if there are any, and reports whether it succeeded
// and the world is now the one after it. If something went wrong during the call it may have failed with that; it has
// then taken effect only if it says that this is not known.
func (s *machine) answered(t *rapid.T, err error, after *world.World, no world.Refusals) bool {
	if s.isTrouble(err) {
		if errors.Is(err, store.ErrUnknown) && len(no) == 0 && s.looksLike(t, after) {
			s.become(t, after)
		}
		return false
	}
	if len(no) == 0 {
		require.NoError(t, err)
		s.become(t, after)
		return true
	}
	requireRefused(t, err, no)
	return false
}

// requireRefused requires an error to be one of the refusals.
func requireRefused(t *rapid.T, err error, no world.Refusals) {
	is := func(refusal error) bool { return errors.Is(err, refusal) }
	require.True(t, slices.ContainsFunc(no, is), "want one of %v, got %v", no, err)
}

// looksLike reports whether the store has what a world has, and learns the generations that the model does not know.
func (s *machine) looksLike(t *rapid.T, w *world.World) bool {
	var names []string
	for info, err := range pool.List(context.Background(), s.store) {
		require.NoError(t, err)
		names = append(names, info.Name)
	}
	slices.Sort(names)
	if !slices.Equal(names, w.Names()) {
		return false
	}
	for _, name := range names {
		p, err := pool.Open(context.Background(), s.store, name, s.options)
		require.NoError(t, err)
		got, err := p.Snapshot(context.Background())
		require.NoError(t, err)
		s.learnGenerations(w.Pools[name], got)
		if textOf(t, wanted(w, name, got)) != textOf(t, got) || !sameMissing(t, w, name, p) {
			return false
		}
	}
	return maps.EqualFunc(w.Networks(), s.storedNetworks(t), sameNetwork)
}

// sameMissing reports whether the owners that Reconcile has missed, which no snapshot shows, are those of the model.
func sameMissing(t *rapid.T, w *world.World, name string, p *pool.Pool) bool {
	all := map[string]bool{}
	for _, r := range w.Pools[name].Records {
		all[r.Owner] = true
	}
	mark, err := p.Mark(context.Background())
	require.NoError(t, err)
	everybody := live(slices.Collect(maps.Keys(all))...)
	got, err := p.Reconcile(context.Background(), mark, everybody, &pool.ReconcileOptions{DryRun: true})
	require.NoError(t, err)
	_, want := w.Reconcile(name, all, math.MaxInt64, 0, nil)
	return slices.Equal(ownersIn(got.Back), ownersIn(want.Back))
}

// ownersIn are the owners of allocations, sorted.
func ownersIn(all []pool.Allocation) (owners []string) {
	for _, a := range all {
		owners = append(owners, a.Owner)
	}
	slices.Sort(owners)
	return owners
}

func sameNetwork(a, b pool.Network) bool {
	return slices.Equal(a.External, b.External) &&
		maps.EqualFunc(a.Pools, b.Pools, slices.Equal[[]netipx.IPRange])
}

// learnGenerations fills in the generations that the model does not know.
func (s *machine) learnGenerations(m *world.Pool, got pool.Snapshot) {
	for _, r := range m.Records {
		for _, a := range slices.Concat(got.Allocations, got.Cooling, got.Kept) {
			if r.Generation == 0 && a.Owner == r.Owner && slices.Equal(a.Prefixes, r.Prefixes) {
				r.Generation = a.Generation
				s.latest[m.Name] = max(s.latest[m.Name], a.Generation)
			}
		}
	}
}

// Tick moves the clock, mostly forward.
func (s *machine) Tick(t *rapid.T) {
	minutes := rapid.SampledFrom([]int{1, 1, 2, 3, 6, -1, -4}).Draw(t, "minutes")
	s.world = s.world.At(s.world.Now.Add(time.Duration(minutes) * time.Minute))
}

func (s *machine) Reopen(t *rapid.T) {
	if s.store == nil {
		t.Skip("in memory")
	}
	name := s.anyPool(t).Name
	if len(s.handles[name]) < 3 && rapid.Bool().Draw(t, "more") {
		s.handles[name] = append(s.handles[name], s.open(t, name))
		return
	}
	s.handles[name][rapid.IntRange(0, len(s.handles[name])-1).Draw(t, "handle")] = s.open(t, name)
}

// earlier is a moment in the life of a pool.
type earlier struct {
	mark     pool.Mark
	revision int64
}

// Check is called after each step.
func (s *machine) Check(t *rapid.T) {
	require.NoError(t, s.world.Check())
	for _, name := range s.world.Names() {
		p := s.handle(t, name)
		requireSame(t, s.world, name, p)
		info, err := p.Info(context.Background())
		require.NoError(t, err)
		require.GreaterOrEqual(t, info.Revision, s.revision[name])
		if s.earlier[name].revision == 0 || rapid.IntRange(0, 9).Draw(t, "remember") == 0 {
			mark, err := p.Mark(context.Background())
			require.NoError(t, err)
			s.earlier[name] = earlier{mark, info.Revision}
		}
		s.revision[name] = info.Revision
	}
	if s.store != nil {
		require.Equal(t, s.world.Networks(), s.storedNetworks(t))
	}
	s.checkHistory(t)
	s.world = s.world.At(s.world.Now.Add(time.Millisecond))
}

// Audit reads the whole store.
func (s *machine) Audit(t *rapid.T) {
	if s.store == nil {
		t.Skip("in memory")
	}
	require.NoError(t, world.Audit(context.Background(), s.store))
}

// requireSame requires all that can be seen of a pool to be what the model says.
func requireSame(t *rapid.T, w *world.World, name string, p *pool.Pool) {
	got, err := p.Snapshot(context.Background())
	require.NoError(t, err)
	want := wanted(w, name, got)
	if p.Name() == "" {
		want.Name = ""
	} else {
		require.False(t, got.Created.IsZero())
	}
	require.Equal(t, textOf(t, want), textOf(t, got), "pool %q", name)
	info, err := p.Info(context.Background())
	require.NoError(t, err)
	require.Equal(t, textOf(t, pool.Snapshot{Info: want.Info}), textOf(t, pool.Snapshot{Info: info}))
	require.Equal(t, want.Reservations, info.Reservations)
	require.Equal(t, want.Quotas, info.Quotas)
	require.Equal(t, want.Renumbering, info.Renumbering)
	report, err := p.Verify(context.Background())
	require.NoError(t, err)
	slices.SortFunc(report.OutOfRange, world.ByAddr)
	require.Equal(t, w.Pools[name].Report(), report)
}

// wanted is what the model says of a pool of which this is a snapshot.
func wanted(w *world.World, name string, got pool.Snapshot) pool.Snapshot {
	want := w.Snapshot(name)
	want.Created, want.Revision = got.Created, got.Revision
	want.Parent, want.Grants = w.Pools[name].Parent, w.GrantsOf(w.Pools[name])
	return want
}

// textOf is a snapshot as people read it.
func textOf(t *rapid.T, s pool.Snapshot) string {
	text, err := json.MarshalIndent(s, "", "  ")
	require.NoError(t, err)
	return string(text)
}

func (s *machine) storedNetworks(t *rapid.T) map[string]pool.Network {
	got := map[string]pool.Network{}
	for n, err := range pool.Networks(context.Background(), s.store) {
		require.NoError(t, err)
		n.Held = nil // which may have what was released since; Audit looks at it
		got[n.Name] = n
	}
	return got
}

// claims are the actions on pools by themselves.
func (s *machine) claims() map[string]func(*rapid.T) {
	return map[string]func(*rapid.T){
		"a moment passes": s.Tick, "reopen": s.Reopen, "": s.Check, "audit": s.Audit,
		"allocate": s.Allocate, "allocate default": s.AllocateDefault, "allocate again": s.AllocateAgain,
		"allocate bad": s.AllocateBad, "release": s.Release, "decline": s.Decline,
		"reserve": s.Reserve, "reserve what is held": s.ReserveHeld, "unreserve": s.Unreserve, "reservations": s.Reservations,
		"renew": s.Renew, "expire": s.Expire, "reconcile": s.Reconcile,
		"each": s.Each, "all": s.All, "together": s.Together, "update": s.Update, "get": s.Get, "list": s.List,
		"find": s.Find,
		"fold": s.Fold, "renumber": s.Renumber, "finish to renumber": s.FinishRenumber,
		"cancel to renumber": s.CancelRenumber,
		"watch":              s.Watch, "spoil": s.Spoil, "repair": s.Repair, "copy": s.Copy,
	}
}

// changes are the actions on a whole world, beside those on its pools.
func (s *machine) changes() map[string]func(*rapid.T) {
	return map[string]func(*rapid.T){
		"create": s.Create, "create where something is held": s.CreateOverHeld, "delete": s.Delete,
		"external": s.SetExternal, "import": s.Import, "gone": s.Gone, "delegate": s.Delegate, "extend": s.Extend,
		"retract": s.Retract, "update a parent": s.UpdateParent, "move": s.Move,
		"open blocks": s.OpenBlocks, "allocate in a block": s.AllocateInBlock, "release in a block": s.ReleaseInBlock,
		"give back blocks": s.GiveBackBlocks,
	}
}

// focuses are what a run on a world is about: actions that it does as often as all others together.
var focuses = map[string][]string{
	"all": nil,
	"networks": {
		"create", "create where something is held", "update", "move", "move", "delete", "external", "import",
		"allocate default", "release",
	},
	"children": {
		"delegate", "delegate", "extend", "retract", "update a parent", "move", "external", "copy", "delete",
		"allocate default", "release",
	},
	"blocks": {
		"open blocks", "allocate in a block", "allocate in a block", "allocate in a block", "release in a block",
		"give back blocks", "update a parent",
	},
	"together": {"all", "all", "together", "delegate", "delete"},
	"renumber": {
		"fold", "renumber", "renumber", "renumber", "finish to renumber", "cancel to renumber", "allocate default", "release",
		"decline", "reserve", "all", "update", "external",
	},
}

// actions are all that the machine does. What it does more often stands here under several names.
func (s *machine) actions(t *rapid.T) map[string]func(*rapid.T) {
	actions := s.claims()
	for _, name := range []string{"allocate default", "update"} {
		actions[name+" too"] = actions[name]
	}
	if s.names == nil {
		return actions
	}
	maps.Copy(actions, s.changes())
	focus := focuses[rapid.SampledFrom(slices.Sorted(maps.Keys(focuses))).Draw(t, "focus")]
	for i := range len(actions) {
		if len(focus) > 0 {
			name := focus[i%len(focus)]
			actions[fmt.Sprint(name, " ", i)] = actions[name]
		}
	}
	return actions
}

func (s *machine) repeat(t *rapid.T) {
	defer s.stopWatches()
	t.Repeat(s.actions(t))
}

// anyPoolModel draws a pool with all its policies.
func anyPoolModel(t *rapid.T, name string) *world.Pool {
	m := anyModel().Draw(t, "pool")
	spec := m.Spec
	anyPolicies(t, &spec)
	return world.NewPool(name, m.Universe, spec)
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
		m := anyPoolModel(t, "blue")
		s.anyHistory(t, &m.Spec)
		s.add(t, m)
		s.handles["blue"] = append(s.handles["blue"], s.open(t, "blue"))
		s.repeat(t)
	})
}

func TestWorldInStoreAgreesWithModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := newMachine(t, store.NewMemory())
		s.names, s.networks = []string{"a", "a/b", "green", "node-1"}, []string{"", "net", "net"}
		begin := rapid.SampledFrom([][]string{
			nil, {"10.0.0.0/26 2001:db8::/122"}, {"10.0.0.0/27", "10.0.0.32/27"},
		}).Draw(t, "begin with")
		for i, texts := range begin {
			spec := specOf(strings.Fields(texts)...)
			spec.Network = rapid.SampledFrom(s.networks).Draw(t, "network")
			s.anyHistory(t, &spec)
			s.add(t, world.NewPool(s.names[i], firstUniverse(), spec))
		}
		s.repeat(t)
	})
}
