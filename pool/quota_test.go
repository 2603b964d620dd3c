package pool_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/cidr"
	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
)

// withQuotas is a spec of these ranges with quotas.
func withQuotas(text string, quotas ...pool.Quota) pool.Spec {
	spec := specOf(text)
	spec.Quotas = quotas
	return spec
}

func ofTenant(owner, tenant string) pool.Claim {
	return pool.Claim{Owner: owner, Labels: map[string]string{"tenant": tenant}}
}

func requireQuota(t *testing.T, err error, want pool.QuotaUse) {
	t.Helper()
	require.ErrorIs(t, err, pool.ErrQuota)
	var failed *pool.Error
	require.ErrorAs(t, err, &failed)
	require.Equal(t, want, failed.Quota)
}

// A claim that would exceed a quota is refused with the figures; others, and what is held, are not affected.
func TestQuota(t *testing.T) {
	spec := withQuotas("10.0.0.0/24", pool.Quota{Label: "tenant", Value: "acme", Addresses: cidr.CountOf(2)})
	inMemoryAndStored(t, spec, func(t *testing.T, p *trial) {
		allocate(t, p.Pool, ofTenant("a", "acme"))
		allocate(t, p.Pool, ofTenant("b", "acme"))
		_, err := p.Allocate(t.Context(), ofTenant("c", "acme"))
		requireQuota(t, err, pool.QuotaUse{
			Label: "tenant", Value: "acme", Family: pool.IPv4, Held: cidr.CountOf(3), Most: cidr.CountOf(2),
		})
		require.ErrorContains(t, err,
			`allocate for "c": over quota: the label "tenant" = "acme" would hold 3 of at most 2 IPv4 addresses`)
		allocate(t, p.Pool, ofTenant("a", "acme"))
		allocate(t, p.Pool, ofTenant("d", "other"))
		allocate(t, p.Pool, pool.Claim{Owner: "e"})
		release(t, p.Pool, "a")
		allocate(t, p.Pool, ofTenant("c", "acme"))

		lower := spec
		lower.Quotas = []pool.Quota{{Label: "tenant", Value: "acme", Addresses: cidr.CountOf(1)}}
		require.NoError(t, p.Update(t.Context(), lower))
		allocate(t, p.Pool, ofTenant("b", "acme"))
		info, err := p.Info(t.Context())
		require.NoError(t, err)
		require.Equal(t, []pool.QuotaUse{{
			Label: "tenant", Value: "acme", Family: pool.IPv4, Held: cidr.CountOf(2), Most: cidr.CountOf(1),
		}}, info.Quotas, "what is held stays held")
		release(t, p.Pool, "b")
		_, err = p.Allocate(t.Context(), ofTenant("b", "acme"))
		require.ErrorIs(t, err, pool.ErrQuota)
	})
}

// A quota for each value counts them apart; a share is one of what the pool hands out; prefixes count with all their
// addresses; each family counts by itself.
func TestQuotaOfEachValue(t *testing.T) {
	spec := specOf("10.0.0.0/24", "2001:db8::/120")
	spec.Quotas = []pool.Quota{
		{Percent: 5},
		{Value: "small", Family: pool.IPv6, Addresses: cidr.CountOf(4)},
	}
	inMemoryAndStored(t, spec, func(t *testing.T, p *trial) {
		ask := func(owner, scope string, bits4, bits6 int) error {
			_, err := p.Allocate(t.Context(), pool.Claim{Owner: owner, Scope: scope, Requests: []pool.Request{
				{Family: pool.IPv4, Bits: bits4}, {Family: pool.IPv6, Bits: bits6},
			}})
			return err
		}
		require.NoError(t, ask("a", "big", 29, 125))
		requireQuota(t, ask("b", "big", 29, 125), pool.QuotaUse{
			Value: "big", Family: pool.IPv4, Held: cidr.CountOf(16), Most: cidr.CountOf(12), // 5 % of 254
		})
		require.NoError(t, ask("b", "big", 30, 126))
		requireQuota(t, ask("c", "small", 32, 125), pool.QuotaUse{
			Value: "small", Family: pool.IPv6, Held: cidr.CountOf(8), Most: cidr.CountOf(4),
		})
		require.NoError(t, ask("c", "small", 32, 126))
		require.NoError(t, ask("d", "", 28, 124), "without a scope")
		info, err := p.Info(t.Context())
		require.NoError(t, err)
		require.Len(t, info.Quotas, 4)
	})
}

// Leases that have ended, and what cools down, do not count; what is reserved does.
func TestWhatCountsForAQuota(t *testing.T) {
	spec := withQuotas("10.0.0.0/24", pool.Quota{Label: "tenant", Addresses: cidr.CountOf(2)})
	spec.Cooldown = time.Hour
	inMemoryAndStored(t, spec, func(t *testing.T, p *trial) {
		for _, owner := range []string{"a", "b"} {
			c := ofTenant(owner, "acme")
			c.TTL = time.Minute
			allocate(t, p.Pool, c)
		}
		_, err := p.Allocate(t.Context(), ofTenant("c", "acme"))
		var failed *pool.Error
		require.ErrorAs(t, err, &failed)
		require.Equal(t, p.clock.Now().Add(time.Minute).UTC(), failed.Next)
		p.clock.Add(time.Minute)
		allocate(t, p.Pool, ofTenant("c", "acme"))
		allocate(t, p.Pool, ofTenant("d", "acme"))
		release(t, p.Pool, "c") // which cools down
		reserve(t, p.Pool, ofTenant("e", "acme"))
		_, err = p.Allocate(t.Context(), ofTenant("f", "acme"))
		require.ErrorIs(t, err, pool.ErrQuota)
		allocate(t, p.Pool, ofTenant("e", "acme"))
		_, err = p.Unreserve(t.Context(), pool.Held{Owner: "e"})
		require.NoError(t, err)
		release(t, p.Pool, "e")
		allocate(t, p.Pool, ofTenant("f", "acme"))
	})
}

// What was reserved for one tenant does not let another one exceed its quota.
func TestQuotaOfAReservation(t *testing.T) {
	spec := withQuotas("10.0.0.0/24", pool.Quota{Label: "tenant", Addresses: cidr.CountOf(1)})
	inMemoryAndStored(t, spec, func(t *testing.T, p *trial) {
		reserve(t, p.Pool, ofTenant("vm", "acme"))
		allocate(t, p.Pool, ofTenant("other", "evil"))
		_, err := p.Allocate(t.Context(), ofTenant("vm", "evil"))
		require.ErrorIs(t, err, pool.ErrQuota)
		allocate(t, p.Pool, ofTenant("vm", "acme"))
	})
}

// A lease that has ended, and whose address the claim takes, is freed once.
func TestQuotaAfterTakingOverALease(t *testing.T) {
	inMemoryAndStored(t, specOf("10.0.0.0-10.0.0.3"), func(t *testing.T, p *trial) {
		allocate(t, p.Pool, ofTenant("a", "acme"))
		ended := ofTenant("b", "acme")
		ended.TTL = time.Minute
		allocate(t, p.Pool, ended)
		p.clock.Add(time.Minute)
		spec := withQuotas("10.0.0.0-10.0.0.3", pool.Quota{Label: "tenant", Addresses: cidr.CountOf(1)})
		require.NoError(t, p.Update(t.Context(), spec))
		c := ofTenant("c", "acme")
		c.Requests = []pool.Request{pool.ExactAddr(addr("10.0.0.1"))}
		_, err := p.Allocate(t.Context(), c)
		require.ErrorIs(t, err, pool.ErrQuota)
		release(t, p.Pool, "a")
		allocate(t, p.Pool, c)
		require.Equal(t, [4]uint64{1, 0, 0, 3}, countsV4(t, p.Pool))
	})
}

// However many handles and goroutines claim at once, exactly as many are granted as the quota allows.
func TestQuotaIsExact(t *testing.T) {
	const most, claims, handles = 50, 200, 4
	s := store.NewMemory()
	spec := withQuotas("10.0.0.0/20", pool.Quota{Label: "tenant", Addresses: cidr.CountOf(most)})
	_, err := pool.Create(t.Context(), s, "p", spec, nil)
	require.NoError(t, err)
	var granted, refused atomic.Int64
	var wg sync.WaitGroup
	for h := range handles {
		p, err := pool.Open(t.Context(), s.Open(), "p", nil)
		require.NoError(t, err)
		for i := range claims / handles {
			wg.Go(func() {
				_, err := p.Allocate(t.Context(), ofTenant(fmt.Sprint(h, "/", i), "acme"))
				switch {
				case err == nil:
					granted.Add(1)
				case errors.Is(err, pool.ErrQuota):
					refused.Add(1)
				default:
					t.Error(err)
				}
			})
		}
	}
	wg.Wait()
	require.EqualValues(t, most, granted.Load())
	require.EqualValues(t, claims-most, refused.Load())
}

// Quotas that begin are about what is held already, and a change of quotas alone is one of the spec.
func TestQuotasBegin(t *testing.T) {
	inMemoryAndStored(t, specOf("10.0.0.0/24"), func(t *testing.T, p *trial) {
		for i := range 5 {
			allocate(t, p.Pool, ofTenant(fmt.Sprint(i), "acme"))
		}
		spec := withQuotas("10.0.0.0/24", pool.Quota{Label: "tenant", Value: "acme", Addresses: cidr.CountOf(6)})
		require.False(t, spec.Equal(specOf("10.0.0.0/24")))
		require.NoError(t, p.Update(t.Context(), spec))
		allocate(t, p.Pool, ofTenant("6", "acme"))
		_, err := p.Allocate(t.Context(), ofTenant("7", "acme"))
		require.ErrorIs(t, err, pool.ErrQuota)
		text, err := json.Marshal(spec)
		require.NoError(t, err)
		require.Contains(t, string(text), `"quotas":[{"label":"tenant","value":"acme","addresses":"6"}]`)
		var read pool.Spec
		require.NoError(t, json.Unmarshal(text, &read))
		require.True(t, spec.Equal(read))
	})
}

// Several pools: another one grants what the quota of the first one refuses.
func TestQuotaElsewhere(t *testing.T) {
	s := store.NewMemory()
	full, err := pool.Create(t.Context(), s, "full",
		withQuotas("10.0.0.0/24", pool.Quota{Label: "tenant", Addresses: cidr.CountOf(1)}), nil)
	require.NoError(t, err)
	other, err := pool.Create(t.Context(), s, "other", specOf("10.0.1.0/24"), nil)
	require.NoError(t, err)
	for i, want := range []*pool.Pool{full, other} {
		results, err := full.All(t.Context(), pool.Allocate(ofTenant(fmt.Sprint(i), "acme")).In(full, other))
		require.NoError(t, err)
		require.Same(t, want, results[0].Pool)
	}
}

// A pool counts so many scopes and values at a time, and refuses a claim of one more.
func TestTooManyQuotaValues(t *testing.T) {
	p, err := pool.New(withQuotas("10.0.0.0/16", pool.Quota{Label: "tenant", Percent: 1}), nil)
	require.NoError(t, err)
	for i := range pool.MaxQuotaValues {
		allocate(t, p, ofTenant(fmt.Sprint(i), fmt.Sprint("tenant-", i)))
	}
	_, err = p.Allocate(t.Context(), ofTenant("more", "one more"))
	require.ErrorIs(t, err, pool.ErrQuota)
	require.ErrorContains(t, err, `the label "tenant" = "one more" cannot be counted beside 4096 others`)
	allocate(t, p, ofTenant("again", "tenant-7"))
	release(t, p, "8")
	allocate(t, p, ofTenant("more", "one more"))
}

func TestQuotaRules(t *testing.T) {
	ten := cidr.CountOf(10)
	for want, quotas := range map[string][]pool.Quota{
		"has 0 addresses and 0 percent":  {{Label: "tenant"}},
		"has 10 addresses and 5 percent": {{Label: "tenant", Addresses: ten, Percent: 5}},
		"is 101 percent, want 1 to 100":  {{Label: "tenant", Percent: 101}},
		"is -1 percent":                  {{Percent: -1}},
		"is for Family(7)":               {{Addresses: ten, Family: 7}},
		`two quotas are about the label "t" = "v"`: {
			{Label: "t", Value: "v", Percent: 1}, {Label: "t", Value: "v", Percent: 2},
		},
		"two quotas are about the scope":             {{Percent: 1}, {Addresses: ten}},
		"is not UTF-8":                               {{Label: "\xff", Percent: 1}},
		"bytes of label and value, the most is 4096": {{Label: strings.Repeat("l", 5000), Percent: 1}},
		"the pool has 1025 quotas, the most is 1024": make([]pool.Quota, 1025),
	} {
		err := withQuotas("10.0.0.0/24", quotas...).Validate()
		require.ErrorIs(t, err, pool.ErrInvalid)
		require.ErrorContains(t, err, want)
	}
	require.NoError(t, withQuotas("10.0.0.0/24", pool.Quota{Percent: 100}, pool.Quota{Family: pool.IPv4, Percent: 1},
		pool.Quota{Value: "a", Percent: 1}).Validate())
}
