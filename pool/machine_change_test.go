package pool_test

import (
	"context"
	"errors"
	"reflect"
	"slices"

	"github.com/stretchr/testify/require"
	"go4.org/netipx"
	"pgregory.net/rapid"

	"github.com/ipalloc/ipalloc/internal/world"
	"github.com/ipalloc/ipalloc/pool"
)

// What becomes of pools as a whole.

// Update gives a pool another spec, by Update or by Drain.
func (s *machine) Update(t *rapid.T) { s.update(t, s.anyPool(t)) }

// UpdateParent does that to a pool that others were delegated from.
func (s *machine) UpdateParent(t *rapid.T) {
	m := s.anyPool(t)
	if len(s.world.Family(m.Name)) == 1 {
		t.Skip("nothing was delegated from it")
	}
	s.update(t, m)
}

// Move gives a pool other ranges, or takes some away, whatever is held there.
func (s *machine) Move(t *rapid.T) {
	m := s.anyPool(t)
	spec := m.Spec
	spec.Subnets, spec.Bands = nil, nil
	part := partOf(t, m.Universe)
	if m.IsChild() || rapid.Bool().Draw(t, "shrink") {
		spec.Exclude = append(slices.Clone(spec.Exclude), anyRange(part[m.Families()[0]]).Draw(t, "exclusion"))
	} else {
		spec.Ranges = nil
		for _, f := range m.Families() {
			spec.Ranges = append(spec.Ranges, anyRange(part[f]).Draw(t, "range"))
		}
		spec.Exclude = nil
	}
	s.updateTo(t, m, spec)
}

func (s *machine) update(t *rapid.T, m *world.Pool) {
	spec := anyChange(t, m, s.networks)
	if rapid.IntRange(0, 9).Draw(t, "another history") == 0 {
		s.anyHistory(t, &spec)
	}
	s.updateTo(t, m, spec)
}

func (s *machine) updateTo(t *rapid.T, m *world.Pool, spec pool.Spec) {
	drain := rapid.Bool().Draw(t, "drain")
	p := s.handle(t, m.Name)
	call := p.Update
	if drain {
		call = p.Drain
	}
	if spec.Validate() != nil || s.store == nil && spec.History != 0 {
		err := s.call(t, func(ctx context.Context) error { return call(ctx, spec) })
		s.answered(t, err, nil, world.Refusals{pool.ErrInvalid})
		return
	}
	after, stranded, no := s.world.Update(m.Name, spec, drain)
	err := s.call(t, func(ctx context.Context) error { return call(ctx, spec) })
	if s.answered(t, err, after, no) {
		for _, name := range s.world.Family(m.Name) {
			s.tell(t, name)
		}
	}
	s.requireStranded(t, m.Name, stranded, err)
}

// tell has all handles of a pool read its head: one that does not know of another spec yet may still tell an owner, by
// the old one, what it holds.
func (s *machine) tell(t *rapid.T, name string) {
	for _, p := range s.handles[name] {
		_, err := p.Snapshot(context.Background())
		require.NoError(t, err)
	}
}

// requireStranded requires an error, if it is about what would be stranded, to have the whole list for the pool, and
// nobody but those whom the model has, there or in pools that were delegated from it.
func (s *machine) requireStranded(t *rapid.T, name string, stranded map[string][]string, err error) {
	var list *pool.Error
	if !errors.Is(err, pool.ErrOutOfRange) {
		return
	}
	require.ErrorAs(t, err, &list)
	got := map[string]bool{}
	for _, a := range list.Allocations {
		got[a.Owner] = true
		known := slices.ContainsFunc(s.world.Family(name), func(each string) bool {
			r := s.world.Pools[each].Find(a.Owner)
			return r != nil && slices.Contains(stranded[each], a.Owner) && reflect.DeepEqual(r.Allocation, a)
		})
		require.True(t, known, "%v is not stranded: %v", a, stranded)
	}
	for _, owner := range stranded[name] {
		require.True(t, got[owner], "%q is missing in %v", owner, err)
	}
}

func (s *machine) Create(t *rapid.T) {
	spec := anyAddresses(t, partOf(t, firstUniverse()))
	anyPolicies(t, &spec)
	spec.Network = rapid.SampledFrom(s.networks).Draw(t, "network")
	s.create(t, spec)
}

// CreateOverHeld makes a pool in a network where another one holds something outside of its ranges.
func (s *machine) CreateOverHeld(t *rapid.T) {
	m := s.anyPool(t)
	held := m.OutOfRanges()
	if len(held) == 0 || m.IsChild() {
		t.Skip("it holds nothing there")
	}
	over := []netipx.IPRange{rapid.SampledFrom(held).Draw(t, "range")}
	s.create(t, pool.Spec{Ranges: over, IPv4: pool.FamilySpec{AllocateReserved: true}, Network: m.Spec.Network})
}

func (s *machine) create(t *rapid.T, spec pool.Spec) {
	name := rapid.SampledFrom(s.names).Draw(t, "name")
	after, no := s.world, world.Refusals{pool.ErrInvalid}
	if spec.Validate() == nil {
		after, no = s.world.Create(world.NewPool(name, firstUniverse(), spec))
	}
	var p *pool.Pool
	err := s.call(t, func(ctx context.Context) (err error) {
		p, err = pool.Create(ctx, s.base, name, spec, s.options)
		return err
	})
	if s.answered(t, err, after, no) {
		s.handles[name] = append(s.handles[name], p)
	}
}

func (s *machine) Delete(t *rapid.T) {
	name := rapid.SampledFrom(append(s.world.Names(), s.names...)).Draw(t, "name")
	del := func(ctx context.Context) error { return pool.Delete(ctx, s.base, name, s.options) }
	err := s.call(t, del)
	after, fails := s.world.Delete(name)
	s.answered(t, err, after, refusal(fails))
}

// Gone uses a handle of a pool that is deleted.
func (s *machine) Gone(t *rapid.T) {
	name := rapid.SampledFrom(s.names).Draw(t, "name")
	if s.world.Pools[name] != nil || len(s.handles[name]) == 0 {
		t.Skip("it is there, or never was")
	}
	p := s.handle(t, name)
	_, err := p.Allocate(context.Background(), pool.Claim{Owner: "a"})
	require.ErrorIs(t, err, pool.ErrNoPool)
	_, err = allocateMany(context.Background(), p, []pool.Claim{{Owner: "a"}, {Owner: "b"}})
	require.ErrorIs(t, err, pool.ErrNoPool)
	_, err = p.Snapshot(context.Background())
	require.ErrorIs(t, err, pool.ErrNoPool)
	_, err = p.Get(context.Background(), pool.Held{Owner: "a"})
	require.ErrorIs(t, err, pool.ErrNotFound)
}

func (s *machine) SetExternal(t *rapid.T) {
	const network = "net"
	var external []netipx.IPRange
	for range rapid.IntRange(0, 2).Draw(t, "ranges") {
		f := rapid.SampledFrom([]pool.Family{pool.IPv4, pool.IPv6}).Draw(t, "family")
		external = append(external, anyRange(partOf(t, firstUniverse())[f]).Draw(t, "external"))
	}
	drain := rapid.Bool().Draw(t, "drain")
	after, stranded, no := s.world.SetExternal(network, external, drain)
	err := s.call(t, func(ctx context.Context) error {
		return pool.SetExternal(ctx, s.base, network, external, drain, s.options)
	})
	if s.answered(t, err, after, no) {
		for _, name := range s.world.Names() {
			s.tell(t, name)
		}
	}
	var about *pool.Error
	if errors.As(err, &about) && errors.Is(err, pool.ErrOutOfRange) {
		s.requireStranded(t, about.Pool, stranded, err)
	}
}
