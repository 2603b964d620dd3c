package pooltest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/internal/journal"
	"github.com/ipalloc/ipalloc/internal/world"
	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
)

// end commits to each pool, so that nothing lands any more, and then reads what is there. faults are what the pools
// themselves find wrong.
func (w World) end(
	t *testing.T, book *journal.Journal,
) (end journal.State, past map[ended]int, faults []string) {
	t.Helper()
	s, err := w.Open(t.Context())
	require.NoError(t, err)
	c := newClient(book, s, nil)
	// Pools come and go with a commit of their root. So first the roots, and then what is there.
	fenced := map[string]bool{}
	for _, name := range worldRoots {
		require.NoError(t, c.fence(t.Context(), name))
		fenced[name] = true
	}
	infos := listPools(t, s)
	for _, info := range infos {
		if !fenced[info.Name] {
			require.NoError(t, c.fence(t.Context(), info.Name))
		}
	}
	end.Places = worldPlaces()
	for _, info := range listPools(t, s) {
		found, fault := readPool(t, s, info)
		end.Pools = append(end.Pools, found)
		faults = append(faults, fault...)
	}
	if err := world.Audit(t.Context(), s); err != nil {
		faults = append(faults, err.Error())
	}
	past = readPast(t, s)
	require.NoError(t, s.Close())
	return end, past, faults
}

func listPools(t *testing.T, s store.Store) []pool.Info {
	t.Helper()
	var infos []pool.Info
	for info, err := range pool.List(t.Context(), s) {
		require.NoError(t, err)
		infos = append(infos, info)
	}
	return infos
}

// fence changes a pool, so that what was sent before comes too late. In a full pool it releases something.
func (c *client) fence(ctx context.Context, name string) error {
	p, err := pool.Open(ctx, c.store, name, nil)
	if err != nil {
		return err
	}
	_, err = p.Allocate(ctx, pool.Claim{Owner: worldFence})
	if errors.Is(err, pool.ErrExhausted) {
		return c.fenceFull(ctx, name, p)
	}
	if err != nil {
		return err
	}
	_, err = p.Release(ctx, pool.Held{Owner: worldFence})
	return err
}

// fenceFull releases what some owner holds, as a call that the journal has.
func (c *client) fenceFull(ctx context.Context, name string, p *pool.Pool) error {
	for a, err := range p.Allocations(ctx) {
		if err != nil || a.Child != "" {
			return cmp.Or(err, fmt.Errorf("%q is full of blocks", name))
		}
		return c.one(journal.Free, "Release", a.Owner, placeOf(name), "", func() (pool.Allocation, error) {
			return p.Release(ctx, pool.Held{Owner: a.Owner})
		})
	}
	return fmt.Errorf("%q is full, and nobody holds anything", name)
}

// readPool reads a pool, and what it finds wrong with itself.
func readPool(t *testing.T, s store.Store, info pool.Info) (found journal.Pool, faults []string) {
	t.Helper()
	p, err := pool.Open(t.Context(), s, info.Name, nil)
	require.NoError(t, err)
	report, err := p.Verify(t.Context())
	require.NoError(t, err)
	if !report.OK() {
		faults = append(faults, fmt.Sprintf("%s: %v", info.Name, report))
	}
	place := placeOf(info.Name)
	found = journal.Pool{Name: info.Name, Place: place, Delegated: !slices.Contains(worldRoots, info.Name)}
	found.Ranges = prefixesOf(info)
	for a, err := range p.Allocations(t.Context()) {
		require.NoError(t, err)
		found.Held = append(found.Held, journal.Found{Holding: holdingIn(place, a), Delegates: a.Child})
	}
	return found, faults
}

// prefixesOf are the ranges of a pool.
func prefixesOf(info pool.Info) []netip.Prefix {
	var all []netip.Prefix
	for _, r := range info.Spec.Ranges {
		all = append(all, r.Prefixes()...)
	}
	return all
}

// judge checks the journals in the folder.
func judge(t *testing.T, folder string, end journal.State, past map[ended]int, faults []string) {
	t.Helper()
	processes, err := journal.ReadAll(folder)
	require.NoError(t, err)
	calls, err := journal.Calls(processes...)
	require.NoError(t, err)
	logCalls(t, calls)
	for _, fault := range append(faults, checkPast(calls, end, past)...) {
		t.Error(fault)
	}
	const most = 3 // of each kind
	seen := map[string]int{}
	for _, v := range journal.Check(calls, end) {
		kind := string(v.Rule)
		if len(v.Calls) > 0 {
			kind += ": " + v.Calls[0].Intent.Call
		}
		if seen[kind]++; seen[kind] <= most {
			t.Error(v)
		}
	}
	assert.Empty(t, seen, "violations of each kind")
}

// logCalls logs how often each function was called with which outcome, and checks that there were enough calls.
func logCalls(t *testing.T, calls []journal.Call) {
	t.Helper()
	counts, outcomes := map[string]map[string]int{}, map[string]int{}
	for _, c := range calls {
		if c.Op == journal.Died {
			continue
		}
		outcome := cmp.Or(string(c.Outcome), "no return")
		if counts[c.Intent.Call] == nil {
			counts[c.Intent.Call] = map[string]int{}
		}
		counts[c.Intent.Call][outcome]++
		outcomes[outcome]++
	}
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		t.Logf("%s: %v", name, counts[name])
	}
	t.Logf("%d calls: %v", len(calls), outcomes)
	require.Greater(t, outcomes[string(journal.Done)], 20, "too few calls to show anything")
}
