package pool_test

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/ipalloc/ipalloc/internal/world"
	"github.com/ipalloc/ipalloc/pool"
)

// Calls for several owners.

// Each does steps for a few owners, each by itself.
func (s *machine) Each(t *rapid.T) {
	m := s.anyPool(t)
	var steps []pool.Step
	var models []world.Step
	for range rapid.IntRange(0, 5).Draw(t, "steps") {
		step, model := s.anyStep(t, []string{m.Name}, rapid.SampledFrom(owners).Draw(t, "owner"))
		steps, models = append(steps, step), append(models, model)
	}
	s.skipIfOpen(t, models)
	p, latest := s.handle(t, m.Name), s.latest[m.Name]
	s.several = true
	results, err := each(context.Background(), p, steps)
	require.NoError(t, err)
	require.Len(t, results, len(steps))
	for i, result := range results {
		require.True(t, slices.Contains(s.handles[m.Name], result.Pool))
		s.stepDone(t, models[i], result, latest)
	}
}

// stepDone requires a step by itself to have come to what the model says.
func (s *machine) stepDone(t *rapid.T, step world.Step, got pool.Result, latest int64) {
	name := step.Pools[0]
	seen := s.sight(t, name, step.Held.Owner, got.Allocation, nil)
	after, _, want, no := s.world.All([]world.Step{step}, []world.Sight{seen})
	if len(no) > 0 {
		requireRefused(t, got.Err, no)
		require.Zero(t, got.Allocation)
		return
	}
	require.NoError(t, got.Err, "%+v", step)
	s.become(t, after)
	s.about(t, name, step, want[0], got.Allocation, latest)
}

// about requires what a step returned to be what the model says.
func (s *machine) about(
	t *rapid.T, name string, step world.Step, want *world.Record, got pool.Allocation, latest int64,
) {
	switch {
	case step.Claim != nil:
		s.granted(t, name, want, got, latest)
	case want == nil:
		require.Zero(t, got)
	case step.TTL > 0:
		s.granted(t, name, want, got, 0)
	default:
		s.gone(t, name, want, got)
	}
}

func (s *machine) Reconcile(t *rapid.T) {
	m := s.anyPool(t)
	s.skipUnsettled(t, m)
	live := map[string]bool{}
	for _, owner := range owners {
		live[owner] = rapid.IntRange(0, 2).Draw(t, "live") > 0
	}
	options := pool.ReconcileOptions{
		Grace:  time.Duration(rapid.SampledFrom([]int{0, 1, 2}).Draw(t, "grace")) * time.Minute,
		DryRun: rapid.IntRange(0, 3).Draw(t, "dry run") == 0,
	}
	p := s.handle(t, m.Name)
	mark, since := s.earlier[m.Name].mark, s.earlier[m.Name].revision
	if since == 0 || rapid.Bool().Draw(t, "now") {
		var err error
		mark, err = p.Mark(context.Background())
		require.NoError(t, err)
		info, err := p.Info(context.Background())
		require.NoError(t, err)
		since = info.Revision
	}
	got, err := p.Reconcile(context.Background(), mark, func(yield func(string, error) bool) {
		for _, owner := range slices.Sorted(maps.Keys(live)) {
			if live[owner] && !yield(owner, nil) {
				return
			}
		}
	}, &options)
	require.NoError(t, err)
	after, want := s.world.Reconcile(m.Name, live, since, options.Grace, got.Released)
	for _, each := range []*pool.Reconciliation{&got, &want} {
		slices.SortFunc(each.Released, world.ByAddr)
		slices.SortFunc(each.Missing, world.ByAddr)
		slices.SortFunc(each.Back, world.ByAddr)
	}
	require.Equal(t, want, got)
	if !options.DryRun {
		s.become(t, after)
	}
}
