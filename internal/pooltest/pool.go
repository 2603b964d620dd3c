package pooltest

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/cidr"
	"github.com/ipalloc/ipalloc/pool"
)

// Name is the name of the pool that tests and benchmarks work on.
const Name = "blue"

const (
	workers       = 16
	workerOwners  = 64  // of each worker
	settledOwners = 800 // who hold addresses all the time, scattered, so that the free space needs more than the head
)

// Spec is a pool of both families in which some addresses must never be handed out.
func Spec(t testing.TB) pool.Spec {
	t.Helper()
	ranges, err := cidr.ParseRanges("10.0.0.0/16", "fd00::/64")
	require.NoError(t, err)
	excluded, err := cidr.ParseRanges("10.0.0.8-10.0.0.15", "fd00::10-fd00::1f")
	require.NoError(t, err)
	return pool.Spec{Ranges: ranges, Exclude: excluded, Subnets: []pool.Subnet{
		{Prefix: netip.MustParsePrefix("10.0.0.0/16"), Gateway: netip.MustParseAddr("10.0.0.1")},
		{Prefix: netip.MustParsePrefix("fd00::/64"), Gateway: netip.MustParseAddr("fd00::1")},
	}}
}

// Claim is the claim of the n-th owner of a worker, always the same one: so asking again must give the same answer. The
// addresses asked for exactly are far from the lowest free ones.
func Claim(worker, n int) pool.Claim {
	c := pool.Claim{Owner: fmt.Sprintf("worker-%d/%d", worker, n), Labels: nodeLabels(n)}
	switch n % 4 {
	case 0: // one IPv4 address
	case 1:
		c.Policy = pool.RequireDualStack
	case 2:
		c.Requests = []pool.Request{{Family: pool.IPv6, Bits: 124}, {Family: pool.IPv4}}
	case 3:
		c.Requests = scattered(128, worker*workerOwners+n)
	}
	return c
}

// nodes is how many values the label "node" has.
const nodes = 3

// nodeLabels are the labels of the n-th owner, which two of three have.
func nodeLabels(n int) map[string]string {
	if n%3 == 0 {
		return nil
	}
	return map[string]string{"node": fmt.Sprint(n / 3 % nodes)}
}

func settledClaim(n int) pool.Claim {
	return pool.Claim{Owner: fmt.Sprintf("settled/%d", n), Requests: scattered(64, n)}
}

// scattered asks for the n-th of the addresses that are strewn over a quarter of the pool.
func scattered(quarter byte, n int) []pool.Request {
	v4 := netip.AddrFrom4([4]byte{10, 0, quarter + byte(n>>4), byte(n << 4)})
	v6 := netip.AddrFrom16([16]byte{0: 0xfd, 11: quarter, 12: byte(n >> 8), 13: byte(n), 15: 7})
	return []pool.Request{pool.ExactAddr(v4), pool.ExactAddr(v6)}
}

// AllocateAll makes each claim, from many goroutines, so that there are few commits. It returns the
// allocations in the order of the claims.
func AllocateAll(t testing.TB, p *pool.Pool, claims []pool.Claim) []pool.Allocation {
	t.Helper()
	const goroutines = 256
	allocations, errs := make([]pool.Allocation, len(claims)), make([]error, len(claims))
	var wg sync.WaitGroup
	for first := range goroutines {
		wg.Go(func() {
			for i := first; i < len(claims); i += goroutines {
				allocations[i], errs[i] = p.Allocate(t.Context(), claims[i])
			}
		})
	}
	wg.Wait()
	require.NoError(t, errors.Join(errs...))
	return allocations
}
