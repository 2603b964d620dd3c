package pool_test

import (
	"slices"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/ipalloc/ipalloc/internal/world"
	"github.com/ipalloc/ipalloc/pool"
)

// anyHistory draws for how long, and how much, a pool in a store remembers: mostly all that has been.
func (s *machine) anyHistory(t *rapid.T, spec *pool.Spec) {
	if s.store == nil && rapid.IntRange(0, 9).Draw(t, "with a history") > 0 {
		return
	}
	minutes := rapid.SampledFrom([]int{0, 2, 1_000_000, 1_000_000, 1_000_000}).Draw(t, "history")
	spec.History, spec.HistoryMost = time.Duration(minutes)*time.Minute, 0
	if minutes > 0 {
		spec.HistoryMost = rapid.SampledFrom([]int{0, 0, 3}).Draw(t, "most")
	}
}

// checkHistory compares the histories with the model, which learns what has ended in the last step.
func (s *machine) checkHistory(t *rapid.T) {
	if s.store == nil {
		return
	}
	if s.checked != nil {
		s.step++
		s.world = s.world.Since(s.checked, s.step)
	}
	s.checked = s.world
	for _, name := range s.world.Names() {
		s.requireHistory(t, s.world.Pools[name])
	}
	s.several = false
}

// requireHistory requires the history of a pool to be that of the model.
func (s *machine) requireHistory(t *rapid.T, m *world.Pool) {
	missing := map[grantOf]*pool.Tenure{}
	for _, r := range m.Records {
		if !r.Cooling {
			missing[grantOf{r.Owner, r.Generation}] = &pool.Tenure{Allocation: r.Allocation}
		}
	}
	past := slices.Clone(s.world.Past[m.Name])
	for i := range past {
		missing[grantOf{past[i].Owner, past[i].Generation}] = &past[i].Tenure
	}
	for _, got := range tenures(t, s.handle(t, m.Name), pool.HistoryQuery{}) {
		g := grantOf{got.Owner, got.Generation}
		want := missing[g]
		if want == nil { // of a commit between two of one step
			require.Equal(t, s.world.Now, got.Created, "%v", got)
			require.Equal(t, got.Created, got.To, "%v", got)
			past = append(past, world.Past{Tenure: got, Step: s.step})
			continue
		}
		if s.several && !want.To.IsZero() { // a step may have renewed or reserved it before
			want.To, want.End, want.Expires, want.Reserved = got.To, got.End, got.Expires, got.Reserved
		}
		require.Equal(t, *want, got)
		delete(missing, g)
	}
	world.NoteDue(past, m.Spec, s.world.Now) // also for what this step has granted and released
	for _, p := range past {
		if left := missing[grantOf{p.Owner, p.Generation}]; left != nil && p.Due {
			delete(missing, grantOf{p.Owner, p.Generation})
		}
	}
	require.Empty(t, missing, "these are missing")
	s.world.Past[m.Name] = past
}
