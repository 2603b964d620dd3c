package space_test

import (
	"encoding/json"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
	"go4.org/netipx"

	"github.com/ipalloc/ipalloc/allocator"
	"github.com/ipalloc/ipalloc/cidr"
	"github.com/ipalloc/ipalloc/pool/internal/space"
)

func TestRulesAreChecked(t *testing.T) {
	v4, v6 := setOf(t, "10.0.0.0/24"), setOf(t, "2001:db8::/64")
	family := func(f space.Family, set *netipx.IPSet, total uint64) space.FamilyRules {
		return space.FamilyRules{Family: f, Set: set, Total: cidr.CountOf(total)}
	}
	good := family(space.V4, v4, 256)
	for name, rules := range map[string]space.Rules{
		"no family":             {},
		"three families":        {Families: []space.FamilyRules{good, family(space.V6, nil, 0), good}},
		"a family twice":        {Families: []space.FamilyRules{good, good}},
		"an unknown family":     {Families: []space.FamilyRules{family(2, nil, 0)}},
		"an unknown strategy":   {Families: []space.FamilyRules{good}, Strategy: 6},
		"a total that is small": {Families: []space.FamilyRules{family(space.V4, v4, 255)}},
		"the other family":      {Families: []space.FamilyRules{family(space.V6, v4, 256)}},
		"both families":         {Families: []space.FamilyRules{{Set: cidr.Union(v4, v6), Total: cidr.Pow2(65)}}},
		"no random numbers":     {Families: []space.FamilyRules{good}, Strategy: space.Random},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := space.New(rules, nil)
			require.ErrorIs(t, err, allocator.ErrInvalid)
			require.Nil(t, s)
		})
	}
	rules := space.Rules{Families: []space.FamilyRules{good}, Strategy: space.Next}
	s, err := space.New(rules, nil)
	require.NoError(t, err)
	require.Equal(t, rules, s.Rules())
	require.True(t, s.Has(space.V4))
	require.False(t, s.Has(space.V6))
}

// What is not a family or not a counter has nothing, and nothing panics.
func TestUnknownFamiliesAndCountersHaveNothing(t *testing.T) {
	s, unknown := spaceOf(t, "10.0.0.0/24"), space.Family(7)
	require.False(t, s.Has(unknown))
	require.Empty(t, s.FreeSet(unknown).Ranges())
	require.Empty(t, s.TakenSet(unknown).Ranges())
	require.True(t, s.OutOfRange(unknown).IsZero() && s.InUse(unknown, space.Cooling).IsZero())
	require.ErrorIs(t, refused(s, &space.Want{Family: unknown, Bits: 32}), allocator.ErrOutside)
	s.Add(space.Counter(6), 1)
	require.Zero(t, s.Tally(space.Counter(6)))
	require.False(t, s.Changed())
	for _, p := range []netip.Prefix{{}, prefix("2001:db8::/64"), prefix("::ffff:10.0.0.0/120")} {
		in, outside := s.Inside(p)
		require.Empty(t, in)
		require.Equal(t, cidr.PrefixSize(p), outside)
		require.False(t, s.Covers(p))
		require.True(t, s.IsFreeWithin(p))
	}
	s.SetCursor(netip.Addr{})
	s.SetCursor(addr("2001:db8::1"))
	require.Empty(t, s.Cursors())
}

func TestFamilyText(t *testing.T) {
	for f, text := range map[space.Family]string{space.V4: "IPv4", space.V6: "IPv6"} {
		require.Equal(t, text, f.String())
		got, err := json.Marshal(f)
		require.NoError(t, err)
		require.Equal(t, `"`+text+`"`, string(got))
		back := 1 - f
		require.NoError(t, json.Unmarshal(got, &back))
		require.Equal(t, f, back)
	}
	require.Equal(t, 32, space.V4.Width())
	require.Equal(t, 128, space.FamilyOf(addr("::ffff:10.0.0.1")).Width())
	require.Zero(t, space.Family(2).Width())
	require.Equal(t, "Family(2)", space.Family(2).String())
	_, err := space.Family(2).MarshalText()
	require.ErrorIs(t, err, allocator.ErrInvalid)
	f := space.V6
	for _, text := range []string{"", "ipv4", "IPv5"} {
		require.ErrorIs(t, f.UnmarshalText([]byte(text)), allocator.ErrInvalid)
	}
	require.Equal(t, space.V6, f)
}
