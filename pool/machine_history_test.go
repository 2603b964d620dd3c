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
	missing := map[tenureOf]*pool.Tenure{}
	for _, r := range m.Records {
		if goesOn := r.Tenure(); !r.Cooling && !s.isVague(m, goesOn) {
			missing[nameOf(goesOn)] = &goesOn
		}
	}
	past := slices.Clone(s.world.Past[m.Name])
	for i := range past {
		past[i].Due = past[i].Due || s.vague[m.Name] != nil && m.Spec.HistoryMost > 0
		if !s.isVague(m, past[i].Tenure) {
			missing[nameOf(past[i].Tenure)] = &past[i].Tenure
		}
	}
	if m.Spec.History == 0 {
		s.silent[m.Name] = true
	}
	latest := map[grantOf]pool.Tenure{}
	for _, got := range tenures(t, s.handle(t, m.Name), pool.HistoryQuery{}) {
		if s.isVague(m, got) {
			requireGoesOn(t, latest[nameOf(got).grantOf], got, s.silent[m.Name])
			latest[nameOf(got).grantOf] = got
			continue
		}
		name := nameOf(got)
		want := missing[name]
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
		delete(missing, name)
	}
	world.NoteDue(past, m.Spec, s.world.Now) // also for what this step has granted and released
	for _, p := range past {
		if p.Due {
			delete(missing, nameOf(p.Tenure))
		}
	}
	require.Empty(t, missing, "these are missing")
	s.world.Past[m.Name] = past
}

// cutShort notes that a renumbering of a pool was cut short: when the records of its owners follow, the model does not
// know.
func (s *machine) cutShort(name string) {
	s.unsettled[name] = true
	if s.vague[name] == nil {
		s.vague[name] = map[grantOf]bool{}
	}
	for _, a := range s.world.Pools[name].Held() {
		s.vague[name][grantOf{a.Owner, a.Generation}] = true
	}
}

// isVague reports whether the model does not know when a tenure began or ended.
func (s *machine) isVague(m *world.Pool, past pool.Tenure) bool {
	return s.vague[m.Name][nameOf(past).grantOf]
}

// requireGoesOn requires a tenure to go on where another one of the same grant has ended, if there is one. If nothing
// was recorded for a time, there may be more between them.
func requireGoesOn(t *rapid.T, before, next pool.Tenure, silent bool) {
	if before.Owner == "" || before.End == pool.Lapsed {
		return
	}
	require.Equal(t, pool.Renumbered, before.End, "%v, then %v", before, next)
	if silent {
		require.False(t, next.Created.Before(before.To), "%v, then %v", before, next)
		return
	}
	require.Equal(t, before.To, next.Created, "%v, then %v", before, next)
	require.NotEqual(t, sidesOf(before.Allocation), sidesOf(next.Allocation))
}
