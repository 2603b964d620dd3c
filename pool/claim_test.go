package pool_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go4.org/netipx"

	"github.com/ipalloc/ipalloc/cidr"
	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
)

// What a claim alone can have wrong is said by Validate and by Allocate alike, with the rule and the input.
func TestClaimValidate(t *testing.T) {
	set := func(texts ...string) *netipx.IPSet {
		s, err := cidr.ParseSet(texts...)
		require.NoError(t, err)
		return s
	}
	with := func(r pool.Request) pool.Claim { return pool.Claim{Owner: "a", Requests: []pool.Request{r}} }
	p := newDualStack(t)
	for want, claim := range map[string]pool.Claim{
		"the owner is empty":                               {},
		"is 1025 bytes long, the most is 1024":             {Owner: strings.Repeat("n", store.MaxNameBytes+1)},
		`the owner "a\x00b" is not UTF-8 without NUL`:      {Owner: "a\x00b"},
		`the owner "\xff" is not UTF-8 without NUL`:        {Owner: "\xff"},
		"FamilyPolicy(7) is not a family policy":           {Owner: "a", Policy: 7},
		"Family(5) is not a family, want IPv4 or IPv6":     with(pool.Request{Family: 5}),
		"10.0.0.9/24 has host bits set, want 10.0.0.0/24":  with(pool.Request{Exact: netip.MustParsePrefix("10.0.0.9/24")}),
		"a request for 10.0.0.0/24 has another length, 25": with(pool.Request{Exact: netip.MustParsePrefix("10.0.0.0/24"), Bits: 25}),
		"IPv4-mapped IPv6 addresses":                       with(pool.ExactAddr(netip.MustParseAddr("::ffff:10.0.0.9"))),
		"a request for IPv6 has an address or set of IPv4": with(pool.Request{Family: pool.IPv6, Within: set("10.0.0.0/24")}),
		"a set that is empty":                              with(pool.Request{Within: set()}),
		"within a set of both families":                    with(pool.Request{Within: set("10.0.0.0/24", "2001:db8::/64")}),
	} {
		err := claim.Validate()
		require.ErrorIs(t, err, pool.ErrInvalid, want)
		require.ErrorContains(t, err, want)
		_, err = p.Allocate(t.Context(), claim)
		require.ErrorIs(t, err, pool.ErrInvalid, want)
		require.ErrorContains(t, err, want)
	}
	stats, err := p.Stats(t.Context())
	require.NoError(t, err)
	require.True(t, stats.Of(pool.IPv4).Used.IsZero())
	require.NoError(t, pool.Claim{Owner: "a", Policy: pool.RequireDualStack, Requests: []pool.Request{{Within: set("10.0.0.0/24")}, {Bits: 30}}}.Validate())
}

func newDualStack(t *testing.T) *pool.Pool {
	ranges, err := cidr.ParseRanges("10.0.0.0/24", "2001:db8::/64")
	require.NoError(t, err)
	p, err := pool.New(pool.Spec{Ranges: ranges}, nil)
	require.NoError(t, err)
	return p
}
