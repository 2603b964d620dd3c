package metrics_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/pool/metrics"
	"github.com/ipalloc/ipalloc/store"
)

// How much of each quota is used, with the label and the value that it is about.
func TestQuotas(t *testing.T) {
	spec, err := pool.ParseSpec("192.0.2.0-192.0.2.7")
	require.NoError(t, err)
	spec.Quotas = []pool.Quota{{Label: "tenant", Percent: 50}}
	p, err := pool.New(spec, nil)
	require.NoError(t, err)
	m := metrics.New(nil)
	m.AddPool("pods", p)
	for _, tenant := range []string{"acme", "other", "acme"} {
		_, err = p.Allocate(t.Context(), pool.Claim{
			Owner: "owner of " + tenant, Labels: map[string]string{"tenant": tenant},
		})
		require.NoError(t, err)
	}
	gathered(t, m, `
# HELP ipalloc_quota_held Addresses that count for a quota: see pool.QuotaUse.
# TYPE ipalloc_quota_held gauge
ipalloc_quota_held{family="IPv4",label="tenant",pool="pods",value="acme"} 1
ipalloc_quota_held{family="IPv4",label="tenant",pool="pods",value="other"} 1
# HELP ipalloc_quota_most Addresses that the least of the quotas allows: see pool.QuotaUse.
# TYPE ipalloc_quota_most gauge
ipalloc_quota_most{family="IPv4",label="tenant",pool="pods",value="acme"} 3
ipalloc_quota_most{family="IPv4",label="tenant",pool="pods",value="other"} 3
`, "ipalloc_quota_held", "ipalloc_quota_most")
}

// What a pool remembers is counted, if it is to remember anything.
func TestHistory(t *testing.T) {
	spec, err := pool.ParseSpec("192.0.2.0-192.0.2.7")
	require.NoError(t, err)
	s, m := store.NewMemory(), metrics.New(nil)
	_, err = pool.Create(t.Context(), s, "forgetful", spec, &pool.Options{Observer: m})
	require.NoError(t, err)
	spec.History = time.Hour
	p, err := pool.Create(t.Context(), s, "pods", spec, &pool.Options{Observer: m})
	require.NoError(t, err)
	m.AddStore(s)
	for _, owner := range []string{"a", "b", "a"} {
		_, err = p.Allocate(t.Context(), pool.Claim{Owner: owner})
		require.NoError(t, err)
		_, err = p.Release(t.Context(), pool.Held{Owner: owner})
		require.NoError(t, err)
	}
	gathered(t, m, `
# HELP ipalloc_history Tenures that have ended and are remembered, at most.
# TYPE ipalloc_history gauge
ipalloc_history{pool="pods"} 3
`, "ipalloc_history")
}

// What is reserved is counted by owner, whether it is held or not, and what is kept by address.
func TestReservations(t *testing.T) {
	spec, err := pool.ParseSpec("192.0.2.0-192.0.2.7")
	require.NoError(t, err)
	s, m := store.NewMemory(), metrics.New(nil)
	p, err := pool.Create(t.Context(), s, "pods", spec, &pool.Options{Observer: m})
	require.NoError(t, err)
	m.AddStore(s)
	addr := netip.MustParseAddr("192.0.2.5")
	reserved := pool.Claim{Owner: "db-0", Requests: []pool.Request{pool.ExactAddr(addr)}}
	_, err = p.Reserve(t.Context(), reserved)
	require.NoError(t, err)
	_, err = p.Reserve(t.Context(), pool.Claim{Owner: "db-1"})
	require.NoError(t, err)
	_, err = p.Allocate(t.Context(), reserved)
	require.NoError(t, err)
	gathered(t, m, `
# HELP ipalloc_calls_total Calls that allocate, release or renew, by how they ended.
# TYPE ipalloc_calls_total counter
ipalloc_calls_total{call="allocate",pool="pods",result="ok"} 1
ipalloc_calls_total{call="reserve",pool="pods",result="ok"} 2
# HELP ipalloc_reservations Owners for whom something is reserved.
# TYPE ipalloc_reservations gauge
ipalloc_reservations{pool="pods"} 2
`, "ipalloc_calls_total", "ipalloc_reservations")
	require.InDelta(t, 1, sumOf(t, m, "kept"), 0)
	require.InDelta(t, 1, sumOf(t, m, "used"), 0)
}
