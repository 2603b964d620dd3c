package pool_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/ipalloc/ipalloc/pool"
)

// All that is handed out, until nothing is left, is exactly what may be: nothing withheld, and nothing held back.
func TestInvariant5NothingWithheldIsHandedOut(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := anyModel().Draw(t, "pool")
		m.Spec.IPv4.MaxBits, m.Spec.IPv6.MaxBits = 0, 0
		p, err := pool.New(m.Spec, nil)
		require.NoError(t, err)
		got := map[netip.Addr]bool{}
		for _, f := range m.Families() {
			for i := 0; ; i++ {
				c := pool.Claim{Owner: fmt.Sprint(f, i), Requests: []pool.Request{{Family: f, Bits: f.Width()}}}
				a, err := p.Allocate(context.Background(), c)
				if errors.Is(err, pool.ErrExhausted) {
					break
				}
				require.NoError(t, err)
				got[a.Addrs()[0]] = true
			}
		}
		for a, allowed := range m.Allowed {
			require.Equal(t, allowed, got[a], "%v", a)
			if !allowed {
				c := pool.Claim{Owner: "asks for it", Requests: []pool.Request{pool.ExactAddr(a)}}
				_, err := p.Allocate(context.Background(), c)
				require.ErrorIs(t, err, pool.ErrNotInPool, "%v", a)
				require.ErrorContains(t, err, a.String())
			}
			delete(got, a)
		}
		require.Empty(t, got)
	})
}

func TestInvariant9SpecSurvivesItsText(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := anyModel().Draw(t, "pool").Spec
		anyPolicies(t, &want)
		text, err := json.Marshal(want)
		require.NoError(t, err)
		var got pool.Spec
		require.NoError(t, json.Unmarshal(text, &got))
		require.Equal(t, want, got)
	})
}
