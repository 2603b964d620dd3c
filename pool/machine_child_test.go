package pool_test

import (
	"context"

	"pgregory.net/rapid"

	"github.com/ipalloc/ipalloc/internal/world"
	"github.com/ipalloc/ipalloc/pool"
)

// Pools within pools.

// anyGrantClaim draws a claim for what a pool is to be delegated from: a block, or anything.
func anyGrantClaim(t *rapid.T, m *world.Pool) pool.Claim {
	c := anyClaim(m).Draw(t, "claim")
	c.TTL = 0
	if rapid.IntRange(0, 9).Draw(t, "with a share key") > 0 {
		c.Share = ""
	}
	if f := m.Families()[0]; rapid.Bool().Draw(t, "block") {
		c.Policy, c.Requests = "", []pool.Request{{Family: f, Bits: f.Width() - rapid.IntRange(1, 4).Draw(t, "bits")}}
	}
	return c
}

// anyChildSpec draws the spec of a pool to be delegated.
func anyChildSpec(t *rapid.T, m *world.Pool) pool.Spec {
	spec := anyReserved(t)
	spec.Ranges = ranges("10.0.0.1")
	anyPolicies(t, &spec)
	spec.Ranges, spec.Bands = nil, nil
	spec.Network = rapid.SampledFrom([]string{"", "", m.Spec.Network, "net"}).Draw(t, "network")
	return spec
}

// Delegate makes a pool of what another one grants.
func (s *machine) Delegate(t *rapid.T) {
	m := s.anyPool(t)
	c, spec := anyGrantClaim(t, m), anyChildSpec(t, m)
	name := rapid.SampledFrom(s.names).Draw(t, "name")
	if r := m.Live(c.Owner); r != nil && r.Child != "" && s.world.ChildOf(m.Name, r) == nil {
		t.Skip("its child did not come with it when it was imported")
	}
	parent := s.handle(t, m.Name)
	latest := s.latest[m.Name]
	var p *pool.Pool
	err := s.call(t, func(ctx context.Context) (err error) {
		p, _, err = pool.Delegate(ctx, parent, c, name, spec, s.options)
		return err
	})
	got, _ := s.handles[m.Name][0].Get(context.Background(), pool.Held{Owner: c.Owner})
	child := world.NewPool(name, firstUniverse(), spec)
	after, want, no := s.world.Delegate(m.Name, c, child, s.sight(t, m.Name, c.Owner, got, err))
	if s.answered(t, err, after, no) {
		s.granted(t, m.Name, want, got, latest)
		s.handles[name] = append(s.handles[name], p)
	}
}

// anyChild draws a pool that was delegated, and a handle of it that can extend it.
func (s *machine) anyChild(t *rapid.T) (*world.Pool, *pool.Pool) {
	m := s.anyPool(t)
	if !m.IsChild() {
		t.Skip("it was not delegated")
	}
	return m, s.handle(t, m.Name)
}

// Extend gives a child another grant of its parent.
func (s *machine) Extend(t *rapid.T) {
	m, p := s.anyChild(t)
	parent := s.world.Pools[m.Parent]
	c, latest := anyGrantClaim(t, parent), s.latest[m.Parent]
	err := s.call(t, func(ctx context.Context) error {
		_, err := p.Extend(ctx, c)
		return err
	})
	got, _ := s.handles[m.Parent][0].Get(context.Background(), pool.Held{Owner: c.Owner})
	after, want, no := s.world.Extend(m.Name, c, s.sight(t, m.Parent, c.Owner, got, err))
	if s.answered(t, err, after, no) {
		s.granted(t, m.Parent, want, got, latest)
	}
}

// Retract gives a grant of a child back to its parent.
func (s *machine) Retract(t *rapid.T) {
	m, p := s.anyChild(t)
	owner := rapid.SampledFrom(append(m.Grants, owners...)).Draw(t, "owner")
	err := s.call(t, func(ctx context.Context) error {
		_, err := p.Retract(ctx, owner)
		return err
	})
	after, no := s.world.Retract(m.Name, owner)
	s.answered(t, err, after, no)
}
