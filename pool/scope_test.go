package pool_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
)

func scoped(owner, scope string) pool.Claim { return pool.Claim{Owner: owner, Scope: scope} }

func TestPoolIsForOneScopeOrForAll(t *testing.T) {
	spec := specOf("10.0.0.0/29")
	spec.Scope = "team-a"
	inMemoryAndStored(t, spec, func(t *testing.T, b *trial) {
		a := allocate(t, b.Pool, scoped("x", "team-a"))
		require.Equal(t, "team-a", a.Scope)
		for _, other := range []string{"", "team-b", "team-a "} {
			_, err := b.another(t).Allocate(t.Context(), scoped("y", other))
			require.ErrorIs(t, err, pool.ErrScope, "%q", other)
			require.NotErrorIs(t, err, pool.ErrInvalid, "its own error")
		}
		_, err := b.DryRun(t.Context(), scoped("y", "team-b"))
		require.ErrorIs(t, err, pool.ErrScope)
		_, err = allocateAll(t.Context(), b, []pool.Claim{scoped("y", "team-a"), scoped("z", "team-b")})
		require.ErrorIs(t, err, pool.ErrScope)
		requireHoldsNothing(t, b.Pool, "y")
		spec.Scope = ""
		require.NoError(t, b.Update(t.Context(), spec))
		allocate(t, b.Pool, scoped("y", "team-b"))
		got, err := b.another(t).Get(t.Context(), pool.Held{Owner: "y"})
		require.NoError(t, err)
		require.Equal(t, "team-b", got.Scope, "it is kept")
	})
}

// An owner's name may be the same in two scopes by accident: neither gets what the other holds.
func TestWhatIsHeldIsOfTheScopeOfItsClaim(t *testing.T) {
	inMemoryAndStored(t, specOf("10.0.0.0/29"), func(t *testing.T, b *trial) {
		a := allocate(t, b.Pool, scoped("x", "team-a"))
		for _, other := range []string{"", "team-b"} {
			_, err := b.another(t).Allocate(t.Context(), scoped("x", other))
			require.ErrorIs(t, err, pool.ErrScope)
		}
		require.Equal(t, a, allocate(t, b.another(t), scoped("x", "team-a")))
		release(t, b.Pool, "x")
		require.Equal(t, "team-b", allocate(t, b.Pool, scoped("x", "team-b")).Scope, "nobody holds it any more")
	})
}

func TestScopesAndLabelsThatBreakARule(t *testing.T) {
	inMemoryAndStored(t, specOf("10.0.0.0/29"), func(t *testing.T, b *trial) {
		for name, c := range map[string]pool.Claim{
			"a NUL":          scoped("x", "a\x00"),
			"no UTF-8":       scoped("x", "\xff"),
			"too long":       scoped("x", strings.Repeat("x", store.MaxNameBytes+1)),
			"large labels":   {Owner: "x", Labels: map[string]string{"l": strings.Repeat("x", pool.MaxLabelBytes)}},
			"a broken label": {Owner: "x", Labels: map[string]string{"l": "\xff"}},
		} {
			_, err := b.Allocate(t.Context(), c)
			require.ErrorIs(t, err, pool.ErrInvalid, name)
		}
		spec := specOf("10.0.0.0/29")
		spec.Scope = "a\x00"
		require.ErrorIs(t, b.Update(t.Context(), spec), pool.ErrInvalid)
	})
}

func TestLabelsAreKeptWithWhatIsGranted(t *testing.T) {
	inMemoryAndStored(t, specOf("10.0.0.0/29"), func(t *testing.T, b *trial) {
		labels := map[string]string{"pod": "web-0", "node": "n1"}
		want := map[string]string{"pod": "web-0", "node": "n1"}
		a := allocate(t, b.Pool, pool.Claim{Owner: "x", Labels: labels, TTL: time.Hour})
		labels["pod"], a.Labels["pod"] = "changed by the caller", "too"
		again := allocate(t, b.another(t), pool.Claim{Owner: "x", Labels: map[string]string{"pod": "other"}, TTL: time.Hour})
		require.Equal(t, want, again.Labels, "who asks again keeps the first ones")
		_, err := b.Renew(t.Context(), pool.Held{Owner: "x"}, 2*time.Hour)
		require.NoError(t, err)
		got, err := b.another(t).Get(t.Context(), pool.Held{Addr: addr("10.0.0.0")})
		require.NoError(t, err)
		require.Equal(t, want, got.Labels)
	})
}
