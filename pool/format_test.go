package pool_test

import (
	"context"
	"encoding/json"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/storetest"
)

// allRecords are all records of a store, by their keys.
func allRecords(t testing.TB, s store.Store) map[store.Key]store.Record {
	t.Helper()
	all := map[store.Key]store.Record{}
	for _, kind := range []store.Kind{
		store.KindPool, store.KindAllocation, store.KindCooling, store.KindSpace, store.KindNetwork,
		store.KindHistory,
	} {
		for r, err := range s.List(t.Context(), kind, "") {
			require.NoError(t, err)
			all[r.Key] = r
		}
	}
	return all
}

// replaceData makes text the data of a head, and state its state.
func replaceData(t testing.TB, s store.Store, key store.Key, state, text string) {
	t.Helper()
	head, err := s.Get(t.Context(), key)
	require.NoError(t, err)
	head.State, head.Data = state, json.RawMessage(text)
	_, err = storetest.CommitOne(t.Context(), s, head)
	require.NoError(t, err)
}

// requireNewer wants the error of a version that only a newer release knows.
func requireNewer(t testing.TB, err error) {
	t.Helper()
	require.ErrorIs(t, err, pool.ErrNewerFormat)
	require.ErrorIs(t, err, store.ErrNewerFormat)
	require.NotErrorIs(t, err, pool.ErrCorrupt)
	require.NotErrorIs(t, err, pool.ErrInvalid)
	require.ErrorContains(t, err, "has version 2, this program knows up to 1")
}

// What a newer release has written is refused, by each call that would read or change it, and nothing is changed.
func TestNewerHeadIsRefused(t *testing.T) {
	spec := specOf("10.0.0.0/24")
	calls := map[string]func(ctx context.Context, s store.Store, p *pool.Pool) error{
		"open": func(ctx context.Context, s store.Store, _ *pool.Pool) error {
			_, err := pool.Open(ctx, s, "blue", nil)
			return err
		},
		"ensure": func(ctx context.Context, s store.Store, _ *pool.Pool) error {
			_, err := pool.Ensure(ctx, s, "blue", spec, pool.Drain, nil)
			return err
		},
		"import": func(ctx context.Context, s store.Store, _ *pool.Pool) error {
			_, err := pool.Import(ctx, s, "blue", pool.Snapshot{Info: pool.Info{Spec: spec}}, nil)
			return err
		},
		"recover": func(ctx context.Context, s store.Store, _ *pool.Pool) error {
			_, err := pool.Recover(ctx, s, "blue", spec, nil)
			return err
		},
		"delete": func(ctx context.Context, s store.Store, _ *pool.Pool) error { return pool.Delete(ctx, s, "blue", nil) },
		"allocate": func(ctx context.Context, _ store.Store, p *pool.Pool) error {
			_, err := p.Allocate(ctx, pool.Claim{Owner: "new"})
			return err
		},
		"allocate and wait": func(ctx context.Context, _ store.Store, p *pool.Pool) error {
			_, err := p.AllocateWait(ctx, pool.Claim{Owner: "new"})
			return err
		},
		"release": func(ctx context.Context, _ store.Store, p *pool.Pool) error {
			_, err := p.Release(ctx, pool.Held{Owner: "a"})
			return err
		},
		"update": func(ctx context.Context, _ store.Store, p *pool.Pool) error {
			return p.Update(ctx, specOf("10.0.0.0/25"))
		},
		"delegate": func(ctx context.Context, _ store.Store, p *pool.Pool) error {
			_, _, err := pool.Delegate(ctx, p, ofBits("child", 28), "child", everyAddress(), nil)
			return err
		},
		"verify": func(ctx context.Context, _ store.Store, p *pool.Pool) error { _, err := p.Verify(ctx); return err },
		"repair": func(ctx context.Context, _ store.Store, p *pool.Pool) error { _, err := p.Repair(ctx); return err },
		"snapshot": func(ctx context.Context, _ store.Store, p *pool.Pool) error {
			_, err := p.Snapshot(ctx)
			return err
		},
		"info": func(ctx context.Context, _ store.Store, p *pool.Pool) error { _, err := p.Info(ctx); return err },
	}
	for state, text := range map[string]string{
		"active":    `{"format": 2, "spec": 7, "spaces": "none of this is as it was", "parent": []}`,
		"importing": `{"format": 2}`,
	} {
		for name, call := range calls {
			t.Run(name+" "+state, func(t *testing.T) {
				memory := store.NewMemory()
				p := create(t, memory, spec)
				allocate(t, p, pool.Claim{Owner: "a"})
				replaceData(t, memory, store.Key{Kind: store.KindPool, Pool: "blue"}, state, text)
				before := allRecords(t, memory)
				for range 2 { // the second time the handle knows
					requireNewer(t, call(t.Context(), memory.Open(), p))
				}
				_, err := pool.Create(t.Context(), memory, "blue", spec, nil)
				require.ErrorIs(t, err, pool.ErrExists)
				require.Equal(t, before, allRecords(t, memory))
			})
		}
	}
}

func TestNewerNetworkIsRefused(t *testing.T) {
	memory := store.NewMemory()
	spec := specOf("10.0.0.0/24")
	spec.Network = "net"
	p := create(t, memory, spec)
	other := createNamed(t, memory, "other", specOf("10.0.1.0/24"))
	replaceData(t, memory, store.Key{Kind: store.KindNetwork, Pool: "net"}, "active", `{"format": 2, "pools": []}`)
	before := allRecords(t, memory)
	joined := specOf("10.0.1.0/24")
	joined.Network = "net"
	requireNewer(t, other.Update(t.Context(), joined))
	requireNewer(t, pool.Delete(t.Context(), memory, "blue", nil))
	requireNewer(t, pool.SetExternal(t.Context(), memory, "net", ranges("10.0.0.9"), false, nil))
	for _, err := range pool.Networks(t.Context(), memory) {
		requireNewer(t, err)
	}
	require.Equal(t, before, allRecords(t, memory))
	require.Equal(t, "10.0.0.0", texts(allocate(t, p, pool.Claim{Owner: "a"})), "which does not concern the network")
}

// A format that no release has written is damage.
func TestFormatsThatNeverWere(t *testing.T) {
	for _, text := range []string{
		`{}`, `{"pools": {"blue": ["10.0.0.0/24"]}}`, `{"format": 0}`, `{"format": -1}`, `{"format": "2"}`,
		`{"format": 1e99}`,
	} {
		memory := store.NewMemory()
		spec := specOf("10.0.0.0/24")
		spec.Network = "net"
		create(t, memory, spec)
		for _, kind := range []store.Kind{store.KindPool, store.KindNetwork} {
			name := map[store.Kind]string{store.KindPool: "blue", store.KindNetwork: "net"}[kind]
			replaceData(t, memory, store.Key{Kind: kind, Pool: name}, "active", text)
		}
		_, err := pool.Open(t.Context(), memory, "blue", nil)
		require.ErrorIs(t, err, pool.ErrCorrupt, text)
		require.NotErrorIs(t, err, pool.ErrNewerFormat, text)
		for _, err := range pool.Networks(t.Context(), memory) {
			require.ErrorIs(t, err, pool.ErrCorrupt, text)
			require.NotErrorIs(t, err, pool.ErrNewerFormat, text)
		}
	}
}

// In Each, a pool of a newer format fails its own steps, and no other ones.
func TestNewerHeadFailsItsOwnSteps(t *testing.T) {
	memory := store.NewMemory()
	blue := create(t, memory, specOf("10.0.0.0/24"))
	other := createNamed(t, memory, "other", specOf("10.0.1.0/24"))
	replaceData(t, memory, store.Key{Kind: store.KindPool, Pool: "blue"}, "active", `{"format": 2}`)
	both := pool.Allocate(pool.Claim{Owner: "both"}).In(blue, other)
	alone := pool.Allocate(pool.Claim{Owner: "alone"})
	var results []pool.Result
	for r, err := range other.Each(t.Context(), slices.Values([]pool.Step{both, alone})) {
		require.NoError(t, err)
		results = append(results, r)
	}
	require.Len(t, results, 2)
	requireNewer(t, results[0].Err)
	require.NoError(t, results[1].Err)
	requireHoldsNothing(t, other, "both")
}
