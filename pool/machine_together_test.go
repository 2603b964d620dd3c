package pool_test

import (
	"context"
	"slices"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/ipalloc/ipalloc/internal/world"
	"github.com/ipalloc/ipalloc/pool"
)

// Calls of several steps, in several pools.

// All does up to four steps in several pools, all or nothing. An owner may have several in one pool, such as to
// exchange what it holds.
func (s *machine) All(t *rapid.T) {
	names := s.anyNames(t)
	if len(names) == 0 {
		t.Skip("there is no pool")
	}
	some := rapid.SliceOfNDistinct(rapid.SampledFrom(owners), 1, 2, rapid.ID[string]).Draw(t, "owners")
	var steps []pool.Step
	var models []world.Step
	for range rapid.IntRange(0, 4).Draw(t, "steps") {
		first := rapid.IntRange(0, len(names)-1).Draw(t, "pool")
		in := names[first:min(len(names), first+rapid.IntRange(1, 2).Draw(t, "alternatives"))]
		step, model := s.anyStep(t, in, rapid.SampledFrom(some).Draw(t, "owner"))
		steps, models = append(steps, step), append(models, model)
	}
	s.skipIfOpen(t, models)
	s.all(t, s.handle(t, names[0]), steps, models)
}

// Together makes the same claim for one owner in several pools.
func (s *machine) Together(t *rapid.T) {
	names := s.anyNames(t)
	if len(names) == 0 {
		t.Skip("there is no pool")
	}
	owner, release := rapid.SampledFrom(owners).Draw(t, "owner"), rapid.Bool().Draw(t, "release")
	var steps []pool.Step
	var models []world.Step
	for i := 0; i < len(names); i++ {
		in := names[i : i+1]
		model := world.Step{Held: pool.Held{Owner: owner, Optional: true}}
		step := pool.Release(model.Held)
		if !release {
			if i+1 < len(names) && rapid.Bool().Draw(t, "alternative") {
				in = names[i : i+2]
				i++
			}
			step, model = s.anyAllocation(t, in, owner)
		}
		model.Pools = in
		steps, models = append(steps, step.In(s.handlesOf(t, in)...)), append(models, model)
	}
	s.skipIfOpen(t, models)
	s.all(t, s.handle(t, names[0]), steps, models)
}

// Select makes a claim in the pools that have some labels, through handles of their own.
func (s *machine) Select(t *rapid.T) {
	if s.store == nil {
		t.Skip("in memory")
	}
	wanted := rapid.SampledFrom([]map[string]string{nil, {"zone": "a"}, {"zone": "b"}, {"": "é"}}).Draw(t, "labels")
	names := slices.DeleteFunc(s.pools(), func(name string) bool {
		for label, value := range wanted {
			if got, ok := s.world.Pools[name].Spec.Labels[label]; !ok || got != value {
				return true
			}
		}
		return false
	})
	slices.Sort(names)
	if len(names) == 0 {
		t.Skip("there is no such pool")
	}
	_, model := s.anyAllocation(t, names, rapid.SampledFrom(owners).Draw(t, "owner"))
	s.skipIfOpen(t, []world.Step{model})
	selection, err := pool.Select(s.store, wanted, model.Order, s.options)
	require.NoError(t, err)
	s.allBy(t, []world.Step{model}, func(ctx context.Context) ([]pool.Result, error) {
		got, err := selection.Allocate(ctx, *model.Claim)
		if err != nil {
			return nil, err
		}
		return []pool.Result{got}, nil
	})
}

// all makes a call of several steps.
func (s *machine) all(t *rapid.T, p *pool.Pool, steps []pool.Step, models []world.Step) {
	s.allBy(t, models, func(ctx context.Context) ([]pool.Result, error) { return p.All(ctx, steps...) })
}

func (s *machine) allBy(t *rapid.T, models []world.Step, do func(ctx context.Context) ([]pool.Result, error)) {
	var got []pool.Result
	err := s.call(t, func(ctx context.Context) (err error) {
		got, err = do(ctx)
		return err
	})
	seen, latest := make([]world.Sight, len(models)), map[string]int64{}
	for i, model := range models {
		for _, name := range model.Pools {
			latest[name] = s.latest[name]
			if err == nil {
				seen[i] = s.sight(t, name, model.Held.Owner, got[i].Allocation, nil)
			} else {
				seen[i].Prefixes = append(seen[i].Prefixes,
					s.sight(t, name, model.Held.Owner, pool.Allocation{}, err).Prefixes...)
			}
		}
	}
	after, chosen, want, no := s.world.All(models, seen)
	doubtful := s.mayHaveReleased(err, no)
	if doubtful {
		after, chosen, want, no = s.world.All(content(models), seen)
	}
	if !s.answered(t, err, after, no) {
		require.Nil(t, got)
		return
	}
	s.learnAll(t) // also of what later steps have changed again
	for i, name := range chosen {
		if s.store != nil {
			require.Equal(t, name, got[i].Pool.Name())
		} else {
			require.True(t, slices.Contains(s.handles[name], got[i].Pool))
		}
		again := slices.ContainsFunc(models[i+1:], func(m world.Step) bool { return m.Held.Owner == models[i].Held.Owner })
		if again && s.trouble.any() {
			continue // perhaps it was found out what had become of all of them, and not of each
		}
		if doubtful && want[i] == nil {
			continue // it returned what the handle took to be held
		}
		s.about(t, name, models[i], want[i], got[i].Allocation, latest[name])
	}
}

// content are the same steps, but those that release are content if nothing is held.
func content(steps []world.Step) []world.Step {
	steps = slices.Clone(steps)
	for i := range steps {
		if s := &steps[i]; s.Claim == nil && s.TTL == 0 {
			s.Held.Optional = true
		}
	}
	return steps
}

// anyStep draws a step for the owner in the first of these pools or, if it allocates, in the first that has room.
func (s *machine) anyStep(t *rapid.T, names []string, owner string) (pool.Step, world.Step) {
	m := s.world.Pools[names[0]]
	kind := rapid.IntRange(0, 7).Draw(t, "step")
	if kind < 3 {
		return s.anyAllocation(t, names, owner)
	}
	if kind == 3 {
		_, model := s.anyAllocation(t, names, owner)
		model.Claim.TTL, model.Claim.Share, model.Reserve = 0, "", true
		step := pool.Reserve(*model.Claim).In(s.handlesOf(t, names)...)
		step.Order = model.Order
		return step, model
	}
	model := world.Step{Pools: names[:1], Held: s.anyName(t, m)}
	if model.Held.Owner != "" {
		model.Held.Owner = owner
	}
	var step pool.Step
	switch kind {
	case 4:
		step = pool.Release(model.Held)
	case 5:
		model.Unreserve = true
		step = pool.Unreserve(model.Held)
	case 6:
		model.TTL = anyTTL(t) + time.Minute
		step = pool.Renew(model.Held, model.TTL)
	default:
		model.Quarantine = anyQuarantine(t)
		step = pool.Decline(model.Held, model.Quarantine)
	}
	return step.In(s.handlesOf(t, model.Pools)...), model
}

func (s *machine) anyAllocation(t *rapid.T, names []string, owner string) (pool.Step, world.Step) {
	c := anyClaim(s.world.Pools[names[0]]).Draw(t, "claim")
	c.Owner = owner
	for _, name := range names {
		if s.world.Pools[name].Spec.Strategy == pool.RandomFree && len(c.Requests) > 1 {
			c.Requests = c.Requests[:1]
		}
	}
	order := rapid.SampledFrom([]pool.Order{pool.AsGiven, pool.MostFree, pool.LeastUsed}).Draw(t, "order")
	model := world.Step{Pools: names, Order: order, Claim: &c, Held: pool.Held{Owner: owner}}
	step := pool.Allocate(c).In(s.handlesOf(t, names)...)
	step.Order = order
	return step, model
}

// handlesOf returns one handle of each pool, the same as often as it is asked in one step of the machine.
func (s *machine) handlesOf(_ *rapid.T, names []string) (handles []*pool.Pool) {
	for _, name := range names {
		handles = append(handles, s.handles[name][0])
	}
	return handles
}

// anyNames draws pools in any order, mostly not all: where one is in trouble the others are too.
func (s *machine) anyNames(t *rapid.T) []string {
	names := rapid.Permutation(s.pools()).Draw(t, "pools")
	return names[:rapid.IntRange(min(1, len(names)), len(names)).Draw(t, "how many")]
}

// skipIfOpen skips a call of which the model cannot tell what it does: which of several ended leases goes; what becomes
// of an ended lease whose owner takes part; which random address is drawn first; and whether a lost answer has what is
// granted and lost again in the call, which leaves no trace but the cursor, granted twice.
func (s *machine) skipIfOpen(t *rapid.T, steps []world.Step) {
	random := map[string]int{}
	for i, step := range steps {
		for _, name := range step.Pools {
			m := s.world.Pools[name]
			if step.Claim != nil && m.Spec.Strategy == pool.NextFree && s.store != nil && undoes(steps[i+1:], step.Held.Owner) {
				t.Skip("how often it is granted depends on what is lost")
			}
			ended := slices.ContainsFunc(m.Records, func(r *world.Record) bool { return r.Expired(s.world.Now) })
			if m.Tied(s.world.Now) || ended && len(steps) > 1 {
				t.Skip("which one goes is open")
			}
			if step.Claim != nil && m.Spec.Strategy == pool.RandomFree {
				if random[name]++; random[name] > 1 {
					t.Skip("whether the second one fails depends on what the first one gets")
				}
			}
		}
	}
}

// undoes reports whether any of the steps takes from the owner what an earlier one may have granted.
func undoes(steps []world.Step, owner string) bool {
	return slices.ContainsFunc(steps, func(s world.Step) bool {
		return s.Claim == nil && s.TTL == 0 && s.Held.Owner == owner
	})
}
