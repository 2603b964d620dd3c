package pool_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
)

func TestRenumber(t *testing.T) {
	ctx := context.Background()
	s := store.NewMemory()
	p, err := pool.Create(ctx, s, "site", specOf("2001:db8:1::/64"), nil)
	require.NoError(t, err)
	a, err := p.Allocate(ctx, pool.Claim{Owner: "a"})
	require.NoError(t, err)
	require.NoError(t, p.Renumber(ctx, prefix("2001:db8:1::/64"), prefix("2001:db8:2::/64")))
	got, err := p.Get(ctx, pool.Held{Addr: addr("2001:db8:2::")})
	require.NoError(t, err)
	require.Equal(t, a.Prefixes, got.Prefixes)
	require.Equal(t, "2001:db8:2::/128", got.Beside[0].String())
	require.NoError(t, p.FinishRenumber(ctx))
	got, err = p.Get(ctx, pool.Held{Owner: "a"})
	require.NoError(t, err)
	require.Equal(t, "2001:db8:2::/128", got.Prefixes[0].String())
	require.Empty(t, got.Beside)
}
