package metrics_test

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/pool/metrics"
	"github.com/ipalloc/ipalloc/store"
)

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
