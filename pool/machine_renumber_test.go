package pool_test

import (
	"context"
	"errors"
	"net/netip"
	"slices"

	"github.com/stretchr/testify/require"
	"go4.org/netipx"
	"pgregory.net/rapid"

	"github.com/ipalloc/ipalloc/internal/world"
	"github.com/ipalloc/ipalloc/pool"
)

// anyMove draws from which part of a universe to which a pool is to move: mostly where its spec can.
func anyMove(t *rapid.T, m *world.Pool) (from, to netip.Prefix) {
	if moves := movesOf(m); len(moves) > 0 && rapid.IntRange(0, 3).Draw(t, "anywhere") > 0 {
		n := rapid.SampledFrom(moves).Draw(t, "move")
		return n.From, n.To
	}
	universe := m.Universe[rapid.SampledFrom(m.Families()).Draw(t, "family that moves")]
	bits := universe.Bits() + rapid.IntRange(1, 3).Draw(t, "bits that move")
	from = netip.PrefixFrom(anyAddr(universe).Draw(t, "from"), bits).Masked()
	to = netip.PrefixFrom(anyAddr(universe).Draw(t, "to"), bits).Masked()
	if rapid.IntRange(0, 5).Draw(t, "to a larger one") == 0 {
		to = netip.PrefixFrom(to.Addr(), bits-1).Masked()
	}
	return from, to
}

// movesOf are moves of halves, quarters and eighths of a pool's universe that its spec admits.
func movesOf(m *world.Pool) (moves []pool.Renumbering) {
	for _, f := range m.Families() {
		universe := m.Universe[f]
		for bits := universe.Bits() + 1; bits <= universe.Bits()+3; bits++ {
			var parts []netip.Prefix
			for p := netip.PrefixFrom(universe.Addr(), bits); universe.Contains(p.Addr()); {
				parts = append(parts, p)
				p = netip.PrefixFrom(netipx.PrefixLastIP(p).Next(), bits)
			}
			for _, from := range parts {
				for _, to := range parts {
					if _, err := m.Spec.Renumbered(from, to); err == nil {
						moves = append(moves, pool.Renumbering{From: from, To: to})
					}
				}
			}
		}
	}
	return moves
}

// Fold gives a pool ranges in one part of its universe, so that it can be renumbered.
func (s *machine) Fold(t *rapid.T) { s.fold(t, s.anyPool(t)) }

func (s *machine) fold(t *rapid.T, m *world.Pool) {
	if m.IsChild() || m.Moving != (pool.Renumbering{}) {
		t.Skip("it cannot be renumbered")
	}
	spec := m.Spec
	spec.Ranges, spec.Bands = nil, nil
	part := partOf(t, m.Universe)
	for _, f := range m.Families() {
		spec.Ranges = append(spec.Ranges, anyRange(part[f]).Draw(t, "range"))
	}
	s.updateTo(t, m, spec)
}

// Renumber begins to renumber a pool, or goes on with it.
func (s *machine) Renumber(t *rapid.T) { s.renumber(t, s.anyPool(t)) }

func (s *machine) renumber(t *rapid.T, m *world.Pool) {
	if !m.Moving.From.IsValid() && len(movesOf(m)) == 0 && rapid.Bool().Draw(t, "fold") {
		s.fold(t, m)
		return
	}
	from, to := anyMove(t, m)
	if m.Moving.From.IsValid() && !m.Moving.Finishing && rapid.IntRange(0, 3).Draw(t, "go on") > 0 {
		from, to = m.Moving.From, m.Moving.To
	}
	p := s.handle(t, m.Name)
	after, stranded, no := s.world.Renumber(m.Name, from, to)
	s.planRenumber(t, p, m, after, no, from, to)
	err := s.call(t, func(ctx context.Context) error { return p.Renumber(ctx, from, to) })
	s.renumbered(t, m.Name, err, after, no)
	var list *pool.Error
	if errors.Is(err, pool.ErrOutOfRange) {
		require.ErrorAs(t, err, &list)
		require.Equal(t, slices.Compact(slices.Sorted(slices.Values(stranded[m.Name]))),
			slices.Compact(ownersIn(list.Allocations)))
	}
}

// planRenumber requires the plan to be what the model says.
func (s *machine) planRenumber(
	t *rapid.T, p *pool.Pool, m *world.Pool, after *world.World, no world.Refusals, from, to netip.Prefix,
) {
	plan, err := p.PlanRenumber(context.Background(), from, to)
	requireSame(t, s.world, m.Name, p)
	isObstacle := func(refusal error) bool { return errors.Is(refusal, pool.ErrOutOfRange) }
	if m.Moving != (pool.Renumbering{}) || len(no) > 0 && !slices.ContainsFunc(no, isObstacle) {
		require.Error(t, err)
		return
	}
	if err != nil {
		requireRefused(t, err, no) // for another reason
		return
	}
	require.Equal(t, len(no) == 0, plan.OK(), "%+v", plan.Moves)
	got := map[string]bool{}
	n := pool.Renumbering{From: from, To: to}
	for _, move := range plan.Moves {
		moved, _ := n.New(move.Old)
		require.Equal(t, moved, move.New)
		got[move.Owner+" "+move.Old.String()] = true
	}
	for _, r := range after.Pools[m.Name].Records {
		for _, old := range r.Prefixes {
			if _, moves := n.New(old); moves {
				require.True(t, got[r.Owner+" "+old.String()], "%v of %q", old, r.Owner)
			}
		}
	}
}

// FinishRenumber ends the renumbering of a pool, if there is one.
func (s *machine) FinishRenumber(t *rapid.T) {
	m := s.anyPool(t)
	if !m.Moving.From.IsValid() && rapid.IntRange(0, 3).Draw(t, "begin") > 0 {
		s.renumber(t, m)
		return
	}
	p := s.handle(t, m.Name)
	err := s.call(t, func(ctx context.Context) error { return p.FinishRenumber(ctx) })
	s.renumbered(t, m.Name, err, s.world.FinishRenumber(m.Name), nil)
}

// CancelRenumber takes back the renumbering of a pool, if there is one.
func (s *machine) CancelRenumber(t *rapid.T) {
	m := s.anyPool(t)
	if !m.Moving.From.IsValid() && rapid.IntRange(0, 3).Draw(t, "begin") > 0 {
		s.renumber(t, m)
		return
	}
	p := s.handle(t, m.Name)
	after, no := s.world.CancelRenumber(m.Name)
	err := s.call(t, func(ctx context.Context) error { return p.CancelRenumber(ctx) })
	s.renumbered(t, m.Name, err, after, no)
}

// renumbered requires a call that begins or ends a renumbering to have made the world the one after it, or to have been
// refused. If something went wrong, it may have done some: the world becomes what the head says, and the records of the
// pool need not be so yet.
func (s *machine) renumbered(t *rapid.T, name string, err error, after *world.World, no world.Refusals) {
	defer func() { s.tell(t, name) }()
	if !s.isTrouble(err) {
		if len(no) > 0 {
			requireRefused(t, err, no)
			return
		}
		require.NoError(t, err)
		s.become(t, after)
		delete(s.unsettled, name)
		return
	}
	fresh := s.handles[name][0]
	if s.store != nil {
		var opened error
		fresh, opened = pool.Open(context.Background(), s.store, name, s.options)
		require.NoError(t, opened)
	}
	info, failed := fresh.Info(context.Background())
	require.NoError(t, failed)
	switch was, is := s.world.Pools[name].Moving, info.Renumbering; {
	case was == is:
	case is.Finishing:
		s.become(t, s.world.GiveUp(name, is.Cancelled))
		s.cutShort(name)
	case is.From.IsValid():
		require.Empty(t, no)
		s.become(t, after)
		s.cutShort(name)
	default:
		s.become(t, after)
		delete(s.unsettled, name)
	}
}

// skipUnsettled skips an action that looks at records as they are, of a pool whose renumbering was cut short.
func (s *machine) skipUnsettled(t *rapid.T, m *world.Pool) {
	if s.unsettled[m.Name] {
		t.Skip("its records are not settled yet")
	}
}
