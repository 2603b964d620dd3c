package pool_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"iter"
	"maps"
	"net/netip"
	"slices"

	"github.com/stretchr/testify/require"
	"go4.org/netipx"
	"pgregory.net/rapid"

	"github.com/ipalloc/ipalloc/cidr"
	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
)

// Update gives a pool another spec, by Update or by Drain.
func (s *machine) Update(t *rapid.T) {
	m := s.anyPool(t)
	spec := anyChange(t, m, s.networks)
	drain := rapid.Bool().Draw(t, "drain")
	p := s.handle(t, m.name)
	call := p.Update
	if drain {
		call = p.Drain
	}
	err := call(context.Background(), spec)
	if spec.Validate() != nil {
		require.ErrorIs(t, err, pool.ErrInvalid)
		return
	}
	after, stranded, no := m.update(spec, drain)
	if no.answers(t, err) {
		s.become(after)
		s.tell(t, m.name)
	}
	requireStranded(t, m, stranded, err)
}

// tell has all handles of a pool read its head: one that does not know of another spec yet may still tell an owner, by the old one, what it holds.
func (s *machine) tell(t *rapid.T, name string) {
	for _, p := range s.handles[name] {
		_, err := p.Snapshot(context.Background())
		require.NoError(t, err)
	}
}

// requireStranded requires an error, if it is about what would be stranded, to have the whole list.
func requireStranded(t *rapid.T, m *model, stranded []string, err error) {
	var list *pool.StrandedError
	if !errors.As(err, &list) {
		return
	}
	got := map[string]pool.Allocation{}
	for _, a := range list.Allocations {
		got[a.Owner] = a
	}
	require.Equal(t, stranded, slices.Sorted(maps.Keys(got)))
	require.Len(t, list.Allocations, len(got))
	for owner, a := range got {
		require.Equal(t, m.held()[owner], a)
	}
}

func (m *model) mergedRanges() []netipx.IPRange { return cidr.SetOf(m.spec.Ranges...).Ranges() }

// universe is that of all pools in one store.
func (s *machine) universe() map[pool.Family]netip.Prefix {
	return map[pool.Family]netip.Prefix{pool.IPv4: worlds[pool.IPv4][0], pool.IPv6: worlds[pool.IPv6][0]}
}

func (s *machine) Create(t *rapid.T) {
	m := &model{
		name: rapid.SampledFrom(s.names).Draw(t, "name"), universe: s.universe(), cursor: map[pool.Family]netip.Addr{},
		spec: anyAddresses(t, partOf(t, s.universe())),
	}
	anyPolicies(t, &m.spec)
	m.spec.Network = rapid.SampledFrom(s.networks).Draw(t, "network")
	p, err := pool.Create(context.Background(), s.store, m.name, m.spec, s.options)
	if m.spec.Validate() != nil {
		require.ErrorIs(t, err, pool.ErrInvalid)
		return
	}
	if s.world.create(m).answers(t, err) {
		s.run(m, p)
	}
}

func (s *machine) Delete(t *rapid.T) {
	name := rapid.SampledFrom(s.names).Draw(t, "name")
	m := s.world.pools[name]
	if m != nil && m.parent != (parentRef{}) && s.world.pools[m.parent.Pool].spec.Cooldown > 0 {
		t.Skip("Delete has no clock of the caller's")
	}
	err := pool.Delete(context.Background(), s.store.Open(), name, nil)
	switch {
	case m == nil:
		require.ErrorIs(t, err, pool.ErrNoPool)
	case len(m.held()) > 0:
		require.ErrorIs(t, err, pool.ErrInUse)
	default:
		require.NoError(t, err)
		if m.parent != (parentRef{}) {
			after, _, err := s.world.pools[m.parent.Pool].release(m.parent.Owner)
			require.NoError(t, err)
			s.become(after)
		}
		s.forget(name)
	}
}

// forget is what becomes of a pool that is deleted.
func (s *machine) forget(name string) {
	delete(s.world.pools, name)
	delete(s.revision, name)
	delete(s.earlier, name)
}

// Gone uses a handle of a pool that is deleted.
func (s *machine) Gone(t *rapid.T) {
	name := rapid.SampledFrom(s.names).Draw(t, "name")
	if s.world.pools[name] != nil || len(s.handles[name]) == 0 {
		t.Skip("it is there, or never was")
	}
	p := s.handle(t, name)
	_, err := p.Allocate(context.Background(), pool.Claim{Owner: "a"})
	require.ErrorIs(t, err, pool.ErrNoPool)
	_, err = p.AllocateMany(context.Background(), []pool.Claim{{Owner: "a"}, {Owner: "b"}})
	require.ErrorIs(t, err, pool.ErrNoPool)
	_, err = p.Snapshot(context.Background())
	require.ErrorIs(t, err, pool.ErrNoPool)
	_, err = p.Get(context.Background(), "a")
	require.ErrorIs(t, err, pool.ErrNotFound)
}

// Carve makes a pool of what another one grants.
func (s *machine) Carve(t *rapid.T) {
	m := s.anyPool(t)
	c := anyClaim(m).Draw(t, "claim")
	c.TTL = 0
	if f := m.families()[0]; rapid.Bool().Draw(t, "block") {
		c.Policy, c.Requests = 0, []pool.Request{{Family: f, Bits: f.Width() - rapid.IntRange(1, 4).Draw(t, "bits")}}
	}
	child := &model{
		name: rapid.SampledFrom(s.names).Draw(t, "name"), universe: s.universe(), cursor: map[pool.Family]netip.Addr{},
		parent: parentRef{Pool: m.name, Owner: c.Owner}, spec: pool.Spec{Ranges: ranges("10.0.0.1")},
	}
	anyPolicies(t, &child.spec)
	child.spec.Ranges, child.spec.Bands, child.spec.AllocateReserved = nil, nil, rapid.Bool().Draw(t, "allocate reserved")
	child.spec.Network = rapid.SampledFrom([]string{"", "", m.spec.Network, "net"}).Draw(t, "network")
	if r := m.live(c.Owner); r != nil && r.Child != "" && m.childOf(r) == nil {
		t.Skip("its child did not come with it when it was imported")
	}
	p, err := pool.Carve(context.Background(), s.handle(t, m.name), c, child.name, child.spec, s.options)
	if child.name == m.name {
		require.ErrorIs(t, err, pool.ErrInvalid)
		return
	}
	var seen sight
	if a, err := s.handles[m.name][0].Get(context.Background(), c.Owner); err == nil {
		seen = s.sight(t, m, a)
	}
	after, r, fails := m.allocate(c, child.name, seen)
	otherNetwork := child.spec.Network != "" && child.spec.Network != m.spec.Network
	if fails != nil {
		no := refusals{fails}
		if otherNetwork {
			no = append(no, pool.ErrInvalid)
		}
		no.answers(t, err)
		return
	}
	if old := m.live(c.Owner); old != nil && old.Child == child.name {
		require.NoError(t, err)
		s.handles[child.name] = append(s.handles[child.name], p)
		s.become(after)
		return
	}
	child.spec.Ranges = rangesOf(r.Prefixes)
	no := s.world.create(child)
	if otherNetwork || child.spec.Validate() != nil {
		no = append(no, pool.ErrInvalid)
	}
	if child.spec.Network = m.spec.Network; len(no) == 0 {
		no = s.world.create(child)
	}
	if !no.answers(t, err) {
		return
	}
	got, err := s.handles[m.name][0].Get(context.Background(), c.Owner)
	require.NoError(t, err)
	s.granted(t, after, r, got, s.latest[m.name])
	s.run(child, p)
}

func (s *machine) SetForeign(t *rapid.T) {
	const network = "net"
	var foreign []netipx.IPRange
	for range rapid.IntRange(0, 2).Draw(t, "ranges") {
		f := rapid.SampledFrom([]pool.Family{pool.IPv4, pool.IPv6}).Draw(t, "family")
		foreign = append(foreign, anyRange(partOf(t, s.universe())[f]).Draw(t, "foreign"))
	}
	drain := rapid.Bool().Draw(t, "drain")
	err := pool.SetForeign(context.Background(), s.store.Open(), network, foreign, drain, nil)
	after, stranded, no := s.world.declare(network, foreign, drain)
	if no.answers(t, err) {
		s.world.foreign[network] = cidr.SetOf(foreign...).Ranges()
		maps.Copy(s.world.pools, after)
		for name := range after {
			s.tell(t, name)
		}
	}
	var about *pool.Error
	if errors.As(err, &about) && errors.Is(err, pool.ErrStranded) {
		requireStranded(t, s.world.pools[about.Pool], stranded[about.Pool], err)
	}
}

// exported is a pool's snapshot, through its text and back.
func exported(t *rapid.T, p *pool.Pool) pool.Snapshot {
	var text bytes.Buffer
	require.NoError(t, p.Export(context.Background(), &text))
	var snapshot pool.Snapshot
	require.NoError(t, json.Unmarshal(text.Bytes(), &snapshot))
	return snapshot
}

// Import copies a pool to another name in its store.
func (s *machine) Import(t *rapid.T) {
	m := s.anyPool(t)
	name := rapid.SampledFrom(s.names).Draw(t, "name")
	snapshot := exported(t, s.handle(t, m.name))
	if m.parent != (parentRef{}) {
		_, err := pool.Import(context.Background(), s.store, name, snapshot, s.options)
		require.Error(t, err)
		snapshot.Parent = pool.Parent{}
	}
	p, err := pool.Import(context.Background(), s.store, name, snapshot, s.options)
	imported := m.copyTo(s.world, name)
	if s.world.create(imported).answers(t, err) {
		s.run(imported, p)
		learnGenerations(t, imported, p)
	}
}

// Copy copies a pool to another store.
func (s *machine) Copy(t *rapid.T) {
	m := s.anyPool(t)
	snapshot := exported(t, s.handle(t, m.name))
	snapshot.Parent = pool.Parent{}
	memory := store.NewMemory()
	p, err := pool.Import(context.Background(), memory, "copy", snapshot, s.options)
	w := newWorld()
	w.now = s.world.now
	imported := m.copyTo(w, "copy")
	if w.create(imported).answers(t, err) {
		learnGenerations(t, imported, p)
		requireSame(t, imported, p)
		p, err = pool.Open(context.Background(), memory, "copy", s.options)
		require.NoError(t, err)
		requireSame(t, imported, p)
		require.NotEqual(t, m.name, p.Name())
	}
}

// learnGenerations fills in the generations of what was imported.
func learnGenerations(t *rapid.T, m *model, p *pool.Pool) {
	all, err := p.Snapshot(context.Background())
	require.NoError(t, err)
	for _, r := range m.records {
		for _, a := range slices.Concat(all.Allocations, all.Cooling) {
			if a.Owner == r.Owner && a.Prefixes[0] == r.Prefixes[0] {
				r.Generation = a.Generation
			}
		}
		require.Positive(t, r.Generation)
	}
}

// watch is a Watch that is under way, and what it has told so far.
type watch struct {
	next func() (pool.Change, error, bool)
	stop func()
	free map[netip.Addr]bool
	at   int64 // revision
}

// Watch asks for the next change of a pool, if there has been one.
func (s *machine) Watch(t *rapid.T) {
	name := s.anyPool(t).name
	w := s.watches[name]
	if w == nil {
		w = &watch{}
		w.next, w.stop = iter.Pull2(s.handle(t, name).Watch(context.Background(), 0))
		s.watches[name] = w
	}
	m := s.world.pools[name]
	info, err := s.handle(t, name).Info(context.Background())
	require.NoError(t, err)
	if info.Revision == w.at {
		t.Skip("nothing has changed")
	}
	change, err, ok := w.next()
	require.NoError(t, err)
	require.True(t, ok)
	require.Equal(t, info.Revision, change.Revision)
	require.Equal(t, m.stats(), change.Stats)
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
	require.Equal(t, m.freeAddrs(), free)
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
