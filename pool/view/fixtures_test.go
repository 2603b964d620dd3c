package view_test

import (
	"context"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/cidr"
	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
)

// moment is when the tests happen.
var moment = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)

func clock() time.Time { return moment }

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

// busy24 is a pool with some of everything: two teams, leases, a cooldown, exclusions, a band, a
// external range, and one held out of range.
func busy24(t testing.TB, s store.Store, name string) *pool.Pool {
	t.Helper()
	ctx := context.Background()
	spec := pool.Spec{
		Ranges:   must(cidr.ParseRanges("192.0.2.0/24")),
		Subnets:  []pool.Subnet{{Prefix: netip.MustParsePrefix("192.0.2.0/24"), Gateway: netip.MustParseAddr("192.0.2.1")}},
		Exclude:  must(cidr.ParseRanges("192.0.2.64-192.0.2.71")),
		Bands:    []pool.Band{{Name: "static", Ranges: must(cidr.ParseRanges("192.0.2.192/27")), Exclusive: true}},
		Cooldown: time.Hour, Network: "lab",
	}
	require.NoError(t, pool.SetExternal(ctx, s, "lab", must(cidr.ParseRanges("192.0.2.240/28")), false, nil))
	p, err := pool.Create(ctx, s, name, spec, &pool.Options{Clock: clock})
	require.NoError(t, err)
	for i := range 120 {
		claim := pool.Claim{
			Owner:  fmt.Sprintf("pod-%d", i),
			Labels: map[string]string{"team": []string{"web", "db", "web", "mail"}[i/7%4]},
		}
		if i%10 == 3 {
			claim.TTL = 10 * time.Minute
		}
		_, err := p.Allocate(ctx, claim)
		require.NoError(t, err)
	}
	for i := 5; i < 120; i += 9 {
		_, err := p.Release(ctx, pool.Held{Owner: fmt.Sprintf("pod-%d", i)})
		require.NoError(t, err)
	}
	_, err = p.Allocate(ctx, pool.Claim{Owner: "dns", Requests: []pool.Request{{Band: "static"}}})
	require.NoError(t, err)
	spec.Exclude = append(spec.Exclude, must(cidr.ParseRanges("192.0.2.100-192.0.2.102"))...)
	require.NoError(t, p.Drain(ctx, spec))
	return p
}

// holes16 is a /16 of which parts are held.
func holes16(t testing.TB, s store.Store, name string) *pool.Pool {
	t.Helper()
	ctx := context.Background()
	p, err := pool.Create(ctx, s, name, must(pool.ParseSpec("10.20.0.0/16")), &pool.Options{Clock: clock})
	require.NoError(t, err)
	var steps []pool.Step
	for i := range 4000 {
		block := []int{0, 0, 3, 7, 20, 77, 128, 129, 200, 255}[i%10]
		addr := netip.AddrFrom4([4]byte{10, 20, byte(block), byte(i/10 + 1)})
		if i/10+1 > 254 {
			break
		}
		if block == 77 && i%3 != 0 {
			continue
		}
		if i%10 == 1 {
			addr = netip.AddrFrom4([4]byte{10, 20, 1, byte(i/10 + 1)})
		}
		steps = append(steps, pool.Allocate(pool.Claim{
			Owner: fmt.Sprint("vm-", i), Requests: []pool.Request{pool.ExactAddr(addr)},
			Labels: map[string]string{"team": fmt.Sprint("team-", block%7)},
		}))
	}
	_, err = p.All(ctx, steps...)
	require.NoError(t, err)
	return p
}

// sparse64 is an IPv6 /64 with a few that are held, and a small IPv4 range.
func sparse64(t testing.TB, s store.Store, name string) *pool.Pool {
	t.Helper()
	ctx := context.Background()
	p, err := pool.Create(ctx, s, name, must(pool.ParseSpec("2001:db8:1:2::/64", "198.51.100.10-198.51.100.29/24")),
		&pool.Options{Clock: clock})
	require.NoError(t, err)
	for i, addr := range []string{
		"2001:db8:1:2::53", "2001:db8:1:2:8000::1", "2001:db8:1:2:c123::1", "2001:db8:1:2:4567:89ab:cdef:1",
	} {
		_, err := p.Allocate(ctx, pool.Claim{
			Owner: fmt.Sprint("host-", i), Requests: []pool.Request{pool.ExactAddr(netip.MustParseAddr(addr))},
			Labels: map[string]string{"team": "web"},
		})
		require.NoError(t, err)
	}
	for i := range 9 {
		_, err := p.Allocate(ctx, pool.Claim{Owner: fmt.Sprint("lab-", i), Requests: []pool.Request{{Family: pool.IPv4}}})
		require.NoError(t, err)
	}
	return p
}
