package pool_test

import (
	"encoding/json"
	"fmt"
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
		"the owner is empty":                                  {},
		"is 1025 bytes long, the most is 1024":                {Owner: strings.Repeat("n", store.MaxNameBytes+1)},
		`the owner "a\x00b" is not UTF-8 without NUL`:         {Owner: "a\x00b"},
		`the owner "\xff" is not UTF-8 without NUL`:           {Owner: "\xff"},
		`"Both" is not a family policy, want ["SingleStack" `: {Owner: "a", Policy: "Both"},
		"Family(5) is not a family, want IPv4 or IPv6":        with(pool.Request{Family: 5}),
		"10.0.0.9/24 has host bits set, want 10.0.0.0/24": with(pool.Request{
			Exact: netip.MustParsePrefix("10.0.0.9/24"),
		}),
		"a request for 10.0.0.0/24 has another length, 25": with(pool.Request{
			Exact: netip.MustParsePrefix("10.0.0.0/24"), Bits: 25,
		}),
		"IPv4-mapped IPv6 addresses":                       with(pool.ExactAddr(netip.MustParseAddr("::ffff:10.0.0.9"))),
		"a request for IPv6 has an address or set of IPv4": with(pool.Request{Family: pool.IPv6, Within: set("10.0.0.0/24")}),
		"the exact address is the zero Addr":               with(pool.ExactAddr(netip.Addr{})),
		"fe80::9%eth0 has a zone, want fe80::9":            with(pool.ExactAddr(netip.MustParseAddr("fe80::9%eth0"))),
		"has 4097 requests, the most is 4096":              {Owner: "a", Requests: make([]pool.Request, pool.MaxRequests+1)},
		"within is empty":                                  with(pool.Request{Within: set()}),
		"within a set of both families":                    with(pool.Request{Within: set("10.0.0.0/24", "2001:db8::/64")}),
	} {
		err := claim.Validate()
		require.ErrorIs(t, err, pool.ErrInvalid, want)
		require.ErrorContains(t, err, want)
		_, err = p.Allocate(t.Context(), claim)
		require.ErrorIs(t, err, pool.ErrInvalid, want)
		require.ErrorContains(t, err, want)
	}
	info, err := p.Info(t.Context())
	require.NoError(t, err)
	stats := info.Stats
	require.True(t, countsOf(stats, pool.IPv4).Used.IsZero())
	require.NoError(t, pool.Claim{
		Owner: "a", Policy: pool.RequireDualStack, Requests: []pool.Request{{Within: set("10.0.0.0/24")}, {Bits: 30}},
	}.Validate())
}

func newDualStack(t *testing.T) *pool.Pool {
	ranges, err := cidr.ParseRanges("10.0.0.0/24", "2001:db8::/64")
	require.NoError(t, err)
	p, err := pool.New(pool.Spec{Ranges: ranges}, nil)
	require.NoError(t, err)
	return p
}

// A policy for both families gets both, also where requests name one of them.
func TestPolicyFillsInFamilies(t *testing.T) {
	exact := func(text string) []pool.Request { return []pool.Request{pool.ExactAddr(netip.MustParseAddr(text))} }
	for _, policy := range []pool.FamilyPolicy{pool.PreferDualStack, pool.RequireDualStack} {
		p := newDualStack(t)
		for owner, c := range map[string]struct {
			requests []pool.Request
			want     string
		}{
			"v4":   {exact("10.0.0.9"), "[10.0.0.9 2001:db8::1]"},
			"v6":   {exact("2001:db8::9"), "[2001:db8::9 10.0.0.1]"},
			"both": {append(exact("2001:db8::8"), exact("10.0.0.8")...), "[2001:db8::8 10.0.0.8]"},
		} {
			a, err := p.Allocate(t.Context(), pool.Claim{Owner: owner, Policy: policy, Requests: c.requests})
			require.NoError(t, err)
			require.Equal(t, c.want, fmt.Sprint(a.Addrs()), "%v %s", policy, owner)
			again, err := p.Allocate(t.Context(), pool.Claim{Owner: owner, Policy: policy, Requests: c.requests})
			require.NoError(t, err)
			require.Equal(t, a, again)
		}
	}
	single, err := newDualStack(t).Allocate(t.Context(), pool.Claim{Owner: "a", Requests: exact("10.0.0.9")})
	require.NoError(t, err)
	require.Equal(t, "[10.0.0.9]", fmt.Sprint(single.Addrs()))
}

// A spec with a field that does not exist is refused, rather than read without it.
func TestSpecJSONIsStrict(t *testing.T) {
	var spec pool.Spec
	err := json.Unmarshal([]byte(`{"ranges":["10.0.0.0/24"],"exclud":["10.0.0.5"]}`), &spec)
	require.ErrorContains(t, err, `the pool's spec: invalid: the member "exclud" is not known, want one of bands, `)
}
