package durable_test

import (
	"errors"
	"net/netip"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/benchmarks/durable"
	"github.com/ipalloc/ipalloc/benchmarks/peer"
	"github.com/ipalloc/ipalloc/internal/unmet"
)

func TestMain(m *testing.M) {
	if durable.RunServer() {
		return
	}
	os.Exit(m.Run())
}

// TestKinds fills, closes, opens again, and expects that what is held is still held.
func TestKinds(t *testing.T) {
	prefix := netip.MustParsePrefix("10.0.0.0/24")
	owners := []string{"a", "b", "c", "d"}
	servers := durable.NewServers(t.TempDir())
	defer func() { require.NoError(t, servers.Close()) }()
	for _, k := range durable.Kinds() {
		t.Run(k.Name, func(t *testing.T) {
			address, end, err := k.Prepare(t.Context(), servers, t.TempDir())
			if errors.Is(err, durable.ErrNoServer) {
				unmet.Skip(t, err)
			}
			require.NoError(t, err)
			defer func() { require.NoError(t, end()) }()
			pool, err := k.Open(t.Context(), address, prefix)
			require.NoError(t, err)
			require.NoError(t, pool.Fill(t.Context(), owners))
			require.NoError(t, peer.CheckOwners(t.Context(), k.Name, pool, prefix))
			first, err := pool.Allocate(t.Context(), "e")
			require.NoError(t, err)
			require.NoError(t, pool.Close())
			pool, err = k.Open(t.Context(), address, prefix)
			require.NoError(t, err)
			second, err := pool.Allocate(t.Context(), "f")
			require.NoError(t, err)
			if !k.Floor {
				require.NotEqual(t, first, second)
			}
			requireAudit(t, pool, append(owners, "e", "f"))
			requireSwaps(t, pool)
			require.NoError(t, pool.Close())
		})
	}
}

// requireSwaps wants one swap to be possible after the other, where there are any.
func requireSwaps(t *testing.T, pool durable.Pool) {
	t.Helper()
	swapper, ok := pool.(durable.Swapper)
	if !ok {
		return
	}
	for range 3 {
		require.NoError(t, swapper.Swap(t.Context()))
	}
}

func requireAudit(t *testing.T, pool durable.Pool, owners []string) {
	t.Helper()
	auditor, ok := pool.(durable.Auditor)
	if !ok {
		return
	}
	held, err := auditor.Audit(t.Context())
	require.NoError(t, err)
	require.Len(t, held, len(owners))
	for _, owner := range owners {
		require.Contains(t, held, owner)
	}
}

func TestNamed(t *testing.T) {
	k, ok := durable.Named("bare bbolt")
	require.True(t, ok)
	require.True(t, k.Floor)
	_, ok = durable.Named("none")
	require.False(t, ok)
}
